"""The hardware bridge: proof of completion, dead-man, lost vehicles, one market of many kinds of robots, the contract.

Everything runs for real but the machines: vehicles are those of vda-5050-lib (third party), motor controllers are emulated
firmware of our own, PyBullet stands behind ROS 2 topics. `--parts` chooses some. In full about fifteen minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from benchmarks import _bridge_bases, _bridge_contract, _bridge_fleet, _bridge_proof, _bridge_vehicles
from benchmarks.report import Options, Row, main

PARTS: dict[str, Callable[[Options], Iterable[Row]]] = {
    "proof": _bridge_proof.rows,
    "bases": _bridge_bases.rows,
    "vehicles": _bridge_vehicles.rows,
    "fleet": _bridge_fleet.rows,
    "contract": _bridge_contract.rows,
}


def measure(options: Options) -> Iterable[Row]:
    """Return the rows of the parts that are asked for."""
    for name in options.more.parts or PARTS:
        yield from PARTS[name](options)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these")


if __name__ == "__main__":
    main("bridge", measure, about=__doc__ or "", packages=("python-can", "canopen", "aiomqtt"), arguments=_arguments)
