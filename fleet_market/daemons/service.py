"""The market daemon as a service: its control socket, its metrics, and what it tells the service manager."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from fleet_market.adapters import control, systemd
from fleet_market.adapters.control import ZoneStatus
from fleet_market.adapters.measures import Measures
from fleet_market.daemons.broker import Broker
from fleet_market.errors import InputError

READ_S = 5.0
"""How long a scrape of the metrics waits for a busy daemon."""


class Service:
    """Runs a `Broker`, and whoever looks after it.

    Parameters
    ----------
    broker : Broker
    control_path : Path
        Of the socket for ``fleet-market halt|resume|status``.
    metrics_port : int, optional
        Where Prometheus may read, on loopback.
    """

    def __init__(self, broker: Broker, control_path: Path, metrics_port: int | None = None) -> None:
        self._broker, self._control_path, self._metrics_port = broker, control_path, metrics_port

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        InputError
            If the control socket or the port of the metrics cannot be had.
        ExceptionGroup
            As `Broker.run`.
        """
        with self._metrics():
            async with control.serve(self._control_path, self._broker.obey), asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(), name="systemd")
                await self._broker.run()
                telling.cancel()

    async def drain(self) -> None:
        """Bring the service to an orderly end; `run` is to be cancelled then."""
        systemd.notify(systemd.STOPPING, "STATUS=storing and sending what was decided")
        await self._broker.drain()

    async def _tell(self) -> None:
        await self._broker.ready.wait()
        systemd.notify(systemd.READY, f"STATUS=markets: {', '.join(self._broker.servers)}")
        if (period_s := systemd.watchdog_period_s()) is not None:
            while True:
                systemd.notify(systemd.ALIVE)
                await asyncio.sleep(period_s)

    def _metrics(self) -> contextlib.AbstractContextManager[None]:
        if self._metrics_port is None:
            return contextlib.nullcontext()
        try:
            from fleet_market.adapters.metrics import serve_metrics  # noqa: PLC0415 - prometheus_client is an extra
        except ImportError:
            mend = "install it: pip install 'fleet-market[metrics]'"
            raise InputError("configuration", "metrics", self._metrics_port, mend) from None
        loop = asyncio.get_running_loop()

        async def read() -> list[tuple[ZoneStatus, Measures]]:
            return [(server.status(), server.measures) for server in self._broker.servers.values()]

        return serve_metrics(
            self._metrics_port, lambda: asyncio.run_coroutine_threadsafe(read(), loop).result(timeout=READ_S)
        )
