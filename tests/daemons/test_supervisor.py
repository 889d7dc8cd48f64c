"""The supervisor with real processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from fleet_market.daemons import programs
from fleet_market.daemons import supervisor as module
from fleet_market.daemons.programs import Program
from fleet_market.daemons.supervisor import ProcessError, Supervisor

WAIT = "import time; print('READY', flush=True); time.sleep(600)"
STUBBORN = f"import signal; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)]; {WAIT}"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAIT!r}])
print("child", child.pid, flush=True)
{WAIT}
"""


def python(name, code, **options):
    return Program(name, [sys.executable, "-c", code], ready=options.pop("ready", "READY"), **options)


def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def test_programs_get_ready_are_measured_and_ended(tmp_path, eventually):
    deaths = []
    async with Supervisor(tmp_path, lambda *death: deaths.append(death)) as supervisor:
        supervisor.start(python("a", WAIT))
        await supervisor.wait_ready(["a"], timeout_s=60)
        watch = asyncio.create_task(supervisor.watch())
        await asyncio.to_thread(eventually, lambda: supervisor.usage["a"].peak_rss_mib)
        watch.cancel()
        pid = supervisor.pid("a")
    assert gone(pid)
    assert deaths == []


async def test_the_death_of_a_critical_program_is_an_error_with_its_last_words(tmp_path):
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("bad", "print('out of cheese'); raise SystemExit(7)", ready=""))
        with pytest.raises(ProcessError, match=r"bad died with exit code 7(.|\n)*out of cheese"):
            await asyncio.wait_for(supervisor.watch(), 60)


async def test_the_death_of_another_program_is_told_once(tmp_path):
    deaths = asyncio.Queue()
    async with Supervisor(tmp_path, lambda *death: deaths.put_nowait(death)) as supervisor:
        supervisor.start(python("spare", WAIT, critical=False))
        await supervisor.wait_ready(["spare"], timeout_s=60)
        watch = asyncio.create_task(supervisor.watch())
        os.kill(supervisor.pid("spare"), signal.SIGKILL)
        assert await asyncio.wait_for(deaths.get(), 60) == ("spare", -signal.SIGKILL)
        watch.cancel()
    assert deaths.empty()


async def test_a_program_that_is_to_be_is_started_again_and_its_log_goes_on(tmp_path, monkeypatch, eventually):
    monkeypatch.setattr(programs, "FIRST_RESTART_S", 0.01)
    told = asyncio.Queue()
    on_death = lambda *death: told.put_nowait(death)  # noqa: E731
    async with Supervisor(tmp_path, on_death, told.put_nowait) as supervisor:
        supervisor.start(python("robot", WAIT, critical=False, restart=True))
        await supervisor.wait_ready(["robot"], timeout_s=60)
        watch = asyncio.create_task(supervisor.watch())
        for starts in (2, 3):
            first = supervisor.pid("robot")
            os.kill(first, signal.SIGKILL)
            assert await asyncio.wait_for(told.get(), 60) == ("robot", -signal.SIGKILL)
            assert await asyncio.wait_for(told.get(), 60) == "robot"
            assert supervisor.pid("robot") != first
            said = partial(lambda starts: supervisor.log("robot").read_text().count("READY") == starts, starts)
            await asyncio.to_thread(eventually, said)
        watch.cancel()


async def test_who_does_not_listen_is_killed_and_grandchildren_too(tmp_path, monkeypatch, eventually):
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("stubborn", STUBBORN))
        supervisor.start(python("parent", PARENT))
        await supervisor.wait_ready(["stubborn", "parent"], timeout_s=60)
        pids = [supervisor.pid("stubborn"), supervisor.pid("parent")]
        grandchild = int(supervisor.log("parent").read_text().split()[1])
    await asyncio.to_thread(eventually, lambda: all(gone(pid) for pid in [*pids, grandchild]))


async def test_a_cancelled_stop_kills_all_stages(tmp_path, eventually):
    supervisor = Supervisor(tmp_path, lambda *_: None)
    supervisor.start(python("low", WAIT, stage=0))
    supervisor.start(python("stubborn", STUBBORN, stage=1))
    pids = [supervisor.pid("low"), supervisor.pid("stubborn")]
    try:
        await supervisor.wait_ready(["low", "stubborn"], timeout_s=60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.stop(), 0.2)
        await asyncio.to_thread(eventually, lambda: all(gone(pid) for pid in pids))
    finally:
        await supervisor.stop()


async def test_a_name_is_started_once(tmp_path):
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("a", WAIT))
        with pytest.raises(ValueError, match="a was started before"):
            supervisor.start(python("a", "raise SystemExit"))
        await supervisor.wait_ready(["a"], timeout_s=60)


async def test_ready_is_found_wherever_a_part_of_the_log_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_BYTES", 1)
    monkeypatch.setattr(module, "POLL_S", 0)
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        for before in range(8):
            supervisor.start(python(f"p{before}", f"print('x' * {before}, end=''); {WAIT}"))
        await supervisor.wait_ready([f"p{before}" for before in range(8)], timeout_s=60)


async def test_a_long_log_is_searched_in_parts(tmp_path):
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("loud", WAIT, ready="never said"))
        supervisor.log("loud").write_bytes(b"x" * 10 * module.READ_BYTES)
        assert not supervisor._is_ready("loud")
        assert 0 < supervisor._read["loud"] < 2 * module.READ_BYTES


async def test_a_program_that_ends_at_once_is_missing_or_never_ready_is_a_clear_error(tmp_path):
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        with pytest.raises(ProcessError, match="nothing cannot be started"):
            supervisor.start(Program("nothing", [str(tmp_path / "no-such-program")]))
        supervisor.start(python("short", "raise SystemExit(3)"))
        with pytest.raises(ProcessError, match="exit code 3"):
            await supervisor.wait_ready(["short"], timeout_s=60)
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("mute", "import time; time.sleep(60)"))
        with pytest.raises(ProcessError, match=r"mute was not ready after 0.3 s"):
            await supervisor.wait_ready(["mute"], timeout_s=0.3)


async def test_who_is_not_ready_is_named_and_keeps_nobody_else_from_his_work(tmp_path):
    deaths = []
    async with Supervisor(tmp_path, lambda *death: deaths.append(death)) as supervisor:
        supervisor.start(python("robot", WAIT, critical=False, stage=1))
        supervisor.start(python("mute", "import time; time.sleep(600)", critical=False, stage=1))
        supervisor.start(python("broken", "raise SystemExit(2)", critical=False, stage=1))
        assert await supervisor.wait_ready(["robot", "mute", "broken"], timeout_s=5.0) == ["mute", "broken"]
        assert deaths == [("broken", 2)]
        assert await supervisor.wait_ready(["broken"], timeout_s=600) == ["broken"], "nobody waits for the dead"


async def test_a_critical_program_that_dies_while_others_are_awaited_is_an_error_at_once(tmp_path):
    async with Supervisor(tmp_path, lambda *_: None) as supervisor:
        supervisor.start(python("market", WAIT))
        await supervisor.wait_ready(["market"], timeout_s=60)
        supervisor.start(python("robot", "import time; time.sleep(600)", critical=False, stage=1))
        waiting = asyncio.create_task(supervisor.wait_ready(["robot"], timeout_s=600))
        os.kill(supervisor.pid("market"), signal.SIGKILL)
        with pytest.raises(ProcessError, match="market died with exit code -9"):
            await asyncio.wait_for(waiting, 60)


async def test_a_robot_that_dies_at_its_start_is_started_again_and_becomes_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "FIRST_RESTART_S", 0.01)
    once = (
        f"import pathlib, sys; f = pathlib.Path({str(tmp_path / 'been')!r}); f.exists() or (f.touch(), sys.exit(3)); {WAIT}"
    )
    deaths = []
    async with Supervisor(tmp_path, lambda *death: deaths.append(death)) as supervisor:
        supervisor.start(python("robot", once, critical=False, restart=True))
        assert await supervisor.wait_ready(["robot"], timeout_s=60) == []
    assert deaths == [("robot", 3)]


async def test_killing_the_supervisor_leaves_no_child(tmp_path, eventually):
    code = f"""
import asyncio, pathlib, sys
from fleet_market.daemons.programs import Program
from fleet_market.daemons.supervisor import Supervisor
async def main():
    async with Supervisor(pathlib.Path({str(tmp_path)!r}), print) as s:
        s.start(Program("child", [sys.executable, "-c", {WAIT!r}], ready="READY"))
        await s.wait_ready(["child"], timeout_s=60)
        print(s.pid("child"), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    child = int(await asyncio.to_thread(process.stdout.readline))
    assert not gone(child)
    process.kill()
    process.wait()
    await asyncio.to_thread(eventually, lambda: gone(child))
