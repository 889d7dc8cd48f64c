"""The audit: what must be true of any set of books, recomputed from the journal alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from fleet_market.ids import AccountId
from fleet_market.ledger.accounts import OUTSIDE, AccountKind, Balance, kind_of
from fleet_market.ledger.anchor import START, Anchor
from fleet_market.ledger.fold import fold
from fleet_market.ledger.journal import Entry, first_break

MAX_FAULTS = 20
"""Faults that are told one by one."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the market publishes about its books, micro-credits."""

    sum_debits_uc: int
    sum_credits_uc: int
    issued_uc: int
    """Ever debited from the world."""
    burned_uc: int
    """Ever credited to sinks."""
    circulating_uc: int
    """Held by all other accounts together."""
    escrow_left_uc: int
    """In escrow or on hold towards it: zero when every order is over."""

    @property
    def supply_uc(self) -> int:
        """Issued less burned: what must circulate."""
        return self.issued_uc - self.burned_uc

    @classmethod
    def of(cls, balances: Mapping[AccountId, Balance]) -> Metrics:
        """Return the metrics of these balances."""
        issued = burned = circulating = escrow = 0
        for account_id, b in balances.items():
            kind = kind_of(account_id)
            if kind is AccountKind.WORLD:
                issued += b.debits_posted - b.credits_posted
            elif kind is AccountKind.SINK:
                burned += b.posted_uc
            else:
                circulating += b.posted_uc
            if kind is AccountKind.ESCROW:
                escrow += b.posted_uc + b.credits_pending
        debits, credits_ = (sum(getattr(b, f) for b in balances.values()) for f in ("debits_posted", "credits_posted"))
        return cls(debits, credits_, issued, burned, circulating, escrow)

    def as_dict(self) -> dict[str, int]:
        """Return all of them by name, as the export publishes them."""
        return asdict(self) | {"supply_uc": self.supply_uc}


@dataclass(frozen=True, slots=True)
class Opening:
    """The books before the first row of a journal whose beginning has been archived."""

    after: Anchor = START
    balances: Mapping[AccountId, Balance] = field(default_factory=dict)
    carried: tuple[Entry, ...] = ()
    """Holds that were open."""


def audit(balances: Mapping[AccountId, Balance], journal: Iterable[Entry], opening: Opening | None = None) -> list[str]:
    """Return every violated invariant, one sentence each: empty for sound books.

    Debits equal credits; nobody but the world is overdrawn; the chain is whole; at every row of the journal the supply
    (issued less burned) equals what circulates; the balances are those that follow from the journal.
    """
    rows, faults, opening = tuple(journal), balance_faults(balances), opening or Opening()
    if (row := first_break(rows, opening.after)) is not None:
        faults.append(f"journal row {row} does not follow from those before it")
    faults += [f"before the first row of the journal, {fault}" for fault in balance_faults(opening.balances)]
    folded = dict.fromkeys(balances, Balance()) | dict(opening.balances)
    try:
        faults += supply_faults(folded, rows, opening.carried)
    except ValueError as error:
        return [*faults, str(error)]
    faults += [f"{a} holds {b}, its journal says {folded[a]}" for a, b in sorted(balances.items()) if folded[a] != b]
    faults += [f"{a} is not there any more" for a in sorted(folded.keys() - balances.keys())]
    return faults[:MAX_FAULTS]


def balance_faults(balances: Mapping[AccountId, Balance]) -> list[str]:
    """Return what is wrong with these balances whatever led to them, one sentence each."""
    metrics, faults = Metrics.of(balances), []
    if metrics.sum_debits_uc != metrics.sum_credits_uc:
        faults.append(f"debits sum to {metrics.sum_debits_uc}, credits to {metrics.sum_credits_uc}")
    if metrics.supply_uc != metrics.circulating_uc:
        faults.append(f"{metrics.supply_uc} uc were issued and not burned, {metrics.circulating_uc} circulate")
    faults += [
        f"{a} is overdrawn by {-b.available_uc}"
        for a, b in sorted(balances.items())
        if b.available_uc < 0 and kind_of(a) is not AccountKind.WORLD
    ]
    return faults[:MAX_FAULTS]


def supply_faults(balances: dict[AccountId, Balance], journal: Iterable[Entry], carried: Iterable[Entry] = ()) -> list[str]:
    """Add `journal` to `balances`; return the first thing that goes wrong on the way, nothing if all is well.

    That is a sum below zero, an overdraft, or a supply that differs from what circulates.

    Raises
    ------
    ValueError
        If a row names an account that is not there.
    """
    issued = burned = circulating = 0
    before: dict[AccountId, Balance] = {}
    first: list[str] = []
    for entry in fold(balances, journal, before, carried):
        faults = []
        for account_id, old in before.items():
            new, kind = balances[account_id], kind_of(account_id)
            issued += (new.debits_posted - old.debits_posted) * (kind is AccountKind.WORLD)
            burned += (new.credits_posted - old.credits_posted) * (kind is AccountKind.SINK)
            circulating += (new.posted_uc - old.posted_uc) * (kind not in OUTSIDE)
            if min(new.debits_posted, new.credits_posted, new.debits_pending, new.credits_pending) < 0:
                faults.append(f"journal row {entry.seq} leaves a negative sum in {account_id}")
            if kind is not AccountKind.WORLD and new.available_uc < 0:
                faults.append(f"journal row {entry.seq} overdraws {account_id}")
        if issued - burned != circulating:
            supply = f"{issued - burned} uc are issued and not burned, {circulating} circulate"
            faults.append(f"after journal row {entry.seq} {supply}")
        first = first or faults[:1]
    return first
