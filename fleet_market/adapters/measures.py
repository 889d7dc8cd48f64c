"""What a zone's server counts while it runs: from its start on, in memory only."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from fleet_market.market import Outcome
from fleet_market.protocol.messages import Award, Cleared

LOTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
RECORDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
SECONDS = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds: from a fast SSD's commit to a disk that is in trouble."""


@dataclass(slots=True)
class Histogram:
    """How values are distributed.

    Parameters
    ----------
    bounds : tuple of float
        Upper bounds, ascending; a last bucket takes what is above.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(slots=True)
class Measures:
    """What a server has done since its start."""

    awards: int = 0
    lots: Histogram = field(default_factory=lambda: Histogram(LOTS))
    """Lots per batch."""
    records: Histogram = field(default_factory=lambda: Histogram(RECORDS))
    """Records per commit."""
    commit_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """Duration of a commit, the disk's sync included, seconds."""

    def decided(self, outcome: Outcome) -> None:
        """Take note of what an input has led to."""
        pages = [send.body for send in outcome.sends if isinstance(send.body, Cleared)]
        if pages:
            self.lots.add(sum(len(page.lots) for page in pages))
        self.awards += sum(isinstance(send.body, Award) for send in outcome.sends)

    def committed(self, records: int, seconds: float) -> None:
        """Take note of a commit."""
        self.records.add(records)
        self.commit_s.add(seconds)
