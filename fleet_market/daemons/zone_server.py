"""Serves the market of one zone: opens its store, connects it to the MQTT broker, runs it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet_market.adapters.clocks import SimulationClock, WallClock
from fleet_market.adapters.guard import Guard, guard_for
from fleet_market.adapters.ingress import Ingress
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.mqtt import MqttConfig, Will
from fleet_market.adapters.private_files import PRIVATE, write_file
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import file_of, is_postgres, open_store
from fleet_market.daemons.engine import Engine
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.ports import Lease
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.registry import Role, market_name

REMEMBER_S = 1.0
"""How often it is written down what must not be let in again after a restart."""
SESSION_EXPIRY_S = 3600


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the markets of a daemon are served, and how."""

    host: str
    port: int
    database: Path | str
    """A file for SQLite, or ``postgresql://...``."""
    simulated: bool = False
    """Whether time comes from a simulator."""
    ledger_key: Path | None = None
    """File of the key that signs the journal's head of each day; without one there are no heads."""
    keys: Path | None = None
    """Folder of keys. Without, nothing is signed or encrypted, and the MQTT broker must be on the loopback interface."""
    limits: Limits = field(default_factory=Limits)
    """What one robot or customer may send."""


def silent(_server: ZoneServer) -> None:
    """Say nothing."""


class ZoneServer:
    """Serves one zone; may be run again when it has ended, and then begins with no right of way granted.

    Parameters
    ----------
    config : ServerConfig
    zone : ZoneConfig
    brake : Brake
        Shared by all zones of the process.

    Raises
    ------
    InputError
        If the keys cannot be used.
    """

    def __init__(self, config: ServerConfig, zone: ZoneConfig, brake: Brake) -> None:
        self.config, self.zone_config, self._brake = config, zone, brake
        self.guard: Guard = guard_for(config.keys, Role.MARKET, market_name(zone.zone), config.host, config.limits)
        self.clock = SimulationClock() if config.simulated else WallClock()
        self.ready = asyncio.Event()
        """Set while the market is open."""
        self._zone: Zone | None = None

    @property
    def zone(self) -> Zone:
        """The market that is served, or was."""
        if self._zone is None:
            raise RuntimeError("the zone has not been opened yet")
        return self._zone

    @property
    def engine(self) -> Engine:
        """The engine of that market."""
        return self.zone.engine

    @property
    def rejected(self) -> Counter[str]:
        """Messages that were refused, by reason."""
        return self.guard.rejected

    async def run(self, lease: Lease | None = None, opened: Callable[[ZoneServer], None] = silent) -> None:
        """Serve until cancelled.

        Parameters
        ----------
        lease : Lease, optional
            Under which it writes; needed where daemons share the store.
        opened : callable
            Called with this server when the market is open.

        Raises
        ------
        StoreError, LedgerMismatchError
            If the database cannot be used or does not agree with the market, or the clock is far behind it.
        LeaseLostError
            If another daemon has taken over the zone.
        InputError
            If the key of the ledger cannot be used.
        """
        config, zone_id = self.config, self.zone_config.zone
        signer = None if config.ledger_key is None else Ed25519Signer.load(config.ledger_key)
        try:
            with await asyncio.to_thread(open_store, config.database, zone_id, lease) as store:
                async with StoreWriter(store) as writer:
                    fresh = replace(self.zone_config, traffic=copy.deepcopy(self.zone_config.traffic))
                    self._zone = zone = Zone(fresh, store, writer, self.clock, self.guard, signer)
                    await asyncio.to_thread(zone.recover)
                    marks = self._marks()
                    self.guard.restore(marks)
                    robots = zone.engine.market.state.robots
                    ingress = Ingress(
                        self._mqtt(), zone_id, self.guard, robots, self._brake, clock=config.simulated, greet=zone.greet
                    )
                    async with ingress as transport, asyncio.TaskGroup() as tasks:
                        await transport.connected()
                        tasks.create_task(self._remember(marks), name="marks")
                        tasks.create_task(zone.run(transport), name="zone")
                        await zone.ready.wait()
                        self.ready.set()
                        opened(self)
        finally:
            self.ready.clear()

    def _marks(self) -> Path:
        """Return the file of what must not be let in again: beside the database, or where that is a server, the keys."""
        zone = self.zone_config.zone
        if is_postgres(self.config.database):
            return (self.config.keys or Path()) / f"{zone}.seen"
        file = file_of(self.config.database, zone)
        return file.with_name(f"{file.name}.seen")

    def _mqtt(self) -> MqttConfig:
        client_id, will = market_name(self.zone_config.zone), Will(*self.zone.closing())
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
