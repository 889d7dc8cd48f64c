"""The market daemon: serves zones.

On SQLite it serves all of its zones, and a second daemon is refused. On PostgreSQL daemons share the zones by leases: each
signs on every `BEAT_S`, renews the leases of its zones, takes those that nobody runs, and gives some away to a daemon that
has come later. A daemon that dies lets its leases run out; one that has been cut off stops a zone when it hears that it has
lost it, and whatever it still writes is refused by the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from fleet_market.adapters.control import DaemonStatus, Request, ZoneStatus
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.stores import open_leases
from fleet_market.daemons.sharing import may_claim, to_give_away
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer, silent
from fleet_market.errors import ClockError, ControlError, FleetMarketError, InputError, LeaseLostError, StoreError
from fleet_market.ids import ZoneId
from fleet_market.ports import Lease, Leases, Roll

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""How often a daemon signs on: several times in the life of a lease."""
PATIENCE_S = 3 * BEAT_S
"""How long a daemon leaves a free zone to those that run fewer."""
RETRY_S = 60.0
"""How long a daemon leaves a zone alone that it could not run."""


class Broker:
    """The daemon; `run` it.

    Parameters
    ----------
    config : ServerConfig
    zones : sequence of ZoneConfig
    opened : callable
        Called with the server of each zone when its market is open.

    Raises
    ------
    InputError
        If there is no zone, or one twice, or its keys cannot be used.
    """

    def __init__(
        self, config: ServerConfig, zones: Sequence[ZoneConfig], opened: Callable[[ZoneServer], None] = silent
    ) -> None:
        names = [zone.zone for zone in zones]
        if not names or len(set(names)) < len(names):
            twice = next((name for name in names if names.count(name) > 1), None)
            raise InputError("command line", "--fleet", twice, "give at least one fleet file, each of another zone")
        self.config, brake = config, Brake()
        self.servers = {zone.zone: ZoneServer(config, zone, brake) for zone in zones}
        self.ready = asyncio.Event()
        """Set when the daemon runs what there is to run for it: perhaps nothing, where others run it."""
        self._opened = opened
        self._started_s = time.monotonic()
        self._draining = False
        self._runs: dict[ZoneId, asyncio.Task[None]] = {}
        self._stopping: set[ZoneId] = set()
        """Zones that have been told to stop, until their leases are given back."""
        self._leases: dict[ZoneId, Lease] = {}
        self._free_since: dict[ZoneId, float] = {}
        self._failed: dict[ZoneId, tuple[float, BaseException]] = {}
        """Zones that could not be run: until when they are left alone, and why."""

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        ExceptionGroup of StoreError, LedgerMismatchError, ClockError or InputError
            As `ZoneServer.run`; where zones are shared, only if this daemon can run none of its zones, or does not
            reach the database for as long as a lease lives.
        """
        leases = await asyncio.to_thread(open_leases, self.config.database)
        if leases is None:
            await self._serve_all()
            return
        with contextlib.closing(leases):
            async with asyncio.TaskGroup() as tasks:
                await self._share(leases, tasks)

    async def drain(self) -> None:
        """Bring all markets to an orderly end; `run` is to be cancelled then."""
        self._draining = True
        await asyncio.gather(*(server.drain() for server in self.servers.values()))

    def status(self) -> DaemonStatus:
        """Return how the daemon and its zones are."""
        return DaemonStatus(
            version=version("fleet-market"),
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_s, 3),
            zones=tuple(self._status_of(zone) for zone in self.servers),
        )

    def _status_of(self, zone: ZoneId) -> ZoneStatus:
        status = self.servers[zone].status()
        if zone not in self._failed or self.servers[zone].running:
            return status
        return status.model_copy(update={"phase": "failed", "reason": str(_first(self._failed[zone][1]))})

    async def obey(self, request: Request) -> DaemonStatus:
        """Do what the operator wants, and return how things are then.

        Raises
        ------
        ControlError
            If a zone is named that this daemon does not run, or it runs none.
        StoreError, LedgerMismatchError
            If it cannot be stored.
        """
        if request.command != "status":
            ours = [zone for zone, server in self.servers.items() if server.running]
            named = request.zones or ours
            if strangers := set(named) - set(ours):
                raise ControlError(f"this daemon does not run zone {min(strangers)}: ask the one that does")
            if not named:
                raise ControlError("this daemon runs no zone at present: ask the ones that do")
            log.warning("%s by the operator: %s", request.command, request.reason or "no reason given",
                        extra={"zones": named})  # fmt: skip
            halted, reason = request.command == "halt", request.reason
            await asyncio.gather(*(self.servers[zone].set_halted(halted=halted, reason=reason) for zone in named))
        return self.status()

    async def _serve_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for server in self.servers.values():
                tasks.create_task(server.run(None, self._opened), name=f"zone {server.zone_config.zone}")
            for server in self.servers.values():
                await server.ready.wait()
            self.ready.set()

    async def _share(self, leases: Leases, tasks: asyncio.TaskGroup) -> None:
        while True:
            stopping = bool(self._stopping)
            roll = await self._roll(leases)
            for zone in roll.lost & self._runs.keys() - self._stopping:
                log.warning("zone %s: another daemon has taken it over", zone)
                self._stop(zone)
            if (lease := await self._claim(leases, roll)) is not None:
                self._leases[lease.zone] = lease
                run = self._serve(leases, lease)
                self._runs[lease.zone] = tasks.create_task(run, name=f"zone {lease.zone}")
                continue
            if not self._stopping and all(self.servers[zone].ready.is_set() for zone in self._runs):
                self.ready.set()
                under_way = stopping or roll.free
                if not under_way and (surplus := to_give_away(list(self._runs), roll.others)) is not None:
                    log.info("zone %s: given away to a daemon that runs fewer", surplus)
                    self._stopping.add(surplus)
                    tasks.create_task(self._hand_over(surplus, self._runs[surplus]), name=f"hand over {surplus}")
            await asyncio.sleep(BEAT_S)

    async def _roll(self, leases: Leases) -> Roll:
        now = time.monotonic()
        self._failed = {zone: failure for zone, failure in self._failed.items() if failure[0] > now}
        if len(self._failed) == len(self.servers):
            raise next(error for _, error in self._failed.values())
        zones = self.servers.keys() - self._failed.keys()
        try:
            async with asyncio.timeout(leases.lease_s):
                return await asyncio.to_thread(leases.roll, zones, dict(self._leases))
        except TimeoutError:
            raise StoreError(f"the database has not answered for {leases.lease_s:g} s: the leases are over") from None

    async def _claim(self, leases: Leases, roll: Roll) -> Lease | None:
        """Take one of the zones that nobody runs, if it is this daemon's turn."""
        now, held = time.monotonic(), len(self._runs)
        self._free_since = {zone: self._free_since.get(zone, now) for zone in roll.free if zone not in self._runs}
        if self._draining:
            return None
        for zone, since in self._free_since.items():
            if may_claim(zone, held, roll.others) or now - since > PATIENCE_S:
                lease = await asyncio.to_thread(leases.claim, zone)
                if lease is not None:
                    return lease
        return None

    async def _serve(self, leases: Leases, lease: Lease) -> None:
        """Serve a zone under a lease; what goes wrong with it leaves the other zones alone."""
        try:
            await self.servers[lease.zone].run(lease, self._opened)
        except* ClockError:
            raise
        except* LeaseLostError as group:
            log.warning("%s", _first(group))
        except* FleetMarketError as group:
            log.error("zone %s: %s; tried again in %.0f s", lease.zone, _first(group), RETRY_S)  # noqa: TRY400 - told
            self._failed[lease.zone] = time.monotonic() + RETRY_S, group
        finally:
            del self._runs[lease.zone], self._leases[lease.zone]
            try:
                await asyncio.to_thread(leases.release, lease)
            finally:
                self._stopping.discard(lease.zone)

    async def _hand_over(self, zone: ZoneId, run: asyncio.Task[None]) -> None:
        """Have a zone stop when all that it has decided is told, if it has not stopped by itself."""
        await self.servers[zone].drain(receipts=False)
        if self._runs.get(zone) is run:
            run.cancel()

    def _stop(self, zone: ZoneId) -> None:
        """Have a zone stop; nobody waits for it, for that would hold up the leases of the others."""
        self._stopping.add(zone)
        self._runs[zone].cancel()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
