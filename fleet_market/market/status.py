"""How things stand: the orders, robots and books of the zone, in pages that are small enough to be sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import dropwhile, islice
from typing import TypeVar

from fleet_market.ids import OrderId, RobotId
from fleet_market.market.state import State
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES
from fleet_market.protocol.messages import Body, OrderView, Phase, RobotView, StatusReply, StatusRequest

PAGE_BYTES = MAX_OUTBOUND_BYTES - 4096
"""Of all views of a page; the rest is for the envelope, the books, and the commas."""
MAX_TOLD = 500
"""Orders that one robot's view lists, the oldest: with the longest names they leave room for the rest of a page."""

View = TypeVar("View", bound=Body)


def status(state: State, request: StatusRequest, now_ns: int) -> StatusReply:
    """Return the page of what was asked for that comes after `request.after_id`; the books are on the first page only."""
    orders, more = _page(_orders(state, request) if request.what == "orders" else ())
    robots, more_robots = _page(_robots(state, request) if request.what == "robots" else ())
    oracles = [(name, state.oracles[name]) for name in sorted(state.oracles)] if request.what == "oracles" else []
    reply = StatusReply(
        now_ns=now_ns,
        robots=robots,
        orders=orders,
        oracles=tuple(record.view(name) for name, record in oracles),
        more=more or more_robots,
    )
    if request.after_id is not None:
        return reply
    books = state.ledger.metrics()
    sums = {"sum_debits_uc": books.sum_debits_uc, "sum_credits_uc": books.sum_credits_uc}
    return reply.model_copy(update=sums | {"escrow_left_uc": books.escrow_left_uc})


def _page(views: Iterable[View]) -> tuple[tuple[View, ...], bool]:
    """Return as many views as fit, and whether there are more."""
    found: list[View] = []
    room = PAGE_BYTES
    for view in views:
        room -= len(view.model_dump_json().encode()) + 1
        if found and room < 0:
            return tuple(found), True
        found.append(view)
    return tuple(found), False


def _orders(state: State, request: StatusRequest) -> Iterator[OrderView]:
    """Yield the orders, oldest first."""
    if request.order is not None:
        known = state.orders.get(request.order)
        return iter(()) if known is None else iter((known.view(),))
    names: Iterator[OrderId] = iter(state.orders)
    if request.after_id is not None:
        names = islice(dropwhile(lambda name: name != request.after_id, names), 1, None)
    return (state.orders[name].view() for name in names)


def _robots(state: State, request: StatusRequest) -> Iterator[RobotView]:
    """Yield the robots by name."""
    under_way = defaultdict(list)
    for contract in state.contracts.values():
        under_way[contract.robot].append(contract)
    for robot in sorted(name for name in state.robots if request.after_id is None or name > request.after_id):
        known, contracts = state.robots[RobotId(robot)], under_way[robot]
        latest = next((c for c in contracts if c.phase is not Phase.QUEUED), None)
        seen = known.position
        pose = seen.pose if seen is not None else latest.pose if latest is not None else None
        yield RobotView(
            robot=robot,
            owner=known.announce.owner,
            robot_type=known.announce.robot_type,
            online=known.online,
            pose=pose,
            soc=None if seen is None else seen.soc,
            doing=seen.doing if seen is not None else latest.phase if latest is not None else "idle",
            contracts=tuple(c.order for c in contracts[:MAX_TOLD]),
            settled=known.settled,
            earned_uc=known.earned_uc,
            max_payload_kg=known.announce.max_payload_kg,
            ends_at=known.at,
        )
