"""The end of a batch: contracts for what was sold, records for all to see, answers to quotes."""

from __future__ import annotations

from fleet_market.contracts import Contract, Order
from fleet_market.ids import ContractId, derive
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.records import in_pages
from fleet_market.market.state import OpenCall, PendingQuote, State, Win, award_id
from fleet_market.protocol import topics
from fleet_market.protocol.messages import AskLine, Award, Cleared, DeclineLine, LotRecord, OrderState, QuoteReply
from fleet_market.units import ns

MAX_DECLINES_TOLD = 100
"""Robots that a quote lists as declining."""


def seed_of(state: State, call: OpenCall) -> str:
    """Return the draw that breaks the ties of a batch."""
    return derive(state.seed, call.id)


def award(state: State, order: Order, win: Win, call: OpenCall, now_ns: int, out: Outcome) -> None:
    """Make the contract of an order that was sold, and announce it."""
    terms, won, line = state.terms, win.award, win.line
    order.attempts += 1
    contract = Contract(
        id=ContractId(derive("contract", order.id, won.robot, call.id, won.price_uc)),
        order=order.id,
        robot=won.robot,
        owner=won.owner,
        price_uc=won.price_uc,
        ask_uc=won.ask_uc,
        energy_j=line.energy_j,
        parts_uc=line.parts_uc,
        awarded_ns=now_ns,
        answer_by_ns=now_ns + ns(terms.accept_s),
        limit_ns=max(order.deadline_ns, line.finish_ns) + ns(terms.overdue_s),
        due_ns=max(order.deadline_ns, line.finish_ns),
    )
    state.contracts[contract.id] = contract
    order.state, order.contract, order.robot, order.note = OrderState.AWARDED, contract.id, won.robot, ""
    order.ask_uc, order.price_uc, order.predicted_energy_j = won.ask_uc, won.price_uc, line.energy_j
    order.awarded_ns = now_ns
    announce_award(state, order, contract, out)


def announce_award(state: State, order: Order, contract: Contract, out: Outcome) -> None:
    """Tell a robot of its new contract, and everyone of the order's new state."""
    body = Award(
        contract=contract.id,
        epoch=state.epoch,
        order=order.id,
        pickup=order.pickup,
        dropoff=order.dropoff,
        payload_kg=order.payload_kg,
        price_uc=contract.price_uc,
        ask_uc=contract.ask_uc,
        energy_j=contract.energy_j,
        deadline_ns=order.deadline_ns,
        lateness_uc_per_h=order.lateness_uc_per_h,
        due_ns=contract.due_ns,
        answer_by_ns=contract.answer_by_ns,
        lease_s=state.terms.lease_s,
    )
    out.sends.append(Send(topics.to_robot(contract.robot, "award"), body, id=award_id(contract.id)))
    state.announce(order, out)


def publish(state: State, call: OpenCall, found: list[LotRecord], now_ns: int, out: Outcome) -> None:
    """Publish the records of a batch that is over, and answer the quotes that rode on it."""
    pages = in_pages(found)
    for number, page in enumerate(pages):
        body = Cleared(
            call=call.id,
            page=number,
            pages=len(pages),
            opened_ns=call.opened_ns,
            closed_ns=now_ns,
            welfare_uc=call.welfare_uc,
            seed=seed_of(state, call),
            lots=page,
        )
        out.sends.append(Send(topics.view(state.zone, "cleared"), body))
    for quote in [q for q in state.quotes if q.lot.order in call.lots]:
        state.quotes.remove(quote)
        reply = _quote_reply(state, quote, call)
        out.sends.append(Send(topics.to_customer(quote.customer, "quote"), reply, corr=quote.message_id))


def _quote_reply(state: State, quote: PendingQuote, call: OpenCall) -> QuoteReply:
    lines = {r: answers.get(quote.lot.order) for r, answers in sorted(call.quotes.items())}
    asks = sorted((line.ask_uc, robot, line.finish_ns) for robot, line in lines.items() if isinstance(line, AskLine))
    declines = tuple((robot, line.reason, line.detail) for robot, line in lines.items() if isinstance(line, DeclineLine))[
        :MAX_DECLINES_TOLD
    ]
    if not asks:
        return QuoteReply(result="no_ask", declines=declines)
    owner = state.robots[asks[0][1]].announce.owner
    others = [ask for ask, robot, _ in asks if state.robots[robot].announce.owner != owner]
    return QuoteReply(
        result="quoted",
        robots=len(asks),
        best_ask_uc=asks[0][0],
        second_ask_uc=others[0] if others else None,
        best_finish_ns=asks[0][2],
        declines=declines,
    )
