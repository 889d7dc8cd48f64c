"""Lanes that take turns, and the sessions of a market on a real Mosquitto."""

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters import ingress as ingress_module
from fleet_market.adapters.guard import Guard
from fleet_market.adapters.ingress import Ingress, session_of
from fleet_market.adapters.intake import Brake, FairQueue
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.ids import RobotId, ZoneId
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.registry import ROBOT_SESSIONS

ZONE = ZoneId("main")


def delivery(text):
    return Delivery(text, b"", lambda: None)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_lanes_take_turns_and_each_keeps_its_order(arrivals):
    queue = FairQueue()
    lanes = [queue.lane(10) for _ in range(4)]
    for n, lane in enumerate(arrivals):
        lanes[lane].put(delivery(f"{lane}:{n}"))

    async def take():
        return [await queue.get() for _ in arrivals]

    taken = [tuple(map(int, d.topic.split(":"))) for d in asyncio.run(take())]
    assert len(queue) == 0
    for lane in range(4):
        assert [n for of, n in taken if of == lane] == [n for n, of in enumerate(arrivals) if of == lane]
    for lane, n in taken:
        before = taken[: taken.index((lane, n))]
        ahead = sum(of == lane for of, _ in before)
        for other in range(4):
            assert sum(of == other for of, _ in before) <= ahead + 1, "a fuller lane was served more often"


async def test_who_waits_for_an_empty_queue_gets_what_comes():
    queue = FairQueue()
    lane = queue.lane(1)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    lane.put(delivery("x"))
    assert (await asyncio.wait_for(waiting, 1)).topic == "x"
    assert not lane.full


async def test_refusals_are_acknowledged_no_faster_than_the_brake_allows():
    loop, times, brake = asyncio.get_running_loop(), [], Brake(rate_per_s=100.0)
    done = loop.create_future()
    begun = loop.time()
    for _ in range(11):
        brake(lambda: times.append(loop.time()) or (len(times) == 11 and done.set_result(None)))
    await asyncio.wait_for(done, 5)
    assert times[-1] - begun >= 10 * 0.01


def test_the_first_hundred_robots_have_a_session_each_and_a_thousand_share_them_evenly():
    robots = [RobotId(f"r{n}") for n in range(1000)]
    sessions = [session_of(robot, n) for n, robot in enumerate(robots)]
    assert sessions[:ROBOT_SESSIONS] == list(range(ROBOT_SESSIONS))
    later = sessions[ROBOT_SESSIONS:]
    assert set(later) <= set(range(ROBOT_SESSIONS))
    assert max(later.count(n) for n in set(later)) < 4 * len(later) / ROBOT_SESSIONS


class Town:
    """A market that knows robots and takes what they say."""

    def __init__(self, broker, *robots, session_expiry_s=0):
        self.robots = [RobotId(name) for name in robots]
        self.guard = Guard(Gate(Limits()))
        config = MqttConfig(broker.host, broker.port, "auc-main", session_expiry_s=session_expiry_s)
        self.ingress = Ingress(config, ZONE, self.guard, self.robots, Brake())

    @contextlib.asynccontextmanager
    async def open(self):
        async with self.ingress:
            await asyncio.wait_for(self.ingress.connected(), 60)
            yield self

    async def hear(self, count):
        async with asyncio.timeout(60):
            return [d async for d in self._some(count)]

    async def _some(self, count):
        deliveries = self.ingress.deliveries()
        for _ in range(count):
            yield await anext(deliveries)


@contextlib.asynccontextmanager
async def robots_on(broker):
    async with MqttTransport(MqttConfig(broker.host, broker.port, "robots")) as transport:
        await asyncio.wait_for(transport.connected.wait(), 60)
        yield transport


@pytest.mark.real
@pytest.mark.parametrize("direction", ["from", "state"])
async def test_behind_a_flood_of_one_robot_another_is_heard_at_once(mqtt_broker, direction):
    flood = topics.from_robot("bad", ZONE, "ask") if direction == "from" else topics.state("bad", "announce")
    async with Town(mqtt_broker, "bad", "good").open() as town, robots_on(mqtt_broker) as robots:
        for _ in range(20):
            await asyncio.gather(*(robots.publish(flood, b"x") for _ in range(100)))
        await robots.publish(topics.from_robot("good", ZONE, "ask"), b"!")
        heard = await town.hear(2)
        assert b"!" in [d.payload for d in heard], "the honest message is next after what one session may bring"


@pytest.mark.real
async def test_one_robot_has_one_message_in_this_process_until_it_is_acknowledged(mqtt_broker):
    async with Town(mqtt_broker, "r1").open() as town, robots_on(mqtt_broker) as robots:
        for n in range(5):
            await robots.publish(topics.from_robot("r1", ZONE, "ask"), b"%d" % n)
        for n in range(5):
            (heard,) = await town.hear(1)
            assert heard.payload == b"%d" % n
            await asyncio.sleep(0.05)
            assert town.ingress.waiting() == 0
            heard.ack()


@pytest.mark.real
async def test_the_next_holder_of_a_zone_takes_over_what_waits_in_all_sessions(mqtt_broker):
    known = ("r1", "r2", "r3")
    async with robots_on(mqtt_broker) as robots:
        async with Town(mqtt_broker, *known, session_expiry_s=60).open() as town:
            for name in known:
                await robots.publish(topics.from_robot(name, ZONE, "ask"), name.encode())
            assert len(await town.hear(3)) == 3, "taken, but not acknowledged"
        for name in known:
            await robots.publish(topics.from_robot(name, ZONE, "accept"), name.encode())
        async with Town(mqtt_broker, *known, session_expiry_s=60).open() as town:
            heard = []
            for _ in range(6):
                (one,) = await town.hear(1)
                one.ack()
                heard.append((one.payload.decode(), one.topic.rsplit("/", 1)[1]))
    for name in known:
        assert [kind for who, kind in heard if who == name] == ["ask", "accept"]


@pytest.mark.real
async def test_robots_that_share_a_session_and_robots_that_join_later_are_all_heard(mqtt_broker, monkeypatch):
    monkeypatch.setattr(ingress_module, "ROBOT_SESSIONS", 2)
    names = [f"r{n}" for n in range(6)]
    async with Town(mqtt_broker, *names[:3]).open() as town, robots_on(mqtt_broker) as robots:
        for name in names[3:]:
            await robots.publish(topics.state(name, "announce"), b"hello", retain=True)
            (announced,) = await town.hear(1)
            town.robots.append(RobotId(name))
            announced.ack()
            (again,) = await town.hear(1)
            assert again.topic == topics.state(name, "announce"), "its own session has it too"
            again.ack()
        for name in itertools.chain(names, names):
            await robots.publish(topics.from_robot(name, ZONE, "ask"), name.encode())
        heard = []
        for _ in range(12):
            (one,) = await town.hear(1)
            one.ack()
            heard.append(one.payload.decode())
        assert sorted(heard) == sorted(names * 2)
        assert len(town.ingress._sessions) == 2 + 2
