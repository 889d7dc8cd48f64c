"""Who does what: auctions of marginal costs, trades between robots, and re-auctions of bundles.

One optimisation core for all of them: `Problem` in, `Plan` out. It knows no money, no messages and no clock; robots price
their asks with the same functions (`fleet_market.robot.schedule`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fleet_market.allocation.itinerary import Event, itinerary
from fleet_market.allocation.plan import Plan, Stop
from fleet_market.allocation.problem import BatteryRules, Problem, RobotSpec, TaskSpec, Weights

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    """Import the search when it is asked for: a robot's node prices queues, and does without its memory."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("fleet_market.allocation.reauction"), name)
