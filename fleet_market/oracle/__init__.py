"""Second opinions on prices, from one who sees the whole market. Advisory: the market works without it."""

from fleet_market.oracle.advice import best_time, budget, congestion, judge_ask, judge_settlement, make_or_buy
from fleet_market.oracle.bands import FairBand, fair_bands
from fleet_market.oracle.knowledge import Knowledge
from fleet_market.oracle.quoting import Privacy
from fleet_market.oracle.terms import FairQuote, Question

__all__ = [
    "FairBand",
    "FairQuote",
    "Knowledge",
    "Privacy",
    "Question",
    "best_time",
    "budget",
    "congestion",
    "fair_bands",
    "judge_ask",
    "judge_settlement",
    "make_or_buy",
]
