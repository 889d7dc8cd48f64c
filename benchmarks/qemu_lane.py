"""Real kernel paths: CAN bases over socketcan, batteries over /dev/i2c and sysfs, in a guest of QEMU with Debian's kernel.

The CAN bus is vcan0 and the chip is i2c-stub: a real kernel path, emulated firmware. The kernel's own driver of smart
batteries says what our decoder must find. The processor is emulated: times are no figures of a robot. A field that differs
from the kernel's, or another goal that is missed, ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from benchmarks import _qemu_machine
from benchmarks.report import Options, Row, main

SETS, QUICK_SETS = 40, 4
BASES, QUICK_BASES = ("odrive", "cia402"), ("odrive",)
LIMIT_S = 900.0
missed: list[Row] = []


def measure(options: Options) -> Iterable[Row]:
    """Return the rows that the guest has found."""
    sets, bases = (QUICK_SETS, QUICK_BASES) if options.quick else (SETS, BASES)
    arguments = [str(sets), str(options.seeds[0]), *bases]
    for row in _qemu_machine.run("benchmarks._qemu_guest", arguments, limit_s=LIMIT_S):
        seen = Row(**row)
        if not seen.met:
            missed.append(seen)
        yield seen


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nightly", action="store_true", help="the same as without")


if __name__ == "__main__":
    main("qemu_lane", measure, about=__doc__ or "", packages=("python-can", "canopen", "smbus2"), arguments=_arguments)
    sys.exit(1 if missed else 0)
