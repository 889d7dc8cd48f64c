"""A bad network between MQTT clients and their broker: a proxy that loses, repeats and reorders packets.

MQTT runs over TCP, and TCP sends again what is lost: a lost packet comes late. Here it comes late by the same rule (the
wait doubles with every loss, RFC 6298), but without making those behind it wait, so that messages overtake each other; a
packet that is lost too often breaks its connection, and with it everything that is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Self

PUBLISH, PUBACK = 3, 4
"""Packet types (OASIS MQTT 5.0, section 2.1.2); the others are few, and keep their place."""
DUP = 0x08
"""Flag of a PUBLISH that is sent again (section 3.3.1.1)."""
RETRY_S = 0.2
"""Linux's shortest wait before it sends again."""
MAX_LOSSES = 6
"""So often in a row is 12.6 s, and the keep-alive of 10 s has run out."""


class LossyProxy:
    """Listens on `port` of the loopback interface for as long as the context lasts.

    Parameters
    ----------
    target : int
        Port of the broker, on the same interface; need not be up.
    seed : int
    loss, duplicates : float
        Share of the packets that are lost at each try, and of the PUBLISH packets that come twice.
    """

    def __init__(self, target: int, *, seed: int = 0, loss: float = 0.3, duplicates: float = 0.1) -> None:
        self._target, self._loss, self._duplicates = target, loss, duplicates
        self._rng = random.Random(seed)  # noqa: S311 - seeded chance, no secret
        self.port = 0
        self.packets = self.lost = self.repeated = self.broken = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._pumps: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pumps = [asyncio.ensure_future(self._pump(*way)) for way in ((reader, back, writer), (there, writer, back))]
        self._pumps |= set(pumps)
        for pump in pumps:
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not sink.is_closing():
                packet = await _read_packet(source)
                self._forward(packet, sink, other)
        sink.transport.abort()
        other.transport.abort()

    def _forward(self, packet: bytes, sink: asyncio.StreamWriter, other: asyncio.StreamWriter) -> None:
        self.packets += 1
        kind = packet[0] >> 4
        if kind not in (PUBLISH, PUBACK):
            sink.write(packet)
            return
        losses = 0
        while self._rng.random() < self._loss:
            losses += 1
        self.lost += losses
        if losses >= MAX_LOSSES:
            self.broken += 1
            sink.transport.abort()
            other.transport.abort()
            return
        delay_s = RETRY_S * (2**losses - 1)
        _write_later(sink, packet, delay_s)
        if kind == PUBLISH and packet[0] & 0x06 and self._rng.random() < self._duplicates:
            self.repeated += 1
            _write_later(sink, bytes([packet[0] | DUP]) + packet[1:], delay_s + self._rng.uniform(0.0, 2 * RETRY_S))


def _write_later(sink: asyncio.StreamWriter, packet: bytes, delay_s: float) -> None:
    def write() -> None:
        if not sink.is_closing():
            sink.write(packet)

    if delay_s:
        asyncio.get_running_loop().call_later(delay_s, write)
    else:
        write()


async def _read_packet(source: asyncio.StreamReader) -> bytes:
    """Return one whole MQTT packet: type, remaining length in 1 to 4 bytes of 7 bits, content (section 2.1)."""
    head, length, shift = await source.readexactly(1), 0, 0
    while True:
        byte = await source.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head + await source.readexactly(length)
