"""Who does what: auctions of marginal costs, trades between robots, and re-auctions of bundles.

One optimisation core for all of them: `Problem` in, `Plan` out. It knows no money, no messages and no clock; robots price
their asks with the same functions (`fleet_market.robot.schedule`).
"""

from fleet_market.allocation.itinerary import Event, itinerary
from fleet_market.allocation.plan import Plan, Stop
from fleet_market.allocation.problem import BatteryRules, Problem, RobotSpec, TaskSpec, Weights
from fleet_market.allocation.reauction import Outcome, Reauction, Settings, allocate

__all__ = [
    "BatteryRules",
    "Event",
    "Outcome",
    "Plan",
    "Problem",
    "Reauction",
    "RobotSpec",
    "Settings",
    "Stop",
    "TaskSpec",
    "Weights",
    "allocate",
    "itinerary",
]
