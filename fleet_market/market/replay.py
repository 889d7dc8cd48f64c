"""Run a market again from its event log: a start does it to recover, an auditor to see that nothing was tampered with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet_market.errors import FleetMarketError, LedgerMismatchError
from fleet_market.ids import AccountId, MessageId, derive
from fleet_market.ledger import GENESIS, AccountKind, Event, account
from fleet_market.market.commands import Command, OpenMarket, read_logged
from fleet_market.market.market import Market
from fleet_market.market.outcome import Send
from fleet_market.market.state import State


class ReplayError(LedgerMismatchError):
    """The log was changed, or this program decides otherwise than the one that wrote it.

    Parameters
    ----------
    seq : int
        The first event with which something is wrong.
    detail : str
        What.
    """

    def __init__(self, seq: int, detail: str) -> None:
        self.seq, self.detail = seq, detail
        super().__init__(f"event {seq}: {detail}")


@dataclass(slots=True)
class Replayed:
    """Where a replay has come to."""

    seq: int = 0
    now_ns: int = 0
    epoch: int = 0
    """How often the market was opened."""
    hash: str = GENESIS
    """Of the last event: whoever has the same hash has the same log and the same decisions."""
    waiting: dict[MessageId, Send] = field(default_factory=dict)
    """Messages that must arrive and are not confirmed."""
    diverged: list[int] = field(default_factory=list)
    """Events upon which this program decides otherwise than the one that wrote the log."""


def replay(market: Market, events: Iterable[Event], *, each: Callable[[Event], None] = lambda _: None) -> Replayed:
    """Give `events` to the fresh `market` in their order, and compare what it does with what was done.

    Parameters
    ----------
    each : callable
        Called with every event that has been taken.

    Raises
    ------
    ReplayError
        If an event does not follow from those before it, or cannot be handled at all.
    """
    at = Replayed()
    for event in events:
        if event.seq != at.seq + 1 or event.after(at.hash) != event.hash:
            raise ReplayError(at.seq + 1, "it is not the one that was written: the log is damaged here")
        message = None if event.message_id is None else MessageId(event.message_id)
        try:
            body = read_logged(event.body)
            outcome = market.handle(Command(event.source, body, event.now_ns, message, event.sid, event.lookups))
        except (FleetMarketError, ValueError) as error:
            raise ReplayError(event.seq, f"this program cannot handle it: {str(error).splitlines()[0]}") from error
        if outcome.digest() != event.effects:
            at.diverged.append(event.seq)
        for done in outcome.done:
            at.waiting.pop(done, None)
        at.waiting.update({send.id: send for send in outcome.sends if send.id is not None})
        at.epoch += isinstance(body, OpenMarket)
        at.seq, at.now_ns, at.hash = event.seq, max(at.now_ns, event.now_ns), event.hash
        each(event)
    return at


def order_faults(state: State) -> list[str]:
    """Return where the orders and the money disagree, one sentence each: money that is stuck, or missing."""
    faults, ledger = [], state.ledger
    escrows: set[AccountId] = set()
    for order in state.orders.values():
        escrow = account(AccountKind.ESCROW, derive(order.customer, order.id))
        escrows.add(escrow)
        held = ledger.balance(escrow)
        left = held.posted_uc + held.credits_pending
        if order.state.final and left:
            faults.append(f"order {order.id} is {order.state}, but {left} uc are left in its escrow")
        if not order.state.final and left <= 0:
            faults.append(f"order {order.id} is {order.state}, but nothing is in its escrow")
    for account_id, b in sorted(ledger.balances().items()):
        stray = account_id.startswith(f"{AccountKind.ESCROW}:") and account_id not in escrows
        if stray and b.posted_uc + b.credits_pending:
            faults.append(f"{account_id} holds {b.posted_uc + b.credits_pending} uc and belongs to no order")
    return faults
