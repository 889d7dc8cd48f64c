"""The clearing record: for every lot of a batch who asked what, who won at which price, and why the others did not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet_market.auction import Clearing, LotAward
from fleet_market.contracts import Order
from fleet_market.ids import OrderId, RobotId
from fleet_market.market.state import OpenCall, State
from fleet_market.protocol.messages import MAX_PRICE_UC, AskLine, AskRecord, DeclineLine, LotRecord
from fleet_market.units import Credits, seconds

MAX_ASK_RECORDS = 90
"""Robots that one lot's record lists; the cheapest asks are kept."""
ASKS_PER_PAGE = 100
"""With the longest names and reasons a page of records stays under the 64 KiB that the market may send."""
LOT_COUNTS_AS = 2


def sold(
    state: State, call: OpenCall, order: Order, award: LotAward, cleared: Clearing, handicap_uc: int, now_ns: int
) -> LotRecord:
    """Return the record of a lot that the present round has sold."""
    lots_of = {a.robot: a for a in cleared.awards}
    asks = [
        _ask_record(state, call, order, robot, _loss(state, call, order, robot, award, lots_of, now_ns))
        for robot in _concerned(call, order.id)
    ]
    without = cleared.welfare_without_uc.get(award.owner)
    less = "" if without is None else f": welfare {Credits(cleared.welfare_uc)}, without {award.owner} {Credits(without)}"
    extra = f" (handicap {Credits(handicap_uc)})" if handicap_uc else ""
    paid = f"asked {Credits(award.ask_uc)}{extra}, is paid {Credits(award.price_uc)}"
    return LotRecord(
        call=call.id,
        round=call.round,
        order=order.id,
        closed_ns=now_ns,
        budget_uc=order.max_price_uc,
        winner=award.robot,
        price_uc=award.price_uc,
        welfare_uc=cleared.welfare_uc,
        welfare_without_uc=without,
        asks=_listed(asks, award.robot),
        not_asked=_not_asked(call, order.id),
        summary=f"round {call.round}: {award.robot} {paid}{less}"[:160],
    )


def unsold(state: State, call: OpenCall, order: Order, now_ns: int) -> LotRecord:
    """Return the record of a lot that no round of the batch has sold."""
    asks = [
        _ask_record(state, call, order, robot, _loss(state, call, order, robot, None, {}, now_ns))
        for robot in _concerned(call, order.id)
    ]
    named = [a for a in asks if a.ask_uc is not None]
    if order.id in call.left_out:
        summary = f"its group {order.group} could not be sold whole"
    elif order.rank(now_ns, round(state.terms.aging_s * 1e9)) < call.floor and not asks:
        summary = f"the batch ended at round {call.round}, before its priority {order.priority} was on sale"
    elif not asks:
        summary = (
            "no robot answered" if not call.answers and not call.wins else "no robot was asked: others were nearer to all"
        )
    elif not named:
        summary = "no robot asked for it"
    else:
        best = min(a.ask_uc + a.handicap_uc for a in named if a.ask_uc is not None)
        summary = f"no ask could win: the lowest came to {Credits(best)}, the budget is {Credits(order.max_price_uc)}"
    return LotRecord(
        call=call.id,
        round=call.round,
        order=order.id,
        closed_ns=now_ns,
        budget_uc=order.max_price_uc,
        winner=None,
        price_uc=None,
        asks=_listed(asks, None),
        not_asked=_not_asked(call, order.id),
        summary=summary[:160],
    )


def pages(records: Sequence[LotRecord]) -> list[tuple[LotRecord, ...]]:
    """Return the records in pages that are small enough to be sent."""
    found: list[list[LotRecord]] = []
    room = 0
    for record in records:
        needs = LOT_COUNTS_AS + len(record.asks)
        if needs > room:
            found.append([])
            room = ASKS_PER_PAGE
        found[-1].append(record)
        room -= needs
    return [tuple(page) for page in found]


def _concerned(call: OpenCall, order: OrderId) -> list[RobotId]:
    return sorted(
        robot for robot, offered in call.offered.items() if order in offered or order in call.answers.get(robot, {})
    )


def _not_asked(call: OpenCall, order: OrderId) -> int:
    return sum(order not in offered for offered in call.offered.values())


def _listed(asks: Iterable[AskRecord], winner: RobotId | None) -> tuple[AskRecord, ...]:
    asks = list(asks)
    if len(asks) <= MAX_ASK_RECORDS:
        return tuple(asks)
    best = sorted(asks, key=lambda a: (a.robot != winner, a.ask_uc is None, (a.ask_uc or 0) + a.handicap_uc, a.robot))
    return tuple(sorted(best[:MAX_ASK_RECORDS], key=lambda a: a.robot))


def _ask_record(state: State, call: OpenCall, order: Order, robot: RobotId, outcome: str) -> AskRecord:
    owner, line = state.robots[robot].announce.owner, call.answers.get(robot, {}).get(order.id)
    if not isinstance(line, AskLine):
        return AskRecord(robot=robot, owner=owner, outcome=outcome[:160])
    return AskRecord(
        robot=robot,
        owner=owner,
        ask_uc=line.ask_uc,
        energy_uc=line.energy_uc,
        wear_uc=line.wear_uc,
        time_uc=line.time_uc,
        energy_j=line.energy_j,
        handicap_uc=min(state.handicap_uc(order, robot, line), MAX_PRICE_UC),
        outcome=outcome[:160],
    )


def _loss(
    state: State,
    call: OpenCall,
    order: Order,
    robot: RobotId,
    award: LotAward | None,
    lots_of: dict[RobotId, LotAward],
    now_ns: int,
) -> str:
    """Return ``won``, or why a robot did not win a lot, in words and numbers."""
    line = call.answers.get(robot, {}).get(order.id)
    if isinstance(line, DeclineLine):
        return f"declined: {line.reason}" + (f" ({line.detail})" if line.detail else "")
    if line is None:
        return "did not ask" if call.round == 1 else f"did not ask in round {call.round}"
    if award is not None and award.robot == robot:
        return "won"
    handicap = state.handicap_uc(order, robot, line)
    asked = f"asked {Credits(line.ask_uc)}" + (f" (handicap {Credits(handicap)})" if handicap else "")
    if now_ns < (cool := order.cool_until_ns.get(robot, 0)):
        return f"cooling down for {seconds(cool - now_ns):.0f} s after it declined or lost this order"
    if line.ask_uc + handicap > order.max_price_uc:
        return f"{asked}, the budget is {Credits(order.max_price_uc)}"
    if robot in lots_of:
        return f"{asked}, won {lots_of[robot].order} instead, which gains more in sum"
    return f"{asked}, {_other_end(call, order, award)}"


def _other_end(call: OpenCall, order: Order, award: LotAward | None) -> str:
    """Return what became of a lot that a robot could have won."""
    if award is not None:
        other = f" (handicap {Credits(award.handicap_uc)})" if award.handicap_uc else ""
        return f"{award.robot} asked {Credits(award.ask_uc)}{other}"
    if order.id in call.left_out:
        return f"but the group {order.group} could not be sold whole"
    return f"but the batch ended with round {call.round}"


def newest(found: Sequence[LotRecord]) -> tuple[LotRecord, ...]:
    """Return as many of the newest records as fit into one message, oldest first."""
    return pages(list(reversed(found)))[0][::-1] if found else ()
