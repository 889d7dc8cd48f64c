"""How long a second `make ros` takes, measured on Makefiles that do little."""

import itertools

from benchmarks._ros_build import build_rows


def test_the_first_run_may_take_long_and_the_worst_of_the_others_counts(tmp_path):
    (tmp_path / "Makefile").write_text("ros:\n\t@echo built >> told\n")
    ticks = itertools.accumulate([0, 400, 1, 2, 1, 6, 1, 3])
    (row,) = build_rows(tmp_path, lambda: float(next(ticks)))
    assert (row.value, row.goal, row.unit) == (6.0, 10.0, "s")
    assert row.note == "worst of 3, median 3.0 s; the one before them took 400.0 s"
    assert (tmp_path / "told").read_text() == "built\n" * 4


def test_a_build_that_fails_has_no_time(tmp_path):
    (tmp_path / "Makefile").write_text("ros:\n\t@echo no compiler >&2; exit 3\n")
    (row,) = build_rows(tmp_path)
    assert row.value is None
    assert row.note.startswith("exit code 2: no compiler")
