"""What guides the search for a way through several stops: the least time that is still to go, from any state of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fleet_market.commons.to_go import HEADINGS, TURN_RAD, Lattice, Pace, TimeToGo
from fleet_market.maps.grid import BoolArray
from fleet_market.maps.roadmap import turn_between

START = -1
"""Where the robot stands, in place of a node."""
MARGIN = 10
"""Times are worked out so many nodes round a stop and the one before, 2.5 m: enough for turns and small detours."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Drive to one of `goals` and stay there."""

    goals: tuple[int, ...]
    dwell_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A first move: from where the robot stands straight to a node."""

    node: int
    length_m: float
    heading_rad: float


class Guide:
    """The least time to the end of the last leg where nobody else drives: admissible and consistent.

    Parameters
    ----------
    lattice : Lattice
    pace : Pace
    closed : collection of node
        Nodes never to be driven over.
    legs : sequence of Leg
    here : node or None
        The one on which the robot stands.
    entries : sequence of Entry
    """

    def __init__(
        self,
        lattice: Lattice,
        pace: Pace,
        closed: Collection[int],
        legs: Sequence[Leg],
        here: int | None,
        entries: Sequence[Entry],
    ) -> None:
        self._lattice, self._pace, self._legs, self._here, self._entries = lattice, pace, legs, here, entries
        self.drive_s = [self._drives_s(k * TURN_RAD) for k in range(HEADINGS)]
        self.drive_s += [self._drives_s(entry.heading_rad) for entry in entries]
        """[heading, heading on]: a turn and the drive on to the next node, seconds; headings as in `__call__`."""
        self.turns_s = [self._turns(k * TURN_RAD) for k in range(HEADINGS)]
        self.turns_s += [self._turns(entry.heading_rad) for entry in entries]
        self._trees: list[TimeToGo] = []
        self.possible = self._work_out(lattice.free(closed))
        """Whether there were a way if nobody else drove."""

    def __call__(self, leg: int, node: int, heading: int) -> float:
        """Return the least time to go, seconds, infinite if there is no way; only if that is possible at all.

        Parameters
        ----------
        leg : int
        node : int
            Or `START`.
        heading : int
            Of the lattice, or `HEADINGS` + i: that of entry i.
        """
        if node == START:
            return self._from_start_s(leg)
        if heading >= HEADINGS:
            return self._from_entry_s(leg, heading - HEADINGS)
        return self._trees[leg](node, heading)

    def _work_out(self, free: BoolArray) -> bool:
        """Work the times out from the last leg to the first; return whether the start is reached."""
        rest_s = {goal: [0.0] * HEADINGS for goal in self._legs[-1].goals}
        near = [entry.node for entry in self._entries] + ([] if self._here is None else [self._here])
        for leg in reversed(range(len(self._legs))):
            sources = self._legs[leg - 1].goals if leg else near
            tree = self._tree(free, rest_s, sources)
            if tree is None:
                return False
            self._trees.insert(0, tree)
            dwell_s = self._legs[leg - 1].dwell_s
            rest_s = {source: [dwell_s + to_go_s for to_go_s in tree.by_heading(source)] for source in sources}
        return True

    def _tree(self, free: BoolArray, rest_s: Mapping[int, Sequence[float]], sources: Sequence[int]) -> TimeToGo | None:
        """Return times to go that are exact from one of `sources` at least; None if none is reached."""
        if not sources:
            return None
        margin = MARGIN
        while True:
            tree = TimeToGo(self._lattice, free, rest_s, sources, margin, self._pace)
            if any(tree.is_exact(source) for source in sources):
                return tree
            if tree.whole:
                return None
            margin *= 2

    def _from_start_s(self, leg: int) -> float:
        speed_mps = self._pace.speed_mps
        ways_s = [e.length_m / speed_mps + self._from_entry_s(leg, i) for i, e in enumerate(self._entries)]
        if self._here in self._legs[leg].goals:
            ways_s.append(0.0 if leg + 1 == len(self._legs) else self._legs[leg].dwell_s + self._from_start_s(leg + 1))
        return min(ways_s, default=math.inf)

    def _from_entry_s(self, leg: int, entry: int) -> float:
        node = self._entries[entry].node
        times_s = [
            turn_s + to_go_s
            for turn_s, to_go_s in zip(self.turns_s[HEADINGS + entry], self._trees[leg].by_heading(node), strict=True)
        ]
        if node in self._legs[leg].goals:
            times_s.append(
                0.0 if leg + 1 == len(self._legs) else self._legs[leg].dwell_s + self._from_entry_s(leg + 1, entry)
            )
        return min(times_s)

    def _turns(self, heading_rad: float) -> list[float]:
        turns_rad = (turn_between(heading_rad, k * TURN_RAD) for k in range(HEADINGS))
        return [self._pace.turn_s_per_rad * turn_rad for turn_rad in turns_rad]

    def _drives_s(self, heading_rad: float) -> list[float]:
        pitch_m = self._lattice.pitch_m
        return [turn_s + self._pace.drive_s(pitch_m, k) for k, turn_s in enumerate(self._turns(heading_rad))]
