"""Our robot as a VDA 5050 vehicle, as a pure state machine: a master's messages, telemetry and ends of jobs in.

It drives through `RobotDriver` jobs: one for each way up to the next node with actions or with a heading, one for each
action. Base and horizon are what is released of a way's path and what is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet_market.body import Act, DriverSpec, End, Go, Job, Link, Pose, Result, Telemetry
from fleet_market.errors import ProtocolError
from fleet_market_hardware.vda5050.effects import Send
from fleet_market_hardware.vda5050.said import MAX_ERRORS, Doing, Progress, Trouble, place_body, state_body, wrapped
from fleet_market_hardware.vda5050.wanted import (
    WantedAction,
    WantedNode,
    WantedOrder,
    WantError,
    read_instant_actions,
    read_order,
)

START_DEVIATION_M = 0.5
"""An order may begin this far from where the robot is, if it does not say."""
TOL_M, TOL_RAD = 0.10, 0.35
FREE_HEADING_RAD = 3.0
"""A node that allows such a deviation of its heading asks for none."""
JOB_LIMIT_S = 3600.0
MAX_INSTANTS = 50
"""Instant actions that the state still tells of."""
KINDS = {"pick": "load", "drop": "unload", "startCharging": "charge"}
"""Actions of VDA 5050 that are ones of ours."""
AT_ONCE = ("stateRequest", "factsheetRequest", "stopCharging", "startPause", "stopPause", "cancelOrder")


@dataclass(frozen=True, slots=True)
class Begin:
    """Run a job on the driver."""

    job: Job
    deadline_s: float = JOB_LIMIT_S


@dataclass(frozen=True, slots=True)
class Halt:
    """End the running job."""


@dataclass(frozen=True, slots=True)
class Release:
    """Release more of the running job's path."""

    job_id: str
    points: int


@dataclass(frozen=True, slots=True)
class TellFacts:
    """Publish the factsheet."""


Wish = Send | Begin | Halt | Release | TellFacts


@dataclass(slots=True)
class _Drive:
    """The job that drives: nodes ``first`` to ``first + len(nodes) - 1`` of the order."""

    job: Job
    first: int
    nodes: tuple[WantedNode, ...]
    released: int
    redraw: bool = False
    """The horizon has changed: it ends where its release ends."""


class Vehicle:
    """One robot.

    Parameters
    ----------
    version : str
        In which it speaks; it understands what is like it.
    map_id : str
    spec : DriverSpec
    state_s, place_s : float
        Longest time between two states, and between two visualizations while it drives, seconds.
    """

    def __init__(self, version: str, map_id: str, spec: DriverSpec, *, state_s: float = 10.0, place_s: float = 0.5) -> None:
        self.version, self._map_id, self._spec = version, map_id, spec
        self._state_ns, self._place_ns = round(state_s * 1e9), round(place_s * 1e9)
        self._telemetry = Telemetry(seq=0, stamp_ns=0, link=Link.LOST)
        self._order, self._update = "", 0
        self._nodes: list[WantedNode] = []
        self._at = -1
        """Index of the last node reached."""
        self._last = ("", 0)
        self._actions: dict[str, Doing] = {}
        self._instants: dict[str, Doing] = {}
        self._errors: list[Trouble] = []
        self._drive: _Drive | None = None
        self._act: tuple[Job, Doing] | None = None
        self._stuck = self._paused = False
        self._cancel: Doing | None = None
        self._jobs = 0
        self._told: tuple[object, ...] = ()
        self._told_ns: int | None = None
        self._shown_ns = 0

    @property
    def active(self) -> bool:
        """Whether there is an order to work on."""
        return self._at + 1 < len(self._nodes) or any(not doing.ended for doing in self._actions.values())

    # --- what comes in --------------------------------------------------------------------------------------------------

    def hear(self, topic: str, payload: bytes, now_ns: int) -> list[Wish]:
        """Take a message of a master; nothing that it says raises."""
        wishes: list[Wish] = []
        try:
            if topic == "order":
                wishes += self._take(read_order(payload))
            elif topic == "instantActions":
                for action in read_instant_actions(payload):
                    wishes += self._do_at_once(action)
        except ProtocolError as error:
            self._complain(Trouble("validationError", "WARNING", str(error), {"topic": topic}))
        except WantError as refused:
            self._complain(Trouble(refused.kind, "WARNING", refused.reason, refused.references))
        return [*wishes, *self._work(), *self._say(now_ns, force=True)]

    def sense(self, telemetry: Telemetry, passed: int, now_ns: int) -> list[Wish]:
        """Take note of where the robot is, and of how many points of its path it has passed."""
        self._telemetry = telemetry
        wishes: list[Wish] = []
        if (drive := self._drive) is not None:
            self._reach(drive.first + min(passed, len(drive.nodes) - 1) - 1)  # the last one when the job is done
            if drive.redraw and passed >= drive.released and not telemetry.moving:
                drive.redraw = False
                wishes.append(Halt())
        return [*wishes, *self._work(), *self._say(now_ns)]

    def ended(self, result: Result, now_ns: int) -> list[Wish]:
        """Take note of the end of a job."""
        if self._act is not None and result.job_id == self._act[0].id:
            doing, self._act = self._act[1], None
            doing.status, doing.result = ("FINISHED", "") if result.end is End.DONE else ("FAILED", result.reason)
            if result.end is not End.DONE:
                about = {"actionId": doing.id, "orderId": self._order, "topic": "order"}
                self._complain(Trouble("orderActionError", "WARNING", result.reason or str(result.end), about))
        elif self._drive is not None and result.job_id == self._drive.job.id:
            drive, self._drive = self._drive, None
            if result.end is End.DONE:
                self._reach(drive.first + len(drive.nodes) - 1)
            elif result.end is not End.CANCELLED:
                self._stuck = True
                self._complain(Trouble("driveError", "FATAL", result.reason or str(result.end), {"orderId": self._order}))
        return [*self._work(), *self._say(now_ns, force=True)]

    def _complain(self, trouble: Trouble) -> None:
        self._errors = [*self._errors, trouble][-MAX_ERRORS:]

    # --- orders ---------------------------------------------------------------------------------------------------------

    def _take(self, order: WantedOrder) -> list[Wish]:
        about = {"orderId": order.id, "orderUpdateId": str(order.update), "topic": "order"}
        if order.id == self._order and order.update == self._update:
            return []
        if self._cancel is not None:
            raise WantError("orderError", "the active order is being cancelled", **about)
        stitches = bool(self._nodes) and (order.nodes[0].id, order.nodes[0].sequence) == self._base_end()
        if order.id == self._order and order.update < self._update:
            raise WantError("orderUpdateError", f"update {self._update} has come already", **about)
        if order.id == self._order and not stitches:
            raise WantError("orderUpdateError", "an update begins with the last node of the base", **about)
        if order.id != self._order and self.active:
            raise WantError("orderUpdateError", f"order {self._order} is active", **about)
        self._check(order, about, fresh=order.id != self._order)
        self._errors = [
            e for e in self._errors if e.type not in {"validationError", "orderError", "orderUpdateError", "noRouteError"}
        ]
        if order.id != self._order:
            self._begin(order)
            return []
        return self._extend(order)

    def _base_end(self) -> tuple[str, int]:
        end = [node for node in self._nodes if node.released][-1]
        return end.id, end.sequence

    def _check(self, order: WantedOrder, about: Mapping[str, str], *, fresh: bool) -> None:
        """Raise `WantError` for an order that the robot cannot do."""
        for node in order.nodes:
            if node.position is None and node is not order.nodes[0]:
                raise WantError("noRouteError", "missing nodePosition", **about, nodeId=node.id)
            if node.map_id not in {"", self._map_id}:
                raise WantError("noRouteError", f"map {node.map_id}: use {self._map_id}", **about, nodeId=node.id)
            for action in node.actions:
                if KINDS.get(action.type) not in self._spec.actions:
                    raise WantError("orderError", f"{action.type} is not supported", **about, actionId=action.id)
        if fresh:
            first, pose = order.nodes[0], self._telemetry.pose
            if pose is None or self._telemetry.link is not Link.UP:
                raise WantError("noRouteError", "the robot does not know where it is", **about)
            limit = max(first.deviation_m or 0.0, START_DEVIATION_M)
            if first.position is not None and pose.distance_to(*first.position) > limit:
                raise WantError("noRouteError", f"the first node is farther than {limit:g} m", **about, nodeId=first.id)

    def _begin(self, order: WantedOrder) -> None:
        self._order, self._update, self._nodes, self._at = order.id, order.update, list(order.nodes), -1
        self._actions = {a.id: Doing(a.id, a.type) for node in order.nodes if node.released for a in node.actions}
        self._stuck = False
        self._errors = [e for e in self._errors if e.level != "FATAL"]
        self._reach(0)

    def _extend(self, order: WantedOrder) -> list[Wish]:
        count = sum(node.released for node in self._nodes)
        known = {action.id for action in self._nodes[count - 1].actions}
        joint = self._nodes[count - 1]
        more = tuple(action for action in order.nodes[0].actions if action.id not in known)
        before = self._nodes
        self._nodes = [*before[: count - 1], _with_actions(joint, more), *order.nodes[1:]]
        self._update = order.update
        for action in (*more, *(a for node in order.nodes[1:] if node.released for a in node.actions)):
            self._actions.setdefault(action.id, Doing(action.id, action.type))
        drive = self._drive
        if drive is None:
            return []
        ways = self._nodes[drive.first : drive.first + len(drive.nodes)]
        same = len(ways) == len(drive.nodes) and all(_same_place(a, b) for a, b in zip(ways, drive.nodes, strict=True))
        if not same or more:
            drive.redraw = True
            return []
        drive.released = sum(node.released for node in ways)
        return [Release(drive.job.id, drive.released)]

    def _reach(self, index: int) -> None:
        if index > self._at and index < len(self._nodes):
            self._at = index
            self._last = (self._nodes[index].id, self._nodes[index].sequence)

    # --- instant actions ------------------------------------------------------------------------------------------------

    def _do_at_once(self, action: WantedAction) -> list[Wish]:
        if action.id in self._instants:
            return []
        doing = self._instants[action.id] = Doing(action.id, action.type, "RUNNING")
        while len(self._instants) > MAX_INSTANTS:
            self._instants.pop(next(iter(self._instants)))
        about = {"actionId": action.id, "topic": "instantActions"}
        match action.type:
            case "cancelOrder" if self.active and self._cancel is None:
                return self._cancel_order(doing)
            case "cancelOrder":
                doing.status = "FAILED"
                self._complain(Trouble("noOrderToCancel", "WARNING", "there is no order to cancel", about))
            case "startPause":
                self._paused = True
                return [Halt()] if self._drive is not None else self._finish(doing)
            case "stopPause":
                self._paused = False
                self._finish(doing)
            case "stateRequest" | "stopCharging":
                self._finish(doing)
            case "factsheetRequest":
                self._finish(doing)
                return [TellFacts()]
            case _:
                doing.status = "FAILED"
                self._complain(Trouble("instantActionError", "WARNING", f"{action.type} is not supported", about))
        return []

    def _finish(self, doing: Doing) -> list[Wish]:
        doing.status = "FINISHED"
        return []

    def _cancel_order(self, doing: Doing) -> list[Wish]:
        self._cancel = doing
        for waiting in self._actions.values():
            if waiting.status == "WAITING":
                waiting.status = "FAILED"
        return [Halt()] if self._drive is not None or self._act is not None else []

    # --- work -----------------------------------------------------------------------------------------------------------

    def _work(self) -> list[Wish]:
        """Begin what is next, if nothing runs."""
        if self._drive is not None or self._act is not None:
            return []
        if self._cancel is not None:
            if not self._telemetry.moving:
                self._nodes, self._at, self._stuck = self._nodes[: self._at + 1], min(self._at, len(self._nodes) - 1), False
                self._cancel.status, self._cancel = "FINISHED", None
                self._errors = [e for e in self._errors if e.level != "FATAL"]
            return []
        if self._paused:
            for asked in self._instants.values():
                if asked.type == "startPause" and not asked.ended and not self._telemetry.moving:
                    asked.status = "FINISHED"
            return []
        if self._stuck or not 0 <= self._at < len(self._nodes):
            return []
        here = self._nodes[self._at]
        for action in here.actions:
            if (doing := self._actions.get(action.id)) is not None and doing.status == "WAITING":
                return self._begin_action(action, doing)
        ahead = self._nodes[self._at + 1 : self._at + 2]
        return self._begin_drive() if ahead and ahead[0].released else []

    def _job(self, step: Go | Act) -> Job:
        self._jobs += 1
        return Job(f"{self._order}.{self._jobs}"[-120:], (step,))

    def _begin_action(self, action: WantedAction, doing: Doing) -> list[Wish]:
        doing.status = "RUNNING"
        mass, seconds = (_amount(action.parameters, key) for key in ("weight", "duration"))
        parcel = action.parameters.get("loadId")
        kind = KINDS[action.type]
        name = parcel if isinstance(parcel, str) else ""
        act = Act("load" if kind == "load" else "unload" if kind == "unload" else "charge", name, mass, seconds)
        job = self._job(act)
        self._act = (job, doing)
        return [Begin(job)]

    def _begin_drive(self) -> list[Wish]:
        first, last = self._at, self._at + 1
        while last + 1 < len(self._nodes) and not self._nodes[last].actions and _heading(self._nodes[last]) is None:
            last += 1
        nodes = tuple(self._nodes[first : last + 1])
        pose = self._telemetry.pose or Pose(0.0, 0.0)
        path = ((pose.x, pose.y), *(node.position or (pose.x, pose.y) for node in nodes[1:]))
        end, heading = nodes[-1], _heading(nodes[-1])
        limits = [node.max_speed_mps for node in nodes[1:] if node.max_speed_mps is not None]
        released = sum(node.released for node in nodes)
        go = Go(
            Pose(*path[-1], wrapped(heading or 0.0)),
            path,
            released,
            tol_m=max(end.deviation_m or 0.0, TOL_M),
            tol_rad=None if heading is None else max(end.deviation_rad or 0.0, TOL_RAD),
            max_speed=min(limits) if limits and "speed_limit" not in self._spec.lacks else None,
        )
        self._drive = _Drive(self._job(go), first, nodes, released)
        return [Begin(self._drive.job)]

    # --- what it says ---------------------------------------------------------------------------------------------------

    def _say(self, now_ns: int, *, force: bool = False) -> list[Wish]:
        """Tell the state where it has changed, or has not been told for long; while driving, where the robot is."""
        sent: list[Wish] = []
        key = (
            self._order, self._update, self._last, len(self._nodes), self._telemetry.moving, self._paused,
            self._telemetry.battery.charging, len(self._errors),
            *((d.id, d.status) for d in (*self._actions.values(), *self._instants.values())),
        )  # fmt: skip
        if force or key != self._told or self._told_ns is None or now_ns - self._told_ns >= self._state_ns:
            self._told, self._told_ns = key, now_ns
            sent.append(Send("state", self.version, self.state()))
        elif self._telemetry.moving and now_ns - self._shown_ns >= self._place_ns:
            self._shown_ns = now_ns
            sent.append(Send("visualization", self.version, place_body(self.version, self._telemetry, self._map_id)))
        return sent

    def state(self) -> dict[str, object]:
        """Return the body of its ``state``."""
        ahead = tuple(self._nodes[self._at + 1 :])
        progress = Progress(self._order, self._update, *self._last, ahead, self._paused, self._map_id)
        return state_body(
            self.version, progress, self._telemetry, self._actions.values(), self._instants.values(), self._errors
        )


def _with_actions(node: WantedNode, more: tuple[WantedAction, ...]) -> WantedNode:
    return replace(node, actions=(*node.actions, *more)) if more else node


def _same_place(a: WantedNode, b: WantedNode) -> bool:
    return (a.id, a.sequence, a.position, a.actions) == (b.id, b.sequence, b.position, b.actions)


def _heading(node: WantedNode) -> float | None:
    """Return the heading that a node asks for, None if any will do."""
    return None if (node.deviation_rad or 0.0) > FREE_HEADING_RAD else node.theta


def _amount(parameters: Mapping[str, object], key: str) -> float:
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return float(min(max(value, 0.0), 1e6))
