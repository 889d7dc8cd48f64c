"""What a task costs a robot: energy, wear and time, in closed form from the plan and the spec sheet."""

from fleet_market.pricing.ask import PriceQuote, Tariff, price
from fleet_market.pricing.energy import duration_s, energy_j
from fleet_market.pricing.plan import PlanLeg, TaskPlan

__all__ = ["PlanLeg", "PriceQuote", "Tariff", "TaskPlan", "duration_s", "energy_j", "price"]
