"""The operator's way into a running daemon: a Unix socket that only its user can open. It needs no MQTT broker.

One line of JSON asks, one line of JSON answers, then the daemon hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_market.errors import ControlError, FleetMarketError, InputError
from fleet_market.ids import ZoneId
from fleet_market.protocol.messages import Text

log = logging.getLogger(__name__)

MAX_LINE = 1 << 20
MAX_PATH = 107
"""Bytes in the address of a Unix socket, unix(7)."""
ANSWER_S = 30.0
"""How long a request may take: a zone that is still recovering is waited for."""

Phase = Literal["elsewhere", "failed", "starting", "open", "paused", "halted", "draining"]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Line):
    """What the operator wants."""

    command: Literal["status", "halt", "resume"]
    zones: tuple[ZoneId, ...] = ()
    """Which zones it concerns; all that the daemon runs if empty."""
    reason: Text = ""


class ZoneStatus(_Line):
    """How a zone is."""

    zone: ZoneId
    phase: Phase
    """``elsewhere``: another daemon runs it, or nobody. ``failed``: this one cannot run it. ``paused``: too much waits."""
    reason: str = ""
    """Of a halt: what the operator has said. Else what is wrong, if anything is."""
    connected: bool = False
    """Whether the MQTT broker can be spoken to."""
    epoch: int = 0
    inputs: int = 0
    batches: int = 0
    awards: int = 0
    """Since the start of the daemon."""
    open_orders: int = 0
    """Orders that wait for a robot."""
    contracts: int = 0
    """Tasks that robots are on."""
    robots_online: int = 0
    waiting: int = 0
    """Messages and effects that wait to be handled."""
    outbox: int = 0
    """Messages that must arrive and are not confirmed."""
    rejected: dict[str, int] = Field(default_factory=dict)
    """Messages that were refused since the start of the daemon, by reason."""

    @property
    def well(self) -> bool:
        """Whether there is nothing to mend: a halt is the operator's own will."""
        return self.phase == "elsewhere" or (self.connected and self.phase not in ("failed", "starting", "paused"))


class DaemonStatus(_Line):
    """How a daemon is."""

    version: str
    pid: int
    uptime_s: float
    zones: tuple[ZoneStatus, ...]


class Reply(_Line):
    """What the daemon answers."""

    status: DaemonStatus | None = None
    error: str | None = None


Handler = Callable[[Request], Awaitable[DaemonStatus]]


@contextlib.asynccontextmanager
async def serve(path: Path, handle: Handler) -> AsyncIterator[None]:
    """Answer requests on the socket `path`, which is gone afterwards.

    A socket that a dead daemon has left behind is replaced.

    Raises
    ------
    InputError
        If the socket cannot be made, or another daemon answers on it.
    """
    listener = await asyncio.to_thread(_bind, path)
    answering: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_answer(reader, writer, handle))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = await asyncio.start_unix_server(accept, sock=listener, limit=MAX_LINE)
    try:
        yield
    finally:
        server.close()
        for task in answering:
            task.cancel()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - at the end, and no slower than a system call


def ask(path: Path, request: Request) -> DaemonStatus:
    """Ask the daemon behind the socket `path`.

    Raises
    ------
    ControlError
        If no daemon answers there, or it cannot do what was asked.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(request.model_dump_json().encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline(MAX_LINE)
    except TimeoutError:
        raise ControlError(f"{path}: the market daemon did not answer within {ANSWER_S:g} s") from None
    except OSError as error:
        raise ControlError(f"{path}: no market daemon answers there ({error.strerror}): is it running?") from None
    try:
        reply = Reply.model_validate_json(line)
    except ValidationError:
        raise ControlError(f"{path}: the market daemon hung up without an answer") from None
    if reply.status is None:
        raise ControlError(f"{path}: {reply.error}")
    return reply.status


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket():
            _insist_on_dead(path)
            path.unlink()
        with _address(path) as address:
            listener.bind(address)
        path.chmod(0o600)  # nobody can connect before it listens
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError("control socket", "path", str(path), f"{error.strerror}: name another with --control") from None
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _insist_on_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        with _address(path) as address:
            probe.connect(address)
        mend = "another market daemon answers there: stop it, or name another with --control"
        raise InputError("control socket", "path", str(path), mend)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give an address of the socket that is short enough: from its folder, if the whole path is too long."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            try:
                request = Request.model_validate_json(await reader.readline())
                reply = Reply(status=await handle(request))
            except (FleetMarketError, ValueError) as error:
                reply = Reply(error=str(error).splitlines()[0])
            writer.write(reply.model_dump_json().encode() + b"\n")
            await writer.drain()
    except (TimeoutError, OSError) as error:
        log.info("control socket: a request was not answered: %s", error or "it took too long")
    finally:
        writer.close()
