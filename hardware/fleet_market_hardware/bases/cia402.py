"""Two CiA 402 servo drives on CANopen (`canopen`), in profile velocity mode.

Commands and what the wheels do go by process data: at every exchange one RPDO to each drive and a SYNC, which each answers
with two TPDOs. SDO sets the drives up and reads what is slow: error codes, and values that a drive has and does not map.

The device's own dead-man: each drive is told to expect our heartbeat (0x1016) and to quick-stop when it stays away
(0x6007 = 3). A drive without these objects is used all the same, and says so in `doubts`. The heartbeat goes out with the
commands, from the thread that gives them: a periodic one would be sent by the kernel, also for a driver that hangs.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import can
import canopen
from canopen.sdo.exceptions import SdoError

from fleet_market_hardware.bases.canopen_pdo import Pdo, configure
from fleet_market_hardware.bases.wheels import Wheel, WheelsReading
from fleet_market_hardware.codecs import cia402
from fleet_market_hardware.codecs.cia402 import State
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.tables import (
    CANOPEN_AT_EVERY_SYNC,
    CANOPEN_AT_ONCE,
    CANOPEN_BEAT_OPERATIONAL,
    CANOPEN_CONSUMER_HEARTBEAT,
    CANOPEN_HEARTBEAT_COB,
    CANOPEN_RPDO_1,
    CANOPEN_RPDO_1_COB,
    CANOPEN_SYNC_COB,
    CANOPEN_TPDO_1,
    CANOPEN_TPDO_1_COB,
    CANOPEN_TPDO_2,
    CANOPEN_TPDO_2_COB,
    CIA_ABORT_OPTION,
    CIA_ABORT_QUICK_STOP,
    CIA_CONTROLWORD,
    CIA_DC_LINK_MV,
    CIA_ERROR_CODE,
    CIA_MODE,
    CIA_POSITION,
    CIA_PROFILE_VELOCITY,
    CIA_RATED_TORQUE_MNM,
    CIA_STATUSWORD,
    CIA_TARGET_VELOCITY,
    CIA_TORQUE_PERMILLE,
    CIA_VELOCITY,
)

SDO_S, SET_UP_S = 0.05, 0.3
"""An answer that takes longer is a failure: while driving, and while the drives are set up."""
HEARTBEAT_LIMIT_MS = 150
"""Three exchanges of `differential.PERIOD_S`."""
OUR_NODE = 0x7F
ANSWER_S = 0.03
"""A TPDO that comes later after its SYNC has missed it."""
MOST_MISSED = 5
"""Exchanges in a row without every TPDO, after which the bus counts as gone and is set up anew."""
SLOW_S = 1.0
"""Values that a drive does not map are asked for this often."""


class _Drive:
    """What is known of one drive; frames are put here by the thread that receives."""

    def __init__(self, node: Any, sign: float) -> None:
        self.node, self.sign = node, sign
        self.rated_nm: float | None = None
        self.values: dict[int, int | None] = {}
        """By object: what it last told."""
        self.slow: list[int] = []
        self.state: State | None = None
        self.error: int | None = None


class Cia402Wheels:
    """Implements `fleet_market_hardware.bases.Wheels`.

    Parameters
    ----------
    channel, interface : str
        As python-can names them.
    left, right : int
        Node ids.
    counts_per_turn : float
        Position units per turn of the wheel, gear included.
    velocity_units_per_turn_s : float, optional
        Velocity units per turn/s of the wheel; by default `counts_per_turn` (many drives use counts/s).
    eds : str, optional
        The drive's EDS file; without one the objects of the standard are used with the standard's types.
    """

    exchange_s = ANSWER_S + 5 * SDO_S

    def __init__(
        self,
        channel: str,
        *,
        interface: str = "socketcan",
        left: int = 1,
        right: int = 2,
        counts_per_turn: float,
        velocity_units_per_turn_s: float | None = None,
        invert_left: bool = False,
        invert_right: bool = True,
        eds: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.name = f"cia402 {interface} {channel}"
        for side, node in (("left", left), ("right", right)):
            if not 1 <= node < OUR_NODE:
                raise DeviceError(self.name, side, node, f"use a node id of 1 to {OUR_NODE - 1}")
        if left == right:
            raise DeviceError(self.name, "right", right, "give the two drives different node ids")
        self.doubts = Doubts(self.name)
        self._channel, self._interface, self._options, self._eds = channel, interface, options or {}, eds
        self._ids = (left, right)
        self._signs = (-1.0 if invert_left else 1.0, -1.0 if invert_right else 1.0)
        self._per_rad = counts_per_turn / math.tau
        self._speed_per_rad_s = (velocity_units_per_turn_s or counts_per_turn) / math.tau
        self._network: Any = None
        self._drives: list[_Drive] = []
        self._rpdo = Pdo(CANOPEN_RPDO_1, CANOPEN_RPDO_1_COB, CANOPEN_AT_ONCE, (CIA_CONTROLWORD, CIA_TARGET_VELOCITY))
        self._command = self._rpdo.layout()
        self._awaited, self._heard, self._answered = set[int](), set[int](), threading.Event()
        self._missed, self._slow_s = 0, -math.inf
        self._halted = False

    def open(self, timeout_s: float) -> None:
        """Connect, see that both drives answer, set them up and enable them."""
        self.close()
        network = canopen.Network()
        try:
            network.connect(channel=self._channel, interface=self._interface, **self._options)
        except (OSError, ValueError, TypeError, can.CanError) as error:
            raise DeviceError(
                self.name, "channel", self._channel,
                f"use a CAN interface that is up (ip link set {self._channel} up type can bitrate 500000): {error}",
            ) from error  # fmt: skip
        self._network = network
        self._awaited, self._missed, self._slow_s = set(), 0, -math.inf
        try:
            nodes = [network.add_node(node, self._dictionary()) for node in self._ids]
            self._drives = [_Drive(node, sign) for node, sign in zip(nodes, self._signs, strict=True)]
            end = time.monotonic() + timeout_s
            for drive in self._drives:
                drive.node.sdo.RESPONSE_TIMEOUT = SET_UP_S
                self._set_up(drive, end)
            if not self._halted:
                self._enable(end)
            for drive in self._drives:
                drive.node.sdo.RESPONSE_TIMEOUT = SDO_S
        except BaseException:
            self.close()
            raise

    def _dictionary(self) -> Any:
        if self._eds is None:
            return standard_dictionary()
        if not Path(self._eds).is_file():
            raise DeviceError(self.name, "eds", self._eds, "no such file: name the EDS of the drive's maker, or none")
        return canopen.import_od(self._eds)

    def _set_up(self, drive: _Drive, end: float) -> None:
        node = drive.node
        while self._read(node, CIA_STATUSWORD) is None:
            if time.monotonic() > end:
                raise DeviceSilentError(
                    self.name, "node", node.id, "no answer: check node id, bit rate, termination and power"
                )
        node.nmt.state = "PRE-OPERATIONAL"  # where the standard has a drive take mappings
        self._map(drive)
        node.nmt.state = "OPERATIONAL"
        self._write(node, CIA_MODE, CIA_PROFILE_VELOCITY)
        rated = self._read(node, CIA_RATED_TORQUE_MNM)
        drive.rated_nm = None if rated is None else rated / 1000
        try:
            self._write(node, CANOPEN_CONSUMER_HEARTBEAT, OUR_NODE << 16 | HEARTBEAT_LIMIT_MS, 1)
            self._write(node, CIA_ABORT_OPTION, CIA_ABORT_QUICK_STOP)
        except OSError:
            self.doubts.say(
                f"node {node.id} heartbeat",
                math.nan,
                "the drive does not watch for us: it has no dead-man of its own",
            )

    def _map(self, drive: _Drive) -> None:
        """Have a drive take the command and tell the rest by process data; what it may lack, and does not map, is slow."""
        node, sdo = drive.node, drive.node.sdo
        configure(sdo, self.name, node.id, replace(self._rpdo, cob_id=CANOPEN_RPDO_1_COB + node.id))
        first = Pdo(CANOPEN_TPDO_1, CANOPEN_TPDO_1_COB + node.id, CANOPEN_AT_EVERY_SYNC, (CIA_STATUSWORD, CIA_VELOCITY))
        second = Pdo(CANOPEN_TPDO_2, CANOPEN_TPDO_2_COB + node.id, CANOPEN_AT_EVERY_SYNC, (CIA_POSITION,))
        for pdo, optional in ((first, CIA_TORQUE_PERMILLE), (second, CIA_DC_LINK_MV)):
            sent = pdo
            wanted = optional != CIA_DC_LINK_MV or drive is self._drives[0]
            if wanted and self._read(node, optional) is not None:
                sent = replace(pdo, objects=(*pdo.objects, optional))
            try:
                configure(sdo, self.name, node.id, sent)
            except DeviceSilentError:
                raise
            except DeviceError:
                if sent is pdo:
                    raise
                configure(sdo, self.name, node.id, pdo)
                drive.slow.append(optional)
                sent = pdo
            self._listen(drive, sent)

    def _listen(self, drive: _Drive, pdo: Pdo) -> None:
        layout, objects, cob_id = pdo.layout(), pdo.objects, pdo.cob_id

        def take(_id: int, data: bytearray, _stamp: float) -> None:
            if len(data) != layout.size:
                return  # not what was mapped: as good as none
            drive.values.update(zip(objects, layout.unpack(data), strict=True))
            self._heard.add(cob_id)
            if self._heard >= self._awaited:
                self._answered.set()

        self._awaited.add(cob_id)
        self._network.subscribe(cob_id, take)

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both drives and take what they answer to the SYNC."""
        if self._network is None:
            raise OSError("CAN: not open")
        self._heard.clear()
        self._answered.clear()
        self._beat()
        for drive, rate in zip(self._drives, (left_rad_s, right_rad_s), strict=True):
            word = self._word(drive)
            speed = round(drive.sign * rate * self._speed_per_rad_s) if word == cia402.ENABLE else 0
            self._send(CANOPEN_RPDO_1_COB + drive.node.id, self._command.pack(word, speed))
        self._send(CANOPEN_SYNC_COB, b"")
        if not self._answered.wait(ANSWER_S):
            self._missed += 1
            if self._missed >= MOST_MISSED:
                missing = sorted(cob_id & 0x7F for cob_id in self._awaited - self._heard)
                raise OSError(f"nodes {sorted(set(missing))} sent no process data for {MOST_MISSED} exchanges")
            return None
        self._missed = 0
        self._ask_slow()
        left, right = (self._wheel(drive, side) for drive, side in zip(self._drives, ("left", "right"), strict=True))
        millivolts = self._drives[0].values.get(CIA_DC_LINK_MV)
        volts = None if millivolts is None else self.doubts.believe("voltage_v", millivolts / 1000)
        return WheelsReading(left, right, voltage_v=volts)

    def _word(self, drive: _Drive) -> int:
        """Return the controlword for now: a drive that has left ENABLED by itself is not led back there by the way."""
        if self._halted:
            return cia402.QUICK_STOP
        return cia402.ENABLE if drive.state is State.ENABLED else cia402.SHUTDOWN

    def halt(self) -> None:
        """Quick-stop both drives."""
        self._halted = True
        if not self._drives:
            raise OSError("CAN: not open")
        for drive in self._drives:
            self._write(drive.node, CIA_CONTROLWORD, cia402.QUICK_STOP)

    def recover(self) -> None:
        """Enable both drives again."""
        self._halted = False
        self._enable(time.monotonic() + 1.0)

    def close(self) -> None:
        """Stop, disable, disconnect."""
        network, self._network = self._network, None
        if network is None:
            return
        for drive in self._drives:
            with contextlib.suppress(OSError):
                self._write(drive.node, CIA_TARGET_VELOCITY, 0)
                self._write(drive.node, CIA_CONTROLWORD, cia402.SHUTDOWN)
        self._drives = []
        with contextlib.suppress(OSError, can.CanError):
            network.disconnect()

    def _enable(self, end: float) -> None:
        for drive in self._drives:
            node = drive.node
            self._write(node, CIA_TARGET_VELOCITY, 0)
            while (state := self._state(node)) is not State.ENABLED:
                self._beat()
                if time.monotonic() > end:
                    raise DeviceSilentError(
                        self.name, f"state of node {node.id}", str(state),
                        f"the drive does not enable (error {self._read(node, CIA_ERROR_CODE) or 0:#06x}): see its manual",
                    )  # fmt: skip
                word = cia402.towards_enabled(state)
                if word is not None:
                    self._write(node, CIA_CONTROLWORD, word)
            drive.state = state

    def _state(self, node: Any) -> State | None:
        word = self._read(node, CIA_STATUSWORD)
        return None if word is None else cia402.state_of(word)

    def _ask_slow(self) -> None:
        if time.monotonic() - self._slow_s < SLOW_S:
            return
        self._slow_s = time.monotonic()
        for drive in self._drives:
            for index in drive.slow:
                drive.values[index] = self._read(drive.node, index)

    def _wheel(self, drive: _Drive, side: str) -> Wheel:
        values = drive.values
        position, velocity, status = (values[index] or 0 for index in (CIA_POSITION, CIA_VELOCITY, CIA_STATUSWORD))
        permille, rated = values.get(CIA_TORQUE_PERMILLE), drive.rated_nm
        torque = None if permille is None or rated is None else drive.sign * permille / 1000 * rated
        return Wheel(
            drive.sign * position / self._per_rad,
            self.doubts.believe(f"{side} velocity_rad_s", drive.sign * velocity / self._speed_per_rad_s, "velocity_rad_s"),
            self.doubts.believe(f"{side} torque_nm", torque, "torque_nm"),
            self._fault(drive, cia402.state_of(status)),
        )

    def _fault(self, drive: _Drive, state: State | None) -> str:
        """Return what a drive complains about; its error code is asked for when its state changes."""
        before, drive.state = drive.state, state
        if state is State.ENABLED or self._halted:
            return ""
        if state not in {State.FAULT, State.REACTING}:
            return f"node {drive.node.id}: {state}: it has stopped by itself; engage and release the emergency stop"
        if state is not before or drive.error is None:
            drive.error = self._read(drive.node, CIA_ERROR_CODE)
        return f"node {drive.node.id}: {state}, error {drive.error or 0:#06x}"

    def _beat(self) -> None:
        self._send(CANOPEN_HEARTBEAT_COB + OUR_NODE, CANOPEN_BEAT_OPERATIONAL)

    def _send(self, cob_id: int, data: bytes) -> None:
        try:
            self._network.send_message(cob_id, data)
        except can.CanError as error:
            raise OSError(f"CAN: {error}") from error

    def _read(self, node: Any, index: int) -> int | None:
        """Return an object's value; None if the drive has none, or says nothing in time."""
        try:
            return int(node.sdo[index].raw)
        except SdoError:
            return None
        except can.CanError as error:
            raise OSError(f"CAN: {error}") from error

    def _write(self, node: Any, index: int, value: int, sub: int = 0) -> None:
        try:
            (node.sdo[index][sub] if sub else node.sdo[index]).raw = value
        except (SdoError, can.CanError) as error:
            raise OSError(f"node {node.id}: {index:#06x} = {value}: {error}") from error


def standard_dictionary() -> Any:
    """Return an object dictionary of the objects used here, with the types of IEC 61800-7-201 and CiA 301."""
    kinds = canopen.objectdictionary
    entries = {
        CIA_CONTROLWORD: kinds.UNSIGNED16, CIA_STATUSWORD: kinds.UNSIGNED16, CIA_ERROR_CODE: kinds.UNSIGNED16,
        CIA_MODE: kinds.INTEGER8, CIA_POSITION: kinds.INTEGER32, CIA_VELOCITY: kinds.INTEGER32,
        CIA_TORQUE_PERMILLE: kinds.INTEGER16, CIA_DC_LINK_MV: kinds.UNSIGNED32, CIA_RATED_TORQUE_MNM: kinds.UNSIGNED32,
        CIA_TARGET_VELOCITY: kinds.INTEGER32, CIA_ABORT_OPTION: kinds.INTEGER16,
    }  # fmt: skip
    dictionary = kinds.ObjectDictionary()
    for index, kind in entries.items():
        variable = kinds.ODVariable(f"object {index:04X}", index)
        variable.data_type, variable.access_type = kind, "rw"
        dictionary.add_object(variable)
    heartbeat = kinds.ODArray("consumer heartbeat time", CANOPEN_CONSUMER_HEARTBEAT)
    for sub, kind in ((0, kinds.UNSIGNED8), (1, kinds.UNSIGNED32)):
        member = kinds.ODVariable(f"sub {sub}", CANOPEN_CONSUMER_HEARTBEAT, sub)
        member.data_type, member.access_type = kind, "rw"
        heartbeat.add_member(member)
    dictionary.add_object(heartbeat)
    return dictionary
