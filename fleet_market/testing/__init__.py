"""Stand-ins that ship with the product, for tests of those who build on it."""

from fleet_market.testing.kinematic_base import KinematicBase

__all__ = ["KinematicBase"]
