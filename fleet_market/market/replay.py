"""Run a market again from its event log: a start does it to recover, an auditor to see that nothing was tampered with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet_market.errors import FleetMarketError, LedgerMismatchError
from fleet_market.ids import AccountId, MessageId
from fleet_market.ledger import GENESIS, AccountKind, Balance, Event, Snapshot, kind_of
from fleet_market.market.commands import Checkpoint, Command, read_logged
from fleet_market.market.consultations import account_of
from fleet_market.market.market import Market
from fleet_market.market.outcome import Outcome
from fleet_market.market.snapshot import SnapshotError, form
from fleet_market.market.state import State, escrow_of


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
    hash: str = GENESIS
    """Of the last event: whoever has the same hash has the same log and the same decisions."""
    diverged: list[int] = field(default_factory=list)
    """Events upon which this program decides otherwise than the one that wrote the log."""


def resume(market: Market, snapshot: Snapshot) -> Replayed:
    """Bring `market` to where it was when `snapshot` was taken.

    Raises
    ------
    SnapshotError
        If it is not the one that the log speaks of, or this program keeps snapshots in another form; the market is then
        unchanged.
    """
    event = snapshot.event
    if event.after(snapshot.previous_hash) != event.hash:
        raise SnapshotError(f"event {event.seq} is not the one that was written")
    try:
        body = read_logged(event.body)
    except ValueError:
        body = None
    if not isinstance(body, Checkpoint):
        raise SnapshotError(f"event {event.seq} is no checkpoint")
    if body.form != form():
        raise SnapshotError(f"the snapshot at event {event.seq} is of another version of this program")
    if Outcome(snapshot=snapshot.content).digest() != event.effects:
        raise SnapshotError(f"the snapshot at event {event.seq} is not the one that the log speaks of")
    market.restore(snapshot.content)
    return Replayed(event.seq, event.now_ns, event.hash)


def replay(
    market: Market,
    events: Iterable[Event],
    *,
    since: Replayed | None = None,
    each: Callable[[Event, Outcome], None] = lambda _event, _outcome: None,
) -> Replayed:
    """Give `events` to `market` in their order, and compare what it does with what was done.

    Parameters
    ----------
    market : Market
        Fresh, or where `since` says that it is.
    since : Replayed, optional
        Where `events` go on; they begin with the first by default.
    each : callable
        Called with every event that has been taken, and what it led to.

    Raises
    ------
    ReplayError
        If an event does not follow from those before it, or cannot be handled at all.
    """
    at = Replayed() if since is None else since
    for event in events:
        if event.seq != at.seq + 1 or event.after(at.hash) != event.hash:
            raise ReplayError(at.seq + 1, "it is not the one that was written: the log is damaged here")
        message = None if event.message_id is None else MessageId(event.message_id)
        try:
            body = read_logged(event.body)
            outcome = market.handle(Command(event.source, body, event.now_ns, message, event.sid, event.lookups))
        except (FleetMarketError, ValueError) as error:
            raise ReplayError(event.seq, f"this program cannot handle it: {str(error).splitlines()[0]}") from error
        foreign = isinstance(body, Checkpoint) and body.form != form()
        if outcome.digest() != event.effects and not foreign:
            at.diverged.append(event.seq)
        at.seq, at.now_ns, at.hash = event.seq, max(at.now_ns, event.now_ns), event.hash
        each(event, outcome)
    return at


def order_faults(state: State) -> list[str]:
    """Return where the orders and the money disagree, one sentence each: money that is stuck, or missing."""
    faults, ledger = [], state.ledger
    escrows: set[AccountId] = set()
    for order in state.orders.values():
        escrow = escrow_of(order)
        escrows.add(escrow)
        there = ledger.balance(escrow) if ledger.has(escrow) else Balance()
        left = there.posted_uc + there.credits_pending
        if order.state.final and left:
            faults.append(f"order {order.id} is {order.state}, but {left} uc are left in its escrow")
        if not order.state.final and left <= 0:
            faults.append(f"order {order.id} is {order.state}, but nothing is in its escrow")
    held: Counter[AccountId] = Counter()
    for name in state.asked:
        held[account_of(state.consultations[name].oracle)] += state.consultations[name].held_uc
    for account_id, b in sorted(ledger.balances().items()):
        if kind_of(account_id) is AccountKind.ORACLE and b.credits_pending != held[account_id]:
            faults.append(f"{b.credits_pending} uc are on hold for {account_id}, open questions say {held[account_id]}")
        stray = account_id.startswith(f"{AccountKind.ESCROW}:") and account_id not in escrows
        if stray and b.posted_uc + b.credits_pending:
            faults.append(f"{account_id} holds {b.posted_uc + b.credits_pending} uc and belongs to no order")
    return faults
