"""Seeded power losses under a store that is being written to, and what is left of what it had acknowledged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet_market.errors import StoreError
from fleet_market.ids import TransferId
from fleet_market.ledger import (
    Event,
    OutboxRow,
    StoreRecord,
    Transfer,
    TransferKind,
    audit,
    first_broken_event,
)
from fleet_market.testing.books import ANN, BOB, WORLD, Books
from fleet_market.testing.powerloss import Disk, PowerCutError, open_on

CUTS = 3
"""Power losses of one trial, one after the other on the same disk."""
MAX_OPERATIONS = 300
"""The power fails within this many writes and syncs."""
MAX_GROUP = 12


@dataclass(slots=True)
class Trial:
    """What one trial has seen."""

    seed: int
    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    """Acknowledged commands that are not there any more."""
    faults: list[str] = field(default_factory=list)
    """Where the store is not a prefix of what was written to it, or its books are not sound."""


def run_trial(seed: int, *, synchronous: str = "FULL") -> Trial:
    """Write to a store on a disk, let the power fail a few times, and compare after each."""
    rng, disk, trial = random.Random(seed), Disk(seed), Trial(seed)  # noqa: S311 - seeded chance, no secret
    books, written = Books(), list[Event]()
    for _ in range(CUTS):
        disk.cut_after(rng.randint(1, MAX_OPERATIONS))
        acknowledged = len(written)
        store = None
        try:
            store = open_on(disk, synchronous=synchronous)
            if rng.random() < 0.2:
                store.commit(_group(rng, books, written))
                acknowledged = len(written)
                disk.cut()
            while True:
                store.commit(_group(rng, books, written))
                acknowledged = len(written)
        except PowerCutError:
            pass
        except StoreError as error:
            if disk.has_power:
                trial.faults.append(f"before the cut: {error}")
                return trial
        if store is not None:
            store.close()
        trial.cuts += 1
        disk.start_again()
        found = _compare(disk, written, acknowledged, trial, synchronous)
        if found is None:
            return trial
        books, written = found
    return trial


def _compare(
    disk: Disk, written: Sequence[Event], acknowledged: int, trial: Trial, synchronous: str
) -> tuple[Books, list[Event]] | None:
    try:
        with open_on(disk, synchronous=synchronous) as store:
            there = store.recover()
            engine_faults = store.faults()
    except StoreError as error:
        trial.faults.append(f"after the cut: {error}")
        return None
    trial.acknowledged = max(trial.acknowledged, acknowledged)
    trial.lost += max(0, acknowledged - len(there.events))
    trial.faults += engine_faults + audit(there.balances, there.journal)
    if list(there.events) != list(written[: len(there.events)]):
        trial.faults.append("what is there is no prefix of what was written")
    if first_broken_event(there.events) is not None:
        trial.faults.append("the chain of the event log is broken")
    if trial.faults:
        return None
    events = list(there.events)
    return (Books.restored(events, list(there.balances), there.journal) if events else Books()), events


def _group(rng: random.Random, books: Books, written: list[Event]) -> list[StoreRecord]:
    records = []
    for _ in range(rng.randint(1, MAX_GROUP)):
        name = f"t{books.seq + 1}"
        wishes = [
            Transfer(TransferId(name), TransferKind.POST, WORLD, ANN, rng.randint(1, 9)),
            Transfer(TransferId(name), TransferKind.HOLD, ANN, BOB, rng.randint(1, 9)),
            Transfer(TransferId(name), TransferKind.CAPTURE, ANN, BOB, rng.randint(1, 9), TransferId(f"t{books.seq}")),
        ]
        row = (OutboxRow(name, "to", bytes(rng.randint(0, 900))),) if rng.random() < 0.5 else ()
        done = (f"t{books.seq - 3}",)
        record = books.record([rng.choice(wishes)], outbox=row, done=done)
        records.append(record)
        written.append(record.event)
    return records
