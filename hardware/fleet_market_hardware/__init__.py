"""The bridge to hardware: drivers of robots."""

from fleet_market_hardware.follower import Follower

__all__ = ["Follower"]
