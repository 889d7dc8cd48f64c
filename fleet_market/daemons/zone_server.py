"""Serves the market of one zone: opens its store, connects it to the MQTT broker, runs it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fleet_market.adapters.clocks import SimulationClock, WatchedClock
from fleet_market.adapters.control import Phase, ZoneStatus
from fleet_market.adapters.guard import Guard, guard_for
from fleet_market.adapters.ingress import Ingress
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.measures import Measures
from fleet_market.adapters.mqtt import MqttConfig, Will
from fleet_market.adapters.private_files import PRIVATE, write_file
from fleet_market.adapters.service_config import DRAIN_S
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_base import Reads
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import file_of, is_postgres, open_store
from fleet_market.adapters.whole_store import archives_in, with_archives
from fleet_market.daemons.archiving import Archiving, Retention
from fleet_market.daemons.engine import Engine
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.errors import StoreError
from fleet_market.ports import Lease
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.messages import OrderState
from fleet_market.protocol.registry import Role, market_name

log = logging.getLogger(__name__)

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
    drain_s: float = DRAIN_S
    retention: Retention | None = None
    """What is archived; nothing by default."""


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
        self.clock = SimulationClock() if config.simulated else WatchedClock()
        self.measures = Measures()
        self.recovered = asyncio.Event()
        """Set while the market can take commands of the operator."""
        self.ready = asyncio.Event()
        """Set while the market is open."""
        self.running = False
        """Whether this daemon serves the zone at present."""
        self._zone: Zone | None = None
        self._ingress: Ingress | None = None

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
            If the database cannot be used or does not agree with the market.
        ClockError
            If the clock of this machine is far behind the market, or has jumped.
        LeaseLostError
            If another daemon has taken over the zone.
        InputError
            If the key of the ledger cannot be used.
        """
        config, zone_id = self.config, self.zone_config.zone
        signer = None if config.ledger_key is None else Ed25519Signer.load(config.ledger_key)
        self.running = True
        try:
            with await asyncio.to_thread(open_store, config.database, zone_id, lease) as store:
                async with StoreWriter(store, self.measures.committed) as writer:
                    fresh = replace(self.zone_config, traffic=copy.deepcopy(self.zone_config.traffic))
                    self._zone = zone = Zone(
                        fresh, store, writer, self.clock, self.guard, signer, self.measures.decided,
                        partial(self._whole, store),
                    )  # fmt: skip
                    await asyncio.to_thread(zone.recover)
                    self.recovered.set()
                    marks = self._marks()
                    self.guard.restore(marks)
                    robots = zone.engine.market.state.robots
                    self._ingress = ingress = Ingress(
                        self._mqtt(), zone_id, self.guard, robots, self._brake, clock=config.simulated, greet=zone.greet
                    )
                    async with ingress as transport, asyncio.TaskGroup() as tasks:
                        await transport.connected()
                        tasks.create_task(self._remember(marks), name="marks")
                        tasks.create_task(zone.run(transport), name="zone")
                        if config.retention is not None:
                            archiving = Archiving(config.retention, config.database, zone_id, store, writer, self.clock)
                            tasks.create_task(archiving.run(), name="archiving")
                        await zone.ready.wait()
                        self.ready.set()
                        opened(self)
        finally:
            self.ready.clear()
            self.recovered.clear()
            self.running, self._ingress = False, None

    def _whole(self, store: Reads) -> Reads:
        """Return the store with its archives; raises `StoreError` if there are none."""
        retention, zone = self.config.retention, self.zone_config.zone
        archives = [] if retention is None else archives_in(retention.folder, zone)
        if not archives:
            raise StoreError(
                f"zone {zone}: no snapshot can be used, and the beginning of the log is archived: name the folder of its"
                " archives as retention_folder"
            )
        return with_archives(store, archives)

    async def set_halted(self, *, halted: bool, reason: str) -> None:
        """Let the zone sell nothing, or go on; waits until it has recovered. Raises as `Zone.set_halted`."""
        await self.recovered.wait()
        await self.zone.set_halted(halted=halted, reason=reason)

    async def drain(self, *, receipts: bool = True) -> None:
        """Bring the market to an orderly end, within `ServerConfig.drain_s`; `run` is to be cancelled then.

        Parameters
        ----------
        receipts : bool
            Whether to wait for them; whoever runs the zone next can do that as well.
        """
        if self._ingress is None or not self.ready.is_set():
            return
        left = await self.zone.drain(self._ingress, self.config.drain_s, receipts=receipts)
        log.info("zone %s: drained, %d messages not confirmed", self.zone_config.zone, left, extra={"unconfirmed": left})

    def status(self) -> ZoneStatus:
        """Return how the zone is."""
        name, rejected = self.zone_config.zone, dict(self.rejected)
        if not self.running or self._zone is None or not self.recovered.is_set():
            return ZoneStatus(zone=name, phase="starting" if self.running else "elsewhere", rejected=rejected)
        engine, state = self._zone.engine, self._zone.engine.market.state
        connected, trouble = (False, "") if self._ingress is None else self._ingress.state()
        return ZoneStatus(
            zone=name,
            phase=self._phase(),
            reason=state.halt_reason if state.halted else trouble,
            connected=connected,
            epoch=engine.epoch,
            inputs=engine.inputs,
            batches=state.batches,
            awards=self.measures.awards,
            open_orders=sum(order.state is OrderState.OPEN for order in state.live.values()),
            contracts=len(state.contracts),
            robots_online=sum(robot.online for robot in state.robots.values()),
            waiting=engine.waiting() + (0 if self._ingress is None else self._ingress.waiting()),
            outbox=engine.unconfirmed(),
            rejected=rejected,
        )

    def _phase(self) -> Phase:
        state = self.zone.engine.market.state
        if self.zone.draining:
            return "draining"
        if state.halted:
            return "halted"
        if not self.ready.is_set():
            return "starting"
        return "paused" if state.paused else "open"

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
