"""The launch files, against a recorder of the launch tool's API, with really started processes."""

import asyncio
import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fleet_market.adapters import mosquitto
from fleet_market.adapters.key_folder import BrokerAddress, KeyFolder
from fleet_market.daemons.programs import READY, BackOff, Program, RosNode, Site, simulator
from fleet_market.daemons.supervisor import Supervisor
from fleet_market.errors import InputError
from fleet_market.ids import ZoneId
from fleet_market_ros import discovery

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "launch_stand_in"
FLEET = str(ROOT / "launch/fleets/warehouse.yaml")
ROBOTS = ["carrier-1", "carrier-2", "carrier-3", "runner-1", "runner-2", "runner-3"]


ASK_STATES = """
import json, sys
import rclpy
from lifecycle_msgs.srv import GetState
rclpy.init()
node = rclpy.create_node("asks")
found = {}
for robot in sys.argv[1:]:
    client = node.create_client(GetState, f"/{robot}/robot_agent/get_state")
    assert client.wait_for_service(timeout_sec=60), robot
    answer = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, answer, timeout_sec=60)
    found[robot] = answer.result().current_state.label
print(json.dumps(found))
node.destroy_node()
rclpy.shutdown()
"""


def forget():
    """Have the launch tool, and what is made of it, imported anew."""
    for name in list(sys.modules):
        if name.split(".")[0] in {"launch", "launch_ros"} or name == "fleet_market_ros.launching":
            del sys.modules[name]


@pytest.fixture(autouse=True)
def launch(monkeypatch):
    """The recorder, also where a ROS is installed: what it records is what is checked here."""
    monkeypatch.syspath_prepend(STAND_IN)
    forget()
    yield importlib.import_module("launch")
    forget()


@pytest.fixture
def two_robots(tmp_path):
    """A fleet of two in the warehouse."""
    fleet = yaml.safe_load(Path(FLEET).read_text())
    fleet["map"], fleet["robots"] = str(ROOT / "launch/maps/warehouse.yaml"), fleet["robots"][:2]
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(fleet))
    return file


class Played:
    """What a launch file does with some arguments."""

    def __init__(self, launch, name, **arguments):
        self.context = launch.LaunchContext()
        self.context.launch_configurations.update(arguments)
        self.launch = launch
        self.actions = self.play(launch.load(ROOT / "launch" / f"{name}.launch.py").entities)

    def play(self, entities):
        return list(self.launch.play(entities, self.context))

    def processes(self, actions=None):
        return [a for a in (actions or self.actions) if hasattr(a, "cmd")]

    def handlers(self, action):
        found = (a.event_handler for a in self.actions if hasattr(a, "event_handler"))
        return [handler for handler in found if handler.target_action is action]

    def exit_of(self, action):
        (handler,) = [handler for handler in self.handlers(action) if hasattr(handler, "on_exit")]
        return handler.happens(None, self.context)


def command(action, folder):
    if not hasattr(action, "package"):
        return action.cmd
    (parameters,) = action.parameters or [{}]
    return RosNode(action.executable, action.namespace or "", parameters, action.arguments).command(folder)


def test_the_market_starts_mosquitto_market_and_oracle_and_ends_with_any_of_them(launch, tmp_path):
    played = Played(launch, "market", fleet=FLEET, out=str(tmp_path), seed="7")
    assert [process.name for process in played.processes()] == ["mosquitto", "market", "oracle"]
    (market,) = [process for process in played.processes() if process.name == "market"]
    assert "--simulated" not in market.cmd
    assert market.cmd[market.cmd.index("--seed") + 1] == "7"
    for process in played.processes():
        (end,) = played.exit_of(process)
        assert end.event.reason == f"{process.name} has ended, and nothing goes on without it"


def test_a_market_at_a_broker_that_runs_starts_none(launch, tmp_path):
    played = Played(launch, "market", fleet=FLEET, out=str(tmp_path), mosquitto="false", mqtt="127.0.0.1:4711")
    assert [process.name for process in played.processes()] == ["market", "oracle"]
    assert all("127.0.0.1:4711" in process.cmd for process in played.processes())


def test_every_robot_is_a_node_in_its_namespace_with_its_parameters(launch, tmp_path):
    played = Played(launch, "fleet", fleet=FLEET, out=str(tmp_path), driver="nav2", mqtt="broker:8883", keys=str(tmp_path))
    nodes = played.processes()
    assert [(n.package, n.executable) for n in nodes] == [("fleet_market_ros", "robot_agent")] * 6
    assert [n.namespace for n in nodes] == [name.replace("-", "_") for name in ROBOTS]
    for name, node in zip(ROBOTS, nodes, strict=True):
        (parameters,) = node.parameters
        assert parameters["robot"] == name
        assert (parameters["driver"], parameters["mqtt"], parameters["keys"]) == ("nav2", "broker:8883", str(tmp_path))


def test_each_robot_has_the_driver_that_the_file_says_unless_one_is_given_for_all(launch, two_robots, tmp_path):
    fleet = yaml.safe_load(two_robots.read_text())
    fleet["robots"][1]["driver"] = "nav2"
    two_robots.write_text(yaml.safe_dump(fleet))

    def drivers(**more):
        played = Played(launch, "fleet", fleet=str(two_robots), out=str(tmp_path / "out"), **more)
        return [node.parameters[0]["driver"] for node in played.processes()]

    assert drivers() == ["base", "nav2"]
    assert drivers(driver="kinematic") == ["kinematic", "kinematic"]


def test_parameters_of_the_file_reach_the_robots_node(launch, two_robots, tmp_path):
    fleet = yaml.safe_load(two_robots.read_text())
    fleet["robots"][1]["parameters"] = {"max_tasks": 1, "driver_settings": {"scale": False}}
    two_robots.write_text(yaml.safe_dump(fleet))
    played = Played(launch, "fleet", fleet=str(two_robots), out=str(tmp_path / "out"))
    first, second = (node.parameters[0] for node in played.processes())
    assert second == first | {
        "robot": "carrier-2", "memory": second["memory"], "max_tasks": 1, "driver_settings.scale": False,
    }  # fmt: skip


def test_whom_nav2_drives_a_stand_in_drives_in_the_simulation(launch, two_robots, tmp_path):
    fleet = yaml.safe_load(two_robots.read_text())
    fleet["robots"][1]["driver"] = "nav2"
    two_robots.write_text(yaml.safe_dump(fleet))
    site = Site.of(two_robots, tmp_path / "out", mqtt="127.0.0.1:1883")
    assert list(simulator(site).arguments)[-2:] == ["--nav2", "carrier-2"]
    assert list(simulator(replace(site, driver="nav2")).arguments)[-2:] == ["--nav2", "carrier-1,carrier-2"]
    assert "--nav2" not in simulator(replace(site, driver="base")).arguments


def test_a_market_with_keys_starts_a_broker_that_asks_for_them(launch, tmp_path):
    keys = KeyFolder.found(tmp_path / "keys", BrokerAddress(), [ZoneId("main")]).folder
    played = Played(launch, "market", fleet=FLEET, out=str(tmp_path / "out"), mqtt="127.0.0.1:4711", keys=str(keys))
    broker, *programs = played.processes()
    config = Path(broker.cmd[-1]).read_text()
    assert "listener 4711 127.0.0.1" not in (keys / "broker/mosquitto.conf").read_text(), "it may serve another market"
    assert str(keys / "broker/mosquitto") not in config
    assert "listener 4711 127.0.0.1" in config
    assert f"cafile {keys / 'ca.pem'}" in config
    assert "require_certificate true" in config
    assert {program.additional_env["FLEET_MARKET_KEYS"] for program in programs} == {str(keys)}


def test_keys_of_a_robot_are_no_keys_of_a_broker(launch, tmp_path):
    (tmp_path / "keys").mkdir()
    with pytest.raises(InputError, match="keys of the MQTT broker was 'not there': use the operator's folder"):
        Played(launch, "market", fleet=FLEET, out=str(tmp_path / "out"), keys=str(tmp_path / "keys"))
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_simulation_has_the_keys_that_it_is_given_and_none_of_the_users_own(launch, two_robots, tmp_path, monkeypatch):
    monkeypatch.setenv("FLEET_MARKET_KEYS", "/somewhere/else")

    def keys_of_the_simulator(**more):
        played = Played(launch, "sim", fleet=str(two_robots), out=str(tmp_path / "out"), mosquitto="false", **more)
        (world,) = [process for process in played.processes() if getattr(process, "executable", "") == "simulator"]
        return world.additional_env["FLEET_MARKET_KEYS"]

    assert keys_of_the_simulator() == ""
    keys = KeyFolder.found(tmp_path / "keys", BrokerAddress(), [ZoneId("main")]).folder
    assert keys_of_the_simulator(keys=str(keys)) == str(keys)


def test_some_robots_can_be_chosen_and_unknown_ones_are_refused(launch, tmp_path):
    played = Played(launch, "fleet", fleet=FLEET, out=str(tmp_path), robots="runner-1, carrier-2")
    assert [node.namespace for node in played.processes()] == ["carrier_2", "runner_1"]
    with pytest.raises(InputError, match=r"robots was 'runner-9': use ids of the file: carrier-1, "):
        Played(launch, "fleet", fleet=FLEET, out=str(tmp_path), robots="runner-9")


def test_a_node_that_dies_is_started_again_later_each_time_but_not_while_the_launch_ends(launch, tmp_path):
    played = Played(launch, "fleet", fleet=FLEET, out=str(tmp_path), robots="runner-1")
    waits = []
    for _ in range(7):
        (node,) = played.processes()
        told, timer = played.exit_of(node)
        assert told.msg == f"runner-1 has died; it is started again in {timer.period:g} s"
        waits.append(timer.period)
        assert played.processes(timer.actions)[0].parameters == node.parameters
        played.actions = timer.actions
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    played.context.is_shutdown = True
    assert played.exit_of(played.processes()[0]) == []


def test_a_program_that_lived_long_is_started_again_soon():
    back_off = BackOff(begun_s=0.0)
    assert [back_off.died(1.0), back_off.died(2.0)] == [1.0, 2.0]
    back_off.begun_s = 10.0
    assert back_off.died(70.0) == 1.0
    assert back_off.died(70.5) == 1.0, "it had lived for long then too"


ANY = "(?s).*"
WRONG = {
    "LaunchDescription([], entities=[])": "unexpected keyword",
    "LaunchDescription(['a text'])": ANY,
    "actions.DeclareLaunchArgument('fleet', default='a')": "unexpected keyword",
    "actions.ExecuteProcess(cmd=['true'], environment={})": "unexpected keyword",
    "actions.ExecuteProcess(cmd=['sleep', 1])": ANY,
    "actions.OpaqueFunction(callable=print)": "unexpected keyword|required keyword",
    "actions.IncludeLaunchDescription('a', arguments=[])": "unexpected keyword",
    "actions.RegisterEventHandler(print)": ANY,
    "actions.EmitEvent(event='Shutdown')": ANY,
    "actions.LogInfo(message='a')": "unexpected keyword|required keyword",
    "actions.TimerAction(delay=1.0, actions=[])": "unexpected keyword|required keyword",
    "actions.TimerAction(period=1, actions=[])": ANY,
    "events.Shutdown('why')": "positional",
    "events.Shutdown(why='so')": "unexpected keyword",
    "handlers.OnProcessExit(target_action=None)": "required keyword",
    "handlers.OnProcessExit(on_exit=['a text'])": "LaunchDescriptionEntity",
    "handlers.OnProcessIO(target_action='a', on_stdout=print)": "ExecuteLocal",
    "handlers.OnProcessIO(on_output=print)": "unexpected keyword",
    "ros.Node(package='a', node_executable='b')": "unexpected keyword|required keyword",
    "ros.Node(package='a', executable='b', parameters={'x': 1})": "must be a list",
    "ros.Node(package='a', executable='b', parameters=[{'x': None}])": "Unexpected type",
    "ros.Node(package='a', executable='b', parameters=[{'x': []}])": "Unexpected type",
}


@pytest.mark.parametrize("call", WRONG)
def test_the_recorder_refuses_what_the_tool_refuses(launch, call):
    names = {"actions": "launch.actions", "events": "launch.events", "handlers": "launch.event_handlers"}
    scope = {name: importlib.import_module(module) for name, module in names.items()}
    scope |= {"ros": importlib.import_module("launch_ros.actions"), "LaunchDescription": launch.LaunchDescription}
    with pytest.raises((TypeError, AssertionError), match=WRONG[call]):
        eval(call, scope)  # noqa: S307 - the calls above


@pytest.mark.parametrize("name", ["market", "fleet", "sim"])
def test_every_argument_says_what_it_is_and_the_fleet_is_needed(launch, name, tmp_path):
    declared = [e for e in launch.load(ROOT / "launch" / f"{name}.launch.py").entities if hasattr(e, "declare")]
    assert all(argument.description.endswith((".", ")")) or "`" in argument.description for argument in declared)
    with pytest.raises(RuntimeError, match="Required launch argument 'fleet'"):
        Played(launch, name, out=str(tmp_path))


def test_a_wrong_fleet_file_ends_the_launch_with_what_is_wrong(launch, tmp_path):
    file = tmp_path / "fleet.yaml"
    file.write_text("zone: main\n")
    with pytest.raises(InputError, match="robots"):
        Played(launch, "fleet", fleet=str(file), out=str(tmp_path))


@pytest.mark.real
async def test_everything_that_the_simulation_yields_runs_and_every_robot_becomes_ready(launch, two_robots, tmp_path):
    port = mosquitto.free_port()
    out = tmp_path / "out"
    played = Played(launch, "sim", fleet=str(two_robots), out=str(out), mqtt=f"127.0.0.1:{port}", speed="3.0")
    (world,) = [process for process in played.processes() if getattr(process, "executable", "") == "simulator"]
    (ready,) = [handler for handler in played.handlers(world) if hasattr(handler, "on_stderr")]
    deaths = []
    with discovery.claimed_domain_id() as domain:
        environment = discovery.loopback_environment(domain, tmp_path / "ros")
        async with Supervisor(tmp_path / "logs", lambda *death: deaths.append(death)) as supervisor:
            names = [start(supervisor, process, environment, tmp_path) for process in played.processes()]
            assert names == ["mosquitto", "market", "oracle", "simulator"]
            await supervisor.wait_ready(names, timeout_s=120)
            then = ready.on_stderr(ProcessText(f"INFO {READY}\n".encode()))
            assert ready.on_stderr(ProcessText(f"INFO {READY}\n".encode())) == [], "once is enough"
            robots = [start(supervisor, p, environment, tmp_path) for p in played.processes(played.play(then))]
            await supervisor.wait_ready(robots, timeout_s=120)
            assert robots == ["carrier_1", "carrier_2"]
            assert await states(robots, environment) == {"carrier_1": "active", "carrier_2": "active"}
    assert deaths == []
    assert await asyncio.to_thread(lambda: json.loads((out / "simulation.json").read_text())["sim_s"]) > 0


async def states(robots, environment):
    """Ask each robot's lifecycle service, in a process that is in the same ROS domain."""
    command = (sys.executable, "-c", ASK_STATES, *robots)
    asking = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(asking.communicate(), 150)
    return json.loads(said)


class ProcessText:
    def __init__(self, text):
        self.text = text


def start(supervisor, action, environment, folder):
    name = action.name or getattr(action, "namespace", None) or action.executable
    ready = "" if name == "mosquitto" else READY
    more = {**environment, **action.additional_env}
    stage = {"mosquitto": 0, "market": 1, "oracle": 1, "simulator": 1}.get(name, 2)
    supervisor.start(Program(name, command(action, folder / "parameters"), more, ready, stage=stage))
    return name
