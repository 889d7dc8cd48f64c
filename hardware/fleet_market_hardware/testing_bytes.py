"""Bytes of no sense for every parser: a seeded mutator, and what must hold whatever comes in."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market_hardware.codecs import cansimple, cia402, create2, gauges, vesc

MAX_BYTES = 600


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser under test."""

    seeds: tuple[bytes, ...]
    """Good inputs to begin with."""
    check: Callable[[bytes], None]
    """Parse, and raise `AssertionError` for what must not be; only `ProtocolError` and `ValueError` are answers."""
    demand: Callable[[bytes, bytes], None]
    """Raise `AssertionError` if a payload that was taken does not stand in the input with its right checksum."""


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed with some of its bytes changed, lost, doubled or cut, or bytes of chance alone."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(64))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 4)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 4))
            case 3:
                data[at:at] = rng.choice(seeds)
            case _:
                del data[at:]
    return bytes(data[:MAX_BYTES])


def _framed(payload: bytes, data: bytes) -> None:
    if vesc.frame(payload) not in data:
        raise AssertionError(f"VESC: {payload.hex()} was taken from {data.hex()}")


def _streamed(packet: bytes, data: bytes) -> None:
    if create2.stream(packet) not in data:
        raise AssertionError(f"Create 2: {packet.hex()} was taken from {data.hex()}")


def _vesc(data: bytes) -> None:
    for payload in vesc.Deframer().feed(data):
        _framed(payload, data)
        with contextlib.suppress(ProtocolError):
            vesc.decode_values(payload)


def _create(data: bytes) -> None:
    for packet in create2.Destreamer().feed(data):
        _streamed(packet, data)
        create2.decode(packet)


def _cansimple(data: bytes) -> None:
    identifier = int.from_bytes(data[:2], "big") & 0x7FF
    with contextlib.suppress(ProtocolError):
        cansimple.decode(cansimple.split_id(identifier)[1], data[2:10])


def _words(data: bytes) -> None:
    word = int.from_bytes(data[:2], "big")
    cia402.towards_enabled(cia402.state_of(word))
    gauges.sbs_temperature_c(word)
    gauges.ina226_current_a(word, 0.001)
    with contextlib.suppress(ValueError):
        gauges.sbs_scale(word)
    with contextlib.suppress(ValueError):
        gauges.ina228_current_a(data, 0.001)
    with contextlib.suppress(ValueError):
        gauges.ina228_energy_j(data, 1e-5)


def _no_checksum(_payload: bytes, _data: bytes) -> None:
    """CAN and I2C check their frames in hardware."""


_VALUES = bytes((4,)) + bytes(range(58))
PARSERS = {
    "vesc": Parser((vesc.frame(_VALUES), vesc.frame(b"\x04"), vesc.frame(bytes(300))), _vesc, _framed),
    "create2": Parser((create2.stream(bytes(80)), create2.stream(bytes(range(80)))), _create, _streamed),
    "cansimple": Parser(
        (b"\x00\x01" + bytes(8), b"\x00\x29" + struct.pack("<ff", 1.5, -2.0), b"\x00\x37" + bytes(8)),
        _cansimple,
        _no_checksum,
    ),
    "words": Parser((b"\x06\x37", b"\xff\xff\xf0", bytes(5)), _words, _no_checksum),
}
"""Every parser of bytes, by name."""
