"""The velocity base over any pair of wheels: one thread per bus, dead-man, limits, odometry, counters that never fall."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from fleet_market.body import Battery, DriverSpec, Fault, Link, Motor, Pose, Telemetry
from fleet_market_hardware.bases.geometry import Fence, Geometry
from fleet_market_hardware.bases.odometry import Odometry
from fleet_market_hardware.bases.wheels import Wheels, WheelsReading
from fleet_market_hardware.batteries.monitor import Monitor
from fleet_market_hardware.counters import Rising
from fleet_market_hardware.devices import DeviceSilentError, Doubt

PERIOD_S = 0.05
"""Time between two exchanges with the wheels: 20 Hz."""
DEAD_MAN_S = 0.2
"""The wheels are told to stop no later than this after the last command, whatever `valid_s` it asked for."""
STALE_S = 0.5
"""Telemetry older than this comes over a link that is STALE."""
REOPEN_S = 1.0
"""Time between two attempts to open a bus that has gone."""
MOVING_MPS, MOVING_RADPS = 0.01, 0.02
NOBODY = "nothing has opened it"
Action = Callable[[str, float], Awaitable[None]]
"""Does something with a parcel of a mass, kilograms; returns when it is done."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the base never exceeds, whoever asks: SI units."""

    speed_mps: float
    accel_mps2: float
    yaw_rate_radps: float
    yaw_accel_radps2: float
    fence: Fence | None = None


class Differential:
    """Two wheels as a base. Implements `fleet_market.ports.VelocityBase`.

    Its pose is dead reckoning from `start`: derived, not measured. `place` tells it where it really is.

    Parameters
    ----------
    wheels : Wheels
    spec : DriverSpec
    geometry : Geometry
    limits : Limits
    gauge : Monitor, optional
        What reads the battery; without one the battery is what the motor controllers tell of it.
    actions : mapping of str to Action, optional
        What does an action of the body, by its kind.
    start : Pose, optional
    """

    def __init__(
        self,
        wheels: Wheels,
        spec: DriverSpec,
        geometry: Geometry,
        limits: Limits,
        *,
        gauge: Monitor | None = None,
        actions: Mapping[str, Action] | None = None,
        start: Pose | None = None,
    ) -> None:
        self.spec, self.limits = spec, limits
        self._wheels, self._geometry, self._gauge = wheels, geometry, gauge
        self._odometry = Odometry(geometry, start or Pose(0.0, 0.0), 3 * limits.speed_mps / geometry.wheel_radius_m)
        self._energy, self._actions = Rising(), actions or {}
        self._wanted = (0.0, 0.0, -math.inf)
        self._now = (0.0, 0.0)
        self._estop = self._halted = False
        self._shown = Telemetry(0, 0, Link.LOST)
        self._trouble = NOBODY
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once telemetry exists.

        Raises
        ------
        DeviceError
            If the device cannot be had, or is not the one that was meant.
        DeviceSilentError
            If it does not speak in time; a `TimeoutError` too.
        """
        if self._thread is not None:
            return
        begun, before = time.monotonic(), self._shown.seq
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        try:
            await asyncio.to_thread(self._wheels.open, timeout_s)
            if self._gauge is not None:
                await asyncio.to_thread(self._gauge.open, timeout_s)
        except BaseException:
            self._wheels.close()  # no motor stays on for an opening that failed
            raise
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name=self._wheels.name, daemon=True)
        self._thread.start()
        try:
            await self.next_telemetry(before, timeout_s=max(0.1, timeout_s - (time.monotonic() - begun)))
        except TimeoutError:
            await self.close()
            raise DeviceSilentError(
                self._wheels.name, "telemetry", None, f"nothing within {timeout_s:g} s ({self._trouble or 'silent'})"
            ) from None

    async def close(self) -> None:
        """Stop and disconnect."""
        thread, self._thread = self._thread, None
        self._wanted = (0.0, 0.0, -math.inf)
        if thread is None:
            return
        self._ending.set()
        await asyncio.to_thread(thread.join, 2 * self._wheels.exchange_s + 2 * REOPEN_S)
        if self._gauge is not None:
            await asyncio.to_thread(self._gauge.close)
        self._trouble = NOBODY

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot; one of more than 0.5 s ago comes over a link that is STALE."""
        shown = self._shown
        if shown.link is Link.UP and time.monotonic_ns() - shown.stamp_ns > STALE_S * 1e9:
            return replace(shown, link=Link.STALE)
        return shown

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for a snapshot with `seq` greater than `after`; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self._shown.seq <= after:
                self._news.clear()
                await self._news.wait()
        return self.telemetry()

    async def drive(self, vx: float, wz: float, *, valid_s: float) -> None:
        """Take a command; it ends after `valid_s`, and after 0.2 s at the latest. Nothing moves under emergency stop."""
        if not (math.isfinite(vx) and math.isfinite(wz)):
            raise ValueError(f"vx and wz must be finite, were {vx} and {wz}")
        # What is late by one exchange and its wait would be late by more than the dead-man allows.
        valid_s = min(valid_s, DEAD_MAN_S - PERIOD_S)
        self._wanted = (vx, wz, time.monotonic() + valid_s)

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:
        """Do an action of the body; raises `ValueError` if it has none of this kind."""
        if kind not in self._actions:
            raise ValueError(f"kind must be one of {sorted(self._actions)}, was {kind!r}")
        await self._actions[kind](parcel, mass_kg)

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release an emergency stop of the wheels; survives a reconnection. Not a safety function (ISO 3691-4)."""
        self._estop = engage

    def place(self, pose: Pose) -> None:
        """Take it that the robot is at `pose` now."""
        self._odometry.pose = pose

    def doubts(self) -> tuple[Doubt, ...]:
        """Return what devices told and nobody should believe."""
        gauge = () if self._gauge is None else self._gauge.doubts()
        return self._wheels.doubts.all() + gauge

    def trouble(self) -> str:
        """Return what is wrong with the bus or a controller; empty if nothing."""
        return self._trouble

    # --- in the thread of the bus ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._ending.is_set():
                try:
                    self._exchange()
                except OSError as error:
                    self._lose(error)
                due = max(due + PERIOD_S, time.monotonic() - PERIOD_S)
                self._ending.wait(max(0.0, due - time.monotonic()))
        finally:
            self._wheels.close()

    def _exchange(self) -> None:
        engage = self._estop
        if engage != self._halted:
            (self._wheels.halt if engage else self._wheels.recover)()
            self._halted = engage
        self._now = (0.0, 0.0) if engage else self._slew(self._aim())
        reading = self._wheels.exchange(*self._geometry.wheel_rates(*self._now))
        if reading is not None:
            self._trouble = reading.left.fault or reading.right.fault
            self._show(reading)

    def _aim(self) -> tuple[float, float]:
        """Return what the wheels should do now: the command while it is valid, inside of every limit."""
        vx, wz, until = self._wanted
        if time.monotonic() >= until:
            return 0.0, 0.0
        most, turn = self.limits.speed_mps, self.limits.yaw_rate_radps
        vx, wz = max(-most, min(most, vx)), max(-turn, min(turn, wz))
        fence = self.limits.fence
        if fence is not None:
            at = max(abs(vx), abs(self._now[0]))
            stopping_m = at**2 / (2 * self.limits.accel_mps2) + at * DEAD_MAN_S
            if not fence.allows(self._odometry.pose, vx or self._now[0], stopping_m):
                return 0.0, wz if fence.holds(self._odometry.pose.x, self._odometry.pose.y) else 0.0
        return vx, wz

    def _slew(self, aim: tuple[float, float]) -> tuple[float, float]:
        """Go from the present command to `aim` no faster than the base may speed up and brake."""
        if aim == (0.0, 0.0) and not self._shown.moving:
            return aim  # a robot that was held must not start when it is let go
        steps = self.limits.accel_mps2 * PERIOD_S, self.limits.yaw_accel_radps2 * PERIOD_S
        vx, wz = (now + max(-step, min(step, want - now)) for now, want, step in zip(self._now, aim, steps, strict=True))
        return vx, wz

    def _lose(self, error: OSError) -> None:
        """Close a bus that has gone, wait, and try to open it again."""
        self._trouble = f"{self._wheels.name}: {error}"
        self._now = (0.0, 0.0)
        self._wheels.close()
        self._odometry.forget()
        if self._ending.wait(REOPEN_S):
            return
        try:
            self._wheels.open(REOPEN_S)
        except (OSError, ValueError) as still:
            self._trouble = f"{self._wheels.name}: {still}"

    def _show(self, reading: WheelsReading) -> None:
        odometry = self._odometry
        vx, wz = odometry.take(reading, time.monotonic())
        if odometry.frozen:
            self._trouble = f"{self._wheels.name}: tells a speed, and its counters stand: check the encoders"
        own = Battery(
            reading.soc, reading.voltage_v, reading.current_a, reading.temperature_c,
            None if reading.energy_out_j is None else self._energy.read(reading.energy_out_j), reading.charging,
        )  # fmt: skip
        self._shown = Telemetry(
            seq=self._shown.seq + 1,
            stamp_ns=time.monotonic_ns(),
            link=Link.UP,
            pose=odometry.pose,
            vx=vx,
            wz=wz,
            odometer_m=odometry.odometer_m,
            battery=own if self._gauge is None else self._gauge.over(own),
            motors=tuple(
                Motor(name, turns, wheel.velocity_rad_s, wheel.torque_nm)
                for name, turns, wheel in zip(("left", "right"), odometry.turns, (reading.left, reading.right), strict=True)
            ),
            moving=abs(vx) > MOVING_MPS or abs(wz) > MOVING_RADPS,
            silent=() if self._gauge is None or self._gauge.fresh() else ("battery",),
            faults=self._faults(reading),
        )
        self._tell(self._news.set)

    def _faults(self, reading: WheelsReading) -> tuple[Fault, ...]:
        """Return what the robot cannot drive with: a controller's fault, an encoder that stands still."""
        told = {"left_wheel": reading.left.fault, "right_wheel": reading.right.fault}
        if self._odometry.frozen:
            told["encoders"] = "they stand while the wheels turn"
        return tuple(Fault(code, "CRITICAL", text) for code, text in told.items() if text)

    def _tell(self, call: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call)
