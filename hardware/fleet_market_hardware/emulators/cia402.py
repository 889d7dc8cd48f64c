"""Two CiA 402 drives: `canopen.LocalNode`s answer SDOs and hold the PDO maps, a state machine and a plant are behind."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Self

import canopen
from canopen.sdo.exceptions import SdoAbortedError

from fleet_market_hardware.bases.cia402 import standard_dictionary
from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import MOST_S, TICK_S, Faults

COUNTS_PER_TURN = 10_000.0
OUR_HEARTBEAT = 0x77F
SYNC = 0x80
MAPPABLE = {0x6040: 16, 0x60FF: 32, 0x6041: 16, 0x606C: 32, 0x6064: 32, 0x6077: 16, 0x6079: 32}
"""Bits of what may be mapped."""
RPDOS, TPDOS = {0x1400: 0x200}, {0x1800: 0x180, 0x1801: 0x280}
NOT_MAPPABLE, TOO_LONG, NOT_NOW = 0x0604_0041, 0x0604_0042, 0x0800_0022
"""Abort codes of CiA 301, 7.2.4.3.17."""


class Drive(canopen.LocalNode):  # type: ignore[misc]
    """A node with PDOs as CiA 301 has them: not valid until they are mapped, and not to be mapped while they are valid."""

    def __init__(self, node: int) -> None:
        super().__init__(node, _dictionary(node))
        self.refuses: set[int] = set()
        """Objects that this drive does not map."""
        for pdo in self.rpdo.values():
            pdo.add_callback(self._received)

    def set_data(self, index: int, subindex: int, data: bytes, check_writable: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take a value, by SDO or by RPDO."""
        if index - 0x200 in RPDOS | TPDOS:
            self._check(index, subindex, int.from_bytes(data, "little"))
        super().set_data(index, subindex, data, check_writable)
        if subindex == 1 and index in RPDOS:
            self.rpdo[index - 0x1400 + 1].read()
        elif subindex == 1 and index in TPDOS:
            self.tpdo[index - 0x1800 + 1].read()

    def synced(self) -> None:
        """Send what is mapped to every SYNC."""
        if self.nmt.state != "OPERATIONAL":
            return
        for pdo in self.tpdo.values():
            if pdo.enabled and pdo.trans_type == 1:
                self.network.send_message(pdo.cob_id, b"".join(self.get_data(v.index, v.subindex) for v in pdo))

    def _received(self, pdo: Any) -> None:
        if not pdo.enabled or self.nmt.state != "OPERATIONAL":
            return
        for variable in pdo:
            self.set_data(variable.index, variable.subindex, variable.data)

    def _check(self, index: int, subindex: int, value: int) -> None:
        valid = not int.from_bytes(self.get_data(index - 0x200, 1), "little") >> 31
        if valid or (subindex and self.get_data(index, 0) != b"\0"):
            raise SdoAbortedError(NOT_NOW)
        if subindex and (MAPPABLE.get(value >> 16) != value & 0xFFFF or value >> 16 in self.refuses):
            raise SdoAbortedError(NOT_MAPPABLE)
        if not subindex and sum(self.get_data(index, 1 + n)[0] for n in range(value)) > 64:
            raise SdoAbortedError(TOO_LONG)


class Cia402Emulator:
    """Implements the state machine up to quick stop, profile velocity, heartbeat consumption with quick stop.

    Parameters
    ----------
    channel, interface : str
        Of python-can.
    nodes : (int, int)
        Left and right; the right motor is mounted the other way round.
    """

    def __init__(self, channel: str, *, interface: str = "virtual", nodes: tuple[int, int] = (1, 2)) -> None:
        self.faults, self.plant, self.nodes = Faults(), Plant(0.1, 0.4), nodes
        self._zero = [0.0, 0.0]
        self._heard_s, self._limit_s = time.monotonic(), math.inf
        self._network: Any = canopen.Network()
        self._network.connect(channel=channel, interface=interface)
        self.drives = [self._network.create_node(Drive(node)) for node in nodes]
        self.status = [0x40, 0x40]
        for side, local in enumerate(self.drives):
            local.add_read_callback(lambda side=side, **key: self._told(side, **key))
            local.add_write_callback(lambda side=side, **key: self._took(side, **key))
        self._network.subscribe(OUR_HEARTBEAT, self._beat)
        self._network.subscribe(SYNC, self._synced)
        self._hear, self._network.notify = self._network.notify, self._notified
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(5.0)
        self._network.disconnect()

    def reset(self) -> None:
        """Have the positions count from 0 again."""
        self._zero = list(self.plant.angle)

    def _notified(self, *message: Any) -> None:
        if not self.faults.mute:
            self._hear(*message)

    def _beat(self, _id: int, _data: bytes, _stamp: float) -> None:
        self._heard_s = time.monotonic()

    def _synced(self, _id: int, _data: bytes, _stamp: float) -> None:
        for drive in self.drives:
            drive.synced()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ending.wait(TICK_S):
            now = time.monotonic()
            if now - self._heard_s > self._limit_s:
                self.plant.target = [0.0, 0.0]
            self.plant.advance(min(now - last, MOST_S))
            last = now

    def _told(self, side: int, *, index: int, **_rest: Any) -> int | None:
        mounted = 1.0 if side == 0 else -1.0
        counts = COUNTS_PER_TURN / math.tau
        match index:
            case 0x6041:
                return self.status[side]
            case 0x6064:
                return round(mounted * (self.plant.angle[side] - self._zero[side]) * counts)
            case 0x606C:
                return round(mounted * self.plant.rate[side] * counts)
            case 0x6077:
                return -37
            case 0x603F:
                return 0x8611 if self.status[side] & 0x4F == 0x08 else 0
            case 0x6076:
                return 1270
            case 0x6079:
                return 5_000_000 if self.faults.out_of_range else 24_100
        return None

    def _took(self, side: int, *, index: int, data: bytes, **_rest: Any) -> None:
        mounted = 1.0 if side == 0 else -1.0
        if index == 0x6040:
            self._control(side, int.from_bytes(data, "little"))
        elif index == 0x60FF and self.status[side] == 0x27:
            counts = int.from_bytes(data, "little", signed=True)
            self.plant.target[side] = mounted * counts * math.tau / COUNTS_PER_TURN
        elif index == 0x1016:
            self._limit_s = (int.from_bytes(data, "little") & 0xFFFF) / 1000

    def _control(self, side: int, word: int) -> None:
        """Follow the transitions 2, 3, 4, 6, 8, 9, 11, 12 and 15 of the standard's state machine."""
        status = self.status[side]
        moves = {
            (0x08, 0x80): 0x40, (0x40, 0x06): 0x21, (0x21, 0x07): 0x23, (0x23, 0x0F): 0x27, (0x27, 0x02): 0x07,
            (0x07, 0x00): 0x40, (0x27, 0x06): 0x21, (0x23, 0x06): 0x21, (0x27, 0x00): 0x40, (0x21, 0x00): 0x40,
        }  # fmt: skip
        self.status[side] = moves.get((status, word), status)
        if self.status[side] != 0x27:
            self.plant.target[side] = 0.0


def _dictionary(node: int) -> Any:
    """Return the driver's objects and those of the PDOs, none of them valid yet."""
    kinds, dictionary = canopen.objectdictionary, standard_dictionary()
    for index, cob_id in (RPDOS | TPDOS).items():
        parameter = kinds.ODRecord(f"PDO {index:04X}", index)
        for sub, kind, default in (
            (0, kinds.UNSIGNED8, 2),
            (1, kinds.UNSIGNED32, 1 << 31 | cob_id + node),
            (2, kinds.UNSIGNED8, 255),
        ):
            parameter.add_member(_member(index, sub, kind, default))
        dictionary.add_object(parameter)
        mapping = kinds.ODRecord(f"PDO mapping {index:04X}", index + 0x200)
        for sub in range(9):
            mapping.add_member(_member(index + 0x200, sub, kinds.UNSIGNED32 if sub else kinds.UNSIGNED8, 0))
        dictionary.add_object(mapping)
    return dictionary


def _member(index: int, sub: int, kind: int, default: int) -> Any:
    member = canopen.objectdictionary.ODVariable(f"sub {sub}", index, sub)
    member.data_type, member.access_type, member.default = kind, "rw", default
    return member
