"""A broker that is killed again and again, and a network that loses a third: what becomes of orders and money.

The whole stack runs for real, but for the bodies of the robots: market daemon, robots and a customer over Mosquitto. In a
full run Mosquitto is killed 50 times with its messages kept on the disk and 50 times without, and 5 times behind a network
that loses 30 % of all packets at each try, brings a tenth twice and lets them overtake each other.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._pieces import Pieces, add_nightly, pieces_of
from benchmarks.report import ROOT, Options, Row, main
from fleet_market.adapters import mosquitto
from fleet_market.testing.outages import Outages, run_outages

KILLS, RESTARTS, LOSS = 50, 5, 0.3
KILLS_OF_A_PIECE = 10
QUICK_KILLS, QUICK_RESTARTS = 2, 1
RECOVERY_GOAL_S = 10.0


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    pieces = pieces_of("outages", options)
    kills = QUICK_KILLS if options.quick else KILLS
    for kept in (True, False):
        what = f"Mosquitto killed, persistence {'on' if kept else 'off'}"
        yield from _rows(what, _outages(what, kills, pieces, persistence=kept))
    what = f"{LOSS:.0%} loss, repeats, reordering, broker restarts"
    bad = _outages(what, QUICK_RESTARTS if options.quick else RESTARTS, pieces, persistence=True, loss=LOSS)
    yield from _rows(what, bad)


def _outages(what: str, kills: int, pieces: Pieces, **how: Any) -> list[Outages]:
    seen = []
    for first in range(0, kills, KILLS_OF_A_PIECE):
        many = min(KILLS_OF_A_PIECE, kills - first)
        seen.append(Outages(**pieces.run(f"{what} {first}", partial(_one, many, seed=first, **how))))
    return seen


def _one(kills: int, **how: Any) -> dict[str, Any]:
    server = mosquitto.install(ROOT / ".cache/mosquitto", say=print)
    with tempfile.TemporaryDirectory() as folder:
        return asdict(asyncio.run(run_outages(server, ROOT / "launch", Path(folder), kills=kills, **how)))


def _rows(what: str, seen: list[Outages]) -> Iterable[Row]:
    orders = sum(sum(part.orders.values()) for part in seen)
    ended = {state: sum(part.orders.get(state, 0) for part in seen) for state in ("settled", "expired")}
    for part in seen:
        for text in [*part.missing, *part.unfinished, *part.paid_twice, *part.faults]:
            print(f"{what}: {text}")
    kills = sum(part.kills for part in seen)
    note = f"of {orders}, {kills} kills: {ended['settled']} settled, {ended['expired']} expired"
    unfinished = sum(len(part.unfinished) + len(part.missing) for part in seen)
    yield Row(f"{what}: orders that ended neither settled nor expired", unfinished, "", 0.0, note=note)
    money = sum(part.money_errors for part in seen)
    note = "paid twice, minted, left in escrow, found by the audit"
    yield Row(f"{what}: errors of money", money, "", 0.0, note=note)
    took = [seconds for part in seen for seconds in part.recovery_s]
    note = f"median {median(took):.1f} s; from the broker's start to the award of an order posted then"
    if packets := sum(part.packets for part in seen):
        lost, broken = sum(part.lost for part in seen), sum(part.broken for part in seen)
        note += f"; {lost} losses on {packets} packets, {broken} broken connections"
    yield Row(f"{what}: recovery, worst", max(took), "s", RECOVERY_GOAL_S, note=note)


if __name__ == "__main__":
    main("outages", measure, about=__doc__ or "", packages=("aiomqtt", "paho-mqtt"), arguments=add_nightly)
