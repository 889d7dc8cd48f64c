"""What is published, recorded to an MCAP file and read back is equal, topic by topic."""

import array
import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from robot_stage import until
from sensor_msgs.msg import BatteryState, JointState
from std_msgs.msg import String

from fleet_market_ros import mcap_file, qos
from fleet_market_ros.mcap_file import McapFile, RecordingError, definition
from fleet_market_ros.recorder import Recorder
from fleet_market_ros.ros import Ros

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")  # lark, which rclpy brings along
PACKAGE = Path(__file__).parents[2] / "ros2_ws" / "src" / "fleet_market_msgs"
OURS = sorted(f"fleet_market_msgs/msg/{path.stem}" for path in (PACKAGE / "msg").iterdir())
THEIRS = ["geometry_msgs/msg/Twist", "nav_msgs/msg/Odometry", "sensor_msgs/msg/BatteryState", "sensor_msgs/msg/JointState"]
COUNT = 200


def read(path):
    """Return the messages of a file by topic, as rclpy understands them."""
    messages = defaultdict(list)
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False):
            package, _, name = schema.name.split("/")
            kind = getattr(import_module(f"{package}.msg"), name)
            messages[channel.topic].append(deserialize_message(message.data, kind))
    return dict(messages)


def same(read_back, message):
    """Return whether what a file's own text of the type says of a message is the message."""
    if isinstance(message, (list, array.array, np.ndarray)):
        return len(read_back) == len(message) and all(map(same, read_back, message))
    if not hasattr(message, "get_fields_and_field_types"):
        return read_back == message
    return all(same(getattr(read_back, field), getattr(message, field)) for field in message.get_fields_and_field_types())


def market_state(number):
    msg = pytest.importorskip("fleet_market_msgs.msg")
    contract = msg.Contract(id=f"c{number}", pickup=msg.Place(name="shelf", x=0.5 * number), price_uc=10**12 + number)
    return msg.MarketState(
        stamp=Time(sec=number, nanosec=7), robot="carrier-1", soc=0.5, contracts=[contract] * (number % 4)
    )


def odometry(number):
    message = Odometry(child_frame_id="base_link")
    message.pose.pose.position.x, message.pose.covariance[7] = 0.001 * number, 0.25
    return message


TOPICS = {  # topic: quality of service of its publisher, and its messages
    "/r1/market/state": (qos.STATE, market_state),
    "/r1/odom": (qos.SENSOR_OUT, odometry),
    "/r1/joints": (qos.EVENT, lambda number: JointState(name=["left", "right"], effort=[0.5, float(number)])),
    "/r1/note": (qos.EVENT, lambda number: String(data=f"note {number}")),
}


def keeping_all(profile):
    """Return a profile whose publisher repeats all that the test publishes until the recorder has it."""
    return QoSProfile(depth=COUNT, reliability=profile.reliability, durability=profile.durability)


@pytest.mark.parametrize("type_name", [*OURS, *THEIRS])
def test_a_file_tells_by_itself_what_a_message_is(tmp_path, type_name):
    kind = mcap_file.message_class(type_name)
    file = McapFile(tmp_path / "run.mcap")
    file.add(file.add_channel("/topic", type_name), "/topic", serialize_message(kind()), 5, 4)
    file.close()
    with (tmp_path / "run.mcap").open("rb") as recorded:
        [(schema, channel, message, decoded)] = make_reader(
            recorded, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages()
    assert (schema.name, channel.topic, message.log_time, message.publish_time) == (type_name, "/topic", 5, 4)
    assert [slot for slot in decoded.__slots__ if not slot.startswith("_")] == list(kind.get_fields_and_field_types())


def test_a_definition_holds_every_type_within_it_once():
    text = definition("nav_msgs/msg/Odometry")
    heads = [line for line in text.splitlines() if line.startswith("MSG: ")]
    assert len(heads) == len(set(heads))
    assert {"MSG: geometry_msgs/Quaternion", "MSG: std_msgs/Header", "MSG: builtin_interfaces/Time"} <= set(heads)


@pytest.mark.parametrize(
    ("type_name", "told"),
    [
        ("nowhere_msgs/msg/Nothing", "nowhere_msgs/msg/Nothing is not known here: install nowhere_msgs"),
        ("std_msgs/msg/Nothing", "std_msgs/msg/Nothing is not known here"),
        ("std_srvs/srv/Trigger", "type must be PACKAGE/msg/NAME, was 'std_srvs/srv/Trigger'"),
    ],
)
def test_a_type_that_is_not_there_is_named(type_name, told):
    with pytest.raises(RecordingError, match=told):
        definition(type_name)


def test_no_file_is_written_over(tmp_path):
    (tmp_path / "run.mcap").write_text("old")
    with pytest.raises(RecordingError, match=r"run.mcap cannot be made \(File exists\): name a new file"):
        McapFile(tmp_path / "run.mcap")
    assert (tmp_path / "run.mcap").read_text() == "old"


def test_without_mcap_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(RecordingError, match=r"pip install 'fleet-market\[record\]'"):
        McapFile(tmp_path / "run.mcap")
    assert not (tmp_path / "run.mcap").exists()


def test_a_recorder_that_is_killed_loses_a_chunk_at_most(tmp_path):
    file = McapFile(tmp_path / "run.mcap")
    channel = file.add_channel("/topic", "std_msgs/msg/String")
    sent = [serialize_message(String(data=f"{number} {'x' * 100}")) for number in range(5000)]
    for data in sent:
        file.add(channel, "/topic", data, 1, 1)
    file.flush()
    kept = []
    with (tmp_path / "run.mcap").open("rb") as torn, pytest.raises(EndOfFile):
        kept.extend(record.data for record in StreamReader(torn).records if isinstance(record, Message))
    assert kept == sent[: len(kept)]
    assert sum(map(len, sent[len(kept) :])) <= mcap_file.CHUNK_BYTES
    file.close()


def test_what_all_publishers_offer_is_asked_for():
    assert qos.to_hear_all([qos.STATE, qos.STATE]).durability == qos.STATE.durability
    assert qos.to_hear_all([qos.STATE, qos.EVENT]).durability == qos.EVENT.durability
    assert qos.to_hear_all([qos.EVENT, qos.EVENT]).reliability == qos.EVENT.reliability
    assert qos.to_hear_all([qos.EVENT, qos.SENSOR_IN]).reliability == qos.SENSOR_IN.reliability


@pytest.mark.real
async def test_what_was_published_is_read_back_equal_per_topic(tmp_path, domain):
    """The recorder as a process of its own, ended by SIGINT while its queues are full."""
    sent = {topic: [make(number) for number in range(COUNT)] for topic, (_, make) in TOPICS.items()}
    out = tmp_path / "runs" / "run.mcap"
    command = [sys.executable, "-m", "fleet_market_ros.recorder", "--ros-args", "-r", "__ns:=/r1", "-p", f"out:={out}"]
    async with Ros("publisher") as ros:
        recorder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        publishers = {t: ros.publisher(type(sent[t][0]), t, keeping_all(profile)) for t, (profile, _) in TOPICS.items()}
        elsewhere = ros.publisher(String, "/r2/note")
        try:
            await until(lambda: all(publisher.get_subscription_count() == 1 for publisher in publishers.values()))
            for number in range(COUNT):
                for topic, publisher in publishers.items():
                    publisher.publish(sent[topic][number])
            for publisher in publishers.values():
                assert await asyncio.to_thread(publisher.wait_for_all_acked, Duration(seconds=60))
            assert elsewhere.get_subscription_count() == 0
            recorder.send_signal(signal.SIGINT)
            _, told = await asyncio.to_thread(recorder.communicate, timeout=60)
        finally:
            recorder.kill()
    assert recorder.returncode == 0, told
    assert f"wrote {out}: {COUNT * len(TOPICS)} messages" in told
    assert read(out) == sent
    with out.open("rb") as file:
        decoded = make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages(log_time_order=False)
        by_topic = defaultdict(list)
        for _, channel, message, content in decoded:
            assert abs(message.log_time - message.publish_time) < 60e9
            by_topic[channel.topic].append(content)
    assert {topic: list(map(same, by_topic[topic], sent[topic])) for topic in TOPICS} == {t: [True] * COUNT for t in TOPICS}


@pytest.fixture
async def idle_recorder(tmp_path, domain):
    """A recorder of /r1/note and what lies below /r1/market, of which nothing is there yet; it has not begun."""
    async with Ros("recorder", ["--ros-args", "-r", "__ns:=/r1"]) as ros:
        recorder = Recorder(ros, tmp_path / "run.mcap", ["note", "market/*"])
        yield recorder
        recorder.close()


@contextlib.asynccontextmanager
async def recording(recorder):
    running = asyncio.create_task(recorder.run())
    yield
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture
async def recorder(idle_recorder):
    """The same, at work."""
    async with recording(idle_recorder):
        yield idle_recorder


@pytest.mark.real
async def test_topics_that_come_later_are_recorded_and_others_are_not(tmp_path, recorder):
    async with Ros("publisher") as ros:
        late = ros.publisher(String, "/r1/market/late", qos.STATE)
        late.publish(String(data="before it was seen"))
        others = [ros.publisher(String, topic) for topic in ("/r1/other", "/market/late", "/r1/market/_hidden/late")]
        note = ros.publisher(String, "/r1/note")
        await until(lambda: note.get_subscription_count() == 1)
        note.publish(String(data="one"))
        await until(lambda: recorder.counts.total() == 2)
        assert [other.get_subscription_count() for other in others] == [0, 0, 0]
    recorder.close()
    assert read(tmp_path / "run.mcap") == {
        "/r1/market/late": [String(data="before it was seen")],
        "/r1/note": [String(data="one")],
    }


@pytest.mark.real
@pytest.mark.filterwarnings(
    "ignore:Deprecated in favor of:DeprecationWarning"
)  # rclpy, as it warns of the second publisher
async def test_a_publisher_that_offers_less_is_heard_too(tmp_path, recorder):
    async with Ros("publisher") as ros:
        first = ros.publisher(String, "/r1/note", qos.STATE)
        first.publish(String(data="first"))
        await until(lambda: recorder.counts.total() == 1)
        second = ros.publisher(String, "/r1/note", qos.SENSOR_IN)
        await until(lambda: second.get_subscription_count() == 1 and heard_by(recorder) == 2)
        second.publish(String(data="second"))
        await until(lambda: recorder.counts.total() == 2)
    recorder.close()
    assert read(tmp_path / "run.mcap") == {"/r1/note": [String(data="first"), String(data="second")]}


def heard_by(recorder):
    """How many publishers the recorder's subscription to /r1/note knows: what is best effort is lost before."""
    subscription, _ = recorder._subscriptions["/r1/note"]
    return subscription.get_publisher_count()


@pytest.mark.real
async def test_a_topic_of_two_types_is_passed_over_and_named(idle_recorder, caplog):
    async with Ros("publisher") as ros, Ros("other") as other:
        ros.publisher(String, "/r1/market/what")
        other.publisher(BatteryState, "/r1/market/what")
        seen = idle_recorder._ros.node.get_topic_names_and_types
        await until(lambda: len(dict(seen()).get("/r1/market/what", ())) == 2)
        async with recording(idle_recorder):
            await until(lambda: "/r1/market/what is not recorded" in caplog.text)
            assert "it has several types: sensor_msgs/msg/BatteryState, std_msgs/msg/String" in caplog.text
            later = ros.publisher(PoseStamped, "/r1/market/pose")
            await until(lambda: later.get_subscription_count() == 1)


@pytest.mark.real
async def test_what_a_slow_disk_made_it_miss_is_counted(tmp_path, recorder):
    count = 3 * qos.RECORDER_DEPTH
    async with Ros("publisher") as ros:
        publisher = ros.publisher(String, "/r1/note", QoSProfile(depth=count))
        await until(lambda: publisher.get_subscription_count() == 1)
        publisher.publish(String(data="0"))
        await until(lambda: recorder.counts.total() == 1)  # gaps are counted from the first that has come
        with recorder._file._lock:  # the disk takes nothing
            for number in range(1, count):
                publisher.publish(String(data=str(number)))
            assert publisher.wait_for_all_acked(Duration(seconds=60))
        await until(lambda: recorder.counts.total() + recorder.lost.total() == count)
    recorder.close()
    kept = [int(message.data) for message in read(tmp_path / "run.mcap")["/r1/note"]]
    assert len(kept) == count - recorder.lost["/r1/note"]
    assert recorder.lost["/r1/note"] > 0
    assert kept[-1] == count - 1


@pytest.mark.real
async def test_a_full_disk_ends_the_recording_with_a_text(tmp_path, domain, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    async with Ros("recorder") as ros:
        recorder = Recorder(ros, tmp_path / "run.mcap", ["note"])
        note = ros.publisher(String, "/note")
        monkeypatch.setattr(McapFile, "add", full)
        running = asyncio.create_task(recorder.run())
        await until(lambda: note.get_subscription_count() == 1)
        note.publish(String(data="one"))
        with pytest.raises(RecordingError, match="recording ended: No space left on device: free the disk"):
            await asyncio.wait_for(running, 60)
        recorder.close()


@pytest.mark.real
def test_a_file_that_is_there_ends_the_node_with_a_text(tmp_path, domain):
    (tmp_path / "run.mcap").touch()
    command = [sys.executable, "-m", "fleet_market_ros.recorder", "--ros-args", "-p", f"out:={tmp_path}/run.mcap"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "name a new file in `out`" in done.stderr
