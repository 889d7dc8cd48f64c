"""When orders come on sale and when their time is over: releases, deadlines, groups, and orders that come after others."""

from __future__ import annotations

from collections import defaultdict

from fleet_market.contracts import Order
from fleet_market.ids import CustomerId, OrderId
from fleet_market.market.outcome import Outcome
from fleet_market.market.state import State
from fleet_market.protocol.messages import OrderState


def release_orders(state: State, now_ns: int, out: Outcome) -> None:
    """Put scheduled orders on sale when their time has come, and end those that nobody took in theirs.

    A group comes on sale when it is complete and every order of it may. When one of its orders has run out of time before
    the group was awarded, all have.
    """
    waiting: defaultdict[tuple[CustomerId, OrderId], list[Order]] = defaultdict(list)
    for order in list(state.live.values()):
        if order.state is OrderState.SCHEDULED:
            if _is_hopeless(state, order, now_ns, out):
                continue
            if order.group is not None:
                waiting[order.customer, order.group].append(order)
            elif _may_open(state, order, now_ns):
                _open(state, order, now_ns, out)
        elif order.state is OrderState.OPEN and now_ns >= order.last_call_ns:
            last = order.records[-1].summary if order.records else "no robot was there to ask"
            _expire(state, order, f"nobody took it by its deadline: {last}", now_ns, out)
    for members in waiting.values():
        ready = [order for order in members if order.state is OrderState.SCHEDULED and _may_open(state, order, now_ns)]
        if len(ready) == len(members) >= members[0].group_size:
            for order in ready:
                _open(state, order, now_ns, out)


def members_of(state: State, order: Order) -> list[Order]:
    """Return the live orders that must be awarded together with `order`, itself included."""
    group = order.bound_group()
    if group is None:
        return [order]
    return [o for o in state.live.values() if o.bound_group() == group and o.customer == order.customer]


def _may_open(state: State, order: Order, now_ns: int) -> bool:
    before = state.orders.get(order.after) if order.after is not None else None
    return now_ns >= order.release_ns and (before is None or before.state is OrderState.SETTLED)


def _open(state: State, order: Order, now_ns: int, out: Outcome) -> None:
    order.state, order.opened_ns = OrderState.OPEN, now_ns
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
