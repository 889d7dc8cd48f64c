"""Two VESCs on one serial port: one at the port, the other behind it on its CAN bus (`COMM_FORWARD_CAN`).

The device's own dead-man is its timeout: set "App Settings / General / Timeout" to 150 ms and a brake current on each VESC
with VESC Tool (it ships with 1,000 ms). This driver cannot set it, nor see what it is.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

from fleet_market.errors import ProtocolError
from fleet_market_hardware.bases.serial_port import open_port
from fleet_market_hardware.bases.wheels import Wheel, WheelsReading
from fleet_market_hardware.codecs import vesc
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.tables import VESC_FAULTS, VESC_STEPS_PER_ELECTRICAL_TURN, Vesc

ANSWER_S = 0.04
"""An answer that takes longer is not waited for; at 115,200 baud its 80 bytes take 7 ms."""
READ_BYTES = 512
MAX_CAN_ID = 254


class VescWheels:
    """Implements `fleet_market_hardware.bases.Wheels`.

    Parameters
    ----------
    port : str
        Serial port, e.g. ``/dev/serial/by-id/...``.
    right_can_id : int
        CAN id of the VESC of the right wheel; the left one is at the port.
    pole_pairs : int
        Of the motors.
    gear_ratio : float
        Turns of the motor per turn of the wheel.
    torque_constant_nm_a : float, optional
        Of the motors; without one the torque is not known.
    brake_a : float
        Current of an emergency stop.
    """

    exchange_s = 3 * ANSWER_S

    def __init__(
        self,
        port: str,
        *,
        baud: int = 115_200,
        right_can_id: int = 1,
        pole_pairs: int = 7,
        gear_ratio: float = 1.0,
        torque_constant_nm_a: float | None = None,
        invert_left: bool = False,
        invert_right: bool = True,
        brake_a: float = 10.0,
    ) -> None:
        self.name = f"vesc {port}"
        if not 0 <= right_can_id <= MAX_CAN_ID:
            raise DeviceError(self.name, "right_can_id", right_can_id, f"use a CAN id of 0 to {MAX_CAN_ID}")
        self.doubts = Doubts(self.name)
        self._port, self._baud, self._right_id = port, baud, right_can_id
        self._signs = (-1.0 if invert_left else 1.0, -1.0 if invert_right else 1.0)
        self._erpm_per_rad_s = pole_pairs * gear_ratio * 60 / math.tau
        self._rad_per_step = math.tau / (VESC_STEPS_PER_ELECTRICAL_TURN * pole_pairs * gear_ratio)
        self._torque_per_a = None if torque_constant_nm_a is None else torque_constant_nm_a * gear_ratio
        self._brake_a = brake_a
        self._serial: Any = None
        self._deframer = vesc.Deframer()
        self._bytes = 0
        self._halted = False

    def open(self, timeout_s: float) -> None:
        """Connect, and wait until both VESCs have answered."""
        self.close()
        self._serial, self._deframer, self._bytes = open_port(self.name, self._port, self._baud), vesc.Deframer(), 0
        end = time.monotonic() + timeout_s
        for side, can_id in (("left", None), ("right", self._right_id)):
            while self._ask(can_id) is None:
                if time.monotonic() < end:
                    continue
                heard, junk = self._bytes, self._deframer.rejected
                self.close()
                if junk > heard // 2:
                    raise DeviceSilentError(
                        self.name, "baud", self._baud,
                        f"{heard} bytes came and few were VESC frames: use the rate of the VESC's UART app",
                    )  # fmt: skip
                if side == "right":
                    raise DeviceSilentError(
                        self.name,
                        "right_can_id",
                        self._right_id,
                        "the left VESC answers, this one does not: check id and CAN",
                    )
                raise DeviceSilentError(
                    self.name, "port", self._port, "no answer: check power and wires, enable the VESC's UART app"
                )

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both wheels and ask both VESCs."""
        for can_id, sign, rate in zip((None, self._right_id), self._signs, (left_rad_s, right_rad_s), strict=True):
            brake = vesc.set_current_brake(self._brake_a)
            self._write(can_id, brake if self._halted else vesc.set_erpm(sign * rate * self._erpm_per_rad_s))
        left, right = self._ask(None), self._ask(self._right_id)
        if left is None or right is None:
            return None
        drawn_a = -(left.input_current_a + right.input_current_a)
        return WheelsReading(
            self._wheel("left", left, self._signs[0]),
            self._wheel("right", right, self._signs[1]),
            voltage_v=self.doubts.believe("voltage_v", left.input_v),
            current_a=self.doubts.believe("current_a", drawn_a),
            energy_out_j=self.doubts.believe("energy_out_j", left.energy_out_j + right.energy_out_j),
        )

    def halt(self) -> None:
        """Brake with `brake_a` from now on."""
        self._halted = True

    def recover(self) -> None:
        """Take speeds again."""
        self._halted = False

    def close(self) -> None:
        """Let go of the motors and of the port."""
        port, self._serial = self._serial, None
        if port is None:
            return
        with contextlib.suppress(OSError):
            for can_id in (None, self._right_id):
                payload = vesc.set_current_brake(self._brake_a)
                port.write(vesc.frame(payload if can_id is None else vesc.forward(can_id, payload)))
        with contextlib.suppress(OSError):
            port.close()

    def _wheel(self, side: str, told: vesc.Values, sign: float) -> Wheel:
        self.doubts.believe(f"{side} fet temperature_c", told.fet_temperature_c, "temperature_c")
        self.doubts.believe(f"{side} motor_temperature_c", told.motor_temperature_c, "motor_temperature_c")
        code = told.fault
        text = VESC_FAULTS[code] if code < len(VESC_FAULTS) else "unknown"
        torque = None if self._torque_per_a is None else sign * told.motor_current_a * self._torque_per_a
        rate = sign * told.erpm / self._erpm_per_rad_s
        return Wheel(
            sign * told.tachometer * self._rad_per_step,
            self.doubts.believe(f"{side} velocity_rad_s", rate, "velocity_rad_s"),
            self.doubts.believe(f"{side} torque_nm", torque, "torque_nm"),
            f"{side} VESC: fault {code} ({text})" if code else "",
        )

    def _write(self, can_id: int | None, payload: bytes) -> None:
        if self._serial is None:
            raise OSError("the port is not open")
        self._serial.write(vesc.frame(payload if can_id is None else vesc.forward(can_id, payload)))

    def _ask(self, can_id: int | None) -> vesc.Values | None:
        """Ask one VESC; None if no whole answer of it came in time."""
        self._write(can_id, vesc.get_values())
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            data = self._serial.read(max(1, min(READ_BYTES, self._serial.in_waiting)))
            self._bytes += len(data)
            for payload in self._deframer.feed(data):
                if payload[0] != Vesc.GET_VALUES:
                    continue
                with contextlib.suppress(ProtocolError):
                    if self._is_from(can_id, told := vesc.decode_values(payload)):
                        return told
        return None

    def _is_from(self, can_id: int | None, told: vesc.Values) -> bool:
        """Return whether an answer is of the VESC that was asked, not a late one of the other."""
        if told.controller_id is None:
            return True
        return (told.controller_id == self._right_id) == (can_id is not None)
