"""Bytes of no sense for every parser: a seeded mutator, and what must hold whatever comes in."""

from __future__ import annotations

import contextlib
import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market_hardware.codecs import cansimple, cia402, create2, gauges, vesc
from fleet_market_hardware.vda5050 import seen, wanted

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
    pieces: tuple[bytes, ...] = ()
    """What else is put into inputs: words of the language that mean trouble."""


def mutate(rng: random.Random, seeds: Sequence[bytes], pieces: Sequence[bytes] = ()) -> bytes:
    """Return a seed with some of its bytes changed, lost, doubled or cut, or bytes of chance alone."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(64))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6 if pieces else 5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 4)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 4))
            case 3:
                data[at:at] = rng.choice(seeds)
            case 5:
                data[at:at] = rng.choice(pieces)
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


def _vda5050(data: bytes) -> None:
    """Nothing that comes over MQTT raises, and no number is impossible; which reader gets it, its length decides."""
    readers = (seen.read_place, seen.read_connection, seen.read_factsheet, wanted.read_order, wanted.read_instant_actions)
    with contextlib.suppress(ProtocolError, wanted.WantError):
        readers[len(data) % len(readers)](data)
    with contextlib.suppress(ProtocolError):
        state = seen.read_state(data)
        numbers = [state.speed_mps, state.voltage_v, state.current_a, state.load_kg]
        numbers += [state.position.x, state.position.y, state.position.theta] if state.position else []
        shares = [share for share in (state.soc, state.health) if share is not None]
        if not (all(n is None or math.isfinite(n) for n in numbers) and all(0 <= share <= 1 for share in shares)):
            raise AssertionError(f"VDA 5050: {state} was taken from {data!r}")


def _no_checksum(_payload: bytes, _data: bytes) -> None:
    """CAN and I2C check their frames in hardware."""


_VALUES = bytes((4,)) + bytes(range(58))
_SAID: tuple[object, ...] = (
    {"orderId": "o", "lastNodeSequenceId": 4, "nodeStates": [{"nodeId": "n", "sequenceId": 6}], "driving": False},
    {"batteryState": {"batteryCharge": 80.5, "batteryHealth": 90, "charging": False}, "velocity": {"vx": 1.5}},
    {"agvPosition": {"x": 1, "y": 2, "theta": 0, "mapId": "m"}, "loads": [{"weight": 2.5}]},
    {
        "errors": [
            {"errorType": "e", "errorLevel": "FATAL", "errorReferences": [{"referenceKey": "k", "referenceValue": "v"}]}
        ]
    },
    {"orderId": "o", "nodes": [{"nodeId": "a", "sequenceId": 0, "released": True, "actions": []}], "edges": []},
    {"actions": [{"actionType": "cancelOrder", "actionId": "a", "blockingType": "NONE"}]},
)
PARSERS = {
    "vesc": Parser((vesc.frame(_VALUES), vesc.frame(b"\x04"), vesc.frame(bytes(300))), _vesc, _framed),
    "create2": Parser((create2.stream(bytes(80)), create2.stream(bytes(range(80)))), _create, _streamed),
    "cansimple": Parser(
        (b"\x00\x01" + bytes(8), b"\x00\x29" + struct.pack("<ff", 1.5, -2.0), b"\x00\x37" + bytes(8)),
        _cansimple,
        _no_checksum,
    ),
    "words": Parser((b"\x06\x37", b"\xff\xff\xf0", bytes(5)), _words, _no_checksum),
    "vda5050": Parser(
        tuple(json.dumps(said).encode() for said in _SAID),
        _vda5050,
        _no_checksum,
        (b"9" * 30, b"null", b'"', b"-1e999", b"NaN", b"{", b"]", b"\\ud800"),
    ),
}
"""Every parser of bytes, by name."""
