"""`fleet-market broker` as a service, as its operator knows it: real processes, a real Mosquitto."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from market_process import Daemon, cli, post, robot_and_customer, until

from fleet_market.adapters.control import DaemonStatus
from fleet_market.adapters.mosquitto import free_port
from fleet_market.protocol import topics
from fleet_market.protocol.messages import Receipt

pytestmark = pytest.mark.real
NEVER_AGAIN_S = 1.5
"""Five batch periods: what is not sold by then is not on sale."""


async def quiet(robot):
    """See that nobody is called for a while."""
    calls = robot.calls
    await asyncio.sleep(NEVER_AGAIN_S)
    assert robot.calls == calls


async def halt(daemon, **more):
    """Halt the market; see that it takes no second more than a mere question, which a busy machine keeps waiting too."""
    begun = time.monotonic()
    await asyncio.to_thread(daemon.ask, "status")
    answered = time.monotonic()
    await asyncio.to_thread(daemon.ask, "halt", **more)
    assert time.monotonic() - answered < 1.0 + 10 * (answered - begun)


async def test_a_halt_stops_selling_within_a_second_and_work_goes_on(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: daemon.sees(contracts=1, open_orders=0) and robot.awards)
            await halt(daemon, reason="a person on the floor")
            await post(ann, "o2")
            await until(lambda: daemon.sees(phase="halted", reason="a person on the floor", open_orders=1))
            await quiet(robot)
            await robot.complete(robot.awards[0], time.time_ns())
            await until(lambda: robot.settled == ["o1"])
            assert len(robot.awards) == 1
            await asyncio.to_thread(daemon.ask, "resume")
            await until(lambda: len(robot.awards) == 2)
        assert daemon.stop() == 0
    assert "every decision is the same to the byte" in cli("replay", daemon.database)


async def test_a_halt_works_while_mosquitto_is_dead_and_holds_over_kill_and_restart(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            mqtt_broker.kill()
            await until(lambda: daemon.sees(connected=False))
            await halt(daemon)
            daemon.process.kill()
            daemon.process.wait()
            with daemon:
                await until(lambda: daemon.sees(phase="halted", connected=False))
                mqtt_broker.start()
                await asyncio.to_thread(daemon.wait_ready)
                await post(ann, "o1")
                await until(lambda: daemon.sees(phase="halted", connected=True, open_orders=1))
                await quiet(robot)
                await asyncio.to_thread(daemon.ask, "resume")
                await until(lambda: robot.awards)


async def test_a_daemon_that_has_never_reached_mosquitto_can_be_halted(mqtt_broker, tmp_path):
    mqtt_broker.kill()
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        await until(lambda: daemon.sees(phase="starting"))
        await asyncio.to_thread(daemon.ask, "halt")
        mqtt_broker.start()
        await asyncio.to_thread(daemon.wait_ready)
        await until(lambda: daemon.sees(phase="halted", connected=True, epoch=1))


def test_the_operator_s_commands(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        assert daemon.control.stat().st_mode & 0o777 == 0o600
        config = tmp_path / "c.toml"
        config.write_text('control = "d/control"\nmetrics = 9999\n')
        assert "halted" in cli("halt", "--config", config, "--reason", "a [b] drill")
        shown = cli("status", env={"FLEET_MARKET_CONTROL": str(daemon.control)})
        assert all(text in shown for text in ("main", "halted", "a [b] drill"))
        assert "open" in cli("resume", "--control", daemon.control, "--zone", "main")
        assert "does not run zone far" in cli("halt", "--config", config, "--zone", "far", code=4)
        assert "use at most 160 characters" in cli("halt", "--config", config, "--reason", "x" * 200, code=2)
        mqtt_broker.kill()
        daemon.wait_for(lambda: daemon.sees(connected=False))
        said = cli("status", "--json", "--config", config, code=1)
        assert DaemonStatus.model_validate_json(said).pid == daemon.process.pid
        assert daemon.stop() == 0
    assert "no market daemon answers there" in cli("status", "--config", config, code=4)


async def test_the_end_is_orderly_what_was_decided_is_stored_and_sent(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker, "--drain-s", "60") as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: robot.awards)
            await robot.complete(robot.awards[0], time.time_ns())
            await until(lambda: robot.settled)
            begun = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - begun < 50.0, "all was confirmed: nothing to wait for"
            await post(ann, "o2")
            with daemon:
                daemon.wait_ready()
                await until(lambda: len(robot.awards) == 2)
    assert "drained, 0 messages not confirmed" in daemon.log.read_text()


def test_the_end_is_bounded_when_mosquitto_is_dead(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker, "--drain-s", "1") as daemon:
        daemon.wait_ready()
        mqtt_broker.kill()
        assert daemon.stop() == 0


async def test_prometheus_sees_what_was_traded(mqtt_broker, tmp_path):
    pytest.importorskip("prometheus_client", reason="not installed: pip install 'fleet-market[metrics]'")
    port = free_port()
    with Daemon(tmp_path / "d", mqtt_broker, "--metrics", port) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await ann.say(topics.from_customer("ann", "why"), Receipt(of="x", result="ok"))
            await until(lambda: robot.awards and daemon.sees(rejected={"misplaced": 1}))

        def read():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return answer.read().decode()

        text = await asyncio.to_thread(read)
        for line in (
            'fleet_market_up{zone="main"} 1.0',
            'fleet_market_awards_total{zone="main"} 1.0',
            'fleet_market_rejected_messages_total{reason="misplaced",zone="main"} 1.0',
        ):
            assert line in text
        counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        batches = float(counts['fleet_market_batches_total{zone="main"}'])
        assert batches == float(counts['fleet_market_batch_lots_bucket{le="1.0",zone="main"}']) >= 1.0
        commits = float(counts['fleet_market_commits_total{zone="main"}'])
        assert commits == float(counts['fleet_market_commit_seconds_count{zone="main"}']) > 3.0


def test_a_log_in_json_goes_to_its_file(mqtt_broker, tmp_path):
    options = ("--log-format", "json", "--log-file", tmp_path / "log.jsonl")
    with Daemon(tmp_path / "d", mqtt_broker, *options) as daemon:
        daemon.wait_ready()
        assert daemon.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any(line.get("unconfirmed") == 0 for line in lines)
    assert daemon.log.read_text() == ""


def test_the_service_manager_is_told(mqtt_broker, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Daemon(tmp_path / "d", mqtt_broker, env=env) as daemon:
            assert manager.recv(1000).decode() == "READY=1\nSTATUS=markets: main"
            assert manager.recv(1000) == manager.recv(1000) == b"WATCHDOG=1"
            daemon.process.send_signal(signal.SIGTERM)
            while (said := manager.recv(1000).decode()) == "WATCHDOG=1":
                pass
            assert said.startswith("STOPPING=1")
            assert daemon.process.wait(60) == 0


def test_a_second_daemon_is_refused_and_leaves_the_first_its_socket(mqtt_broker, tmp_path):
    with Daemon(tmp_path / "d", mqtt_broker) as daemon:
        daemon.wait_ready()
        command = [str(part) for part in daemon.command[3:]]
        assert "another market daemon answers there: stop it, or name another with --control" in cli(*command, code=2)
        other = [*command, "--control", str(tmp_path / "other")]
        assert f"another market daemon (process {daemon.process.pid})" in cli(*other, code=1)
        assert not (tmp_path / "other").exists()
        assert daemon.sees(phase="open")
        assert daemon.control.exists()


def test_the_operator_s_commands_do_not_wait_for_what_they_do_not_need():
    code = """
import sys
from fleet_market.cli import main
try:
    main()
except SystemExit:
    print({"numpy", "scipy"} & {*sys.modules})
"""
    command = [sys.executable, "-c", code, "status", "--control", "/nowhere"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
