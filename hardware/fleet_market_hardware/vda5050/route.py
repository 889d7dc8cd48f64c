"""A job as the graph of an order: what is released of it is the base, the rest the horizon.

A path of ours has a point every few decimetres; a node stands only where the way bends, where an action is done, and where
a base ends. The base is never taken back or sent again; an update begins with its last node, unchanged, and may draw the
horizon anew (VDA 5050 2.1.0, section 6.6.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from fleet_market.body import Act, Go, Job, Point, Pose
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.messages import PI, Action, ActionParameter, Edge, Node, NodePosition, Order

BEND_M = 0.02
"""A point nearer than this to the straight line between its neighbours is no bend."""
HERE_M = 0.05
"""A point nearer than this to where the vehicle stands is not driven to."""
START_DEVIATION_M = 0.5
PASSED_M = 0.02
MAX_HORIZON = 40
"""Nodes of the horizon that are sent; it promises nothing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a node of the base means for the job."""

    sequence: int
    step: int
    points: int
    """How many points of that step's path lie at or behind the node."""
    point: Point
    """In our map."""


class Route:
    """The order of one job, with all its updates.

    Parameters
    ----------
    order_id : str
    job : Job
    start : Pose
        Where the vehicle stands, our map.
    config : VehicleConfig
    map_id : str
        As the vehicle calls its map.
    ids : callable
        Makes ids of actions.
    """

    def __init__(
        self, order_id: str, job: Job, start: Pose, config: VehicleConfig, map_id: str, ids: Callable[[], str]
    ) -> None:
        self.order_id, self.update_id, self._job, self._config, self._map_id = order_id, -1, job, config, map_id
        self.released = [min(go.released, len(go.path)) if go.path else 1 for go in map(_as_go, job.steps)]
        self.action_of: dict[int, str] = {i: ids() for i, step in enumerate(job.steps) if isinstance(step, Act)}
        """Action ids by step."""
        self.marks: list[Mark] = [Mark(0, 0, 0, (start.x, start.y))]
        self._cursor = 0
        """Step up to which the base goes; its action steps are those of the nodes before."""
        self._taken = 0
        self._end = self._node(0, start, START_DEVIATION_M, PI)
        self._skip_acts()

    def node_id(self, sequence: int) -> str:
        """Return the id of a node: no other order has it."""
        return f"{self.order_id}.{sequence}"

    @property
    def last(self) -> Mark:
        """Where the base ends."""
        return self.marks[-1]

    @property
    def complete(self) -> bool:
        """Whether the base holds the whole job."""
        return self._cursor >= len(self._job.steps)

    @property
    def actions(self) -> frozenset[str]:
        """Ids of the actions of the base."""
        return frozenset(name for step, name in self.action_of.items() if step < self._cursor)

    @property
    def wants_update(self) -> bool:
        """Whether more is released than the base holds."""
        return not self.complete and self.released[self._cursor] > self._taken

    def is_reached(self, step: int, sequence: int) -> bool:
        """Return whether the end of a `Go` lies at or before the node `sequence`."""
        whole = len(_path(self._job.steps[step]))
        return any(
            mark.sequence <= sequence and (mark.step > step or (mark.step == step and mark.points >= whole))
            for mark in self.marks
        )

    def release(self, step: int, points: int) -> bool:
        """Release up to `points` points of a step; returns whether that is more than before."""
        points = min(points, len(_path(self._job.steps[step])))
        more = points > self.released[step]
        self.released[step] = max(self.released[step], points)
        return more

    def order(self) -> Order:
        """Return the order, or its next update, with all that is released by now."""
        first, self.update_id = self._end, self.update_id + 1
        nodes, edges = [first], []
        for node, edge in self._extend_base():
            nodes.append(node)
            edges.append(edge)
        for node, edge in self._horizon():
            nodes.append(node)
            edges.append(edge)
        return Order(order_id=self.order_id, order_update_id=self.update_id, nodes=tuple(nodes), edges=tuple(edges))

    def _extend_base(self) -> list[tuple[Node, Edge]]:
        added: list[tuple[Node, Edge]] = []
        while self._cursor < len(self._job.steps):
            step = self._job.steps[self._cursor]
            if isinstance(step, Act):
                break
            path, upto = _path(step), self.released[self._cursor]
            for index in bends(self.last.point, path, self._taken, upto):
                added.append(self._next(step, path, index, released=True))
                self.marks.append(Mark(added[-1][0].sequence_id, self._cursor, index + 1, path[index]))
                self._end = added[-1][0]
            if not added and upto == 1 and _is_here(self.last.point, path, 0):
                self.marks[-1] = replace(self.marks[-1], step=self._cursor, points=1)
            self._taken = max(self._taken, upto)
            if upto < len(path):
                break
            self.marks[-1] = replace(self.marks[-1], step=self._cursor, points=len(path))
            self._cursor, self._taken = self._cursor + 1, 0
            self._skip_acts()
            if added:
                added[-1] = (self._end, added[-1][1])
        return added

    def _skip_acts(self) -> None:
        """Put the actions that follow on the node where the base ends."""
        while self._cursor < len(self._job.steps):
            step = self._job.steps[self._cursor]
            if not isinstance(step, Act):
                return
            self._end = self._end.model_copy(update={"actions": (*self._end.actions, self._action(self._cursor, step))})
            self._cursor += 1

    def _horizon(self) -> list[tuple[Node, Edge]]:
        """Return what is not released of the running step; later steps follow when this one is."""
        if self._cursor >= len(self._job.steps):
            return []
        step, ahead = self._job.steps[self._cursor], []
        at, before = self.last.point, self.last.sequence
        path = _path(step)
        for index in bends(at, path, self._taken, len(path))[:MAX_HORIZON]:
            ahead.append(self._next(_as_go(step), path, index, released=False, after=before, origin=at))
            at, before = path[index], before + 2
        return ahead

    def _next(
        self,
        go: Go,
        path: tuple[Point, ...],
        index: int,
        *,
        released: bool,
        after: int | None = None,
        origin: Point | None = None,
    ) -> tuple[Node, Edge]:
        before = self.last.sequence if after is None else after
        at = self.last.point if origin is None else origin
        (x, y), final = path[index], index + 1 == len(path)
        turned = final and go.tol_rad is not None
        yaw = go.pose.yaw if turned else math.atan2(y - at[1], x - at[0])
        node = self._node(
            before + 2, Pose(x, y, yaw), go.tol_m, go.tol_rad if turned and go.tol_rad else PI, released=released
        )
        edge = Edge(
            edge_id=self.node_id(before + 1),
            sequence_id=before + 1,
            released=released,
            start_node_id=self.node_id(before),
            end_node_id=node.node_id,
            max_speed=min(go.max_speed or math.inf, self._config.max_speed_mps) if self._config.keeps_speed_limit else None,
        )
        return node, edge

    def _node(self, sequence: int, at: Pose, deviation_m: float, deviation_rad: float, *, released: bool = True) -> Node:
        theirs = self._config.frame.to_theirs(at.x, at.y, at.yaw)
        position = NodePosition(
            x=round(theirs.x, 4),
            y=round(theirs.y, 4),
            theta=max(-PI, min(PI, round(theirs.yaw, 5))),
            allowed_deviation_xy=deviation_m,
            allowed_deviation_theta=min(deviation_rad, PI),
            map_id=self._map_id,
        )
        return Node(node_id=self.node_id(sequence), sequence_id=sequence, released=released, node_position=position)

    def _action(self, step: int, act: Act) -> Action:
        words = self._config.actions[act.kind]
        parameters = tuple(ActionParameter(key=key, value=value) for key, value in words.fill(act).items())
        return Action(
            action_type=words.type, action_id=self.action_of[step], blocking_type="HARD", action_parameters=parameters
        )

    def off_path_m(self, reached: int, at: Pose) -> float:
        """Return how far the vehicle is from where it may be: between the last node reached and the base's end."""
        first = next((i for i, mark in reversed(list(enumerate(self.marks))) if mark.sequence <= reached), 0)
        points = [mark.point for mark in self.marks[first:]]
        return min(_off(a, b, (at.x, at.y)) for a, b in pairwise([points[0], *points]))

    def passed(self, reached: int, at: Pose | None) -> tuple[int, int]:
        """Return the step that runs, and how many points of its path lie behind the vehicle.

        Parameters
        ----------
        reached : int
            Sequence of the last node that was reached.
        at : Pose, optional
            Where the vehicle is now, our map: between two nodes it says more than they do.
        """
        number = next((i for i, mark in reversed(list(enumerate(self.marks))) if mark.sequence <= reached), 0)
        mark, after = self.marks[number], self.marks[number + 1 : number + 2]
        if not after or at is None:
            return mark.step, mark.points
        step = after[0].step
        path = _path(self._job.steps[step]) if isinstance(self._job.steps[step], Go) else ()
        behind = mark.points if mark.step == step else 0
        along = _along(mark.point, after[0].point, (at.x, at.y))
        while (
            behind < min(after[0].points, len(path))
            and _along(mark.point, after[0].point, path[behind]) <= along + PASSED_M
        ):
            behind += 1
        return step, min(behind, max(after[0].points - 1, 0))


def bends(start: Point, path: tuple[Point, ...], begin: int, end: int) -> list[int]:
    """Return the indices of ``path[begin:end]`` at which a node is needed: the bends, and the last one.

    Ramer (1972), Douglas and Peucker (1973), with `BEND_M`.
    """
    indices = list(range(begin, end))
    points = [start, *(path[i] for i in indices)]
    kept, stack = {len(indices)}, [(0, len(indices))]
    while stack:
        a, b = stack.pop()
        far, worst = 0, BEND_M
        for i in range(a + 1, b):
            if (off := _off(points[a], points[b], points[i])) > worst:
                far, worst = i, off
        if far:
            kept.add(far)
            stack += [(a, far), (far, b)]
    found = [indices[i - 1] for i in sorted(kept) if i]
    if begin < end and _is_here(start, path, found[0]) and (found[0] + 1 < end or begin == 0):
        return found[1:]
    return found if begin < end else []


def _is_here(start: Point, path: tuple[Point, ...], index: int) -> bool:
    return index + 1 < len(path) and math.dist(start, path[index]) <= HERE_M


def length_m(job: Job, start: Point) -> float:
    """Return the length of all ways of a job."""
    points = [start, *(point for step in job.steps if isinstance(step, Go) for point in _path(step))]
    return sum(math.dist(a, b) for a, b in pairwise(points))


def _as_go(step: Go | Act) -> Go:
    return step if isinstance(step, Go) else Go(Pose(0.0, 0.0))


def _path(step: Go | Act) -> tuple[Point, ...]:
    go = _as_go(step)
    return go.path or ((go.pose.x, go.pose.y),)


def _along(a: Point, b: Point, p: Point) -> float:
    length = math.dist(a, b)
    if length == 0:
        return 0.0
    return ((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / length


def _off(a: Point, b: Point, p: Point) -> float:
    """Return the distance of `p` from the segment from `a` to `b`."""
    length = math.dist(a, b)
    share = 0.0 if length == 0 else max(0.0, min(1.0, _along(a, b, p) / length))
    return math.dist(p, (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
