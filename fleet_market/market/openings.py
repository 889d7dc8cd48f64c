"""Buyers look under quotes: the market draws the leaves, hears the oracle's openings, judges, and takes the bond.

A leaf that is not what its robot has signed does not get as far as this: whoever serves the zone has the register of keys
and lets only openings in that are rightly signed. For the market it was then never opened.
"""

from __future__ import annotations

import base64
import binascii

from fleet_market.errors import InputError
from fleet_market.ids import MessageId, TransferId, derive
from fleet_market.ledger import AccountKind, Transfer, TransferKind, account
from fleet_market.market.commands import Command
from fleet_market.market.consultations import Consultation, Inspection, bond_of, name_of
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import MoneyError, State
from fleet_market.oracle.bond import Commitment, Demand, Verdict, judge
from fleet_market.oracle.evidence import Opening
from fleet_market.protocol import topics
from fleet_market.protocol.messages import FieldError, LeafOpening, OpenDemand, OpenReply, OpenRequest
from fleet_market.units import ns

MAX_INSPECTIONS = 20
"""Demands that wait for openings at once."""
MAX_EACH = 3
"""Demands for one quote: each is work that the oracle is not paid for."""
HASH_BYTES = 32
BURNED = account(AccountKind.SINK, "forfeited")


class Openings:
    """Judges the evidence under quotes of one zone."""

    def __init__(self, state: State) -> None:
        self._state = state

    def handle(self, command: Command, out: Outcome) -> None:
        """Handle a buyer's demand or an oracle's opening."""
        match command.body:
            case OpenRequest() as body:
                self._demand(command, body, out)
            case LeafOpening() as body:
                self._opened(command, body, out)

    def tick(self, now_ns: int, out: Outcome) -> None:
        """Judge demands whose time is over."""
        for name, inspection in list(self._state.inspections.items()):
            if now_ns >= inspection.answer_by_ns:
                self._judge(self._state.consultations[name], inspection, now_ns, out)

    def _demand(self, command: Command, body: OpenRequest, out: Outcome) -> None:
        state, name = self._state, name_of(command.source, body.quote)
        consultation = state.consultations.get(name)
        if (known := state.inspections.get(name)) is not None:
            known.message_id, out.changed = command.message_id, True
            return
        try:
            demand = _demand(consultation, body.seed, body.count, command.now_ns + ns(state.terms.open_s))
            leaves = self._leaves(demand, consultation, command.now_ns)
        except InputError as error:
            wrong = FieldError(field=error.field, value=str(error.value)[:160], mend=error.mend[:300])
            refusal = OpenReply(quote=body.quote, result="refused", errors=(wrong,))
            out.sends.append(Send(_topic(command.source), refusal, corr=command.message_id, reply=True))
            return
        state.consultations[name].inspected += 1
        state.inspections[name] = Inspection(command.message_id, body.seed, body.count, demand.answer_by_ns)
        asked = OpenDemand(
            quote=demand.commitment.quote, size=demand.commitment.size, leaves=leaves, answer_by_ns=demand.answer_by_ns
        )
        topic = topics.to_customer(demand.commitment.oracle, "open")
        out.sends.append(Send(topic, asked, id=_demand_id(demand)))
        out.changed = True

    def _leaves(self, demand: Demand, consultation: Consultation | None, now_ns: int) -> tuple[int, ...]:
        """Return what is to be opened; raises `InputError` if it is too late or too much, or cannot be drawn."""
        quote = "" if consultation is None else consultation.quote
        if consultation is None or consultation.reply is None or now_ns > (consultation.reply.valid_until_ns or 0):
            raise InputError("opening", "quote", quote, "it counts no more: only as long as it does it can be looked under")
        if consultation.inspected >= MAX_EACH or len(self._state.inspections) >= MAX_INSPECTIONS:
            raise InputError("opening", "quote", quote, "too many demands: buy another quote, or try again later")
        return demand.leaves

    def _opened(self, command: Command, body: LeafOpening, out: Outcome) -> None:
        """Take one opening; of one leaf the first counts, and of another oracle none."""
        state = self._state
        for name, inspection in list(state.inspections.items()):
            consultation = state.consultations[name]
            if consultation.question != body.quote or consultation.oracle != command.source:
                continue
            if all(known.index != body.index for known in inspection.openings):
                inspection.openings.append(body)
                out.changed = True
                self._judge(consultation, inspection, command.now_ns, out)

    def _judge(self, consultation: Consultation, inspection: Inspection, now_ns: int, out: Outcome) -> None:
        state = self._state
        demand = _demand(consultation, inspection.seed, inspection.count, inspection.answer_by_ns)
        leaves = set(demand.leaves)
        bond = bond_of(consultation.oracle)
        bond_uc = state.ledger.balance(bond).available_uc if state.ledger.has(bond) else 0
        verdict = judge(
            demand,
            [_opening(known) for known in inspection.openings if known.index in leaves],
            now_ns=now_ns,
            bond_uc=bond_uc,
            directory=None,
            verify=None,
        )
        if verdict is None:
            return
        refund_uc = self._forfeit(consultation, verdict, now_ns, out) if verdict.guilty else 0
        reply = OpenReply(
            quote=consultation.quote,
            result="breach" if verdict.guilty else "sound",
            oracle=consultation.oracle,
            leaves=len(leaves),
            breach=verdict.breach or "",
            leaf=verdict.leaf,
            forfeit_uc=verdict.forfeit_uc,
            refund_uc=refund_uc,
        )
        del state.inspections[consultation.name]
        out.done.append(_demand_id(demand))
        out.sends.append(Send(_topic(consultation.source), reply, corr=inspection.message_id))
        out.changed = True

    def _forfeit(self, consultation: Consultation, verdict: Verdict, now_ns: int, out: Outcome) -> int:
        """Take the bond, give the buyer his fee back from it, burn the rest; return what the buyer gets."""
        state, record = self._state, self._state.oracles[consultation.oracle]
        record.open, record.breaches = False, record.breaches + 1
        fee_uc = 0 if consultation.reply is None else consultation.reply.fee_uc
        refund_uc = min(fee_uc, verdict.forfeit_uc)
        state.open_account(BURNED, out)
        wishes = [
            Transfer(TransferId(f"{what}:{derive(consultation.question, now_ns)}"), TransferKind.POST,
                     bond_of(consultation.oracle), credit, amount_uc, reference=consultation.quote)
            for what, credit, amount_uc in (
                ("refund", consultation.buyer, refund_uc), ("forfeit", BURNED, verdict.forfeit_uc - refund_uc),
            )
            if amount_uc
        ]  # fmt: skip
        if wishes and not state.transfer(wishes, now_ns, out):
            raise MoneyError(f"the bond of {consultation.oracle} could not be taken")
        return refund_uc


def _demand(consultation: Consultation | None, seed: str, count: int, answer_by_ns: int) -> Demand:
    """Return the demand of a buyer; raises `InputError` if there is nothing that could be opened."""
    reply = None if consultation is None else consultation.reply
    if consultation is None or reply is None or reply.result != "quoted":
        raise InputError("opening", "quote", "" if consultation is None else consultation.quote, "name a quote of yours")
    if reply.band is None or reply.band.root is None or not reply.band.evidence_records:
        raise InputError("opening", "quote", consultation.quote, "it rests on no telemetry: there is nothing to open")
    commitment = Commitment(
        consultation.oracle, consultation.question, reply.band.root, reply.band.evidence_records, signed=False
    )
    return Demand(commitment, bytes.fromhex(seed), count, answer_by_ns)


def _opening(body: LeafOpening) -> Opening:
    """Return an opening as the judge takes it; a proof that is none becomes one that proves nothing."""
    try:
        raw = base64.urlsafe_b64decode(body.proof + "=" * (-len(body.proof) % 4))
    except binascii.Error:
        raw = b""
    proof = tuple(raw[i : i + HASH_BYTES].hex() for i in range(0, len(raw), HASH_BYTES))
    return Opening(body.index, body.size, body.record, proof)


def _demand_id(demand: Demand) -> MessageId:
    return MessageId(f"open:{derive(demand.commitment.quote, demand.answer_by_ns)}")


def _topic(source: str) -> str:
    return topics.to_customer(source, "open")
