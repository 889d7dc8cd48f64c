"""The robot's node as a lifecycle node: real rclpy, a real broker, a robot of arithmetic."""

import asyncio
import importlib
import logging
import sys
from dataclasses import replace

import pytest
import toy_driver
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, ListParameters
from robot_stage import stage, until

from fleet_market_ros import robot_agent

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]


async def test_it_goes_through_its_states_by_service_calls_and_again(files, mqtt_broker):
    async with stage(files, mqtt_broker) as it:
        assert await it.state() == "unconfigured"
        assert not await it.change("activate")
        for _ in range(2):
            assert await it.change("configure")
            assert await it.state() == "inactive"
            assert await it.change("activate")
            assert await it.state() == "active"
            first = it.robot.daemon
            assert first.online
            assert toy_driver.made[-1].ticking is not None
            assert await it.change("deactivate")
            assert await it.state() == "inactive"
            assert toy_driver.made[-1].ticking is None
            assert await it.change("activate")
            assert it.robot.daemon.config.agent.session > first.config.agent.session
            assert await it.change("deactivate")
            assert await it.change("cleanup")
            assert await it.state() == "unconfigured"
        assert await it.change("shutdown")
        assert await it.state() == "finalized"
        assert not await it.change("configure")


async def test_started_by_itself_it_becomes_active_and_tells_diagnostics(files, mqtt_broker):
    async with stage(files, mqtt_broker, autostart=True) as it:
        told = []
        it.tools.subscribe(DiagnosticArray, "/diagnostics", told.append)
        await until(lambda: it.robot.node.label == "active")
        await until(lambda: told and told[-1].status[0].message == "idle")
        (status,) = told[-1].status
        values = {pair.key: pair.value for pair in status.values}
        assert (status.name, status.hardware_id, status.level) == ("/r1/robot_agent: market", "r1", b"\0")
        assert values == {
            "state": "active", "robot": "r1", "battery": "0.900", "link": "UP", "silent": "", "broker": "connected",
            "doing": "idle", "bidding": "yes", "queue": "",
        }  # fmt: skip
        toy_driver.made[-1].silent = True
        await until(lambda: told[-1].status[0].message == "no telemetry")
        assert told[-1].status[0].level == b"\2"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"robot": None}, "parameters: robot was '': set it in the parameter file"),
        ({"robot": "r9"}, "robots was 'r9': no such robot: use one of r1"),
        ({"robot": "AMR-1"}, "parameters: robot was 'AMR-1': use 1 to 64 lower-case letters"),
        ({"map": "nowhere.yaml"}, "nowhere.yaml"),
        ({"fleet": "nowhere.yaml"}, "nowhere.yaml"),
        ({"mqtt": "nowhere"}, "use HOST:PORT"),
        ({"driver": "horse"}, "parameters: driver was 'horse': use one of base, "),
        ({"driver_settings.z": 1.0}, "driver settings: z was 1.0: no such setting: use metered, silent, speed, x, y"),
        ({"driver_settings.speed": float("inf")}, "driver settings: speed was inf: use a number, as in 10.0"),
        ({"max_tasks": 0}, "parameters: max_tasks was 0: use a number from 1 to 100"),
        ({"max_tasks": "many"}, "parameters: max_tasks was 'many': use a whole number, e.g. 100"),
        ({"open_timeout_s": float("nan")}, "parameters: open_timeout_s was nan: use a number from 0.5 to 600"),
        ({"bidding": 1}, "parameters: bidding was 1: use a truth value, e.g. True"),
        ({"namespace": "/r2"}, "node: namespace was '/r2': start the node of r1 with `--ros-args -r __ns:=/r1`"),
    ],
)
async def test_what_is_wrong_is_said_and_it_stays_unconfigured(files, mqtt_broker, wrong, says, caplog):
    async with stage(files, mqtt_broker, **{"autostart": True, **wrong}) as it:
        await until(lambda: "stays unconfigured" in caplog.text)
        assert says in caplog.text
        assert it.robot.node.label == "unconfigured"
        assert says in it.robot.node.trouble.args[0]
        assert "Traceback" not in caplog.text


async def test_a_wrong_parameter_can_be_mended_without_a_new_start(files, mqtt_broker):
    async with stage(files, mqtt_broker, max_tasks=1000) as it:
        assert not await it.change("configure")
        refused = await it.set("max_tasks", 101)
        assert not refused.successful
        assert refused.reason == "Parameter max_tasks out of range. Min: 1, Max: 100, value: 101"
        assert (await it.set("max_tasks", 7)).successful
        assert await it.change("configure")
        refused = await it.set("driver", "base")
        assert "driver was 'base': is read when the node is configured: deactivate and clean up" in refused.reason
        assert await it.change("activate")
        assert it.robot.daemon.agent.situation.max_tasks == 7
        assert (await it.set("max_tasks", 2)).successful
        assert (await it.set("bidding", False)).successful
        now = it.robot.daemon.agent.situation
        await until(lambda: (now.max_tasks, now.bidding) == (2, False))


async def test_settings_of_the_driver_are_parameters_that_can_be_listed_and_mended(files, mqtt_broker):
    async with stage(files, mqtt_broker, **{"driver_settings.speed": "fast"}) as it:
        assert not await it.change("configure")
        assert "driver settings: speed was 'fast': use a float" in str(it.robot.node.trouble)
        told = (
            await it.call(ListParameters, "list_parameters", ListParameters.Request(prefixes=["driver_settings"]))
        ).result
        assert set(told.names) == {f"driver_settings.{name}" for name in ("x", "y", "speed", "silent", "metered")}
        assert (await it.set("driver_settings.speed", 5.0)).successful
        assert (await it.set("driver_settings.metered", True)).successful
        assert await it.change("configure")
        assert toy_driver.made[-1].spec.measures >= {"energy"}
        refused = await it.set("driver_settings.metered", False)
        assert "driver_settings.metered was False: is read when the node is configured" in refused.reason
        assert not (await it.set("driver_settings.colour", "red")).successful


async def test_messages_of_another_distribution_keep_it_unconfigured(files, mqtt_broker, tmp_path, monkeypatch, caplog):
    package = tmp_path / "foreign/fleet_market_msgs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "msg.py").write_text("raise ImportError('undefined symbol: rosidl_typesupport')")
    importlib.import_module("fleet_market_msgs")  # to be put back in the end
    for name in [name for name in sys.modules if name.partition(".")[0] == "fleet_market_msgs"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    async with stage(files, mqtt_broker, autostart=True) as it:
        await until(lambda: "stays unconfigured" in caplog.text)
        assert f"{package}: build was 'undefined symbol: rosidl_typesupport': build it with `make ros`" in caplog.text
        assert it.robot.node.label == "unconfigured"


async def test_what_is_silent_is_a_warning_that_names_it(files, mqtt_broker):
    async with stage(files, mqtt_broker, autostart=True) as it:
        told = []
        it.tools.subscribe(DiagnosticArray, "/diagnostics", told.append)
        await until(lambda: told and told[-1].status[0].message == "idle")
        base = toy_driver.made[-1]
        really = base.telemetry
        base.telemetry = lambda: replace(really(), silent=("payload",))
        await until(lambda: told[-1].status[0].message == "silent: payload: it does not bid")
        assert told[-1].status[0].level == b"\1"


async def test_a_daemon_that_dies_while_it_is_deactivated_is_told_and_not_started_again(files, mqtt_broker, caplog):
    async with stage(files, mqtt_broker, autostart=True) as it:
        await until(lambda: it.robot.node.label == "active")
        daemon = it.robot.daemon
        held = asyncio.Event()

        async def draining():
            held.set()
            await asyncio.Event().wait()

        daemon.drain = draining
        leaving = asyncio.create_task(it.change("deactivate"))
        await held.wait()
        assert (await it.set("bidding", True)).successful
        daemon.agent.sense = None
        assert not await leaving
        await until(lambda: it.robot.node.label == "unconfigured")
        with pytest.raises(TimeoutError):
            await until(lambda: it.robot.node.label != "unconfigured", within_s=2 * robot_agent.FIRST_RETRY_S)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "drain"]


async def test_a_robot_that_is_being_deactivated_cannot_be_made_to_bid_again(files, mqtt_broker):
    async with stage(files, mqtt_broker) as it:
        assert await it.change("configure")
        assert await it.change("activate")
        daemon, may_end = it.robot.daemon, asyncio.Event()
        really = daemon.drain

        async def draining():
            await really()
            await may_end.wait()

        daemon.drain = draining
        leaving = asyncio.create_task(it.change("deactivate"))
        await until(lambda: not daemon.agent.situation.bidding)
        assert (await it.set("bidding", False)).successful
        assert (await it.set("bidding", True)).successful
        await it.state()  # its answer comes over the loop, after what was set
        assert not daemon.agent.situation.bidding
        may_end.set()
        assert await leaving
        assert await it.change("activate")
        assert it.robot.daemon.agent.situation.bidding


async def test_every_parameter_describes_itself(files, mqtt_broker):
    async with stage(files, mqtt_broker) as it:
        names = list(it.robot.parameters._declared)
        request = DescribeParameters.Request(names=names)
        told = (await it.call(DescribeParameters, "describe_parameters", request)).descriptors
        assert [one.name for one in told] == names
        assert all(len(one.description) > 20 for one in told)
        kinds = {ParameterType.PARAMETER_INTEGER: "integer_range", ParameterType.PARAMETER_DOUBLE: "floating_point_range"}
        assert all(len(getattr(one, kinds[one.type])) == 1 for one in told if one.type in kinds)


async def test_an_unknown_parameter_is_told(files, mqtt_broker, caplog):
    async with stage(files, mqtt_broker, drvier="base"):
        await until(lambda: "no such parameters, passed over: drvier" in caplog.text)


async def test_without_telemetry_it_stays_inactive_and_says_so(files, mqtt_broker, caplog):
    async with stage(files, mqtt_broker, **{"driver_settings.silent": True, "open_timeout_s": 2.0}) as it:
        assert await it.change("configure")
        assert not await it.change("activate")
        assert await it.state() == "inactive"
        assert "no telemetry of r1 within 2 s: is its base running in namespace /r1" in caplog.text


async def test_without_a_broker_it_tries_again_until_there_is_one(files, mqtt_broker, caplog):
    mqtt_broker.kill()
    async with stage(files, mqtt_broker, autostart=True) as it:
        await until(lambda: "no MQTT broker answers there" in caplog.text)
        assert it.robot.node.label in {"unconfigured", "configuring"}
        mqtt_broker.start()
        await until(lambda: it.robot.node.label == "active")


async def test_a_broker_that_goes_and_comes_back_leaves_it_active(files, mqtt_broker):
    async with stage(files, mqtt_broker, autostart=True) as it:
        await until(lambda: it.robot.node.label == "active")
        daemon = it.robot.daemon
        mqtt_broker.kill()
        await until(lambda: not daemon.online)
        assert await it.state() == "active"
        mqtt_broker.start()
        await until(lambda: daemon.online)
        assert it.robot.daemon is daemon


async def test_an_error_while_it_is_active_ends_unconfigured_and_with_a_new_start(files, mqtt_broker, caplog):
    async with stage(files, mqtt_broker, autostart=True) as it:
        await until(lambda: it.robot.node.label == "active")
        first, seen = it.robot.daemon, []
        logging.getLogger("robot_agent").addHandler(handler := logging.Handler())
        handler.emit = lambda record: seen.append(it.robot.node.label)
        first.agent.sense = None
        await until(lambda: it.robot.daemon is not None and it.robot.daemon is not first)
        await until(lambda: it.robot.node.label == "active")
        logging.getLogger("robot_agent").removeHandler(handler)
        assert "the robot's daemon has ended" in caplog.text


async def test_an_error_without_autostart_leaves_it_unconfigured(files, mqtt_broker):
    async with stage(files, mqtt_broker) as it:
        assert await it.change("configure")
        assert await it.change("activate")
        it.robot.daemon.agent.sense = None
        await until(lambda: it.robot.node.label == "unconfigured")
        assert toy_driver.made[-1].ticking is None
        assert await it.change("configure")
