"""Our master control and a vehicle of vda-5050-lib, on a real broker."""

import asyncio
import json
import math
import signal

import pytest
from vda5050_floor import WORDS, until

from fleet_market.body import Act, End, Go, Job, Link, Pose

pytestmark = [pytest.mark.real, pytest.mark.waits]

LINE = tuple((0.25 * i, 0.0) for i in range(13))
FAR = ((0.0, 0.0), (60.0, 0.0))
"""Longer than any test drives."""


def go(path=LINE, released=None, **more):
    return Go(Pose(*path[-1], 0.0), path, len(path) if released is None else released, **more)


async def test_a_delivery_is_done_step_by_step(start_vehicle, drive, wire):
    driver = await drive(start_vehicle(lapse=4).serial)
    steps = []
    up = ((3.0, 0.0), (3.0, 2.0))
    job = Job("delivery", (go(), Act("load", "p", 3.0, 1.0), go(up), Act("unload", "p", 3.0, 1.0)))
    result = await driver.run(job, deadline_s=60, on_step=lambda i, text: steps.append((i, text)))
    assert (result.end, result.steps_done, result.standstill) == (End.DONE, 4, True), result
    assert steps == [(0, "go"), (1, "act"), (2, "go"), (3, "act")]
    telemetry = driver.telemetry()
    assert telemetry.pose.distance_to(3.0, 2.0) < 0.1
    assert 0.8 < telemetry.battery.soc < 0.9
    assert 4.0 < telemetry.odometer_m < 6.0
    assert telemetry.battery.energy_out_j == pytest.approx(500 * 3600 * (0.9 - telemetry.battery.soc), abs=1.0)
    assert len(wire.orders()) == 1


async def test_a_path_is_driven_as_it_is_released_by_updates_of_one_order(start_vehicle, drive, wire):
    driver = await drive(start_vehicle().serial)
    running = asyncio.ensure_future(driver.run(Job("way", (go(released=5),)), deadline_s=60))
    await until(lambda: driver.passed() == 5 and not driver.telemetry().moving)
    await asyncio.sleep(0.5)
    assert driver.telemetry().pose.x == pytest.approx(1.0, abs=0.05)
    for points in (8, 13):
        driver.release("way", points)
    assert (await running).end is End.DONE
    orders = wire.of("order")
    assert {o["orderUpdateId"] for o in orders} == {0, 1, 2}
    assert len(wire.orders()) == 1
    first, last = orders[0], orders[-1]
    assert [n["released"] for n in first["nodes"]] == [True, True, False]
    assert last["nodes"][0]["nodeId"] == next(o for o in orders if o["orderUpdateId"] == 1)["nodes"][1]["nodeId"]


async def test_a_delivery_cancelled_mid_edge_ends_at_standstill(start_vehicle, drive, wire):
    driver = await drive(start_vehicle().serial)
    running = asyncio.ensure_future(driver.run(Job("j", (go(FAR), Act("load", "p", 1.0, 1.0))), deadline_s=90))
    await until(lambda: driver.telemetry().pose.x > 0.5)
    assert await driver.stop(timeout_s=60)
    result = await running
    assert (result.end, result.steps_done, result.standstill) == (End.CANCELLED, 0, True)
    at = driver.telemetry().pose.x
    await asyncio.sleep(0.5)
    assert driver.telemetry().pose.x == pytest.approx(at, abs=0.05)
    assert at < 59
    assert len(wire.orders()) == 1


async def test_a_killed_vehicle_is_lost_by_its_last_will_and_refused_until_it_is_back(start_vehicle, drive, wire):
    vehicle = start_vehicle()
    driver = await drive(vehicle.serial, stale_s=120.0)
    running = asyncio.ensure_future(driver.run(Job("j", (go(FAR),)), deadline_s=240))
    await until(lambda: driver.telemetry().pose.x > 0.5)
    vehicle.send(signal.SIGKILL)
    async with asyncio.timeout(60):
        result = await running
    assert (result.end, result.standstill, result.steps_done) == (End.LOST, None, 0)
    assert driver.telemetry().link is Link.LOST
    assert (await driver.run(Job("k", (go(),)), deadline_s=60)).end is End.REJECTED
    odometer_m, drawn_j = driver.telemetry().odometer_m, driver.telemetry().battery.energy_out_j
    start_vehicle(vehicle.serial, x=5.0)
    await until(lambda: driver.telemetry().link is Link.UP)
    assert len(wire.orders()) == 1
    back = go(((5.0, 0.0), (5.0, 1.0)))
    assert (await driver.run(Job("l", (back,)), deadline_s=60)).end is End.DONE
    assert odometer_m < driver.telemetry().odometer_m < odometer_m + 2.0
    assert driver.telemetry().battery.energy_out_j >= drawn_j


async def test_a_hung_vehicle_is_lost_by_its_keepalive(start_vehicle, drive):
    keepalive_s = 2
    vehicle = start_vehicle(keepalive=keepalive_s)
    driver = await drive(vehicle.serial, stale_s=120.0)
    running = asyncio.ensure_future(driver.run(Job("j", (go(FAR),)), deadline_s=240))
    await until(lambda: driver.telemetry().pose.x > 0.5)
    vehicle.send(signal.SIGSTOP)
    async with asyncio.timeout(60):
        result = await running
    assert (result.end, result.standstill) == (End.LOST, None)


async def test_a_vehicle_that_was_hung_has_its_order_taken_from_it(start_vehicle, drive):
    vehicle = start_vehicle(keepalive=2)
    driver = await drive(vehicle.serial, stale_s=1.0, poll_s=0.3)
    running = asyncio.ensure_future(driver.run(Job("j", (go(FAR),)), deadline_s=90))
    await until(lambda: driver.telemetry().pose.x > 0.5)
    vehicle.send(signal.SIGSTOP)
    assert (await running).end is End.LOST
    vehicle.send(signal.SIGCONT)
    await until(lambda: driver.telemetry().link is Link.UP and not driver.telemetry().moving)
    assert driver.telemetry().pose.x < 55
    assert (await driver.run(Job("k", (go(((0.0, 0.0), (0.5, 0.0))),)), deadline_s=60)).end in {End.DONE, End.TIMED_OUT}


async def test_a_drop_that_fails_is_not_done_and_what_follows_is_not_driven(start_vehicle, drive):
    driver = await drive(start_vehicle().serial)
    away = go(((3.0, 0.0), (3.0, 9.0)))
    job = Job("j", (go(), Act("unload", "p", 1.0, 0.5), away))
    result = await driver.run(job, deadline_s=60)
    assert (result.end, result.steps_done, result.standstill) == (End.FAILED, 1, True)
    assert "no load to drop" in result.reason
    assert driver.telemetry().pose.y < 5


async def test_an_order_that_the_vehicle_rejects_is_rejected_with_its_words(start_vehicle, drive):
    words = {**WORDS, "load": {"type": "fly"}}
    driver = await drive(start_vehicle().serial, actions=words)
    result = await driver.run(Job("j", (go(), Act("load", "p", 1.0, 1.0))), deadline_s=60)
    assert (result.end, result.steps_done) == (End.REJECTED, 0)
    assert "not executable" in result.reason
    assert (await driver.run(Job("k", (go(),)), deadline_s=60)).end is End.DONE


async def test_an_order_outlives_the_broker(start_vehicle, drive, wire, mqtt_broker):
    driver = await drive(start_vehicle().serial, stale_s=20.0)
    far = ((0.0, 0.0), (6.0, 0.0))
    running = asyncio.ensure_future(driver.run(Job("j", (go(far),)), deadline_s=60))
    await until(lambda: driver.telemetry().pose.x > 0.5)
    mqtt_broker.kill()
    await asyncio.sleep(0.5)
    mqtt_broker.start()
    result = await running
    assert (result.end, result.steps_done, result.standstill) == (End.DONE, 1, True), result
    assert len(wire.orders()) == 1


async def test_charging_ends_at_the_wanted_charge_and_off_the_charger(start_vehicle, drive):
    driver = await drive(start_vehicle(charge=80, charge_h=0.01).serial)
    result = await driver.run(Job("c", (go(), Act("charge", until_soc=0.82))), deadline_s=60)
    assert (result.end, result.steps_done) == (End.DONE, 2), result
    assert driver.telemetry().battery.charging is False
    assert driver.telemetry().battery.soc >= 0.82
    result = await driver.run(Job("d", (Act("charge"),)), deadline_s=60)
    assert (result.end, driver.telemetry().battery.charging) == (End.DONE, True)
    assert (await driver.run(Job("e", (go(((3.0, 0.0), (2.0, 0.0))),)), deadline_s=60)).end is End.DONE


async def test_a_vehicle_on_a_map_of_its_own_is_driven_on_ours(start_vehicle, drive, wire):
    frame = {"x": 10.0, "y": 20.0, "yaw": math.pi / 2}
    vehicle = start_vehicle(map="hall")
    driver = await drive(vehicle.serial, frame=frame, map_id="hall")
    assert driver.telemetry().pose.distance_to(10.0, 20.0) < 0.01
    assert driver.telemetry().pose.yaw == pytest.approx(math.pi / 2)
    assert (await driver.run(Job("j", (go(((10.0, 20.0), (10.0, 21.0), (9.0, 21.0))),)), deadline_s=60)).end is End.DONE
    assert driver.telemetry().pose.distance_to(9.0, 21.0) < 0.1
    last = wire.of("order")[0]["nodes"][-1]["nodePosition"]
    assert (last["x"], last["y"], last["mapId"]) == (pytest.approx(1.0), pytest.approx(1.0), "hall")
    other = await drive(start_vehicle().serial, map_id="elsewhere")
    assert other.telemetry().pose is None
    assert "agv_position" in other.telemetry().silent
    assert (await other.run(Job("j", (go(),)), deadline_s=60)).end is End.REJECTED


async def test_vehicles_of_several_makers_and_versions_share_a_broker(start_vehicle, drive, wire):
    makers = [("siemens", "2.0.0"), ("other", "2.0.0"), ("siemens", "1.1.0")]
    drivers = []
    for maker, version in makers:
        serial = start_vehicle(manufacturer=maker, version=version, lapse=2).serial
        drivers.append(await drive(serial, manufacturer=maker, version=version))
    job = Job("same", (go(), Act("load", "p", 1.0, 0.5)))
    results = await asyncio.gather(*(d.run(job, deadline_s=60) for d in drivers))
    assert [r.end for r in results] == [End.DONE] * 3
    assert len(wire.orders()) == 3


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0"])
async def test_every_message_that_we_publish_passes_their_validators(start_vehicle, drive, wire, siemens, version):
    driver = await drive(start_vehicle(version=version, lapse=2).serial, version=version)
    job = Job("j", (go(released=3), Act("load", "p", 1.0, 0.5)))
    running = asyncio.ensure_future(driver.run(job, deadline_s=60))
    await until(lambda: driver.passed() == 3)
    driver.release("j", 13)
    assert (await running).end is End.DONE
    await driver.estop()
    await driver.estop(engage=False)
    ours = [(t, m) for t in ("order", "instantActions") for m in wire.of(t)]
    assert {t for t, _ in ours} == {"order", "instantActions"}
    judge = siemens.start("validate")
    with judge:
        for topic, message in ours:
            judge.stdin.write(json.dumps({"version": version[:3], "topic": topic, "message": message}) + "\n")
        judge.stdin.close()
        verdicts = judge.stdout.read().split("\n")[:-1]
    assert verdicts == ["ok"] * len(ours)
    for topic in ("order", "instantActions"):
        assert [m["headerId"] for m in wire.of(topic)] == list(range(len(wire.of(topic))))
