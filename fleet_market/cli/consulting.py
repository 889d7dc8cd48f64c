"""An order's budget from an oracle's quote, bought before the order is posted."""

from __future__ import annotations

import secrets

import typer

from fleet_market.adapters.requests import Requester
from fleet_market.cli.asking import EXIT_REFUSED, credits_in, id_of, note, show_errors
from fleet_market.errors import InputError
from fleet_market.ids import PartyName, QuoteId
from fleet_market.oracle.demand import budget_uc
from fleet_market.protocol.messages import BudgetAdvice, FairReply, FairRequest, PostOrder
from fleet_market.units import Credits

PROBABILITY = 0.9
"""With which an order is to be done, where only its time is named [assumption]."""


def consultation(
    body: PostOrder, oracle: str | None, max_fee: str, by_s: float | None, probability: float | None
) -> FairRequest | None:
    """Return the request for a quote on an order that is to be posted; None without an oracle.

    Parameters
    ----------
    by_s, probability : float, optional
        With one of them a budget is bought, else a band: done within so many seconds (else by the order's deadline), with
        this probability (else `PROBABILITY`).

    Raises
    ------
    InputError
        If an option is out of its range, or needs an oracle.
    """
    wants_budget = by_s is not None or probability is not None
    if oracle is None:
        if wants_budget:
            option, value = ("--probability", probability) if by_s is None else ("--by", by_s)
            raise InputError("command line", option, value, "name the oracle that is asked: --consult ORACLE")
        return None
    if by_s is not None and not 0 < by_s <= body.deadline_s:
        raise InputError("command line", "--by", by_s, f"use more than 0 and at most the deadline, {body.deadline_s:g} s")
    if wants_budget:
        probability = share(PROBABILITY if probability is None else probability)
    return FairRequest(
        quote=QuoteId(f"post-{secrets.token_hex(6)}"),
        oracle=id_of(PartyName, oracle, "--consult"),
        what="budget" if wants_budget else "band",
        pickup=body.pickup,
        dropoff=body.dropoff,
        payload_kg=body.payload_kg,
        deadline_s=body.deadline_s if by_s is None else by_s,
        probability=probability,
        max_fee_uc=credits_in(max_fee, "--max-fee", least=0),
    )


async def consulted(requester: Requester, body: PostOrder, question: FairRequest) -> PostOrder:
    """Return the order with the budget that an oracle's quote suggests; without a quote it stays as it is."""
    reply = await requester.ask("fair", question, FairReply)
    if reply.result == "refused":
        show_errors(reply.errors)
        raise typer.Exit(EXIT_REFUSED)
    if (band := reply.band) is None:
        note.print(f"no quote, {reply.note}: posted as it is")
        return body
    fee = f"for {Credits(reply.fee_uc)}"
    if isinstance(reply.advice, BudgetAdvice):
        said, wanted_uc = _budget_said(reply.advice, question.deadline_s), reply.advice.budget_uc
        if band.thin:
            wanted_uc = body.max_price_uc
        elif wanted_uc is not None and wanted_uc > body.max_price_uc:
            said, wanted_uc = f"{said}, more than you would pay", None
    else:
        said = f"{Credits(band.low_uc)} to {Credits(band.high_uc)} credits"
        wanted_uc = budget_uc(body.max_price_uc, band.low_uc, band.high_uc, thin=band.thin)
        said = f"{said}, more than you would pay" if wanted_uc is None else said
    if wanted_uc is None:
        note.print(f"not posted: {reply.oracle} says {said} ({fee})")
        raise typer.Exit(EXIT_REFUSED)
    note.print(f"{reply.oracle} says {said} {fee}: offering at most {Credits(wanted_uc)}")
    return body.model_copy(update={"max_price_uc": wanted_uc})


def share(probability: float) -> float:
    """Return a probability; raises `InputError` if it is none between 0 and 1."""
    if not 0.0 < probability < 1.0:
        raise InputError("command line", "--probability", probability, "use a number between 0 and 1")
    return probability


def _budget_said(advice: BudgetAdvice, by_s: float) -> str:
    aim = f"done in {by_s:g} s with {advice.probability:.0%}"
    if advice.budget_uc is None:
        return f"no budget has it {aim}: in time it is with {advice.in_time_probability:.0%} only"
    return f"{Credits(advice.budget_uc)} credits have it {aim}"
