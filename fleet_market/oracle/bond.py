"""The oracle's bond: what it stakes on its evidence, and when it loses it. Decisions only; the market moves the money.

An oracle that sells pays a bond into the market's ledger. With a quote it commits itself to a Merkle root. A buyer may
demand openings: the market passes the demand on and the openings back, both under the senders' seals, so that neither can
be put into the other's mouth. `judge` is the same for everyone who has the register of keys: market, buyer, auditor.

The bond does not go to the buyer, who would otherwise gain by demanding what cannot be answered in time; what he gets is
his fee back. Where the rest goes is the market's affair (`TransferKind`, sinks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet_market.ids import PartyName, QuoteId
from fleet_market.oracle.evidence import Opening, check, choose
from fleet_market.protocol.gate import Verify
from fleet_market.protocol.registry import Directory


@dataclass(frozen=True, slots=True)
class Commitment:
    """What an oracle has said with a quote, as the market has it on record."""

    oracle: PartyName
    quote: QuoteId
    root: str
    """Merkle root, hexadecimal."""
    size: int
    signed: bool = True
    """Whether it says that robots have signed the records; if not, signatures are not looked at."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A buyer wants leaves opened, drawn by his seed; raises as `choose` for a seed or count that cannot be used."""

    commitment: Commitment
    seed: bytes
    count: int
    answer_by_ns: int

    @property
    def leaves(self) -> tuple[int, ...]:
        """The leaves to open."""
        return choose(self.seed, self.commitment.root, self.commitment.size, self.count)


class Breach(StrEnum):
    """Why a bond is lost; in the order in which it is looked for."""

    NOT_IN_ROOT = "not_in_root"
    """What was opened is not the leaf that the root was made of."""
    NOT_SIGNED = "not_signed"
    """The leaf is not what the robot signed."""
    TWICE = "twice"
    """One record of a robot stands at two leaves."""
    NO_ANSWER = "no_answer"
    """A leaf that was asked for was not opened in time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a demand."""

    oracle: PartyName
    quote: QuoteId
    breach: Breach | None
    """None: everything was as the root says."""
    leaf: int | None
    detail: str
    forfeit_uc: int
    """Taken from the bond."""

    @property
    def guilty(self) -> bool:
        """Whether the oracle loses its bond."""
        return self.breach is not None


def judge(
    demand: Demand,
    openings: Sequence[Opening],
    *,
    now_ns: int,
    bond_uc: int,
    directory: Directory | None,
    verify: Verify | None,
) -> Verdict | None:
    """Return the verdict on a demand, None while the oracle still has time to answer.

    Parameters
    ----------
    demand : Demand
    openings : sequence of Opening
        What the oracle has said so far, under its own seal. Leaves that nobody asked for are passed over.
    now_ns : int
        Market time.
    bond_uc : int
        What is left of the bond; all of it is lost.
    directory, verify
        As for `fleet_market.oracle.evidence.check`.
    """
    commitment, leaves = demand.commitment, demand.leaves
    register = directory if commitment.signed else None
    seen: dict[tuple[str, int, int], int] = {}
    opened: set[int] = set()

    def guilty(breach: Breach, leaf: int, detail: str) -> Verdict:
        return Verdict(commitment.oracle, commitment.quote, breach, leaf, detail, bond_uc)

    for opening in openings:
        leaf, record = opening.index, opening.record
        if leaf not in leaves:
            continue
        fault = check(opening, commitment.root, commitment.size, register, verify)
        if fault in {"other_root", "malformed", "not_in_root"}:
            return guilty(Breach.NOT_IN_ROOT, leaf, fault)
        if fault is not None:
            return guilty(Breach.NOT_SIGNED, leaf, fault)
        place = (record.robot, record.chain, record.seq)
        if seen.setdefault(place, leaf) != leaf:
            return guilty(Breach.TWICE, leaf, f"record {record.seq} of {record.robot} is leaf {seen[place]} too")
        opened.add(leaf)
    waiting = [leaf for leaf in leaves if leaf not in opened]
    if not waiting:
        return Verdict(commitment.oracle, commitment.quote, None, None, f"{len(leaves)} leaves as the root says", 0)
    if now_ns < demand.answer_by_ns:
        return None
    return guilty(Breach.NO_ANSWER, waiting[0], f"{len(waiting)} of {len(leaves)} leaves not opened in time")
