"""The control socket: who may open it, who answers, and what is said when nobody does."""

import asyncio
import socket

import pytest

from fleet_market.adapters.control import MAX_LINE, DaemonStatus, Reply, Request, ask, serve
from fleet_market.errors import ControlError, InputError

WELL = DaemonStatus(version="1", pid=1, uptime_s=0.0, zones=())


async def well(request):
    return WELL


async def refuse(request):
    raise ControlError(f"not {request.command}")


def say(path, line):
    """Send a raw line; returns what comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(line)
        with connection.makefile("rb") as lines:
            return lines.readline()


@pytest.mark.parametrize("long", [False, True])
async def test_a_question_is_answered_whatever_the_length_of_the_path(tmp_path, long):
    path = tmp_path / ("d" * 100 if long else "d") / "control"
    async with serve(path, well):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await asyncio.to_thread(ask, path, Request(command="status")) == WELL
    assert not path.exists()
    with pytest.raises(ControlError, match="no market daemon answers there"):
        ask(path, Request(command="status"))


async def test_what_cannot_be_done_is_told(tmp_path):
    async with serve(tmp_path / "c", refuse):
        with pytest.raises(ControlError, match="not halt"):
            await asyncio.to_thread(ask, tmp_path / "c", Request(command="halt"))


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"command": "stop"}\n', b'{"command": "halt", "more": 1}\n',
     b'{"command": "halt", "reason": "' + b"x" * 200 + b'"}\n', b'{"command": "halt", "zones": ["No Zone"]}\n',
     b'{"command": "halt", "reason": "\\u001b[2J"}\n', b"x" * (MAX_LINE + 100) + b"\n"],
)  # fmt: skip
async def test_rubbish_is_refused_and_the_next_is_answered(tmp_path, line):
    async with serve(tmp_path / "c", well):
        try:
            answer = await asyncio.to_thread(say, tmp_path / "c", line)
        except ConnectionError:
            answer = b""  # it has hung up before all was said
        assert not answer or Reply.model_validate_json(answer).error
        assert await asyncio.to_thread(ask, tmp_path / "c", Request(command="status")) == WELL


async def test_the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_is_not(tmp_path):
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serve(path, well):
        with pytest.raises(InputError, match="another market daemon answers there"):
            async with serve(path, refuse):
                pass
        assert await asyncio.to_thread(ask, path, Request(command="status")) == WELL


async def test_a_file_in_its_place_is_left_alone(tmp_path):
    (tmp_path / "c").write_text("precious")
    with pytest.raises(InputError, match="name another with --control"):
        async with serve(tmp_path / "c", well):
            pass
    assert (tmp_path / "c").read_text() == "precious"
