"""iRobot Create 2 on a serial port, over its sensor stream.

The Create 2 has NO dead-man of its own: told a speed, it drives on when its computer dies. Safe mode stops it at a cliff,
when a wheel drops and when it charges, not for silence. This driver's dead-man lives in its thread: kill -9 does not stop
the robot.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from typing import Any

from fleet_market_hardware.bases.serial_port import READ_S, open_port
from fleet_market_hardware.bases.wheels import Wheel, WheelsReading
from fleet_market_hardware.codecs import create2
from fleet_market_hardware.devices import DeviceSilentError, Doubts
from fleet_market_hardware.tables import (
    CREATE_CHARGING,
    CREATE_COUNTS_PER_TURN,
    CREATE_DRIVING_MODES,
    CREATE_GROUP,
    CREATE_WHEEL_RADIUS_M,
    Create,
)

BAUD = 115_200
READ_BYTES = 4096
WRAP = 1 << 16
STREAM_S = 0.015
"""Time between two packets, by the robot's clock."""
AVERAGED = 5
"""Readings that a speed is averaged over: one count is 3 % of 0.5 m/s in one packet."""


class Create2Wheels:
    """Implements `fleet_market_hardware.bases.Wheels`. A Create 2 has no torque sensor: motors tell currents only.

    Parameters
    ----------
    port : str
        Serial port.
    """

    exchange_s = 0.1

    def __init__(self, port: str, *, baud: int = BAUD) -> None:
        self.name = f"create2 {port}"
        self.doubts = Doubts(self.name)
        self._port, self._baud = port, baud
        self._serial: Any = None
        self._stream = create2.Destreamer()
        self._counts: tuple[int, int] | None = None
        self._angles = [0.0, 0.0]
        self._halted = False
        self._bytes = self._packets = 0
        self._path: deque[tuple[float, float, int]] = deque(maxlen=AVERAGED)

    def open(self, timeout_s: float) -> None:
        """Connect, take control in safe mode, start the stream."""
        self.close()
        self._serial, self._stream = open_port(self.name, self._port, self._baud), create2.Destreamer()
        self._counts, self._bytes = None, 0
        self._path.clear()
        self._serial.write(bytes((Create.START, Create.SAFE, Create.STREAM, 1, CREATE_GROUP)))
        end = time.monotonic() + timeout_s
        while self._newest() is None:
            if time.monotonic() > end:
                heard = self._bytes
                self.close()
                if heard:
                    raise DeviceSilentError(
                        self.name,
                        "baud",
                        self._baud,
                        f"{heard} bytes came and no packet: use 115200, or 19200 after a reset",
                    )
                raise DeviceSilentError(self.name, "port", self._port, "no answer: switch the robot on, check the cable")

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both wheels and take the newest packet."""
        speeds = [0.0 if self._halted else rate * CREATE_WHEEL_RADIUS_M * 1000 for rate in (left_rad_s, right_rad_s)]
        self._write(create2.drive_direct(*speeds))
        told = self._newest()
        if told is None:
            return None
        self._turn(told)
        rates = self._rates()
        over = told.over_current
        faults = ["over current" if over & bit else "" for bit in (0x10, 0x08)]
        if told.mode not in CREATE_DRIVING_MODES:
            faults[0] = "not in safe mode: a cliff, a lifted wheel or the charger has ended it"
        soc = None
        if told.capacity_ah > 0:
            soc = self.doubts.believe("soc", told.charge_ah / told.capacity_ah)
        return WheelsReading(
            Wheel(self._angles[0], rates[0], fault=faults[0]),
            Wheel(self._angles[1], rates[1], fault=faults[1]),
            voltage_v=self.doubts.believe("voltage_v", told.voltage_v),
            current_a=self.doubts.believe("current_a", told.current_a),
            soc=soc,
            temperature_c=self.doubts.believe("temperature_c", told.temperature_c),
            charging=told.charging_state in CREATE_CHARGING,
        )

    def halt(self) -> None:
        """Stand still from now on."""
        self._halted = True
        self._write(create2.drive_direct(0, 0))

    def recover(self) -> None:
        """Take speeds again, in safe mode."""
        self._halted = False
        self._write(bytes((Create.SAFE,)))

    def close(self) -> None:
        """Stop, and end the Open Interface."""
        port, self._serial = self._serial, None
        if port is None:
            return
        with contextlib.suppress(OSError):
            port.write(create2.drive_direct(0, 0) + bytes((Create.STREAM_PAUSE, 0, Create.STOP)))
        with contextlib.suppress(OSError):
            port.close()

    def _write(self, data: bytes) -> None:
        if self._serial is None:
            raise OSError("the port is not open")
        self._serial.write(data)

    def _newest(self) -> create2.Sensors | None:
        """Return the newest whole packet that has come; None if none has."""
        end, packets = time.monotonic() + READ_S, []
        while time.monotonic() < end:
            data = self._serial.read(max(1, min(READ_BYTES, self._serial.in_waiting)))
            self._bytes += len(data)
            packets += self._stream.feed(data)
        self._packets += len(packets)
        return create2.decode(packets[-1]) if packets else None

    def _turn(self, told: create2.Sensors) -> None:
        """Follow the 16-bit counters over their wrap; half of a wrap is 14 m, far more than between two packets."""
        counts = told.left_counts, told.right_counts
        if self._counts is not None:
            for side in (0, 1):
                step = (counts[side] - self._counts[side] + WRAP // 2) % WRAP - WRAP // 2
                self._angles[side] += step * math.tau / CREATE_COUNTS_PER_TURN
        self._counts = counts

    def _rates(self) -> tuple[float, float]:
        """Return the rates of both wheels over the last readings, by the robot's clock: packets arrive unevenly."""
        self._path.append((self._angles[0], self._angles[1], self._packets))
        left, right, at = self._path[0]
        dt = max(1, self._packets - at) * STREAM_S
        return (self._angles[0] - left) / dt, (self._angles[1] - right) / dt
