"""A velocity base without physics, for tests that need none."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from fleet_market.body import Battery, DriverSpec, Link, Pose, Telemetry
from fleet_market.ids import RobotId

PERIOD_S = 0.05
STALE_S = 0.5


class KinematicBase:
    """A unicycle that runs as fast as it is read. Implements `fleet_market.ports.VelocityBase`.

    Its time passes when `next_telemetry` is awaited: a sample of 0.05 s each. It has acceleration limits and a dead-man in
    its own time. It does not model slip, obstacles, energy or a lossy link; `silent`, `stuck`, `deaf` and `broken_scale`
    switch faults on.
    """

    def __init__(self, pose: Pose, *, accel_mps2: float = 0.6, payload_kg: float | None = 0.0) -> None:
        measures = {"pose", "battery"} if payload_kg is None else {"pose", "battery", "payload"}
        self.spec = DriverSpec(
            RobotId("kinematic"), 1.2, 20.0, frozenset({"load", "unload", "charge"}), frozenset(measures)
        )
        self.silent = self.stuck = self.deaf = self.broken_scale = False
        self.driven = 0
        self._accel, self._pose, self._payload_kg = accel_mps2, pose, payload_kg
        self._v = self._w = self._soc = 0.0
        self._target = (0.0, 0.0, -math.inf)
        self._time_s, self._seq, self._odometer_m = 0.0, 0, 0.0
        self._shown = self._snapshot()

    @property
    def pose(self) -> Pose:
        """Where it really is."""
        return self._pose

    @pose.setter
    def pose(self, pose: Pose) -> None:
        self._pose = pose

    async def open(self, *, timeout_s: float) -> None:
        """Be there at once; raises `TimeoutError` while `silent`."""
        if self.silent:
            raise TimeoutError(f"no telemetry within {timeout_s} s")

    async def close(self) -> None:
        """Stop."""
        self._target = (0.0, 0.0, -math.inf)

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot; one of more than 0.5 s ago comes over a link that is STALE."""
        age_s = self._time_s - self._shown.stamp_ns / 1e9
        return self._shown if age_s < STALE_S else replace(self._shown, link=Link.STALE)

    def _snapshot(self) -> Telemetry:
        return Telemetry(
            seq=self._seq,
            stamp_ns=round(self._time_s * 1e9),
            link=Link.UP,
            pose=self._pose,
            vx=self._v,
            wz=self._w,
            odometer_m=self._odometer_m,
            battery=Battery(soc=self._soc),
            payload_kg=self._payload_kg,
            moving=abs(self._v) > 0.02 or abs(self._w) > 0.02,
        )

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Let one sample pass; raises `TimeoutError` while `silent`."""
        await asyncio.sleep(0)
        self.advance()
        if self.silent:
            for _ in range(math.ceil(timeout_s / PERIOD_S)):
                self.advance()
            raise TimeoutError(f"no telemetry after {after} within {timeout_s} s")
        return self.telemetry()

    async def drive(self, vx: float, wz: float, *, valid_s: float) -> None:
        """Take a command."""
        self.driven += 1
        if self.deaf:
            return
        self._target = (vx, wz, self._time_s + valid_s)

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:  # noqa: ARG002 - the port's signature
        """Change the load at once; charging ends full."""
        if self._payload_kg is not None and not self.broken_scale:
            self._payload_kg += {"load": mass_kg, "unload": -mass_kg}.get(kind, 0.0)
        if kind == "charge":
            self._soc = 1.0

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; whoever drives it gets as many turns as there are samples."""
        for _ in range(math.ceil(seconds / PERIOD_S)):
            before = self._time_s
            await asyncio.sleep(0)
            if self._time_s == before:
                self.advance()

    def advance(self) -> None:
        """Let one sample of time pass."""
        vx, wz = self._target[:2] if self._time_s < self._target[2] else (0.0, 0.0)
        if self.stuck:
            vx = wz = self._v = self._w = 0.0
        most = self._accel * PERIOD_S * (2.0 if abs(vx) < abs(self._v) else 1.0)
        self._v += max(-most, min(most, vx - self._v))
        self._w += max(-3.0 * PERIOD_S, min(3.0 * PERIOD_S, wz - self._w))
        p, yaw = self._pose, self._pose.yaw + self._w * PERIOD_S / 2
        step = self._v * PERIOD_S
        self._pose = Pose(p.x + step * math.cos(yaw), p.y + step * math.sin(yaw), p.yaw + self._w * PERIOD_S)
        self._time_s += PERIOD_S
        self._odometer_m += abs(step)
        if not self.silent:
            self._seq += 1
            self._shown = self._snapshot()
