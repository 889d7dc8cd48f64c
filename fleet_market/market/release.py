"""When orders come on sale and when their time is over: releases, deadlines, groups, and orders that come after others."""

from __future__ import annotations

import heapq

from fleet_market.contracts import Order
from fleet_market.market.outcome import Outcome
from fleet_market.market.state import Group, State
from fleet_market.protocol.messages import OrderState


def release_orders(state: State, now_ns: int, out: Outcome) -> None:
    """Put scheduled orders on sale when their time has come, and end those that nobody took in theirs.

    Looked at are the orders whose time has come, and those that something else has touched. A group comes on sale when it
    is complete and every order of it may. When one of its orders has run out of time before the group was awarded, all
    have.
    """
    due = [(state.order_times.number(name), name) for name in state.order_times.due(now_ns)]
    out.changed = out.changed or bool(due)  # the timetable is another one
    waiting: dict[Group, None] = {}
    while due:
        order = state.live.get(heapq.heappop(due)[1])
        if order is not None and (group := _look_at(state, order, now_ns, out)) is not None:
            waiting[group] = None
        for name in state.order_times.due(now_ns):  # what was to come after an order that has just ended
            heapq.heappush(due, (state.order_times.number(name), name))
    for group in waiting:
        _open_group(state, group, now_ns, out)


def members_of(state: State, order: Order) -> list[Order]:
    """Return the live orders that must be awarded together with `order`, itself included."""
    group = order.bound_group()
    if group is None:
        return [order]
    members = (state.live[name] for name in state.groups.get((order.customer, group), ()))
    return [member for member in members if member.bound_group() == group]


def _look_at(state: State, order: Order, now_ns: int, out: Outcome) -> Group | None:
    """Open or end an order if it is time; return its group if that may be complete now."""
    group: Group | None = None
    if order.state is OrderState.SCHEDULED and not _is_hopeless(state, order, now_ns, out):
        if order.group is not None:
            group = (order.customer, order.group)
        elif _may_open(state, order, now_ns):
            _open(state, order, now_ns, out)
            return None
        times = (
            [order.release_ns] if order.after is None and order.group is None else [order.release_ns, order.last_call_ns]
        )
        if ahead := [at_ns for at_ns in times if at_ns > now_ns]:
            state.order_times.set(order.id, min(ahead))
    elif order.state is OrderState.OPEN:
        if now_ns >= order.last_call_ns:
            last = order.records[-1].summary if order.records else "no robot was there to ask"
            _expire(state, order, f"nobody took it by its deadline: {last}", now_ns, out)
        else:
            state.put_on_sale(order, now_ns)
    return group


def _open_group(state: State, group: Group, now_ns: int, out: Outcome) -> None:
    """Open the waiting orders of a group if it is complete and all of them may."""
    members = [o for name in state.groups.get(group, ()) if (o := state.live[name]).state is OrderState.SCHEDULED]
    ready = [order for order in members if _may_open(state, order, now_ns)]
    if members and len(ready) == len(members) >= members[0].group_size:
        for order in ready:
            _open(state, order, now_ns, out)


def _may_open(state: State, order: Order, now_ns: int) -> bool:
    before = state.orders.get(order.after) if order.after is not None else None
    return now_ns >= order.release_ns and (before is None or before.state is OrderState.SETTLED)


def _open(state: State, order: Order, now_ns: int, out: Outcome) -> None:
    order.state, order.opened_ns = OrderState.OPEN, now_ns
    state.put_on_sale(order, now_ns)
    state.announce(order, out)


def _is_hopeless(state: State, order: Order, now_ns: int, out: Outcome) -> bool:
    """End an order that can no longer come on sale."""
    before = state.orders.get(order.after) if order.after is not None else None
    if before is not None and before.state.final and before.state is not OrderState.SETTLED:
        note = f"it was to come after {before.id}, which is {before.state}"
        state.close_order(order, OrderState.FAILED, note, now_ns, out)
    elif (before is not None or order.group is not None) and now_ns >= order.last_call_ns:
        what = f"{before.id} was settled" if before is not None else f"its group {order.group} was complete"
        _expire(state, order, f"its deadline was over before {what}", now_ns, out)
    return order.state.final


def _expire(state: State, order: Order, note: str, now_ns: int, out: Outcome) -> None:
    for member in members_of(state, order):
        own = note if member is order else f"{order.id} of its group {order.group} ran out of time"
        if member.state in (OrderState.OPEN, OrderState.SCHEDULED):
            state.close_order(member, OrderState.EXPIRED, own[:160], now_ns, out)
