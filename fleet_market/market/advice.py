"""The sale of oracles' quotes: the market holds the fee, asks the oracle for an unnamed buyer, and pays on delivery.

Whenever somebody pays for the band of an order on sale, the market asks all other oracles for theirs too, in questions that
cannot be told from paid ones. These bands are sealed: nobody gets them, and all are judged together after the settlement.

The money of a quote is in one of three places: with the buyer, on hold from the buyer to the oracle, or, all in one linked
group of transfers, with the oracle and the owners of the robots whose telemetry was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fleet_market.errors import InputError
from fleet_market.ids import AccountId, MessageId, OwnerId, PartyName, QuoteId, RobotId, TransferId, derive
from fleet_market.ledger import AccountKind, Transfer, TransferKind, account, kind_of
from fleet_market.market.commands import Command
from fleet_market.market.consultations import Consultation, OracleRecord, account_of, bond_of, name_of
from fleet_market.market.enquiries import ON_SALE, Enquiry, enquiry, is_answer, is_thin, question
from fleet_market.market.lookups import PlaceBook
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import MoneyError, State
from fleet_market.oracle.sale import Fees, split
from fleet_market.oracle.scoring import Band
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    AdviceFees,
    FairAnswer,
    FairReply,
    FairRequest,
    FieldError,
    OracleTerms,
    Receipt,
    WireBand,
)
from fleet_market.units import Credits, ns

MAX_ORACLES = 20
MAX_OPEN = 200
"""Questions that wait for oracles' answers at once, sealed ones not counted: of these there are `MAX_ORACLES` each."""
MAX_OPEN_EACH = 10
"""Of one buyer: nobody can keep the others from asking."""
OK, NOT_YOURS, OVER, NOT_ASKED = "ok", "not_your_question", "question_is_over", "not_what_was_asked"
"""Results in a receipt to an oracle."""


class Advice:
    """Sells quotes for the oracles of one zone."""

    def __init__(self, state: State, places: PlaceBook) -> None:
        self._state, self._places = state, places

    def handle(self, command: Command, out: Outcome) -> None:
        """Handle a message of a buyer or of an oracle."""
        match command.body:
            case OracleTerms() as body:
                self._enter(command, body, out)
            case FairRequest() as body:
                self._request(command, body, out)
            case FairAnswer() as body:
                self._answer(command, body, out)

    def tick(self, now_ns: int, out: Outcome) -> None:
        """Give back the fees of questions that were not answered in time."""
        for name in list(self._state.asked):
            consultation = self._state.consultations[name]
            if now_ns < consultation.answer_by_ns:
                break
            self._give_back(consultation, "the oracle did not answer in time", TransferKind.EXPIRE, now_ns, out)

    # --- oracles ---

    def _enter(self, command: Command, body: OracleTerms, out: Outcome) -> None:
        state, name = self._state, PartyName(command.source)
        others: dict[str, int | None] = {field: getattr(body, field) for field in AdviceFees.model_fields}
        fees = Fees(body.now_uc, body.later_uc, min(body.thin_uc, body.now_uc, body.later_uc), **others)
        known = state.oracles.get(name)
        if known is None and len(state.oracles) >= MAX_ORACLES:
            _receipt(command, f"the zone has its {MAX_ORACLES} oracles", out)
            return
        if known is None:
            known = state.oracles[name] = OracleRecord(fees)
            state.open_account(account_of(name), out)
        known.fees, known.open = fees, body.status == "open"
        out.changed = True
        _receipt(command, OK, out)

    # --- buyers ---

    def _request(self, command: Command, body: FairRequest, out: Outcome) -> None:
        state, name = self._state, name_of(command.source, body.quote)
        known = state.consultations.get(name)
        if known is not None and known.reply is not None:
            _say(known, known.reply, command.message_id, out)
            return
        if known is not None:
            known.message_id, out.changed = command.message_id, True
            return
        errors: list[FieldError] = []
        found, oracle = enquiry(state, self._places, body, command.now_ns, errors), state.oracles.get(body.oracle)
        buyer = self._payer(command.source)
        if oracle is None or not oracle.open:
            errors.append(_error("oracle", body.oracle, "no such oracle sells here: see `fleet-market oracle score`"))
        else:
            errors += _too_dear(oracle.fees, body)
        waiting = [c.source for c in map(state.consultations.__getitem__, state.asked) if c.sealed_with is None]
        if len(waiting) >= MAX_OPEN or waiting.count(command.source) >= MAX_OPEN_EACH:
            errors.append(_error("quote", body.quote, "too many questions wait for answers: try again"))
        if buyer is None:
            errors.append(_error("customer", command.source, "unknown buyer: add it to the fleet file's customers"))
        if errors or found is None or oracle is None or buyer is None:
            _refuse(command, body, buyer, errors, out)
            return
        self._ask(command, body, found, oracle, buyer, out)

    def _ask(
        self, command: Command, body: FairRequest, found: Enquiry, oracle: OracleRecord, buyer: AccountId, out: Outcome
    ) -> None:
        """Hold the fee and ask the oracle."""
        state, now_ns, later = self._state, command.now_ns, body.later_s > 0
        held_uc = 0 if body.preview else oracle.fees.held_uc(body.what, later=later)
        number = state.consulted + 1
        consultation = Consultation(
            name=name_of(command.source, body.quote),
            question=QuoteId(f"q-{derive(state.seed, state.zone, number)}"),
            quote=body.quote,
            oracle=body.oracle,
            source=command.source,
            buyer=buyer,
            message_id=command.message_id,
            what=body.what,
            order=body.order,
            on_sale=found.on_sale and body.what == "band" and not later,
            later=later,
            preview=body.preview,
            fees=oracle.fees,
            hold=TransferId(f"fee:{derive(number, command.source, body.quote)}") if held_uc else None,
            held_uc=held_uc,
            answer_by_ns=now_ns + ns(state.terms.answer_s),
        )
        if held_uc and not state.transfer([_hold(consultation)], now_ns, out):
            left = Credits(state.ledger.balance(buyer).available_uc)
            uncovered = _error("max_fee", Credits(held_uc), f"the fee is not covered: the account holds {left} credits")
            _refuse(command, body, buyer, [uncovered], out)
            return
        state.consulted = number
        self._put(consultation, found, body, now_ns, out)
        if consultation.on_sale and not consultation.preview:
            for name, record in state.oracles.items():
                if record.open and name != body.oracle:
                    self._seal(consultation, name, record, found, body, now_ns, out)

    def _seal(
        self,
        paid: Consultation,
        oracle: PartyName,
        record: OracleRecord,
        found: Enquiry,
        body: FairRequest,
        now_ns: int,
        out: Outcome,
    ) -> None:
        """Ask another oracle the same, for its band to be judged beside the one that is paid."""
        state = self._state
        state.consulted += 1
        sealed = replace(
            paid,
            name=derive(paid.name, oracle),
            question=QuoteId(f"q-{derive(state.seed, state.zone, state.consulted)}"),
            oracle=oracle,
            message_id=None,
            fees=record.fees,
            hold=None,
            held_uc=0,
            sealed_with=paid.name,
        )
        self._put(sealed, found, body, now_ns, out)

    def _put(self, consultation: Consultation, found: Enquiry, body: FairRequest, now_ns: int, out: Outcome) -> None:
        """Send a question to its oracle. What it says is the same for sealed ones: nothing tells who pays."""
        self._state.consultations[consultation.name] = consultation
        self._state.asked[consultation.name] = None
        asked = question(consultation.question, found, body, now_ns, consultation.answer_by_ns)
        topic = topics.to_customer(consultation.oracle, "question")
        out.sends.append(Send(topic, asked, id=_question_id(consultation)))
        out.changed = True

    def _payer(self, source: str) -> AccountId | None:
        """Return the account that pays for a buyer: a customer's own, or a robot's owner's; None if there is none."""
        ledger, customer = self._state.ledger, account(AccountKind.CUSTOMER, source)
        if ledger.has(customer):
            return customer
        robot = self._state.robots.get(RobotId(source)) if RobotId.PATTERN.fullmatch(source) else None
        owner = None if robot is None else account(AccountKind.OWNER, robot.announce.owner)
        return owner if owner is not None and ledger.has(owner) else None

    # --- answers ---

    def _answer(self, command: Command, body: FairAnswer, out: Outcome) -> None:
        state = self._state
        name = next((n for n in state.asked if state.consultations[n].question == body.quote), None)
        if name is None:
            _receipt(command, OVER, out)
            return
        consultation = state.consultations[name]
        if consultation.oracle != command.source:
            _receipt(command, NOT_YOURS, out)
            return
        if command.now_ns >= consultation.answer_by_ns:
            self._give_back(consultation, "the oracle did not answer in time", TransferKind.EXPIRE, command.now_ns, out)
            _receipt(command, OVER, out)
            return
        if not is_answer(consultation.what, body):
            _receipt(command, NOT_ASKED, out)
            return
        if body.band is None and body.advice is None:
            self._give_back(consultation, "the oracle cannot tell", TransferKind.VOID, command.now_ns, out)
        elif consultation.sealed_with is not None:
            self._keep(consultation, body.band)
            self._close(consultation, self._reply(consultation, "no_quote"), out)
        elif consultation.preview:
            reply = self._reply(consultation, "preview").model_copy(update={"band": body.band})
            self._close(consultation, reply, out)
        else:
            self._deliver(consultation, body, command.now_ns, out)
        _receipt(command, OK, out)

    def _deliver(self, consultation: Consultation, body: FairAnswer, now_ns: int, out: Outcome) -> None:
        """Pay for an answer, share the fee with the robots' owners, and hand it over."""
        state, band = self._state, body.band
        due_uc = consultation.fees.due_uc(consultation.what, later=consultation.later, thin=is_thin(body))
        used = {robot: records for robot, records in body.used if robot in state.robots}
        parts = split(due_uc, used, state.terms.robots_share)
        owners: dict[OwnerId, int] = {}
        for robot, amount_uc in parts.robots_uc.items():
            owner = state.robots[robot].announce.owner
            owners[owner] = owners.get(owner, 0) + amount_uc
        self._pay(consultation, due_uc, owners, now_ns, out)
        record = state.oracles[consultation.oracle]
        record.sold += 1
        record.earned_uc += parts.oracle_uc
        record.robots_uc += due_uc - parts.oracle_uc
        self._keep(consultation, band)
        reply = self._reply(consultation, "quoted").model_copy(
            update={
                "band": band,
                "advice": body.advice,
                "valid_until_ns": now_ns + ns(state.terms.quote_life_s),
                "fee_uc": due_uc,
                "robots_uc": due_uc - parts.oracle_uc,
            }
        )
        self._close(consultation, reply, out)

    def _keep(self, consultation: Consultation, band: WireBand | None) -> None:
        """Keep a band to be judged, if its order has not been sold meanwhile."""
        order = None if consultation.order is None else self._state.orders.get(consultation.order)
        if band is not None and consultation.on_sale and order is not None and order.state in ON_SALE:
            consultation.band = Band(band.low_uc, band.high_uc, band.confidence)

    def _pay(self, c: Consultation, due_uc: int, owners: dict[OwnerId, int], now_ns: int, out: Outcome) -> None:
        if c.hold is None:
            return
        if due_uc == 0:
            self._release(c, TransferKind.VOID, now_ns, out)
            return
        oracle = account_of(c.oracle)
        capture = TransferId(f"capture:{derive(c.hold)}")
        wishes = [Transfer(capture, TransferKind.CAPTURE, c.buyer, oracle, due_uc, c.hold, c.quote)]
        for owner, amount_uc in sorted(owners.items()):
            if amount_uc:
                credit = account(AccountKind.OWNER, owner)
                self._state.open_account(credit, out)
                share = TransferId(f"share:{derive(c.hold, owner)}")
                wishes.append(Transfer(share, TransferKind.POST, oracle, credit, amount_uc, reference=c.quote))
        if (bond_uc := self._bond_uc(c.oracle, due_uc - sum(owners.values()))) > 0:
            self._state.open_account(bond_of(c.oracle), out)
            name = TransferId(f"bond:{derive(c.hold)}")
            wishes.append(Transfer(name, TransferKind.POST, oracle, bond_of(c.oracle), bond_uc, reference=c.quote))
        if not self._state.transfer(wishes, now_ns, out):
            raise MoneyError(f"the fee of quote {c.quote} could not be paid")

    def _bond_uc(self, oracle: PartyName, earned_uc: int) -> int:
        """Return what of an oracle's own part of a fee goes into its bond, until that is whole."""
        ledger, bond = self._state.ledger, bond_of(oracle)
        there_uc = ledger.balance(bond).available_uc if ledger.has(bond) else 0
        return min(earned_uc, max(0, self._state.terms.bond_uc - there_uc))

    def _give_back(self, c: Consultation, why: str, kind: TransferKind, now_ns: int, out: Outcome) -> None:
        if c.hold is not None:
            self._release(c, kind, now_ns, out)
        self._close(c, self._reply(c, "no_quote").model_copy(update={"note": why}), out)

    def _release(self, c: Consultation, kind: TransferKind, now_ns: int, out: Outcome) -> None:
        name = TransferId(f"void:{derive(c.hold)}")
        if not self._state.transfer([Transfer(name, kind, c.buyer, account_of(c.oracle), 0, c.hold, c.quote)], now_ns, out):
            raise MoneyError(f"the fee of quote {c.quote} could not be given back")

    def _reply(self, c: Consultation, result: Literal["quoted", "preview", "no_quote"]) -> FairReply:
        return FairReply(quote=c.quote, result=result, oracle=c.oracle, what=c.what, order=c.order)

    def _close(self, consultation: Consultation, reply: FairReply, out: Outcome) -> None:
        del self._state.asked[consultation.name]
        consultation.reply = reply
        out.done.append(_question_id(consultation))
        out.changed = True
        if consultation.sealed_with is None:
            _say(consultation, reply, consultation.message_id, out)


def _too_dear(fees: Fees, body: FairRequest) -> list[FieldError]:
    """Return what is wrong with the fee of what is asked for: there is none, or it is more than the buyer pays."""
    if body.preview:
        return []
    try:
        fee_uc = fees.held_uc(body.what, later=body.later_s > 0)
    except InputError as error:
        return [_error("advice", body.what, error.mend)]
    if fee_uc > body.max_fee_uc:
        return [_error("max_fee", Credits(body.max_fee_uc), f"it charges {Credits(fee_uc)} credits")]
    return []


def _hold(c: Consultation) -> Transfer:
    if c.hold is None:
        raise MoneyError(f"quote {c.quote} has no fee to hold")
    return Transfer(
        c.hold,
        TransferKind.HOLD,
        c.buyer,
        account_of(c.oracle),
        c.held_uc,
        reference=c.quote,
        expires_ns=c.answer_by_ns,
    )


def _question_id(consultation: Consultation) -> MessageId:
    return MessageId(f"question:{consultation.question}")


def _topic(source: str, buyer: AccountId | None) -> str:
    robot = buyer is not None and kind_of(buyer) is AccountKind.OWNER
    return topics.to_robot(source, "fair") if robot else topics.to_customer(source, "fair")


def _say(consultation: Consultation, reply: FairReply, corr: MessageId | None, out: Outcome) -> None:
    out.sends.append(Send(_topic(consultation.source, consultation.buyer), reply, corr=corr))


def _refuse(
    command: Command, body: FairRequest, buyer: AccountId | None, errors: Sequence[FieldError], out: Outcome
) -> None:
    refusal = FairReply(
        quote=body.quote, result="refused", oracle=body.oracle, what=body.what, order=body.order, errors=tuple(errors)
    )
    out.sends.append(Send(_topic(command.source, buyer), refusal, corr=command.message_id, reply=True))


def _receipt(command: Command, result: str, out: Outcome) -> None:
    if command.message_id is not None:
        receipt = Receipt(of=command.message_id, result=result)
        out.sends.append(Send(topics.to_customer(command.source, "receipt"), receipt, corr=command.message_id, reply=True))


def _error(field: str, value: object, mend: str) -> FieldError:
    return FieldError(field=field, value=str(value)[:160], mend=mend[:300])
