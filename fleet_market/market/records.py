"""The clearing record: for every lot of a batch who asked what, who won at which price, and why the others did not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fleet_market.auction import Clearing, LotAward
from fleet_market.contracts import Order
from fleet_market.ids import OrderId, RobotId
from fleet_market.market.state import OpenCall, State
from fleet_market.protocol.messages import MAX_PRICE_UC, AskLine, AskRecord, LotRecord
from fleet_market.units import Credits, ns, seconds

MAX_ASK_RECORDS = 90
"""Robots that one lot's record lists; the cheapest asks are kept."""
ASKS_PER_PAGE = 100
"""With the longest names and reasons a page of records stays under the 64 KiB that the market may send."""
LOT_COUNTS_AS = 2


class Recorder:
    """Writes the records of one round, as it stands when the round is cleared."""

    def __init__(self, state: State, call: OpenCall, now_ns: int) -> None:
        self._state, self._call, self._now_ns = state, call, now_ns
        self._concerned: defaultdict[OrderId, list[RobotId]] = defaultdict(list)
        for robot, offered in sorted(call.offered.items()):
            for order in offered:
                self._concerned[order].append(robot)

    def sold(self, order: Order, award: LotAward, cleared: Clearing, lots_of: Mapping[RobotId, LotAward]) -> LotRecord:
        """Return the record of a lot that the round has sold; `lots_of` says what each winner of the round has won."""
        without = cleared.welfare_without_uc.get(award.owner)
        less = (
            "" if without is None else f": welfare {Credits(cleared.welfare_uc)}, without {award.owner} {Credits(without)}"
        )
        paid = f"{_asked(award.ask_uc, award.handicap_uc)}, is paid {Credits(award.price_uc)}"
        return self._record(
            order,
            self._asks(order, award, lots_of),
            f"round {self._call.round}: {award.robot} {paid}{less}",
            award,
            cleared.welfare_uc,
            without,
        )

    def unsold(self, order: Order) -> LotRecord:
        """Return the record of a lot that no round of the batch has sold."""
        state, call = self._state, self._call
        asks = self._asks(order, None, {})
        scores = [a.ask_uc + a.handicap_uc for a in asks if a.ask_uc is not None]
        if not asks and order.rank(self._now_ns, ns(state.terms.aging_s)) < call.floor:
            summary = f"the batch ended with round {call.round}, before priority {order.priority} was on sale"
        elif not call.answers and not call.wins:
            summary = "no robot answered"
        elif not asks:
            summary = "no robot was asked for it: others were nearer to all"
        elif not scores:
            summary = "no robot asked for it"
        else:
            low, most = Credits(min(scores)), Credits(order.max_price_uc)
            summary = f"no ask could win: the lowest came to {low}, the budget is {most}"
        return self._record(order, asks, summary)

    def withdrawn(self, order: Order, record: LotRecord) -> LotRecord:
        """Return the record of a lot that a round has sold in vain, since its group could not be sold whole."""
        why = f"its group {order.group} could not be sold whole"
        asks = [
            a.model_copy(update={"outcome": f"would have won, but {why}"}) if a.outcome == "won" else a for a in record.asks
        ]
        return record.model_copy(
            update={"winner": None, "price_uc": None, "welfare_without_uc": None, "asks": tuple(asks), "summary": why}
        )

    def _record(
        self,
        order: Order,
        asks: Sequence[AskRecord],
        summary: str,
        award: LotAward | None = None,
        welfare_uc: int = 0,
        without_uc: int | None = None,
    ) -> LotRecord:
        winner = None if award is None else award.robot
        return LotRecord(
            call=self._call.id,
            round=self._call.round,
            order=order.id,
            closed_ns=self._now_ns,
            budget_uc=order.max_price_uc,
            winner=winner,
            price_uc=None if award is None else award.price_uc,
            welfare_uc=welfare_uc,
            welfare_without_uc=without_uc,
            asks=_listed(asks, winner),
            not_asked=len(self._call.offered) - len(self._concerned[order.id]),
            summary=summary[:160],
        )

    def _asks(self, order: Order, award: LotAward | None, lots_of: Mapping[RobotId, LotAward]) -> list[AskRecord]:
        return [self._ask(order, robot, award, lots_of) for robot in self._concerned[order.id]]

    def _ask(self, order: Order, robot: RobotId, award: LotAward | None, lots_of: Mapping[RobotId, LotAward]) -> AskRecord:
        owner, line = self._state.robots[robot].announce.owner, self._call.answers.get(robot, {}).get(order.id)
        if isinstance(line, AskLine):
            handicap = self._state.handicap_uc(order, robot, line)
            return AskRecord(
                robot=robot,
                owner=owner,
                ask_uc=line.ask_uc,
                parts_uc=line.parts_uc,
                energy_sd_j=line.energy_sd_j,
                energy_j=line.energy_j,
                handicap_uc=min(handicap, MAX_PRICE_UC),
                outcome=self._outcome(order, robot, line.ask_uc, handicap, award, lots_of)[:160],
            )
        if line is not None:
            outcome = f"declined: {line.reason}" + (f" ({line.detail})" if line.detail else "")
        else:
            outcome = "did not ask" if self._call.round == 1 else f"did not ask in round {self._call.round}"
        return AskRecord(robot=robot, owner=owner, outcome=outcome[:160])

    def _outcome(
        self,
        order: Order,
        robot: RobotId,
        ask_uc: int,
        handicap_uc: int,
        award: LotAward | None,
        lots_of: Mapping[RobotId, LotAward],
    ) -> str:
        """Return ``won``, or why an ask did not win, in words and numbers."""
        if award is not None and award.robot == robot:
            return "won"
        asked = _asked(ask_uc, handicap_uc)
        if self._now_ns < (cool := order.cool_until_ns.get(robot, 0)):
            return f"cooling down for {seconds(cool - self._now_ns):.0f} s after it declined or lost this order"
        if ask_uc + handicap_uc > order.max_price_uc:
            return f"{asked}, the budget is {Credits(order.max_price_uc)}"
        if robot in lots_of:
            return f"{asked}, won {lots_of[robot].order} instead, which gains more in sum"
        if award is not None:
            return f"{asked}, {award.robot} {_asked(award.ask_uc, award.handicap_uc)}"
        return f"{asked}, but the batch ended with round {self._call.round}"


def _asked(ask_uc: int, handicap_uc: int) -> str:
    return f"asked {Credits(ask_uc)}" + (f" (handicap {Credits(handicap_uc)})" if handicap_uc else "")


def in_pages(records: Sequence[LotRecord]) -> list[tuple[LotRecord, ...]]:
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


def _listed(asks: Sequence[AskRecord], winner: RobotId | None) -> tuple[AskRecord, ...]:
    if len(asks) <= MAX_ASK_RECORDS:
        return tuple(asks)
    best = sorted(asks, key=lambda a: (a.robot != winner, a.ask_uc is None, (a.ask_uc or 0) + a.handicap_uc, a.robot))
    return tuple(sorted(best[:MAX_ASK_RECORDS], key=lambda a: a.robot))


def newest(found: Sequence[LotRecord]) -> tuple[LotRecord, ...]:
    """Return as many of the newest records as fit into one message, oldest first."""
    return in_pages(list(reversed(found)))[0][::-1] if found else ()
