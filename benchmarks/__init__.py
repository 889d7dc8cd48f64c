"""What the product can do, in numbers: ``python -m benchmarks.NAME [--quick] [--json] [--seeds N]``.

Every benchmark prints a table for people, or with ``--json`` one JSON object and nothing else; `benchmarks.report` holds
the form. A goal that is missed is reported, not an error; exit code 1 means that the benchmark itself failed.
"""
