"""Two axes of ODrives on one CAN bus (python-can, CANSimple).

The device's own dead-man is its watchdog: set ``axis.config.enable_watchdog`` and ``watchdog_timeout = 0.15`` on each axis
with odrivetool; every velocity command feeds it. This driver cannot set it over CANSimple, nor see whether it is set.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import Any

import can

from fleet_market.errors import ProtocolError
from fleet_market_hardware.bases.wheels import Wheel, WheelsReading
from fleet_market_hardware.codecs import cansimple
from fleet_market_hardware.codecs.cansimple import Heartbeat, Pair
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.tables import (
    ODRIVE_CLOSED_LOOP,
    ODRIVE_IDLE,
    ODRIVE_INPUT_PASSTHROUGH,
    ODRIVE_MAX_NODE,
    ODRIVE_VELOCITY_CONTROL,
    ODrive,
)

MAX_FRAMES = 2000
"""Frames taken in one exchange: a bus at 1 Mbit/s carries less in 0.1 s."""
RECV_S = 0.05
ASK_S = 0.5
"""Values that an axis does not send by itself are asked for this often."""
FRESH_S = 2.0
"""What an axis has not said for longer is not known any more."""
ASKED = (ODrive.BUS_VOLTAGE_CURRENT, ODrive.TORQUES, ODrive.TEMPERATURE)


@dataclass(slots=True)
class _Axis:
    node: int
    sign: float
    heartbeat: Heartbeat | None = None
    pairs: dict[int, tuple[float, Pair]] = field(default_factory=dict)
    """By command: when it came, and what it said."""
    beat_s: float = 0.0
    fresh: bool = False


class ODriveWheels:
    """Implements `fleet_market_hardware.bases.Wheels`.

    Parameters
    ----------
    channel, interface : str
        As python-can names them, e.g. ``can0`` and ``socketcan``.
    left, right : int
        Node ids of the axes.
    gear_ratio : float
        Turns of the motor per turn of the wheel.
    invert_left, invert_right : bool
        Whether the wheel drives backward when its motor turns forward.
    one_board : bool
        Whether both axes are on one board (ODrive 3.6): each then tells the current of the board.
    options : dict, optional
        Further arguments of `can.Bus`, e.g. ``{"bitrate": 250000}``.
    """

    exchange_s = 0.5

    def __init__(
        self,
        channel: str,
        *,
        interface: str = "socketcan",
        left: int = 0,
        right: int = 1,
        gear_ratio: float = 1.0,
        invert_left: bool = False,
        invert_right: bool = True,
        one_board: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.name = f"odrive {interface} {channel}"
        if left == right:
            raise DeviceError(self.name, "right", right, "give the two axes different node ids")
        for side, node in (("left", left), ("right", right)):
            if not 0 <= node <= ODRIVE_MAX_NODE:
                raise DeviceError(self.name, side, node, f"use a node id of 0 to {ODRIVE_MAX_NODE}")
        self.doubts = Doubts(self.name)
        self._channel, self._interface, self._options = channel, interface, options or {}
        self._left = _Axis(left, -1.0 if invert_left else 1.0)
        self._right = _Axis(right, -1.0 if invert_right else 1.0)
        self._one_board = one_board
        self._rate = gear_ratio / math.tau
        self._bus: Any = None
        self._strangers: set[int] = set()
        self._asked_s = -math.inf
        self._halted = False

    @property
    def _axes(self) -> tuple[_Axis, _Axis]:
        return self._left, self._right

    def open(self, timeout_s: float) -> None:
        """Connect, wait for both heartbeats, take velocity control."""
        if self._bus is None:
            try:
                self._bus = can.Bus(channel=self._channel, interface=self._interface, **self._options)
            except (OSError, ValueError, TypeError, can.CanError) as error:
                raise DeviceError(
                    self.name, "channel", self._channel,
                    f"use a CAN interface that is up (ip link set {self._channel} up type can bitrate 250000): {error}",
                ) from error  # fmt: skip
        end = time.monotonic() + timeout_s
        for axis in self._axes:
            axis.heartbeat, axis.fresh = None, False
        self._until(end, lambda axis: axis.heartbeat is not None, "heartbeat")
        if self._halted:
            return
        self._enable()
        self._until(
            end,
            lambda axis: axis.heartbeat is not None and axis.heartbeat.state == ODRIVE_CLOSED_LOOP,
            "closed loop control",
        )

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both axes and take what they have sent."""
        for axis, rate in zip(self._axes, (left_rad_s, right_rad_s), strict=True):
            self._send(axis, ODrive.SET_INPUT_VEL, cansimple.set_input_vel(axis.sign * rate * self._rate))
        if time.monotonic() - self._asked_s > ASK_S:
            self._asked_s = time.monotonic()
            for axis in self._axes:
                for command in ASKED:
                    self._send(axis, command, None)
        self._take(0.0)
        if not (self._left.fresh and self._right.fresh):
            return None
        self._left.fresh = self._right.fresh = False
        bus = _recent(self._left, ODrive.BUS_VOLTAGE_CURRENT)
        other = bus if self._one_board else _recent(self._right, ODrive.BUS_VOLTAGE_CURRENT)
        voltage = None if bus is None else self.doubts.believe("voltage_v", bus.first)
        drawn = None
        if voltage is not None and bus is not None and other is not None:
            drawn = -bus.second if self._one_board else -bus.second - other.second
        return WheelsReading(
            self._wheel("left", self._left),
            self._wheel("right", self._right),
            voltage_v=voltage,
            current_a=self.doubts.believe("current_a", drawn),
        )

    def halt(self) -> None:
        """Send both axes into their emergency stop: they disarm."""
        self._halted = True
        for axis in self._axes:
            self._send(axis, ODrive.ESTOP, b"")

    def recover(self) -> None:
        """Clear the error that the stop has left, and take control again."""
        self._halted = False
        for axis in self._axes:
            self._send(axis, ODrive.CLEAR_ERRORS, bytes(8))
        self._enable()

    def close(self) -> None:
        """Stop, disarm, disconnect."""
        bus, self._bus = self._bus, None
        if bus is None:
            return
        with contextlib.suppress(OSError, can.CanError):
            for axis in self._axes:
                for command, data in (
                    (ODrive.SET_INPUT_VEL, cansimple.set_input_vel(0.0)),
                    (ODrive.SET_AXIS_STATE, cansimple.set_axis_state(ODRIVE_IDLE)),
                ):
                    bus.send(_message(axis.node, command, data), timeout=RECV_S)
        with contextlib.suppress(OSError, can.CanError):
            bus.shutdown()

    def _enable(self) -> None:
        mode = cansimple.set_controller_mode(ODRIVE_VELOCITY_CONTROL, ODRIVE_INPUT_PASSTHROUGH)
        for axis in self._axes:
            self._send(axis, ODrive.SET_CONTROLLER_MODE, mode)
            self._send(axis, ODrive.SET_INPUT_VEL, cansimple.set_input_vel(0.0))
            self._send(axis, ODrive.SET_AXIS_STATE, cansimple.set_axis_state(ODRIVE_CLOSED_LOOP))

    def _until(self, end: float, ready: Any, what: str) -> None:
        while not all(ready(axis) for axis in self._axes):
            if time.monotonic() > end:
                missing = [axis.node for axis in self._axes if not ready(axis)]
                errors = [f"axis error {a.heartbeat.error:#x}" for a in self._axes if a.heartbeat and a.heartbeat.error]
                seen = f"; heard node ids {sorted(self._strangers)}: use those" if self._strangers else ""
                quiet = "; check power, bit rate and termination" if not self._strangers and not errors else ""
                raise DeviceSilentError(
                    self.name, "node", missing, f"no {what} in time{seen}{quiet}{'; ' if errors else ''}{', '.join(errors)}"
                )
            self._take(RECV_S)

    def _take(self, wait_s: float) -> None:
        """Take the frames that are there; wait for the first one `wait_s` at most."""
        for _ in range(MAX_FRAMES):
            try:
                message = self._bus.recv(timeout=wait_s)
            except can.CanError as error:
                raise OSError(f"CAN: {error}") from error
            if message is None:
                return
            wait_s = 0.0
            if message.is_error_frame:
                self._check_bus()
            elif not (message.is_extended_id or message.is_remote_frame):
                self._heard(message.arbitration_id, bytes(message.data))

    def _heard(self, identifier: int, data: bytes) -> None:
        node, command = cansimple.split_id(identifier)
        axis = next((axis for axis in self._axes if axis.node == node), None)
        if axis is None:
            if command == ODrive.HEARTBEAT:
                self._strangers.add(node)
            return
        try:
            told = cansimple.decode(command, data)
        except ProtocolError as error:
            self.doubts.say(f"node {node} command {command:#04x}", math.nan, error.detail)
            return
        if isinstance(told, Heartbeat):
            axis.heartbeat, axis.beat_s = told, time.monotonic()
        elif told is not None:
            axis.pairs[command] = time.monotonic(), told
            axis.fresh |= command == ODrive.ENCODER_ESTIMATES

    def _wheel(self, side: str, axis: _Axis) -> Wheel:
        estimates, torques = axis.pairs[ODrive.ENCODER_ESTIMATES][1], _recent(axis, ODrive.TORQUES)
        temperature = _recent(axis, ODrive.TEMPERATURE)
        if temperature is not None:
            self.doubts.believe(f"{side} motor_temperature_c", temperature.second, "motor_temperature_c")
        torque = None if torques is None else axis.sign * torques.second * self._rate * math.tau
        heartbeat = axis.heartbeat
        fault = "" if heartbeat is None or not heartbeat.error else f"node {axis.node}: axis error {heartbeat.error:#x}"
        if time.monotonic() - axis.beat_s > FRESH_S:
            fault = f"node {axis.node}: no heartbeat for {FRESH_S:g} s"
        return Wheel(
            axis.sign * estimates.first / self._rate,
            self.doubts.believe(f"{side} velocity_rad_s", axis.sign * estimates.second / self._rate, "velocity_rad_s"),
            self.doubts.believe(f"{side} torque_nm", torque, "torque_nm"),
            fault,
        )

    def _send(self, axis: _Axis, command: ODrive, data: bytes | None) -> None:
        if self._bus is None:
            raise OSError("CAN: not open")
        try:
            self._bus.send(_message(axis.node, command, data), timeout=RECV_S)
        except can.CanError as error:
            self._check_bus()
            raise OSError(f"CAN: {error}") from error

    def _check_bus(self) -> None:
        """Raise if the controller has left the bus."""
        with contextlib.suppress(NotImplementedError):
            if self._bus.state is can.BusState.ERROR:
                raise OSError("CAN: bus off: check bit rate, wiring and termination, then restart the interface")


def _recent(axis: _Axis, command: ODrive) -> Pair | None:
    """Return what the axis said lately; None if it has not said it for `FRESH_S`."""
    when, pair = axis.pairs.get(command, (-math.inf, None))
    return pair if time.monotonic() - when < FRESH_S else None


def _message(node: int, command: ODrive, data: bytes | None) -> can.Message:
    return can.Message(
        arbitration_id=cansimple.arbitration_id(node, command),
        data=data,
        is_extended_id=False,
        is_remote_frame=data is None,
        dlc=8 if data is None else None,
    )
