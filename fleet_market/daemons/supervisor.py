"""Start processes, watch them, and leave none behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import psutil

from fleet_market.daemons.programs import BackOff, Program
from fleet_market.errors import FleetMarketError

POLL_S = 0.05
SAMPLE_S = 1.0
PATIENCE_S = 6.0
"""Time to end after SIGINT, and again after SIGTERM, before SIGKILL."""
TAIL_LINES, TAIL_BYTES = 8, 4000
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""
MIB = 2**20
READ_BYTES = 2**16
"""Of a log, read at a time for the line that says ready."""
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl
"""Looked up here, not between fork and exec."""


class ProcessError(FleetMarketError):
    """A process did not start, or died although everything depends on it; quotes its last words."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        self.name = name
        super().__init__(f"{name} {what}; {log}:\n{tail(log)}")


@dataclass(slots=True)
class Usage:
    """What a process has used."""

    cpu_s: float = 0.0
    lived_s: float = 0.0
    peak_rss_mib: float = 0.0


class Supervisor:
    """Runs programs; use as an async context manager, at whose end all of them are ended.

    Parameters
    ----------
    folder : Path
        For the logs, one file per program.
    on_death : callable
        Called with name and exit code when a program dies that is not critical.
    on_restart : callable
        Called with the name of a program that is started again.
    """

    def __init__(
        self,
        folder: Path,
        on_death: Callable[[str, int], None],
        on_restart: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._folder, self._on_death, self._on_restart = folder, on_death, on_restart
        self._programs: dict[str, tuple[Program, subprocess.Popen[bytes]]] = {}
        self._reported: set[str] = set()
        self._backoffs: dict[str, BackOff] = {}
        self._again_s: dict[str, float] = {}
        """When programs that have died are started again (monotonic)."""
        self._read: dict[str, int] = {}
        """How far each log has been searched."""
        self.usage: dict[str, Usage] = {}

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def pid(self, name: str) -> int:
        """Return the process id of a program."""
        return self._programs[name][1].pid

    def log(self, name: str) -> Path:
        """Return the file that a program's output goes to."""
        return self._folder / f"{name}.log"

    def start(self, program: Program) -> None:
        """Start a program; `wait_ready` waits for it.

        Raises
        ------
        ProcessError
            If it cannot be started.
        ValueError
            If a program of this name was started before.
        """
        if program.name in self._programs:
            raise ValueError(f"{program.name} was started before; names are unique")
        self.log(program.name).unlink(missing_ok=True)
        self._backoffs[program.name] = BackOff(time.monotonic())
        self.usage[program.name] = Usage()
        self._launch(program)

    def _launch(self, program: Program) -> None:
        with self.log(program.name).open("ab") as log:
            try:
                process = subprocess.Popen(
                    program.arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(program.environment or {})},
                    start_new_session=True,
                    preexec_fn=partial(_die_with_parent, os.getpid()),  # noqa: PLW1509 - before any thread is started
                )
            except OSError as error:
                raise ProcessError(program.name, f"cannot be started: {error}", self.log(program.name)) from None
        self._programs[program.name] = (program, process)

    async def wait_ready(self, names: Sequence[str], *, timeout_s: float) -> list[str]:
        """Wait until the programs have said that they are ready, and watch over all of them meanwhile.

        Returns
        -------
        list of str
            Those that are not critical, and were not ready in time or have died for good.

        Raises
        ------
        ProcessError
            If a critical program dies, or is not ready in time.
        """
        waiting = list(names)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(not self._is_gone(name) for name in waiting):
                    self._look_after()
                    waiting = [name for name in waiting if not self._is_ready(name)]
                    await asyncio.sleep(POLL_S)
        for name in waiting:
            if self._programs[name][0].critical:
                raise ProcessError(name, f"was not ready after {timeout_s:g} s", self.log(name))
        return waiting

    def _is_gone(self, name: str) -> bool:
        """Return whether a program has died that nobody starts again, and that has been told."""
        return name in self._reported and not self._programs[name][0].restart

    def _is_ready(self, name: str) -> bool:
        program, process = self._programs[name]
        return process.poll() is None and (not program.ready or self._has_said(name, program.ready.encode()))

    def _has_said(self, name: str, wanted: bytes) -> bool:
        """Search the next part of a log; parts overlap, so that none splits what is wanted."""
        with self.log(name).open("rb") as log:
            log.seek(self._read.get(name, 0))
            part = log.read(READ_BYTES + len(wanted))
        if wanted in part:
            return True
        self._read[name] = self._read.get(name, 0) + max(0, len(part) - len(wanted) + 1)
        return False

    async def watch(self) -> None:
        """Watch until cancelled: report deaths, start again what is to be, measure CPU time and memory.

        Raises
        ------
        ProcessError
            If a critical program dies.
        """
        ticks = 0
        while True:
            self._look_after()
            if ticks % round(SAMPLE_S / POLL_S) == 0:
                self._measure()
            ticks += 1
            await asyncio.sleep(POLL_S)

    def _look_after(self) -> None:
        """Report who has died since the last look, and start again who is to be; raises `ProcessError` as `watch`."""
        for name, (program, process) in self._programs.items():
            code = process.poll()
            if code is None or name in self._reported:
                continue
            if program.critical:
                raise ProcessError(name, f"died with exit code {code}", self.log(name))
            self._reported.add(name)
            self._again_s[name] = time.monotonic() + self._backoffs[name].died(time.monotonic())
            self._on_death(name, code)
        self._restart_due()

    def _restart_due(self) -> None:
        for name in [n for n in self._reported if self._programs[n][0].restart]:
            if (now_s := time.monotonic()) >= self._again_s[name]:
                self._reported.discard(name)
                self._backoffs[name].begun_s = now_s
                self._on_restart(name)
                self._launch(self._programs[name][0])

    def _measure(self) -> None:
        for name, (_, process) in self._programs.items():
            try:
                seen = psutil.Process(process.pid)
                times = seen.cpu_times()
                usage = self.usage[name]
                usage.cpu_s = times.user + times.system + times.children_user + times.children_system
                usage.lived_s = max(1e-3, time.time() - seen.create_time())
                usage.peak_rss_mib = max(usage.peak_rss_mib, seen.memory_info().rss / MIB)
            except psutil.Error:
                continue

    async def stop(self) -> None:
        """End all programs, stage by stage; whoever does not listen is killed, and what he has started too.

        Cancelled, it kills at once all that are left.
        """
        stages: dict[int, list[subprocess.Popen[bytes]]] = {}
        for program, process in self._programs.values():
            stages.setdefault(program.stage, []).append(process)
        try:
            while stages:
                stage = max(stages)
                await _ask_to_end(stages[stage])
                _kill(stages.pop(stage))
        finally:
            for processes in stages.values():
                _kill(processes)


async def _ask_to_end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while any(process.poll() is None for process in alive):  # noqa: ASYNC110 - nobody signals it
                    await asyncio.sleep(POLL_S)


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-TAIL_LINES:]) or "    (it said nothing)"


def _die_with_parent(parent: int) -> None:
    """Run in the child before its program: get SIGKILL when the supervisor dies; take SIGINT, which scripts may ignore."""
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be said
    signal.signal(signal.SIGINT, signal.SIG_DFL)
