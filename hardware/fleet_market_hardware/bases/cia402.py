"""Two CiA 402 servo drives on CANopen (`canopen`), in profile velocity mode, over SDO.

The device's own dead-man: each drive is told to expect our heartbeat (0x1016) and to quick-stop when it stays away
(0x6007 = 3). A drive without these objects is used all the same, and says so in `doubts`.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import can
import canopen
from canopen.sdo.exceptions import SdoError

from fleet_market_hardware.bases.wheels import Wheel, WheelsReading
from fleet_market_hardware.codecs import cia402
from fleet_market_hardware.codecs.cia402 import State
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.tables import (
    CANOPEN_CONSUMER_HEARTBEAT,
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

SDO_S = 0.05
"""An answer that takes longer is a failure."""
HEARTBEAT_MS, HEARTBEAT_LIMIT_MS = 50, 150
OUR_NODE = 0x7F
MAX_NODE = 127


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

    exchange_s = 12 * SDO_S

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
        self._nodes: list[Any] = []
        self._rated_nm: list[float | None] = [None, None]
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
        try:
            self._nodes = [network.add_node(node, self._dictionary()) for node in self._ids]
            end = time.monotonic() + timeout_s
            for number, node in enumerate(self._nodes):
                node.sdo.RESPONSE_TIMEOUT = SDO_S
                self._set_up(number, node, end)
            network.send_message(0x700 + OUR_NODE, b"\x05")
            network.send_periodic(0x700 + OUR_NODE, b"\x05", HEARTBEAT_MS / 1000)
            if not self._halted:
                self._enable(end)
        except BaseException:
            self.close()
            raise

    def _dictionary(self) -> Any:
        if self._eds is None:
            return standard_dictionary()
        if not Path(self._eds).is_file():
            raise DeviceError(self.name, "eds", self._eds, "no such file: name the EDS of the drive's maker, or none")
        return canopen.import_od(self._eds)

    def _set_up(self, number: int, node: Any, end: float) -> None:
        while self._read(node, CIA_STATUSWORD) is None:
            if time.monotonic() > end:
                raise DeviceSilentError(
                    self.name, "node", self._ids[number], "no answer: check node id, bit rate, termination and power"
                )
        node.nmt.state = "OPERATIONAL"
        self._write(node, CIA_MODE, CIA_PROFILE_VELOCITY)
        rated = self._read(node, CIA_RATED_TORQUE_MNM)
        self._rated_nm[number] = None if rated is None else rated / 1000
        try:
            self._write(node, CANOPEN_CONSUMER_HEARTBEAT, OUR_NODE << 16 | HEARTBEAT_LIMIT_MS, 1)
            self._write(node, CIA_ABORT_OPTION, CIA_ABORT_QUICK_STOP)
        except OSError:
            self.doubts.say(
                f"node {self._ids[number]} heartbeat",
                math.nan,
                "the drive does not watch for us: it has no dead-man of its own",
            )

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both drives and ask them."""
        if self._network is None:
            raise OSError("CAN: not open")
        wheels = []
        for number, rate in enumerate((left_rad_s, right_rad_s)):
            node, sign = self._nodes[number], self._signs[number]
            self._write(node, CIA_TARGET_VELOCITY, round(sign * rate * self._speed_per_rad_s))
            wheel = self._wheel(number, node, sign)
            if wheel is None:
                return None
            wheels.append(wheel)
        millivolts = self._read(self._nodes[0], CIA_DC_LINK_MV)
        volts = None if millivolts is None else self.doubts.believe("voltage_v", millivolts / 1000)
        return WheelsReading(wheels[0], wheels[1], voltage_v=volts)

    def halt(self) -> None:
        """Quick-stop both drives."""
        self._halted = True
        if not self._nodes:
            raise OSError("CAN: not open")
        for node in self._nodes:
            self._write(node, CIA_CONTROLWORD, cia402.QUICK_STOP)

    def recover(self) -> None:
        """Enable both drives again."""
        self._halted = False
        self._enable(time.monotonic() + 1.0)

    def close(self) -> None:
        """Stop, disable, disconnect."""
        network, self._network = self._network, None
        if network is None:
            return
        for node in self._nodes:
            with contextlib.suppress(OSError):
                self._write(node, CIA_TARGET_VELOCITY, 0)
                self._write(node, CIA_CONTROLWORD, cia402.SHUTDOWN)
        self._nodes = []
        with contextlib.suppress(OSError, can.CanError):
            network.disconnect()

    def _enable(self, end: float) -> None:
        for number, node in enumerate(self._nodes):
            self._write(node, CIA_TARGET_VELOCITY, 0)
            while (state := self._state(node)) is not State.ENABLED:
                if time.monotonic() > end:
                    raise DeviceSilentError(
                        self.name, f"state of node {self._ids[number]}", str(state),
                        f"the drive does not enable (error {self._read(node, CIA_ERROR_CODE) or 0:#06x}): see its manual",
                    )  # fmt: skip
                word = cia402.towards_enabled(state)
                if word is not None:
                    self._write(node, CIA_CONTROLWORD, word)

    def _state(self, node: Any) -> State | None:
        word = self._read(node, CIA_STATUSWORD)
        return None if word is None else cia402.state_of(word)

    def _wheel(self, number: int, node: Any, sign: float) -> Wheel | None:
        position, velocity = self._read(node, CIA_POSITION), self._read(node, CIA_VELOCITY)
        if position is None or velocity is None:
            return None
        permille, rated = self._read(node, CIA_TORQUE_PERMILLE), self._rated_nm[number]
        torque = None if permille is None or rated is None else sign * permille / 1000 * rated
        fault, state = "", self._state(node)
        if state in {State.FAULT, State.REACTING}:
            fault = f"node {self._ids[number]}: {state}, error {self._read(node, CIA_ERROR_CODE) or 0:#06x}"
        side = ("left", "right")[number]
        return Wheel(
            sign * position / self._per_rad,
            self.doubts.believe(f"{side} velocity_rad_s", sign * velocity / self._speed_per_rad_s, "velocity_rad_s"),
            self.doubts.believe(f"{side} torque_nm", torque, "torque_nm"),
            fault,
        )

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
