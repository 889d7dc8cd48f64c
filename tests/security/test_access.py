"""Who may do what, on a real Mosquitto with mutual TLS 1.3."""

import asyncio
import contextlib
import ssl
import subprocess
import sys

import pytest
from cryptography import x509

from fleet_market.adapters.guard import Listener, guard_for
from fleet_market.adapters.key_folder import BrokerAddress, KeyFolder
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.errors import BrokerError, InputError
from fleet_market.ids import PartyName
from fleet_market.protocol.registry import SESSIONS, Role

pytestmark = pytest.mark.real

OWN = {
    ("robot", "r1"): [
        "from/r1/main/ask",
        "from/r1/main/complete",
        "from/r1/main/telemetry",
        "state/r1/presence",
        "state/r1/announce",
    ],
    ("customer", "ann"): ["in/ann/main/order", "in/ann/main/cancel"],
    ("market", "auc-main"): [
        "to/r1/award",
        "to/r2/settle",
        "out/ann/order",
        "out/oracle/question",
        "zone/main/auctioneer",
        "view/main/cleared",
        "view/main/head",
    ],
    ("oracle", "oracle"): [
        "view/main/band",
        "in/oracle/main/terms",
        "in/oracle/main/answer",
        "in/oracle/main/status",
        "in/oracle/main/opening",
    ],
    ("market", "auc-main.0"): [],
    ("market", "auc-main.1"): [],
    ("market", "auc-main.2"): [],
    ("market", "auc-main.101"): [],
}
MAY_READ = {
    ("robot", "r1"): ["to/r1/award", "zone/main/auctioneer"],
    ("customer", "ann"): ["out/ann/order", "view/main/cleared", "view/main/band", "view/main/head", "zone/main/auctioneer"],
    ("market", "auc-main"): [],
    ("oracle", "oracle"): [
        "view/main/cleared", "view/main/band", "view/main/head", "out/oracle/question", "from/r1/main/telemetry",
    ],
    ("market", "auc-main.0"): ["state/r1/announce"],
    ("market", "auc-main.1"): [
        "in/ann/main/order", "in/ann/main/cancel", "in/oracle/main/terms", "in/oracle/main/answer",
        "in/oracle/main/status", "in/oracle/main/opening",
    ],
    ("market", "auc-main.2"): OWN["robot", "r1"],
    ("market", "auc-main.101"): OWN["robot", "r1"],
}  # fmt: skip
FOREIGN = ["from/r2/main/ask", "state/r2/presence", "in/bob/main/order", "zone/other/call", "clock", "elsewhere"]


@contextlib.asynccontextmanager
async def connected(*transports):
    async with contextlib.AsyncExitStack() as stack:
        for transport in transports:
            await stack.enter_async_context(transport)
            await asyncio.wait_for(transport.connected.wait(), 60)
        yield transports


async def refused(transport, topic):
    """Whether the broker refuses a publication: MQTT 5 reason code 135."""
    try:
        await transport.publish(f"mkt/1/{topic}", b"{}")
    except BrokerError as error:
        return "Not authorized" in str(error)
    return False


async def test_everyone_may_publish_on_his_own_topics_and_on_no_others(secure_broker):
    everything = {topic for topics in OWN.values() for topic in topics} | set(FOREIGN)
    for (role, name), own in OWN.items():
        async with connected(secure_broker.connect(role, name, unguarded=True)) as (party,):
            open_to_it = {topic for topic in sorted(everything) if not await refused(party, topic)}
        assert open_to_it == set(own), name


async def test_everyone_hears_what_is_for_him_and_nothing_else(secure_broker):
    """A SUBSCRIBE to a forbidden filter is granted by Mosquitto, and delivers nothing."""
    parties = {who: secure_broker.connect(*who, "mkt/1/#", "mkt/1/to/r2/#", unguarded=True) for who in OWN}
    async with connected(*parties.values()):
        for who, topics in OWN.items():
            for topic in topics:
                await parties[who].publish(f"mkt/1/{topic}", b"{}")
        heard = {who: set() for who in parties}
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(listen(transport, heard[who])) for who, transport in parties.items()]
            async with asyncio.timeout(60):
                while any(not heard[who] >= set(MAY_READ[who]) for who in parties):  # noqa: ASYNC110 - others fill it
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)  # what nobody should hear would have come
            for one in listening:
                one.cancel()
        assert heard == {who: set(MAY_READ[who]) for who in parties}


async def listen(transport, heard):
    async for delivery in transport.deliveries():
        heard.add(delivery.topic.removeprefix("mkt/1/"))


WILL = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.protocol.registry import Role

async def main():
    guard = guard_for(Path(sys.argv[2]), Role.ROBOT, "r1", "localhost")
    config = MqttConfig("localhost", int(sys.argv[3]), "r1", Will(sys.argv[4], b"{}"))
    async with MqttTransport(config, guard=guard) as rude:
        await rude.connected.wait()
        print("READY", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_last_will_on_a_foreign_topic_is_suppressed_and_on_the_own_one_sealed(secure_broker):
    async with connected(secure_broker.connect("market", "auc-main.2", "mkt/1/state/#")) as (market,):
        for topic in ("mkt/1/state/r2/presence", "mkt/1/state/r1/presence"):
            command = [sys.executable, "-c", WILL, ".", secure_broker.keys.folder, str(secure_broker.port), topic]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert await asyncio.to_thread(child.stdout.readline) == "READY\n"
            child.kill()
            child.communicate()
        heard = await asyncio.wait_for(anext(aiter(market.deliveries())), 60)
        assert (heard.topic, heard.payload) == ("mkt/1/state/r1/presence", b"{}"), "the first that comes is the second"


async def test_nobody_takes_over_the_session_of_another_by_his_client_id(secure_broker):
    market = secure_broker.connect("market", "auc-main.2", "mkt/1/from/+/main/#", unguarded=True)
    thief = secure_broker.connect("robot", "r1", "mkt/1/from/+/main/#", client_id="auc-main.2", unguarded=True)
    async with connected(market, thief):
        await thief.publish("mkt/1/from/r1/main/ask", b"1")
        assert (await asyncio.wait_for(anext(aiter(market.deliveries())), 60)).payload == b"1"
        assert market.connected.is_set()
        assert thief.waiting() == 0


async def test_a_revoked_robot_is_cut_off_by_the_broker_while_it_is_connected(secure_broker, eventually):
    async with connected(secure_broker.connect("robot", "r1", unguarded=True)) as (robot,):
        await robot.publish("mkt/1/from/r1/main/ask", b"1")
        secure_broker.keys.revoke(Role.ROBOT, PartyName("r1"))

        async with asyncio.timeout(60):
            while not await refused(robot, "from/r1/main/ask"):
                pass


def test_a_revoked_market_loses_all_its_sessions(keys):
    keys.revoke(Role.MARKET, PartyName("auc-main"))
    listed = x509.load_pem_x509_crl((keys.folder / "broker/revoked.pem").read_bytes())
    assert len(listed) == 1 + SESSIONS
    assert "auc-main" not in (keys.folder / "broker/acl").read_text()


async def test_a_market_whose_keys_are_from_before_the_sessions_is_told_what_to_do(keys):
    guard = guard_for(keys.folder, Role.MARKET, "auc-main", "localhost")
    tls = guard.session_tls(5)
    tls.certificate.unlink()
    with pytest.raises(InputError, match="issue it again with `fleet-market keys`"):
        MqttTransport(MqttConfig("localhost", 1, "auc-main.5"), guard=Listener(guard, tls))


async def test_without_a_certificate_of_this_authority_nobody_connects(secure_broker, tmp_path):
    stranger = MqttTransport(MqttConfig("localhost", secure_broker.port, "r1"))
    async with stranger:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stranger.connected.wait(), 2)
    context = ssl.create_default_context(cafile=secure_broker.keys.folder / "ca.pem")
    reader, writer = await asyncio.open_connection("localhost", secure_broker.port, ssl=context)
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await reader.read(1) == b"", "refused for want of a certificate"
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()


async def test_a_client_believes_no_broker_of_another_authority(secure_broker, tmp_path, eventually):
    foreign = KeyFolder.found(tmp_path / "foreign", BrokerAddress(), [])
    foreign.issue(Role.ROBOT, PartyName("r1"))
    guard = guard_for(foreign.folder, Role.ROBOT, "r1", "localhost")
    async with MqttTransport(MqttConfig("localhost", secure_broker.port, "r1"), guard=guard) as robot:
        await asyncio.to_thread(eventually, lambda: "certificate" in robot.trouble.lower())
        assert not robot.connected.is_set()


@pytest.mark.parametrize("host", ["10.0.0.5", "market.example", "::", "127.0.0.1.example"])
def test_without_keys_only_the_loopback_interface_is_used(host):
    with pytest.raises(InputError, match="--keys DIR"):
        guard_for(None, Role.ROBOT, "r1", host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_the_loopback_interface_needs_no_keys(host):
    assert guard_for(None, Role.ROBOT, "r1", host).tls is None
