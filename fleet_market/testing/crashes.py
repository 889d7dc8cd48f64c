"""kill -9 of a market under load, again and again, and what is left of its books.

A child process runs the engine and the market of the product over a real store, with a load instead of robots and
customers, and tells its parent through a pipe what it has acknowledged and announced. The parent kills it at a random
instant, also while it recovers, and compares.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import select
import signal
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NoReturn

from fleet_market.adapters.auditing import NoPlaces, audit_store
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons.engine import Engine
from fleet_market.errors import FleetMarketError
from fleet_market.ledger import AccountKind, TransferKind, kind_of
from fleet_market.market import Command, Market
from fleet_market.market.commands import read_logged
from fleet_market.ports import Delivery
from fleet_market.testing.market_load import ENDOWMENT_UC, MarketLoad, Yard

IN_FLIGHT = 200
"""Inputs that wait for the disk at most."""
LIFE_S = 0.3
"""A child lives up to this long from the instant that was drawn for it."""
EARLY = 0.15
"""Share of the children that live `LIFE_S` at most from their start, and share of those that do from their recovery: the
others do from their first acknowledgement."""
PATIENCE_S = 60.0
CHUNK = 1 << 16


@dataclass(slots=True)
class Tally:
    """What was seen over a number of kills; all but the first group must stay empty or 0."""

    kills: int = 0
    acknowledged: int = 0
    announced: int = 0
    orders: int = 0
    recovery_s: list[float] = field(default_factory=list)
    """Of each start that came so far: from the process's begin to the audited market."""
    recovery_cpu_s: list[float] = field(default_factory=list)
    """Processor time of the same."""
    events: list[int] = field(default_factory=list)
    """Inputs in the log at each of these starts."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged inputs that are not in the store."""
    phantoms: list[str] = field(default_factory=list)
    """Announced messages that follow from nothing stored."""
    awarded_twice: list[str] = field(default_factory=list)
    """Orders with two live contracts, or paid twice."""
    minted_uc: int = 0
    """Credits in circulation more than were issued, or less."""
    faults: list[str] = field(default_factory=list)
    """What the audits, and the recoveries, found."""

    def add(self, other: Tally) -> None:
        """Add what was seen elsewhere."""
        for name in (f.name for f in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, minted, awarded twice or announced without cause."""
        return not (self.lost or self.phantoms or self.awarded_twice or self.minted_uc or self.faults)


class Silence:
    """A transport on which nobody listens and nobody speaks."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Send nothing."""

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield nothing."""
        return
        yield


class _Wire(Silence):
    """Where the child's messages go: tells the parent of those that must arrive."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:  # noqa: ARG002
        """Tell the parent the id of an award."""
        if topic.endswith("/award"):
            _tell(self._pipe, f"P {payload.partition(b'award:')[2][:20].decode()}")


def run_kills(address: str | Path, kills: int, seed: int, tally: Tally, *, acknowledged: int = 0) -> None:
    """Run a market on the new store at `address`, kill it `kills` times, and add what is seen to `tally`.

    It is killed on until so many inputs are `acknowledged`: how many a life takes depends on the machine.
    """
    rng = random.Random(seed)  # noqa: S311 - seeded chance, no secret
    announced: set[str] = set()
    before = tally.acknowledged
    for number in itertools.count():
        if number >= kills and tally.acknowledged - before >= acknowledged:
            break
        said = _one_life(address, seed, f"k{seed}-{number}", rng)
        tally.kills += 1
        _take(said, tally)
        announced |= {f"award:{line[2:]}" for line in said if line.startswith("P ")}
        _check_acknowledged(address, said, tally)
    _check_books(address, announced, tally)


def _one_life(address: str | Path, seed: int, name: str, rng: random.Random) -> list[str]:
    """Start a child, kill it at a random instant, return the lines that it said."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads; the child starts afresh
        child = os.fork()
    if child == 0:
        os.close(read)
        _live(address, seed, name, write)
    os.close(write)
    awaited, said = rng.choices((b"", b"R ", b"A "), (EARLY, EARLY, 1.0 - 2 * EARLY))[0], b""
    deadline = time.monotonic() + (PATIENCE_S if awaited else rng.uniform(0.0, LIFE_S))
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([read], [], [], left)[0]:
            continue
        chunk = os.read(read, CHUNK)
        if not chunk:
            break
        said += chunk
        if awaited and awaited in said:
            awaited, deadline = b"", time.monotonic() + rng.uniform(0.0, LIFE_S)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while chunk := os.read(read, CHUNK):
        said += chunk
    os.close(read)
    return said.decode(errors="replace").splitlines()


def _live(address: str | Path, seed: int, name: str, pipe: int) -> NoReturn:
    try:
        _tell(pipe, "B")
        asyncio.run(_serve(address, seed, name, pipe))
    except BaseException as error:  # noqa: BLE001 - the parent must hear of anything
        _tell(pipe, f"F {type(error).__name__}: {error!s}"[:300].replace("\n", " "))
    finally:
        os._exit(1)


async def _serve(address: str | Path, seed: int, name: str, pipe: int) -> None:
    begun, begun_cpu = time.perf_counter(), time.process_time()
    with open_store(address) as store:
        async with StoreWriter(store) as writer, asyncio.TaskGroup() as tasks:
            engine = Engine(Market(Yard()), store, writer)
            engine.recover()
            engine.epoch += 1
            took_s, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
            _tell(pipe, f"R {took_s:.4f} {cpu_s:.4f} {engine.inputs}")
            tasks.create_task(engine.publish_effects(_Wire(pipe)))
            load = MarketLoad(engine.market, seed, name, now_ns=engine.now_ns)
            room = asyncio.Semaphore(IN_FLIGHT)
            for command in load.opening(engine.epoch):
                await _give(engine, command, room, pipe)
            while True:
                for command in load.round():
                    await _give(engine, command, room, pipe)


async def _give(engine: Engine, command: Command, room: asyncio.Semaphore, pipe: int) -> None:
    await room.acquire()
    before, stored = engine.inputs, False

    def acknowledge() -> None:
        room.release()
        if command.message_id is not None and stored:
            _tell(pipe, f"A {command.source} {command.message_id}")

    await engine.take(command, acknowledge)
    stored = engine.inputs > before  # an input that changes nothing is acknowledged at once and leaves no trace
    await asyncio.sleep(0)


def _take(said: Sequence[str], tally: Tally) -> None:
    for line in said:
        kind, _, rest = line.partition(" ")
        if kind == "R":
            took, cpu, events = rest.split()
            tally.recovery_s.append(float(took))
            tally.recovery_cpu_s.append(float(cpu))
            tally.events.append(int(events))
        elif kind == "F":
            tally.faults.append(rest)


def _check_acknowledged(address: str | Path, said: Sequence[str], tally: Tally) -> None:
    answered = [line.split(" ")[1:] for line in said if line.startswith("A ") and line.count(" ") == 2]
    if not answered:
        return
    with open_reader(address) as reader:
        tally.acknowledged += len(answered)
        tally.lost += [f"{who} {what}" for who, what in answered if reader.find_event(who, what) is None]


def _check_books(address: str | Path, announced: set[str], tally: Tally) -> None:
    market, decided = Market(NoPlaces()), set[str]()
    try:
        with open_reader(address) as reader:
            report = audit_store(reader)
            balances, journal = reader.balances(), tuple(reader.journal())
            for event in reader.events():
                body = read_logged(event.body)
                outcome = market.handle(Command(event.source, body, event.now_ns, None, event.sid, event.lookups))
                decided |= {send.id for send in outcome.sends if send.id is not None}
    except FleetMarketError as error:
        tally.faults.append(str(error))
        return
    tally.faults += report.faults
    customers = sum(kind_of(a) is AccountKind.CUSTOMER for a in balances)
    if report.metrics is not None:
        tally.minted_uc += abs(report.metrics.circulating_uc - customers * ENDOWMENT_UC)
    tally.announced += len(announced)
    tally.phantoms += sorted(announced - decided)
    live = Counter(contract.order for contract in market.state.contracts.values())
    tally.awarded_twice += [order for order, times in live.items() if times > 1]
    paid = Counter(e.transfer.reference for e in journal if e.transfer.kind is TransferKind.CAPTURE)
    tally.orders += len(paid)
    tally.awarded_twice += [order for order, times in paid.items() if times > 1]


def _tell(pipe: int, line: str) -> None:
    os.write(pipe, f"{line}\n".encode())
