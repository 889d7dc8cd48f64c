"""`fleet-market broker` as a service, as its operator knows it: real processes, a real Mosquitto."""

import asyncio
import socket
import time

import pytest
from market_process import Daemon, cli, post, robot_and_customer, until

pytestmark = pytest.mark.real
NEVER_AGAIN_S = 1.5
"""Five batch periods: what is not sold by then is not on sale."""


def wait(daemon, condition):
    daemon.wait_for(lambda: condition(daemon.status()))


async def quiet(robot):
    """See that nobody is called for a while."""
    calls = robot.calls
    await asyncio.sleep(NEVER_AGAIN_S)
    assert robot.calls == calls


async def test_halt_stops_selling_within_a_second_and_work_goes_on(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: robot.awards)
            begun = time.monotonic()
            said = await asyncio.to_thread(daemon.ask, "halt", "--reason", "a person on the floor")
            assert "a person on the floor" in said
            assert time.monotonic() - begun < 10.0
            await post(ann, "o2")
            await until(lambda: daemon.status()["open_orders"] == 1)
            await quiet(robot)
            await robot.complete(robot.awards[0], time.time_ns())
            await until(lambda: robot.settled == ["o1"])
            zone = await asyncio.to_thread(daemon.status)
            assert (zone["phase"], zone["reason"]) == ("halted", "a person on the floor")
            assert len(robot.awards) == 1
            await asyncio.to_thread(daemon.ask, "resume")
            await until(lambda: len(robot.awards) == 2)
        assert daemon.stop() == 0
    assert "the same to the byte" in cli("replay", daemon.database)


async def test_halt_works_while_mosquitto_is_dead_and_holds_over_kill_and_restart(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            mqtt_broker.kill()
            await until(lambda: not daemon.status(code=1)["connected"])
            await asyncio.to_thread(daemon.ask, "halt")
            daemon.process.kill()
            daemon.process.wait()
            with daemon:
                await until(lambda: (daemon.control).exists() and daemon.status(code=1)["phase"] == "halted")
                mqtt_broker.start()
                daemon.wait_ready()
                await post(ann, "o1")
                await until(lambda: daemon.status()["open_orders"] == 1)
                await quiet(robot)
                await asyncio.to_thread(daemon.ask, "resume")
                await until(lambda: robot.awards)
                assert daemon.stop() == 0


async def test_the_halt_itself_takes_effect_within_a_second(mqtt_broker, tmp_path):
    from fleet_market.adapters.control import Request, ask

    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        mqtt_broker.kill()
        begun = time.monotonic()
        status = await asyncio.to_thread(ask, daemon.control, Request(command="halt"))
        assert time.monotonic() - begun < 1.0
        assert status.zones[0].phase == "halted"


def test_status_says_what_is_wrong_by_its_exit_code(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        assert daemon.control.stat().st_mode & 0o777 == 0o600
        zone = daemon.status()
        assert (zone["phase"], zone["connected"], zone["epoch"]) == ("open", True, 1)
        assert "main" in daemon.ask("status")
        mqtt_broker.kill()
        daemon.wait_for(lambda: not daemon.status(code=1)["connected"])
        assert daemon.stop() == 0
    assert "no market daemon answers there" in daemon.ask("status", code=4)


def test_the_control_socket_is_found_by_the_database_or_the_configuration(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        config = tmp_path / "c.toml"
        config.write_text('control = "d/control"\nmetrics = 9999\n')
        assert "main" in cli("status", "--config", config)
        assert "main" in cli("status", env={"FLEET_MARKET_CONTROL": str(daemon.control)})
        assert "no market daemon answers" in cli("status", "--database", daemon.database, code=4)
        assert "does not run zone far" in daemon.ask("halt", "--zone", "far", code=4)
        assert "use at most 160 characters" in daemon.ask("halt", "--reason", "x" * 200, code=2)


async def test_the_end_is_orderly_what_was_decided_is_stored_and_sent(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker, "--drain-s", "10") as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: robot.awards)
            await robot.complete(robot.awards[0], time.time_ns())
            await until(lambda: robot.settled)
            begun = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - begun < 8.0, "all was confirmed: nothing to wait for"
            await post(ann, "o2")
            await quiet(robot)
            with daemon:
                daemon.wait_ready()
                await until(lambda: len(robot.awards) == 2), "what nobody took waited at the MQTT broker"
                assert daemon.stop(30.0) == 0
    assert "drained, 0 messages not confirmed" in daemon.log.read_text()


def test_the_end_is_bounded_when_mosquitto_is_dead(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker, "--drain-s", "1") as daemon:
        daemon.wait_ready()
        mqtt_broker.kill()
        assert daemon.stop(15.0) == 0


def test_the_service_manager_is_told(mqtt_broker, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Daemon(tmp_path / "d", mqtt_broker, env=env) as daemon:
            assert manager.recv(1000).decode() == "READY=1\nSTATUS=markets: main"
            assert manager.recv(1000) == manager.recv(1000) == b"WATCHDOG=1"
            assert daemon.stop() == 0
            manager.setblocking(False)
            said = []
            with pytest.raises(BlockingIOError):
                while True:
                    said.append(manager.recv(1000).decode())
            assert any(text.startswith("STOPPING=1") for text in said)


def test_a_second_daemon_is_refused_and_leaves_the_first_its_socket(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        command = [str(part) for part in daemon.command[3:]]
        assert "another market daemon answers there" in cli(*command, code=2)
        other = [*command, "--control", str(tmp_path / "other")]
        assert f"another market daemon (process {daemon.process.pid})" in cli(*other, code=1)
        assert not (tmp_path / "other").exists()
        assert daemon.status()["phase"] == "open"
        assert daemon.control.exists()
