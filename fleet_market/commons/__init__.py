"""What all robots share: the floor, its right of way and its chargers."""

from fleet_market.commons.traffic import TrafficControl

__all__ = ["TrafficControl"]
