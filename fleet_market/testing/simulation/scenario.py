"""What a seed stands for: a fleet, its orders, and what goes wrong when.

Every seed draws which kinds of fault it has at all, and how bad each is: a run with all of them at once hides what one
alone would show (swarm testing, Groce et al. 2012, ISSTA).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from fleet_market.contracts import MarketTerms
from fleet_market.testing.simulation.network import Weather
from fleet_market.testing.simulation.site import MAX_ROBOTS, PLACES

CREDIT_UC = 10**6
ENDOWMENT_UC = 2_000 * CREDIT_UC
SQLITE_EVERY = 20
"""One seed in so many has the real database on a disk that loses its power; the others a model of it."""
TRAFFIC_EVERY = 10
"""One seed in so many has the real traffic control; the others one that grants every way."""
REAL_PRICES = 0.1
"""Share of the seeds in which robots price as the product does; in the others by rule of thumb."""
FAULTS = (
    "market crash", "commit crash", "broker restart", "broker amnesia", "disconnect", "stall", "loss", "duplicates",
    "overtaking", "unconfirmed", "clock jump", "robot crash", "robot death", "robot trouble", "liar", "cancel", "retry",
)  # fmt: skip
TERMS = MarketTerms(overdue_s=60.0, cooldown_s=10.0)


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """One order that a customer will post."""

    name: str
    customer: str
    at_s: float
    pickup: str
    dropoff: str
    mass_kg: float
    release_s: float
    deadline_s: float
    max_price_uc: int
    lateness_uc_per_h: int
    cancel_after_s: float | None
    """How long after the acceptance the customer takes it back."""
    post_again: bool
    """Whether the customer posts it again under a new message id, as one that has forgotten what it did."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that is drawn beforehand."""

    seed: int
    faults: frozenset[str]
    robots: int
    owners: int
    orders: tuple[OrderPlan, ...]
    chaos_s: float
    """When the faults end."""
    mean_gap_s: float
    """Mean time between two faults."""
    tick_s: float
    sense_s: float
    sync_s: float
    sqlite: bool
    real_traffic: bool
    real_prices: bool
    snapshot_inputs: int
    """So many inputs after a snapshot of the market the next is taken."""
    weather: Weather = field(compare=False)
    skew_s: tuple[float, ...] = ()
    """By how much the clock of each robot is off."""

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Return the scenario of a seed."""
        rng = random.Random(f"scenario {seed}")  # noqa: S311 - seeded chance, no secret
        share = rng.choice((0.15, 0.4, 0.7))
        faults = frozenset(fault for fault in FAULTS if rng.random() < share)
        chaos_s = rng.uniform(60.0, 240.0)
        robots = rng.randint(3, MAX_ROBOTS)
        weather = Weather(
            delay_s=rng.choice((0.002, 0.01, 0.1)),
            loss=rng.choice((0.02, 0.1, 0.3)) if "loss" in faults else 0.0,
            unconfirmed=rng.choice((0.02, 0.2)) if "unconfirmed" in faults else 0.0,
            duplicates=rng.choice((0.05, 0.3)) if "duplicates" in faults else 0.0,
            overtaking="overtaking" in faults,
        )
        return cls(
            seed=seed,
            faults=faults,
            robots=robots,
            owners=rng.randint(1, 3),
            orders=tuple(_order(rng, number, chaos_s, faults) for number in range(rng.randint(6, 14))),
            chaos_s=chaos_s,
            mean_gap_s=rng.choice((8.0, 20.0, 60.0)),
            tick_s=rng.choice((0.25, 0.5, 1.0)),
            sense_s=rng.choice((1.0, 2.0)),
            sync_s=rng.choice((0.001, 0.005, 0.02)),
            sqlite=seed % SQLITE_EVERY == SQLITE_EVERY - 1,
            real_traffic=seed % TRAFFIC_EVERY == 4,
            real_prices=rng.random() < REAL_PRICES,
            snapshot_inputs=rng.choice((30, 100, 2_000)),
            weather=weather,
            skew_s=tuple(rng.uniform(-0.4, 0.4) for _ in range(robots)),
        )


def _order(rng: random.Random, number: int, chaos_s: float, faults: frozenset[str]) -> OrderPlan:
    pickup, dropoff = rng.sample(sorted(PLACES), 2)
    return OrderPlan(
        name=f"o{number + 1}",
        customer=rng.choice(("ann", "bob")),
        at_s=rng.uniform(2.0, 0.8 * chaos_s),
        pickup=pickup,
        dropoff=dropoff,
        mass_kg=float(rng.randint(1, 9)),
        release_s=rng.choice((0.0, 0.0, 0.0, 30.0)),
        deadline_s=rng.uniform(60.0, 300.0),
        max_price_uc=rng.randint(10, 60) * CREDIT_UC,
        lateness_uc_per_h=rng.choice((0, 0, 0, 400 * CREDIT_UC)),
        cancel_after_s=rng.expovariate(1 / 20.0) if "cancel" in faults and rng.random() < 0.3 else None,
        post_again="retry" in faults and rng.random() < 0.4,
    )
