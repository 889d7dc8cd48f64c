"""The interfaces of `fleet_market_msgs` go over real rclpy and come back as they were."""

import array
import threading
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor

from fleet_market.protocol.messages import ASK_PARTS, DeclineReason, FairReply, OrderState, Phase
from fleet_market.robot.situation import Doing

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")  # lark, which rclpy brings along
SOURCES = Path(__file__).parents[2] / "ros2_ws" / "src" / "fleet_market_msgs"
SAMPLES = {
    "boolean": True, "double": 1.25, "float": 0.5, "int16": -7, "int32": -70_000, "int64": 12_345_678_901,
    "string": "shelf-a1", "uint8": 3, "uint16": 700, "uint32": 70_000, "uint64": 2**40,
}  # fmt: skip


def interface(folder, name):
    return getattr(import_module(f"fleet_market_msgs.{folder}"), name)


def names(folder):
    return sorted(path.stem for path in (SOURCES / folder).iterdir())


def filled(kind):
    """Return a message in which no field is what it is in an empty one."""
    message = kind()
    for field, field_type in kind.get_fields_and_field_types().items():
        value = sample(field_type)
        assert value != getattr(message, field), f"{kind.__name__}.{field} would be told apart from nothing"
        setattr(message, field, value)
    return message


def sample(field_type):
    if field_type.startswith("sequence<"):
        inner = field_type.removeprefix("sequence<").removesuffix(">").split(", ")[0]
        return [sample(inner), sample(inner)]
    if "/" in field_type:
        package, name = field_type.split("/")
        return filled(getattr(import_module(f"{package}.msg"), name))
    base = field_type.split("<")[0].split("[")[0]
    if field_type.endswith("]"):
        return array.array("d", [0.5] * int(field_type.split("[")[1][:-1]))
    return SAMPLES[base]


@pytest.fixture
def node(domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("tester", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10)
    node.destroy_node()
    context.try_shutdown()


def result_of(future):
    done = threading.Event()
    future.add_done_callback(lambda _future: done.set())
    assert done.wait(60)
    return future.result()


@pytest.mark.real
@pytest.mark.parametrize("name", names("msg"))
def test_a_message_arrives_as_it_was_sent(node, name, eventually):
    kind, heard = interface("msg", name), []
    node.create_subscription(kind, "topic", heard.append, 10)
    publisher = node.create_publisher(kind, "topic", 10)
    eventually(lambda: publisher.get_subscription_count() == 1)
    sent = filled(kind)
    publisher.publish(sent)
    eventually(lambda: heard)
    assert heard == [sent]


@pytest.mark.real
@pytest.mark.parametrize("name", names("srv"))
def test_a_service_carries_request_and_response(node, name):
    kind, heard = interface("srv", name), []

    def answer(request, _response):
        heard.append(request)
        return filled(kind.Response)

    node.create_service(kind, "service", answer)
    client = node.create_client(kind, "service")
    assert client.wait_for_service(60)
    sent = filled(kind.Request)
    assert result_of(client.call_async(sent)) == filled(kind.Response)
    assert heard == [sent]


@pytest.mark.real
def test_a_task_is_executed_as_an_action_with_feedback_and_a_result(node, eventually):
    kind, goals, told = interface("action", "ExecuteTask"), [], []

    def execute(handle):
        goals.append(handle.request)
        handle.publish_feedback(filled(kind.Feedback))
        handle.succeed()
        return filled(kind.Result)

    server = ActionServer(node, kind, "execute_task", execute)
    client = ActionClient(node, kind, "execute_task")
    assert client.wait_for_server(60)
    sent = filled(kind.Goal)
    handle = result_of(client.send_goal_async(sent, feedback_callback=lambda message: told.append(message.feedback)))
    assert handle.accepted
    assert result_of(handle.get_result_async()).result == filled(kind.Result)
    eventually(lambda: told)
    assert (goals, told) == ([sent], [filled(kind.Feedback)])
    client.destroy()
    server.destroy()


def constants(path, prefix=""):
    lines = (line.split("#")[0].split() for line in (SOURCES / path).read_text().splitlines())
    pairs = (line[1].split("=") for line in lines if len(line) == 2 and "=" in line[1])
    return {name.removeprefix(prefix).lower(): int(value) for name, value in pairs if name.startswith(prefix)}


def test_constants_name_every_value_of_the_protocol_and_no_other():
    assert set(constants("msg/Ask.msg", "REASON_")) == {"none", *DeclineReason}
    assert list(constants("msg/Contract.msg", "PHASE_")) == list(Phase)
    assert list(constants("msg/MarketState.msg", "DOING_")) == list(Doing)
    before_work = {state for state in OrderState if state is not OrderState.EXECUTING}
    assert {*constants("action/ExecuteTask.action")} == {*before_work, *Phase, "refused"}
    results = get_args(FairReply.model_fields["result"].annotation)
    assert {*constants("srv/QuoteBand.srv")} == {*results, "no_answer"}
    parts = [line.split()[1] for line in (SOURCES / "msg/PriceParts.msg").read_text().splitlines() if "_uc" in line]
    assert parts == [f"{part}_uc" for part in ASK_PARTS]


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(SOURCES) for p in SOURCES.rglob("*.*") if p.suffix in {".msg", ".srv", ".action"})
)
def test_every_interface_begins_with_what_it_is_for(path):
    assert (SOURCES / path).read_text().startswith("# ")
