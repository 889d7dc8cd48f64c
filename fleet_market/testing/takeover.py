"""Several market daemons that share zones on PostgreSQL, one of which dies or is frozen: who clears its zones, and when.

The daemons are processes of the product. Robots and customers are one client, which knows of no daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet_market.adapters.auditing import NoPlaces, audit_store
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.stores import open_reader
from fleet_market.errors import FleetMarketError
from fleet_market.ids import CustomerId, ZoneId
from fleet_market.ledger import TransferKind
from fleet_market.market import Market, replay
from fleet_market.testing.zone_business import ZoneBusiness

CUSTOMER = CustomerId("demo")
BATCH_S = 0.5
PIXELS, PIXEL_M = 80, 0.1
FLEET = """\
zone: {zone}
map: hall.yaml
customers: {{demo: 1000000}}
market: {{batch_s: {batch_s}}}
places: {{dock: 1.5;1.5, shelf: 6;6}}
robots: [{{id: {robot}, type: carrier}}]
"""
MAP = f"image: hall.pgm\nresolution: {PIXEL_M}\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"


@dataclass(slots=True)
class Books:
    """What is left in one zone's store; all but the orders must be empty or 0."""

    settled: int = 0
    open_orders: list[str] = field(default_factory=list)
    paid_twice: list[str] = field(default_factory=list)
    escrow_uc: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether every order is over, every credit where it belongs, and no order was paid twice."""
        return not (self.open_orders or self.paid_twice or self.escrow_uc or self.faults)


class Daemon:
    """One daemon as a process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[tuple[float, str]] = []
        """When it opened which zone (monotonic)."""

    async def start(self, fleets: Sequence[Path], database: str, mqtt: str, log: Path) -> None:
        """Start it; what it says of opened zones is read by a task."""
        self.control = log.with_suffix(".control")
        options = [part for fleet in fleets for part in ("--fleet", str(fleet))]
        with log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fleet_market", "broker", *options, "--database", database, "--mqtt", mqtt,
                "--control", str(self.control),
                stdout=asyncio.subprocess.PIPE, stderr=file, env={**os.environ, KEYS_VARIABLE: ""},
            )  # fmt: skip
        self.reader = asyncio.create_task(self._read(), name=self.name)

    async def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        async for line in self.process.stdout:
            words = line.decode().split()
            if words[:2] == ["READY", "market"]:
                self.opened.append((time.monotonic(), words[2]))

    def signal(self, number: int) -> float:
        """Send a signal; return when."""
        self.process.send_signal(number)
        return time.monotonic()

    async def end(self) -> None:
        """End it, in order if it still can."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.process.terminate()
            try:
                async with asyncio.timeout(30):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.reader.cancel()


class Town:
    """Zones, daemons that share them, and the business in them."""

    def __init__(self, folder: Path, zones: Sequence[ZoneId], database: str, host: str, port: int) -> None:
        self.zones, self.database, self._folder = zones, database, folder
        self._mqtt = f"{host}:{port}"
        self._fleets = write_fleets(folder, zones)
        self.daemons: list[Daemon] = []
        self.business = ZoneBusiness(host, port, zones, "dock", "shelf", CUSTOMER)

    @contextlib.asynccontextmanager
    async def trading(self, daemons: int) -> AsyncIterator[None]:
        """Run daemons and business for as long as the context lasts."""
        business = asyncio.create_task(self.business.run(), name="business")
        try:
            for _ in range(daemons):
                await self.join()
            yield
        finally:
            for daemon in self.daemons:
                await daemon.end()
            business.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await business

    async def join(self) -> Daemon:
        """Start one more daemon."""
        daemon = Daemon(f"daemon {len(self.daemons) + 1}")
        self.daemons.append(daemon)
        await daemon.start(self._fleets, self.database, self._mqtt, self._folder / f"daemon-{len(self.daemons)}.log")
        return daemon

    def holders(self) -> dict[str, Daemon]:
        """Return who opened each zone last."""
        opened = sorted((at, zone, n) for n, daemon in enumerate(self.daemons) for at, zone in daemon.opened)
        return {zone: self.daemons[n] for _, zone, n in opened}

    def zones_of(self, daemon: Daemon) -> list[str]:
        """Return the zones that a daemon opened last."""
        return [zone for zone, holder in self.holders().items() if holder is daemon]

    def even(self) -> bool:
        """Return whether every zone is open, and no daemon that lives runs more than one zone more than another."""
        held = Counter(daemon.name for daemon in self.holders().values())
        counts = [held[d.name] for d in self.daemons if d.process.returncode is None]
        return sum(counts) == len(self.zones) and max(counts) - min(counts) <= 1

    async def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait until `condition` holds; raises `FleetMarketError` if it does not in time."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():  # noqa: ASYNC110 - looks at what others do
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise FleetMarketError(f"not within {within_s:g} s: {what}; {self._last_words()}") from None

    def _last_words(self) -> str:
        """Return what is known of a town in trouble: who runs what, and the last that each daemon has logged."""
        held = {daemon.name: sorted(self.zones_of(daemon)) for daemon in self.daemons}
        logs = [path.read_text().splitlines()[-3:] for path in sorted(self._folder.glob("daemon-*.log"))]
        return f"zones {held}, logs {logs}"

    async def settle(self, within_s: float) -> None:
        """Post no more orders, and wait until all that were posted are over."""
        self.business.open = False
        await self.until(self.business.idle, within_s, "every order is over")


def write_fleets(folder: Path, zones: Sequence[ZoneId]) -> list[Path]:
    """Write a fleet file for each zone, and the map of an empty hall for all; return the fleet files."""
    wall, row = bytes(PIXELS), b"\0" + b"\xfe" * (PIXELS - 2) + b"\0"
    (folder / "hall.pgm").write_bytes(b"P5 %d %d 255\n" % (PIXELS, PIXELS) + wall + row * (PIXELS - 2) + wall)
    (folder / "hall.yaml").write_text(MAP)
    paths = []
    for zone in zones:
        paths.append(path := folder / f"{zone}.yaml")
        path.write_text(FLEET.format(zone=zone, batch_s=BATCH_S, robot=f"r-{zone}"))
    return paths


def read_books(database: str, zone: ZoneId) -> Books:
    """Audit what is left of a zone."""
    books, market = Books(), Market(NoPlaces())
    with open_reader(database, zone) as reader:
        report = audit_store(reader)
        replay(market, reader.events())
        paid = Counter(e.transfer.reference for e in reader.journal() if e.transfer.kind is TransferKind.CAPTURE)
    books.faults = report.faults
    books.settled = len(paid)
    books.paid_twice = [order for order, times in paid.items() if times > 1]
    books.open_orders = [order.id for order in market.state.orders.values() if not order.state.final]
    books.escrow_uc = 0 if report.metrics is None else report.metrics.escrow_left_uc
    return books
