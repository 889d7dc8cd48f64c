"""The robot's node: drives its base by a driver, trades on MQTT. A lifecycle node.

configure   checks parameters, files, driver and MQTT broker
activate    opens the driver, takes part in the market and bids
deactivate  bids no longer, finishes what the robot holds, leaves the market
cleanup     forgets the configuration

With `autostart`, as by default, the node configures and activates itself; what is wrong in its parameters it says and stays
unconfigured, what may come right by itself (no broker yet, no telemetry) it tries again. An error while it is active ends
in `unconfigured`, and with `autostart` in a new start. The node runs in the robot's namespace; `docs/ros_nodes.md` lists
parameters, topics and services.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.errors import FleetMarketError, InputError
from fleet_market.ids import RobotId
from fleet_market.maps.places import Places
from fleet_market.ports import RobotDriver
from fleet_market.robot.fleet import DRIVER_SETTINGS
from fleet_market_hardware.drivers import DriverSetup, find, listed
from fleet_market_ros.clocks import clock_of
from fleet_market_ros.diagnostics import Diagnostics
from fleet_market_ros.floor_files import ground_of
from fleet_market_ros.lifecycle import ManagedNode
from fleet_market_ros.market_side import MarketSide
from fleet_market_ros.memory import leave_out_generators, share_one_heap
from fleet_market_ros.parameters import Declared, Parameters
from fleet_market_ros.ros import EXECUTORS, ExecutorName, Host, Ros
from fleet_market_ros.running import run_node
from fleet_market_ros.wire import check_broker

log = logging.getLogger("robot_agent")

FIRST_RETRY_S, MAX_RETRY_S = 1.0, 30.0
POLL_S = 0.05
CLEAN_UP = "is read when the node is configured: deactivate and clean up the node first"


def _drivers() -> list[str]:
    return [one.name for one in listed()]


PARAMETERS = (
    Declared("robot", "", "Id of the robot in the fleet file.", kind=RobotId, needed=True),
    Declared("fleet", "", "Fleet file (YAML).", needed=True),
    Declared("map", "", "Map file (YAML, as nav2_map_server reads it).", needed=True),
    Declared("mqtt", "127.0.0.1:1883", "MQTT broker of the market, HOST:PORT.", needed=True),
    Declared("memory", "", "File that keeps what the robot learns; empty: a start begins with the data sheet."),
    Declared("keys", os.environ.get(KEYS_VARIABLE, ""), "Folder of keys; empty: only a broker on this machine."),
    Declared("driver", "base", "Driver of the robot; `fleet-market driver list` shows all.", choices=_drivers),
    Declared("check_namespace", True, "Refuse a namespace that does not end with the robot's id."),
    Declared("autostart", True, "Configure and activate at start, and again after an error."),
    Declared("bidding", True, "Ask for new tasks; what the robot holds it does in any case.", live=True),
    Declared("max_tasks", 100, "Most contracts at once, never more than the robot's type allows.", 1, 100, live=True),
    Declared("open_timeout_s", 60.0, "How long to wait for telemetry, and for the broker, seconds.", 0.5, 600.0),
    Declared("deactivate_timeout_s", 900.0, "How long a deactivation lets the robot finish, s.", 0.0, 86400.0, live=True),
    Declared("diagnostics_period_s", 1.0, "Between two messages on /diagnostics, seconds.", 0.1, 60.0, live=True),
)


class RobotNode:
    """One robot as a lifecycle node; use as an async context manager, then `run`.

    Parameters
    ----------
    arguments : sequence of str
        Command line with ``--ros-args``.
    host : Host, optional
        Shared with other robots of the same process; by default the node has one of its own,
    executor : str
        with this executor, see `Host`.
    """

    def __init__(self, arguments: Sequence[str], *, host: Host | None = None, executor: ExecutorName = "events") -> None:
        self._ros = Ros("robot_agent", arguments, host=host, executor=executor, make=self._make)
        self.daemon: RobotDaemon | None = None
        self.places: Places | None = None
        self._config: RobotConfig | None = None
        self._part: Ros | None = None
        self._serving: asyncio.Task[None] | None = None
        self._died = asyncio.Event()
        self._session = 0

    def _make(self, name: str, **more: Any) -> ManagedNode:
        self.node = ManagedNode(name, steps=self, **more)
        return self.node

    async def __aenter__(self) -> Self:
        await self._ros.__aenter__()
        self.node.answer_with(self._ros.on_loop)
        self.parameters = Parameters(self.node, PARAMETERS, self._changed, self._fixed, DRIVER_SETTINGS)
        self._settings: dict[str, Any] = {}
        self._market = MarketSide(self._ros, self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.recover()
        await self._ros.__aexit__(*exc)

    async def run(self, ready: Callable[[str], None] = lambda _name: None) -> None:
        """Serve until cancelled; calls `ready` with the robot's id whenever it has become active."""
        if self.parameters.unknown:
            log.warning("no such parameters, passed over: %s", ", ".join(self.parameters.unknown))
        self._ready = ready
        async with asyncio.TaskGroup() as tasks:
            diagnostics = Diagnostics(self._ros, self)
            tasks.create_task(diagnostics.run(self._value), name="diagnostics")
            tasks.create_task(self._market.run(), name="market side")
            tasks.create_task(self._keep_up(), name="start")

    def _value(self, name: str) -> Any:
        return self.node.get_parameter(name).value

    def _fixed(self) -> str:
        return "" if self.node.label == "unconfigured" else CLEAN_UP

    # --- start and restart ------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Start if it is asked for, and end what has died, by the state machine's own transitions."""
        if self._value("autostart"):
            await self._start()
        while True:
            await self._died.wait()
            self._died.clear()
            while self.node.is_busy:  # noqa: ASYNC110 - the state machine has no events
                await asyncio.sleep(POLL_S)
            if self.node.label != "active" or self._serving is None or not self._serving.done():
                continue  # whoever was ending it has been told, and may have begun anew
            await self.node.transition("deactivate")
            if self._value("autostart"):
                await asyncio.sleep(FIRST_RETRY_S)
                await self._start()

    async def _start(self) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            if self.node.label == "unconfigured" and not await self.node.transition("configure"):
                if isinstance(self.node.trouble, InputError):
                    log.error("stays unconfigured: mend that, then configure and activate the node, or start it anew")
                    return
            elif self.node.label != "inactive" or await self.node.transition("activate"):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    # --- transitions ------------------------------------------------------------------------------------------------------

    async def configure(self) -> None:
        """Check parameters, files, driver and broker."""
        if self._market.trouble is not None:
            raise self._market.trouble
        self._settings = values = self.parameters.read()
        robot = RobotId(values["robot"])
        ground = await asyncio.to_thread(ground_of, Path(values["fleet"]), Path(values["map"]), robot)
        self._check_namespace(robot)
        host, port = await check_broker(values["mqtt"])
        self._config = RobotConfig(
            ground.agent, ground.owner, host, port, ground.zone,
            memory=Path(values["memory"]) if values["memory"] else None,
            keys=Path(values["keys"]) if values["keys"] else None,
            open_timeout_s=values["open_timeout_s"],
            broker_timeout_s=values["open_timeout_s"],
        )  # fmt: skip
        self.places = ground.places
        try:
            self._prepare(self._config)
        except BaseException:
            self._forget()
            raise

    def _check_namespace(self, robot: RobotId) -> None:
        found, wanted = self.node.get_namespace(), robot.ros_namespace
        if self._settings["check_namespace"] and found.rsplit("/", 1)[-1] != wanted:
            mend = f"start the node of {robot} with `--ros-args -r __ns:=/{wanted}`, or set check_namespace to false"
            raise InputError("node", "namespace", found, mend)

    def _prepare(self, config: RobotConfig) -> None:
        """Make the driver and the daemon; nothing is opened yet."""
        agent = config.agent
        self._part = self._ros.part()
        setup = DriverSetup(agent.robot, agent.type, self.parameters.others(), self._part, self.parameters.declare_others)
        driver: RobotDriver = find(self._settings["driver"])(setup)
        self._session = max(new_session(), self._session + 1)
        fresh = replace(agent, session=self._session)
        clock = clock_of(self.node, driver)
        self.daemon = RobotDaemon(replace(config, agent=fresh), driver, clock)
        self._market.watch(self.daemon, clock)

    async def activate(self) -> None:
        """Open the driver and take part in the market."""
        if self._config is None:
            raise InputError("node", "state", self.node.label, "configure the node first")
        if self.daemon is None:
            self._prepare(self._config)
        daemon, ready = self.daemon, asyncio.Event()
        if daemon is None:
            raise FleetMarketError("the robot's daemon could not be made")
        daemon.agent.situation.bidding = bool(self._value("bidding"))
        daemon.agent.situation.max_tasks = int(self._value("max_tasks"))
        self._serving = serving = asyncio.create_task(daemon.run(ready.set), name="daemon")
        waiting = asyncio.create_task(ready.wait(), name="ready")
        try:
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._serving is not serving:
            raise FleetMarketError("the node ends")  # meanwhile `recover` has ended the daemon
        if not ready.is_set():
            self._serving = None
            self._forget()
            try:
                await serving
            except TimeoutError:
                wait_s = self._settings["open_timeout_s"]
                raise TimeoutError(
                    f"no telemetry of {self._config.agent.robot} within {wait_s:g} s: is its base running in namespace "
                    f"{self.node.get_namespace()}, and the driver {self._settings['driver']!r} the right one?"
                ) from None
        serving.add_done_callback(self._on_end)
        self._ready(str(self._config.agent.robot))

    async def deactivate(self) -> None:
        """Bid no longer, finish what the robot holds, and leave the market; an error if the daemon has died or dies."""
        daemon, serving = self.daemon, self._serving
        if daemon is not None and serving is not None:
            draining = asyncio.create_task(daemon.drain(), name="drain")
            try:
                async with asyncio.timeout(float(self._value("deactivate_timeout_s"))):
                    await asyncio.wait([serving, draining], return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                held = ", ".join(task.order for task in daemon.agent.tasks) or "none"
                log.warning("not finished in time; orders that go back to the market: %s", held)
            finally:
                draining.cancel()
            if serving.done() and not serving.cancelled() and (error := serving.exception()) is not None:
                raise error
        await self.recover(keep=True)

    async def cleanup(self) -> None:
        """Forget the configuration."""
        await self.recover()

    async def recover(self, *, keep: bool = False) -> None:
        """End everything at once; with `keep` the configuration stays."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.remove_done_callback(self._on_end)
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await serving
        self._forget()
        if not keep:
            self._config = None

    def _forget(self) -> None:
        self.daemon = None
        if self._part is not None:
            self._part.forget()
            self._part = None

    def _on_end(self, serving: asyncio.Task[None]) -> None:
        if not serving.cancelled():
            log.error("the robot's daemon has ended: %s", serving.exception())
            self._died.set()

    def _changed(self, name: str, value: Any) -> None:
        """Take over a parameter that was set; called in rclpy's thread."""
        if name in {"bidding", "max_tasks"}:
            self._ros.loop.call_soon_threadsafe(self._take_over, name, value)

    def _take_over(self, name: str, value: Any) -> None:
        if self.daemon is not None and self.node.label != "deactivating":  # it must not bid again
            setattr(self.daemon.agent.situation, name, value)


async def serve() -> None:
    """Run the node until it is cancelled."""
    parser = argparse.ArgumentParser(prog="robot_agent", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--executor", choices=EXECUTORS, default="events", help="rclpy's executor; events costs less")
    options, ros_arguments = parser.parse_known_args(sys.argv[1:])
    async with RobotNode(ros_arguments, executor=options.executor) as node:
        await node.run(lambda name: log.info("READY %s", name))


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    share_one_heap()
    leave_out_generators()
    run_node(serve)


if __name__ == "__main__":
    main()
