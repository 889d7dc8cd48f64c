"""Benches of the emulated bases for the conformance suite. Emulated firmware, no hardware."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from typing import Any, Self

from fleet_market.body import DriverSpec, Point, Pose
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits as Tracked
from fleet_market_hardware.bases.differential import STALE_S, Differential, Limits
from fleet_market_hardware.bases.geometry import Geometry
from fleet_market_hardware.bases.wheels import Wheels
from fleet_market_hardware.composed import ComposedRobot

_numbers = itertools.count()


class EmulatedBench:
    """Implements `fleet_market.testing.conformance.Bench`.

    It cannot set the robot down elsewhere so that the driver could see it: the pose of a bare base is dead reckoning.
    """

    course: tuple[Point, ...] = tuple((0.25 * i, 0.0) for i in range(11))
    abilities = frozenset({"cut", "block", "reset", "abandon", "base"})
    deadline_s = 15.0
    stale_s, stop_s = STALE_S, 2.0
    limits, geometry = Limits(1.0, 1.5, 2.0, 6.0), Geometry(0.1, 0.4)
    lacks: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._emulator: Any = self._emulate()
        self._stack = contextlib.ExitStack()
        self._base: Differential | None = None

    def _emulate(self) -> Any:
        """Return the firmware, a context manager with `plant`, `faults` and `reset`."""
        raise NotImplementedError

    def _wheels(self) -> Wheels:
        """Return the driver's side of it."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self._emulator)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._base is not None:
            await self._base.close()
        await asyncio.to_thread(self._stack.close)

    def driver(self) -> ComposedRobot:
        """Return a driver."""
        most = self.limits
        return ComposedRobot(self.base(), Tracked(most.speed_mps, most.accel_mps2, most.yaw_rate_radps))

    def base(self) -> Differential:
        """Return the base."""
        if self._base is None:
            spec = DriverSpec(RobotId("bench"), self.limits.speed_mps, 0.0, frozenset(), frozenset({"motors"}), self.lacks)
            self._base = Differential(_Late(self._wheels), spec, self.geometry, self.limits)
        return self._base

    def true_pose(self) -> Pose:
        """Return where the wheels have brought it."""
        pose: Pose = self._emulator.plant.pose
        return pose

    async def pause(self, seconds: float) -> None:
        """Let time pass: firmware runs by the wall clock."""
        await asyncio.sleep(seconds)

    def cut(self, *, broken: bool) -> None:
        """Let no byte through, either way."""
        self._emulator.faults.mute = broken

    def block(self, *, held: bool) -> None:
        """Hold the wheels."""
        self._emulator.plant.held = held

    def teleport(self, pose: Pose) -> None:
        """Not able to."""
        raise NotImplementedError

    def reset(self) -> None:
        """Restart the firmware's counters."""
        self._emulator.reset()

    async def abandon(self) -> None:
        """Let no command through any more."""
        self._emulator.faults.mute = True

    def spoil_scale(self) -> None:
        """There is none."""
        raise NotImplementedError


class _Late:
    """Wheels that are made when they are opened: a pty has no name before."""

    exchange_s = 0.5

    def __init__(self, make: Any) -> None:
        self._make, self._made = make, None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


class VescBench(EmulatedBench):
    """Two VESCs at a pty."""

    def _emulate(self) -> Any:
        from fleet_market_hardware.emulators.vesc import VescEmulator  # noqa: PLC0415 - only what is asked for

        return VescEmulator()

    def _wheels(self) -> Wheels:
        from fleet_market_hardware.bases.vesc import VescWheels  # noqa: PLC0415 - needs pyserial

        return VescWheels(self._emulator.port)


class ODriveBench(EmulatedBench):
    """Two ODrive axes on a virtual CAN bus."""

    def _emulate(self) -> Any:
        from fleet_market_hardware.emulators.odrive import ODriveEmulator  # noqa: PLC0415 - needs python-can

        self._channel = f"bench-{os.getpid()}-{next(_numbers)}"
        return ODriveEmulator(self._channel)

    def _wheels(self) -> Wheels:
        from fleet_market_hardware.bases.odrive import ODriveWheels  # noqa: PLC0415 - needs python-can

        return ODriveWheels(self._channel, interface="virtual")


class Cia402Bench(EmulatedBench):
    """Two CiA 402 drives, `canopen.LocalNode`s on a virtual CAN bus."""

    def _emulate(self) -> Any:
        from fleet_market_hardware.emulators.cia402 import Cia402Emulator  # noqa: PLC0415 - needs canopen

        self._channel = f"canopen-{os.getpid()}-{next(_numbers)}"
        return Cia402Emulator(self._channel)

    def _wheels(self) -> Wheels:
        from fleet_market_hardware.bases.cia402 import Cia402Wheels  # noqa: PLC0415 - needs canopen
        from fleet_market_hardware.emulators.cia402 import COUNTS_PER_TURN  # noqa: PLC0415 - needs canopen

        return Cia402Wheels(self._channel, interface="virtual", counts_per_turn=COUNTS_PER_TURN)


class Create2Bench(EmulatedBench):
    """A Create 2 at a pty. It breaks the contract where its link is gone: it drives on, as its maker built it."""

    course = tuple((0.125 * i, 0.0) for i in range(11))
    limits, geometry = Limits(0.4, 1.0, 2.0, 6.0), Geometry(0.036, 0.235)
    lacks = frozenset({"dead_man"})

    def _emulate(self) -> Any:
        from fleet_market_hardware.emulators.create2 import Create2Emulator  # noqa: PLC0415 - only what is asked for

        return Create2Emulator()

    def _wheels(self) -> Wheels:
        from fleet_market_hardware.bases.create2 import Create2Wheels  # noqa: PLC0415 - needs pyserial

        return Create2Wheels(self._emulator.port)
