"""The customers' desk: orders, quotes, cancellations, questions."""

from __future__ import annotations

from fleet_market.contracts import Contract, Order
from fleet_market.errors import PlaceError
from fleet_market.ids import CustomerId, MessageId, OrderId, derive
from fleet_market.ledger import AccountKind, account
from fleet_market.market import records
from fleet_market.market.commands import Command
from fleet_market.market.lookups import PlaceBook
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.release import members_of
from fleet_market.market.state import PendingQuote, State
from fleet_market.market.status import status
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES
from fleet_market.protocol.messages import (
    AnyBody,
    Cancel,
    CancelOrder,
    FieldError,
    Lot,
    OrderReply,
    OrderState,
    Phase,
    Place,
    PostOrder,
    QuoteReply,
    QuoteRequest,
    StatusRequest,
    TradeRecord,
    WhyReply,
    WhyRequest,
)
from fleet_market.units import Credits, ns

MAX_ORDERS = 100_000
"""Orders that one zone keeps in memory."""
MAX_WHY_BYTES = MAX_OUTBOUND_BYTES - 2048
"""Of an answer to "why"; the rest is left for its envelope."""
MAX_QUOTES = 50
"""Quotes that may wait for one batch."""


class Desk:
    """Answers customers."""

    def __init__(self, state: State, places: PlaceBook) -> None:
        self._state, self._places = state, places

    def handle(self, command: Command, out: Outcome) -> None:
        """Handle one request of a customer."""
        match command.body:
            case PostOrder() as body:
                _answer(command, "order", self._post(command, body, out), out)
            case CancelOrder() as body:
                _answer(command, "cancel", self._cancel(command, body, out), out)
            case QuoteRequest() as body:
                self._quote(command, body, out)
            case WhyRequest() as body:
                _answer(command, "why", self._why(body), out)
            case StatusRequest() as body:
                _answer(command, "status", status(self._state, body, command.now_ns), out)

    def _post(self, command: Command, body: PostOrder, out: Outcome) -> OrderReply:
        state, known = self._state, self._state.orders.get(body.order)
        if known is not None and known.customer == command.source and _same(known, body):
            return OrderReply(order=body.order, result="exists", view=known.view())
        errors: list[FieldError] = []
        if known is not None:
            errors.append(_error("order", body.order, "this id is taken by another order: use a new one"))
        if len(state.orders) >= MAX_ORDERS:
            errors.append(_error("order", body.order, f"the zone holds its {MAX_ORDERS} orders: try again later"))
        if body.deadline_s <= body.release_s:
            errors.append(_error("deadline_s", body.deadline_s, f"use a time after release_s ({body.release_s:g})"))
        pickup, dropoff = (self._place(getattr(body, f), f, errors) for f in ("pickup", "dropoff"))
        most_kg = state.heaviest_kg
        if most_kg is not None and body.payload_kg > most_kg:
            errors.append(_error("payload_kg", body.payload_kg, f"no robot carries it: use at most {most_kg:g} kg"))
        errors += self._link_errors(body, command.source)
        if errors or pickup is None or dropoff is None:
            return OrderReply(order=body.order, result="refused", errors=tuple(errors))
        since = command.now_ns if body.from_ns is None else body.from_ns
        order = Order(
            id=body.order,
            customer=CustomerId(command.source),
            pickup=pickup,
            dropoff=dropoff,
            payload_kg=body.payload_kg,
            release_ns=since + ns(body.release_s),
            deadline_ns=since + ns(body.deadline_s),
            max_price_uc=body.max_price_uc,
            hold=state.hold_id(CustomerId(command.source), body.order),
            priority=body.priority,
            lateness_uc_per_h=body.lateness_uc_per_h,
            value_uc=body.value_uc,
            after=body.after,
            group=body.group,
            group_size=body.group_size,
        )
        if not state.hold_budget(order, command.now_ns, out):
            return OrderReply(order=body.order, result="refused", errors=(self._cannot_pay(order),))
        state.add_order(order)
        state.announce(order, out)
        return OrderReply(order=order.id, result="accepted", view=order.view())

    def _link_errors(self, body: PostOrder, customer: str) -> list[FieldError]:
        """Return what is wrong with the orders that this one is tied to."""
        errors, state = [], self._state
        if body.after is not None:
            before = state.orders.get(body.after)
            if before is None or before.customer != customer:
                errors.append(
                    _error("after", body.after, "no such order of yours: post the one that comes first before it")
                )
            elif before.state.final and before.state is not OrderState.SETTLED:
                errors.append(_error("after", body.after, f"it is {before.state}: name one that can still be done"))
            elif body.group is not None and before.group == body.group:
                errors.append(_error("after", body.after, "orders of one group are awarded together: use another group"))
        if body.group is None:
            if body.group_size != 1:
                errors.append(_error("group_size", body.group_size, "name the group, or leave the size out"))
            return errors
        members = [state.live[name] for name in state.groups.get((CustomerId(customer), body.group), ())]
        sizes = {o.group_size for o in members} - {body.group_size}
        if sizes:
            errors.append(_error("group_size", body.group_size, f"the group was announced with {min(sizes)} orders"))
        elif len(members) >= body.group_size or any(o.state is not OrderState.SCHEDULED for o in members):
            errors.append(_error("group", body.group, f"it has its {body.group_size} orders already: use a new word"))
        return errors

    def _place(self, text: str, field: str, errors: list[FieldError]) -> Place | None:
        try:
            return self._places.resolve(text, source="order", field=field)
        except PlaceError as error:
            errors.append(_error(field, text, error.mend))
            return None

    def _cannot_pay(self, order: Order) -> FieldError:
        mine = account(AccountKind.CUSTOMER, order.customer)
        ledger = self._state.ledger
        if not ledger.has(mine):
            return _error("customer", order.customer, "unknown customer: add it to the fleet file's customers")
        left = Credits(ledger.balance(mine).available_uc)
        return _error("max_price", Credits(order.max_price_uc), f"more than the account holds: use at most {left} credits")

    def _cancel(self, command: Command, body: CancelOrder, out: Outcome) -> OrderReply:
        order = self._state.orders.get(body.order)
        if order is None or order.customer != command.source:
            unknown = _error("order", body.order, "no such order of yours: see `fleet-market order watch`")
            return OrderReply(order=body.order, result="refused", errors=(unknown,))
        contract = self._state.contracts.get(order.contract) if order.contract is not None else None
        unloading = contract is not None and contract.phase is Phase.UNLOADING and order.brought_back_from is None
        if order.state.final or unloading:
            why = f"it is {order.state}" if order.state.final else "the robot is setting the parcel down where it was to go"
            return OrderReply(order=order.id, result="refused", errors=(_error("order", order.id, why),), view=order.view())
        if contract is not None and (contract.aboard or contract.phase not in (Phase.QUEUED, Phase.TO_PICKUP)):
            self._bring_back(order, contract, command.now_ns, out)
            return OrderReply(order=order.id, result="cancelled", view=order.view())
        if contract is not None:
            self._state.revoke(contract, "cancelled by its customer", command.now_ns, out)
        for other in members_of(self._state, order):
            other.group_size -= other is not order
            self._state.look_again([other.id])
        self._state.close_order(order, OrderState.CANCELLED, "cancelled by its customer", command.now_ns, out)
        return OrderReply(order=order.id, result="cancelled", view=order.view())

    def _bring_back(self, order: Order, contract: Contract, now_ns: int, out: Outcome) -> None:
        """Turn the rest of the contract into the way back to the pickup, at the same price."""
        if order.brought_back_from is not None:
            return
        order.brought_back_from, order.dropoff = order.dropoff, order.pickup
        order.note = "cancelled with the parcel aboard: it is brought back to its pickup and paid for there"
        contract.limit_ns = max(contract.limit_ns, now_ns + ns(self._state.terms.overdue_s))
        recall = Cancel(contract=contract.id, reason="cancelled by its customer: bring it back", bring_back=True)
        message = MessageId(f"recall:{derive(contract.id)}")
        out.sends.append(Send(topics.to_robot(contract.robot, "cancel"), recall, id=message))
        self._state.announce(order, out)

    def _quote(self, command: Command, body: QuoteRequest, out: Outcome) -> None:
        errors: list[FieldError] = []
        pickup, dropoff = (self._place(getattr(body, f), f, errors) for f in ("pickup", "dropoff"))
        if len(self._state.quotes) >= MAX_QUOTES:
            errors.append(_error("quote", len(self._state.quotes), "too many quotes wait for the next batch: try again"))
        if errors or pickup is None or dropoff is None or command.message_id is None:
            _answer(command, "quote", QuoteReply(result="refused", errors=tuple(errors)), out)
            return
        if not any(robot.online for robot in self._state.robots.values()):
            _answer(command, "quote", QuoteReply(result="no_ask"), out)
            return
        lot = Lot(
            order=OrderId(f"quote-{derive(command.source, command.message_id)}"),
            pickup=pickup,
            dropoff=dropoff,
            payload_kg=body.payload_kg,
            deadline_ns=command.now_ns + ns(body.deadline_s),
            indicative=True,
        )
        self._state.quotes.append(PendingQuote(command.source, command.message_id, lot))
        out.changed = True

    def _why(self, body: WhyRequest) -> WhyReply:
        order = self._state.orders.get(body.order)
        if order is None:
            return WhyReply(order=body.order, found=False)
        reply = WhyReply(
            order=body.order,
            found=True,
            view=order.view(),
            records=records.newest(order.records),
            levels=order.levels,
        )
        trades, room = list[TradeRecord](), MAX_WHY_BYTES - len(reply.model_dump_json())
        for trade in reversed(order.trades):
            room -= len(trade.model_dump_json())
            if room > 0:
                trades.insert(0, trade)
        return reply.model_copy(update={"trades": tuple(trades)})


def _answer(command: Command, kind: str, body: AnyBody, out: Outcome) -> None:
    out.sends.append(Send(topics.to_customer(command.source, kind), body, corr=command.message_id, reply=True))


def _error(field: str, value: object, mend: str) -> FieldError:
    return FieldError(field=field, value=str(value)[:160], mend=mend[:300])


def _same(order: Order, body: PostOrder) -> bool:
    span = (order.deadline_ns - order.release_ns, order.payload_kg, order.max_price_uc, order.after, order.group)
    return span == (
        ns(body.deadline_s) - ns(body.release_s), body.payload_kg, body.max_price_uc, body.after, body.group,
    )  # fmt: skip
