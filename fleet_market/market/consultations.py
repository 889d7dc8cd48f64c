"""What the market keeps of oracles and of the quotes that they sell."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_market.ids import AccountId, MessageId, OrderId, PartyName, QuoteId, TransferId, derive
from fleet_market.ledger import AccountKind, account
from fleet_market.oracle.sale import Fees
from fleet_market.oracle.scoring import Band, Standing
from fleet_market.protocol.messages import AdviceFees, FairReply, LeafOpening, OracleView, What


@dataclass(slots=True)
class OracleRecord:
    """What the market knows of an oracle."""

    fees: Fees
    open: bool = True
    sold: int = 0
    earned_uc: int = 0
    robots_uc: int = 0
    standing: Standing = field(default_factory=Standing)
    breaches: int = 0
    """Times that it has lost its bond."""

    def view(self, name: PartyName) -> OracleView:
        """Return how everyone sees it."""
        fees, standing = self.fees, self.standing
        return OracleView(
            oracle=name,
            open=self.open,
            now_uc=fees.now_uc,
            later_uc=fees.later_uc,
            thin_uc=fees.thin_uc,
            sold=self.sold,
            earned_uc=self.earned_uc,
            robots_uc=self.robots_uc,
            scored=standing.scored,
            score=standing.mean,
            inside=standing.coverage,
            excess=standing.excess,
            breaches=self.breaches,
            **{field: getattr(fees, field) for field in AdviceFees.model_fields},
        )


@dataclass(slots=True)
class Consultation:
    """One question to an oracle, and what has become of it."""

    name: str
    """Derived from the buyer and his name for it."""
    question: QuoteId
    """What the oracle knows it by."""
    quote: QuoteId
    """What the buyer knows it by."""
    oracle: PartyName
    source: str
    """Who asks."""
    buyer: AccountId
    """Who pays."""
    message_id: MessageId | None
    """To be answered."""
    what: What
    order: OrderId | None
    on_sale: bool
    """Whether it is a band for an order, as of now, that nobody had won when the question was put."""
    later: bool
    preview: bool
    fees: Fees
    """As they were when the question was put."""
    hold: TransferId | None
    """None where nothing is to be paid."""
    held_uc: int
    answer_by_ns: int
    reply: FairReply | None = None
    """None while the oracle has not answered."""
    sealed_with: str | None = None
    """Name of the consultation that somebody pays for; set where this oracle is asked the same thing at the same time, only
    for its band to be judged beside the one that is sold. Nobody pays for it or gets it."""
    band: Band | None = None
    """A band that is still to be judged."""
    inspected: int = 0
    """Demands to see what it rests on."""


@dataclass(slots=True)
class Inspection:
    """A buyer has leaves under a quote opened."""

    message_id: MessageId | None
    seed: str
    count: int
    answer_by_ns: int
    openings: list[LeafOpening] = field(default_factory=list)


def name_of(source: str, quote: QuoteId) -> str:
    """Return the market's name for what a buyer calls `quote`."""
    return derive(source, quote)


def bond_of(oracle: PartyName) -> AccountId:
    """Return the account that holds an oracle's bond."""
    return account(AccountKind.BOND, oracle)


def account_of(oracle: PartyName) -> AccountId:
    """Return the account of an oracle."""
    return account(AccountKind.ORACLE, oracle)
