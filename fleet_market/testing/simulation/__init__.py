"""Deterministic simulation: a whole market with its robots and customers, in virtual time, on a seed.

The market's daemon, the robots' agents and daemons, and the MQTT transport are the product's own; simulated are time,
the network, the disks and the robots' bodies. See `simulate`.
"""

from fleet_market.testing.simulation.runs import Report, simulate
from fleet_market.testing.simulation.scenario import Scenario

__all__ = ["Report", "Scenario", "simulate"]
