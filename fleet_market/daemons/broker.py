"""The market daemon: builds clock, store and transport for the market of a zone, and runs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fleet_market.adapters.clocks import SimulationClock, WallClock
from fleet_market.adapters.guard import Guard, guard_for
from fleet_market.adapters.ingress import Ingress
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.mqtt import MqttConfig, Will
from fleet_market.adapters.private_files import PRIVATE, write_file
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_store
from fleet_market.daemons.engine import Engine
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.registry import Role, market_name

REMEMBER_S = 1.0
"""How often it is written down what must not be let in again after a restart."""
SESSION_EXPIRY_S = 3600


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Everything a market daemon needs to know."""

    host: str
    port: int
    database: Path | str
    """A file for SQLite, or ``postgresql://...``."""
    zone: ZoneConfig
    simulated: bool = False
    """Whether time comes from a simulator."""
    ledger_key: Path | None = None
    """File of the key that signs the journal's head of each day; without one there are no heads."""
    keys: Path | None = None
    """Folder of keys. Without, nothing is signed or encrypted, and the MQTT broker must be on the loopback interface."""
    limits: Limits = field(default_factory=Limits)
    """What one robot or customer may send."""


class Broker:
    """The daemon; `run` it."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        name = market_name(config.zone.zone)
        self.guard: Guard = guard_for(config.keys, Role.MARKET, name, config.host, config.limits)
        self.ready = asyncio.Event()
        self.clock = SimulationClock() if config.simulated else WallClock()

    @property
    def engine(self) -> Engine:
        """The engine of the zone."""
        return self.zone.engine

    @property
    def rejected(self) -> Counter[str]:
        """Messages that were refused, by reason."""
        return self.guard.rejected

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        StoreError, LedgerMismatchError
            If the database cannot be used or does not agree with the market, or the clock is far behind it.
        InputError
            If the key of the ledger cannot be used.
        """
        key = self.config.ledger_key
        signer = None if key is None else Ed25519Signer.load(key)
        with open_store(self.config.database) as store:
            async with StoreWriter(store) as writer:
                self.zone = Zone(self.config.zone, store, writer, self.clock, self.guard, signer)
                self.zone.recover()
                marks = self._marks()
                self.guard.restore(marks)
                robots = self.zone.engine.market.state.robots
                ingress = Ingress(
                    self._mqtt(), self.config.zone.zone, self.guard, robots, Brake(), clock=self.config.simulated
                )
                async with ingress as transport, asyncio.TaskGroup() as tasks:
                    await transport.connected()
                    tasks.create_task(self._remember(marks), name="marks")
                    tasks.create_task(self.zone.run(transport), name="zone")
                    await self.zone.ready.wait()
                    self.ready.set()

    def _marks(self) -> Path:
        """Return the file of what must not be let in again: beside the database, or where that is a server, the keys."""
        database, keys = self.config.database, self.config.keys
        if isinstance(database, Path):
            return database.with_name(f"{database.name}.seen")
        return (keys or Path()) / f"{self.config.zone.zone}.seen"

    def _mqtt(self) -> MqttConfig:
        client_id, will = market_name(self.config.zone.zone), Will(*self.zone.closing())
        return MqttConfig(self.config.host, self.config.port, client_id, will, session_expiry_s=SESSION_EXPIRY_S)

    async def _remember(self, path: Path) -> None:
        """Write down what has been let in, now and then and at the end."""
        written = b""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(REMEMBER_S)
                if (marks := self.guard.remembered()) != written:
                    await asyncio.to_thread(write_file, path, marks, PRIVATE)
                    written = marks
        if marks := self.guard.remembered():
            write_file(path, marks, PRIVATE)
