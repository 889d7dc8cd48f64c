"""A robot of a velocity base and what is mounted on it, with an emergency stop that reaches the wheels."""

from __future__ import annotations

from fleet_market.robot.tracking import Limits
from fleet_market_hardware.bases.differential import Differential
from fleet_market_hardware.follower import Follower


class ComposedRobot(Follower):
    """Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    base : Differential
    limits : Limits
    """

    def __init__(self, base: Differential, limits: Limits) -> None:
        super().__init__(base, limits)
        self.base = base

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release an emergency stop, in the motor controllers too. Not a safety function (ISO 3691-4)."""
        await self.base.estop(engage=engage)
        await super().estop(engage=engage)
