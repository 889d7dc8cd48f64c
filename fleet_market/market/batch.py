"""The batch: open a sealed call, collect asks, clear, award."""

from __future__ import annotations

from fleet_market.auction import Clearing, LotOffer, SealedAsk, clear
from fleet_market.auction.clearing import LotAward
from fleet_market.contracts import Contract, Order
from fleet_market.ids import CallId, ContractId, OrderId, RobotId, derive
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import OpenCall, PendingQuote, State, award_id
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Ask,
    AskLine,
    AskRecord,
    Award,
    Call,
    Cleared,
    DeclineLine,
    Lot,
    LotRecord,
    OrderState,
    QuoteReply,
)
from fleet_market.units import Credits, ns, seconds

MAX_LOTS = 2000
"""Lots of one call; more wait for the next."""
LOTS_PER_PAGE = 100
"""A page of a call stays under the 64 KiB that the market may send."""
RECORDS_PER_PAGE = 10


class Batches:
    """Runs the zone's batches, one after the other."""

    def __init__(self, state: State) -> None:
        self._state = state

    def tick(self, now_ns: int, out: Outcome) -> None:
        """Close the call that is due and open the next one if there is anything to sell."""
        call = self._state.call
        if call is not None and now_ns >= call.close_ns:
            self._close(call, now_ns, out)
        if self._state.call is None and not self._state.paused:
            self._open(now_ns, out)

    def take(self, robot: RobotId, ask: Ask, out: Outcome) -> None:
        """Keep a robot's sealed asks; the first message for a call counts, late or foreign ones do not."""
        call = self._state.call
        if call is None or ask.call != call.id or robot not in self._state.robots or robot in call.asks:
            return
        if any(line.lot >= len(call.lots) for line in _lines(ask)):
            return
        call.asks[robot] = ask
        out.changed = True

    def _open(self, now_ns: int, out: Outcome) -> None:
        state = self._state
        open_orders = [o for o in state.orders.values() if o.state is OrderState.OPEN][:MAX_LOTS]
        lots = (*(_lot(order) for order in open_orders), *(quote.lot for quote in state.quotes))
        if not lots or not any(robot.online for robot in state.robots.values()):
            return
        state.batches += 1
        call_id = CallId(f"{state.zone}:{state.epoch}:{state.batches}")
        call = OpenCall(call_id, now_ns, now_ns + ns(state.terms.batch_s), lots)
        state.call, out.changed = call, True
        pages = [lots[i : i + LOTS_PER_PAGE] for i in range(0, len(lots), LOTS_PER_PAGE)]
        out.sends += [
            Send(
                topics.zone(state.zone, "call"),
                Call(call=call.id, page=i, pages=len(pages), close_ns=call.close_ns, lots=page),
            )
            for i, page in enumerate(pages)
        ]

    def _close(self, call: OpenCall, now_ns: int, out: Outcome) -> None:
        state = self._state
        state.call, out.changed = None, True
        orders = [o for lot in call.lots if (o := state.orders.get(lot.order)) and o.state is OrderState.OPEN]
        asks = [ask for robot, message in sorted(call.asks.items()) for ask in self._eligible(robot, message, call, now_ns)]
        cleared = clear(
            [LotOffer(order.id, order.max_price_uc) for order in orders], asks, seed=derive(state.seed, call.id)
        )
        won = {award.order: award for award in cleared.awards}
        records = [self._record(order, call, cleared, won, now_ns) for order in orders]
        for order, record in zip(orders, records, strict=True):
            order.keep(record)
            if order.id in won:
                self._award(order, won[order.id], call, now_ns, out)
        pages = [records[i : i + RECORDS_PER_PAGE] for i in range(0, len(records), RECORDS_PER_PAGE)]
        for number, page in enumerate(pages):
            body = Cleared(
                call=call.id,
                page=number,
                pages=len(pages),
                opened_ns=call.opened_ns,
                closed_ns=now_ns,
                welfare_uc=cleared.welfare_uc,
                seed=cleared.seed,
                lots=tuple(page),
            )
            out.sends.append(Send(topics.view(state.zone, "cleared"), body))
        for quote in [q for q in state.quotes if q.lot in call.lots]:
            state.quotes.remove(quote)
            reply = self._quote_reply(quote, call)
            out.sends.append(Send(topics.to_customer(quote.customer, "quote"), reply, corr=quote.message_id))

    def _eligible(self, robot: RobotId, message: Ask, call: OpenCall, now_ns: int) -> list[SealedAsk]:
        owner = self._state.robots[robot].announce.owner
        asks = []
        for line in {line.lot: line for line in reversed(message.asks)}.values():
            order = self._state.orders.get(call.lots[line.lot].order)
            if order is None or order.state is not OrderState.OPEN or now_ns < order.cool_until_ns.get(robot, 0):
                continue
            asks.append(SealedAsk(robot, owner, order.id, line.ask_uc))
        return asks

    def _award(self, order: Order, award: LotAward, call: OpenCall, now_ns: int, out: Outcome) -> None:
        state, terms = self._state, self._state.terms
        line = _line_of(call, award.robot, order.id)
        if not isinstance(line, AskLine):
            raise TypeError(f"{award.robot} won {order.id} without an ask")
        order.attempts += 1
        contract = Contract(
            id=ContractId(derive("contract", order.id, award.robot, call.id, award.price_uc)),
            order=order.id,
            robot=award.robot,
            owner=award.owner,
            price_uc=award.price_uc,
            ask_uc=award.ask_uc,
            energy_j=line.energy_j,
            awarded_ns=now_ns,
            answer_by_ns=now_ns + ns(terms.accept_s),
            limit_ns=max(order.deadline_ns, line.finish_ns) + ns(terms.overdue_s),
        )
        state.contracts[contract.id] = contract
        order.state, order.contract, order.robot, order.note = OrderState.AWARDED, contract.id, award.robot, ""
        order.ask_uc, order.price_uc, order.predicted_energy_j = award.ask_uc, award.price_uc, line.energy_j
        order.awarded_ns = now_ns
        body = Award(
            contract=contract.id,
            epoch=state.epoch,
            order=order.id,
            pickup=order.pickup,
            dropoff=order.dropoff,
            payload_kg=order.payload_kg,
            price_uc=award.price_uc,
            ask_uc=award.ask_uc,
            energy_j=line.energy_j,
            deadline_ns=order.deadline_ns,
            answer_by_ns=contract.answer_by_ns,
            lease_s=terms.lease_s,
        )
        out.sends.append(Send(topics.to_robot(award.robot, "award"), body, id=award_id(contract.id)))
        state.announce(order, out)

    def _record(
        self, order: Order, call: OpenCall, cleared: Clearing, won: dict[OrderId, LotAward], now_ns: int
    ) -> LotRecord:
        award = won.get(order.id)
        lots_of = {a.robot: a for a in cleared.awards}
        asks = tuple(self._ask_record(robot, order, call, award, lots_of, now_ns) for robot in sorted(call.asks))
        if award is not None:
            less = f"welfare of the batch {Credits(cleared.welfare_uc)}, without {award.owner}"
            without = Credits(cleared.welfare_without_uc[award.owner])
            summary = f"{award.robot} asked {Credits(award.ask_uc)}, is paid {Credits(award.price_uc)}: {less} {without}"
        elif not call.asks:
            summary = "no robot answered"
        elif all(a.ask_uc is None for a in asks):
            summary = "no robot asked for it"
        else:
            summary = "every ask was above the budget, cooling down, or won another lot"
        return LotRecord(
            call=call.id,
            order=order.id,
            closed_ns=now_ns,
            budget_uc=order.max_price_uc,
            winner=award.robot if award is not None else None,
            price_uc=award.price_uc if award is not None else None,
            asks=asks,
            summary=summary[:160],
        )

    def _ask_record(
        self,
        robot: RobotId,
        order: Order,
        call: OpenCall,
        award: LotAward | None,
        lots_of: dict[RobotId, LotAward],
        now_ns: int,
    ) -> AskRecord:
        owner, line = self._state.robots[robot].announce.owner, _line_of(call, robot, order.id)
        if isinstance(line, DeclineLine):
            outcome = f"declined: {line.reason}" + (f" ({line.detail})" if line.detail else "")
            return AskRecord(robot=robot, owner=owner, outcome=outcome)
        if line is None:
            return AskRecord(robot=robot, owner=owner, outcome="did not ask")
        cool = order.cool_until_ns.get(robot, 0)
        if award is not None and award.robot == robot:
            outcome = "won"
        elif now_ns < cool:
            outcome = f"cooling down for {seconds(cool - now_ns):.0f} s after it declined or lost this order"
        elif line.ask_uc > order.max_price_uc:
            outcome = f"asked {Credits(line.ask_uc)}, the budget is {Credits(order.max_price_uc)}"
        elif robot in lots_of:
            outcome = f"won {lots_of[robot].order} instead, which gains more in sum"
        elif award is not None:
            outcome = f"asked {Credits(line.ask_uc)}, {award.robot} asked {Credits(award.ask_uc)}"
        else:
            outcome = "another lot gained more"
        return AskRecord(
            robot=robot,
            owner=owner,
            ask_uc=line.ask_uc,
            energy_uc=line.energy_uc,
            wear_uc=line.wear_uc,
            time_uc=line.time_uc,
            energy_j=line.energy_j,
            outcome=outcome[:160],
        )

    def _quote_reply(self, quote: PendingQuote, call: OpenCall) -> QuoteReply:
        lines = {robot: _line_of(call, robot, quote.lot.order) for robot in sorted(call.asks)}
        asks = sorted((line.ask_uc, robot, line.finish_ns) for robot, line in lines.items() if isinstance(line, AskLine))
        declines = tuple(
            (robot, line.reason, line.detail) for robot, line in lines.items() if isinstance(line, DeclineLine)
        )
        if not asks:
            return QuoteReply(result="no_ask", declines=declines)
        owner = self._state.robots[asks[0][1]].announce.owner
        others = [ask for ask, robot, _ in asks if self._state.robots[robot].announce.owner != owner]
        return QuoteReply(
            result="quoted",
            robots=len(asks),
            best_ask_uc=asks[0][0],
            second_ask_uc=others[0] if others else None,
            best_finish_ns=asks[0][2],
            declines=declines,
        )


def _lot(order: Order) -> Lot:
    return Lot(
        order=order.id,
        pickup=order.pickup,
        dropoff=order.dropoff,
        payload_kg=order.payload_kg,
        deadline_ns=order.deadline_ns,
    )


def _lines(message: Ask) -> tuple[AskLine | DeclineLine, ...]:
    return (*message.asks, *message.declines)


def _line_of(call: OpenCall, robot: RobotId, order: OrderId) -> AskLine | DeclineLine | None:
    message = call.asks[robot]
    for line in _lines(message):
        if call.lots[line.lot].order == order:
            return line
    return None
