"""What a task costs a robot: energy, wear and time, in closed form from the plan and the spec sheet."""

from fleet_market.pricing.ask import PriceQuote, QuoteArray, Tariff, asks_uc, price, price_many
from fleet_market.pricing.calibration import Calibration, CalibrationView
from fleet_market.pricing.duration import DurationModel
from fleet_market.pricing.energy import EnergyModel, Features, duration_s, energy_j
from fleet_market.pricing.kalman import Estimate, Lesson
from fleet_market.pricing.plan import PlanArray, PlanLeg, TaskPlan

__all__ = [
    "Calibration",
    "CalibrationView",
    "DurationModel",
    "EnergyModel",
    "Estimate",
    "Features",
    "Lesson",
    "PlanArray",
    "PlanLeg",
    "PriceQuote",
    "QuoteArray",
    "Tariff",
    "TaskPlan",
    "asks_uc",
    "duration_s",
    "energy_j",
    "price",
    "price_many",
]
