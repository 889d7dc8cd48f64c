"""A cable between two processes that can be pulled out."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Relay:
    """Passes TCP connections on to `target` on the loopback interface, unless it is `broken`."""

    def __init__(self, target: int) -> None:
        self._target, self._broken, self.port = target, False, 0
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut(broken=True)
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self, *, broken: bool) -> None:
        """Break every connection and take no new ones, or take them again."""
        self._broken = broken
        if broken:
            for pump in list(self._pumps):
                pump.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broken:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        for way in ((reader, back, writer), (there, writer, back)):
            pump = asyncio.ensure_future(_pump(*way))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.transport.abort()
        other.transport.abort()
