"""The state of one zone's market, and the few ways in which orders and money change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fleet_market.auction import LotAward
from fleet_market.contracts import Contract, MarketTerms, Order, handicap_uc, lateness_uc, shortfalls
from fleet_market.errors import FleetMarketError
from fleet_market.ids import (
    AccountId,
    CallId,
    ContractId,
    CustomerId,
    MessageId,
    OrderId,
    OwnerId,
    RobotId,
    TransferId,
    ZoneId,
    derive,
)
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, account
from fleet_market.market.outcome import Outcome, Send
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Announce,
    AskLine,
    Auctioneer,
    Cancel,
    DeclineLine,
    Lot,
    LotRecord,
    OrderEvent,
    OrderState,
    Position,
    WirePose,
)

WORLD = account(AccountKind.WORLD, "mint")


class MoneyError(FleetMarketError):
    """The ledger refused a transfer that the market had made sure of: a defect, never a user's fault."""


@dataclass(slots=True)
class RobotRecord:
    """What the market knows of a robot."""

    announce: Announce
    sid: int = 0
    online: bool = False
    settled: int = 0
    earned_uc: int = 0
    failed: int = 0
    """Awards that it did not keep."""
    at: WirePose | None = None
    """Where its schedule leaves it, from its announcement and its asks: those are logged."""
    unfit: set[OrderId] = field(default_factory=set)
    """Orders that it cannot do at all, as it has said itself: not offered to it again."""
    position: Position | None = None
    """For those who look on only: positions are not logged, so nothing may be decided on them."""


@dataclass(frozen=True, slots=True)
class Win:
    """A lot that a round has sold; awarded when the batch ends."""

    award: LotAward
    line: AskLine
    record: LotRecord


Answers: TypeAlias = dict[OrderId, AskLine | DeclineLine]


@dataclass(slots=True)
class OpenCall:
    """The batch that is open, and its present round."""

    id: CallId
    opened_ns: int
    close_ns: int
    """When the present round ends at the latest."""
    lots: dict[OrderId, Lot]
    """Everything on sale in this batch, quotes included."""
    floor: int = 0
    """Orders of a lower rank are not on sale yet."""
    round: int = 1
    offered: dict[RobotId, tuple[OrderId, ...]] = field(default_factory=dict)
    """What each robot was offered last; its answers count positions in it."""
    waiting: set[RobotId] = field(default_factory=set)
    """Robots whose answer to the present round is still to come."""
    answers: dict[RobotId, Answers] = field(default_factory=dict)
    """Answers that hold: of a robot that has won since, they do not."""
    quotes: dict[RobotId, Answers] = field(default_factory=dict)
    taking_part: set[RobotId] = field(default_factory=set)
    """Robots that have answered, and not missed a round since."""
    wins: dict[OrderId, Win] = field(default_factory=dict)
    won: dict[RobotId, tuple[OrderId, ...]] = field(default_factory=dict)
    """What each robot has won so far, oldest first."""
    welfare_uc: int = 0
    left_out: set[OrderId] = field(default_factory=set)
    """Orders of groups that could not be sold whole."""
    lost: dict[OrderId, LotRecord] = field(default_factory=dict)
    """What was asked for them."""


@dataclass(frozen=True, slots=True)
class Debt:
    """What an owner owes a customer for a broken promise and could not pay at once."""

    owner: OwnerId
    customer: CustomerId
    order: OrderId
    amount_uc: int
    number: int
    """Makes the ids of its payments differ."""


@dataclass(frozen=True, slots=True)
class PendingQuote:
    """A customer's request for a quote that waits for the next batch."""

    customer: str
    message_id: MessageId
    lot: Lot


@dataclass(slots=True)
class State:
    """Everything that the market knows; changed only by `Market.handle`."""

    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    epoch: int = 0
    seed: str = "0"
    terms: MarketTerms = field(default_factory=MarketTerms)
    ledger: Ledger = field(default_factory=Ledger)
    orders: dict[OrderId, Order] = field(default_factory=dict)
    live: dict[OrderId, Order] = field(default_factory=dict)
    """Those of them that are not over."""
    contracts: dict[ContractId, Contract] = field(default_factory=dict)
    robots: dict[RobotId, RobotRecord] = field(default_factory=dict)
    early_presence: dict[RobotId, tuple[int, bool]] = field(default_factory=dict)
    """Session and presence of robots that have not announced themselves yet."""
    call: OpenCall | None = None
    quotes: list[PendingQuote] = field(default_factory=list)
    batches: int = 0
    next_batch_ns: int = 0
    debts: list[Debt] = field(default_factory=list)
    debts_made: int = 0
    paused: bool = False
    """Whether no new call is opened for the time being."""
    halted: bool = False
    """Whether the operator lets nothing be sold."""
    halt_reason: str = ""

    def auctioneer(self) -> Auctioneer:
        """Return what everyone is told about this market, retained."""
        return Auctioneer(status="halted" if self.halted else "open", epoch=self.epoch, batch_s=self.terms.batch_s)

    # --- money ---

    def open_account(self, account_id: AccountId, out: Outcome) -> bool:
        """Open an account if it is new; return whether it was."""
        opened = self.ledger.open_account(account_id)
        if opened:
            out.accounts.append(account_id)
        return opened

    def transfer(self, wishes: list[Transfer], now_ns: int, out: Outcome) -> bool:
        """Make linked transfers; return whether the ledger made them."""
        applied = self.ledger.apply(wishes, now_ns)
        out.entries += applied.entries
        out.balances.update(applied.balances)
        return applied.ok

    def hold_budget(self, order: Order, now_ns: int, out: Outcome) -> bool:
        """Move the order's maximum price on hold towards its escrow; False if the customer has not enough."""
        self.open_account(_escrow(order), out)
        wish = Transfer(
            order.hold, TransferKind.HOLD, _customer(order), _escrow(order), order.max_price_uc, reference=order.id
        )
        return self.transfer([wish], now_ns, out)

    def pay(self, order: Order, contract: Contract, now_ns: int, out: Outcome) -> int:
        """Capture the price from the hold and pass it to the robot's owner, the rest returns to the customer.

        What lateness beyond deadline and promise has cost the customer is kept from the price. Who had promised the order
        for less and did not do it pays the difference.

        Returns
        -------
        int
            What the owner was paid, micro-credits.
        """
        owner = account(AccountKind.OWNER, contract.owner)
        self.open_account(owner, out)
        ref = order.id
        amount = max(0, contract.price_uc - lateness_uc(order, contract.due_ns, now_ns))
        if amount == 0:
            self.release_budget(order, now_ns, out)
            return 0
        capture = Transfer(
            TransferId(f"capture:{derive(contract.id)}"), TransferKind.CAPTURE, _customer(order), _escrow(order), amount,
            order.hold, ref,
        )  # fmt: skip
        post = Transfer(
            TransferId(f"pay:{derive(contract.id)}"), TransferKind.POST, _escrow(order), owner, amount, None, ref
        )
        if not self.transfer([capture, post], now_ns, out):
            raise MoneyError(f"contract {contract.id} could not be paid")
        for debtor, owed_uc in shortfalls(order.broken, amount):
            self.debts_made += 1
            self.debts.append(Debt(debtor, order.customer, order.id, owed_uc, self.debts_made))
        self._collect(now_ns, out)
        return amount

    def _collect(self, now_ns: int, out: Outcome) -> None:
        """Have owners pay what they owe, oldest debt first, as far as their accounts reach."""
        left: list[Debt] = []
        for debt in self.debts:
            owner, customer = account(AccountKind.OWNER, debt.owner), account(AccountKind.CUSTOMER, debt.customer)
            self.open_account(owner, out)
            amount = min(debt.amount_uc, self.ledger.balance(owner).available_uc)
            if amount > 0:
                name = TransferId(f"refund:{derive(debt.number, debt.amount_uc)}")
                wish = Transfer(name, TransferKind.POST, owner, customer, amount, None, debt.order)
                if not self.transfer([wish], now_ns, out):
                    raise MoneyError(f"{debt.owner} could not pay what it owes for order {debt.order}")
                self.orders[debt.order].refund_uc += amount
            if amount < debt.amount_uc:
                left.append(replace(debt, amount_uc=debt.amount_uc - amount))
        self.debts = left

    def release_budget(self, order: Order, now_ns: int, out: Outcome) -> None:
        """Give the whole hold back to the customer."""
        wish = Transfer(
            TransferId(f"void:{derive(order.hold)}"), TransferKind.VOID, _customer(order), _escrow(order), 0, order.hold,
            order.id,
        )  # fmt: skip
        if not self.transfer([wish], now_ns, out):
            raise MoneyError(f"the hold of order {order.id} could not be released")

    # --- orders and contracts ---

    def announce(self, order: Order, out: Outcome) -> None:
        """Tell everyone the new state of an order."""
        out.changed = True
        out.sends.append(Send(topics.view(self.zone, "order"), OrderEvent(view=order.view())))

    def close_order(self, order: Order, state: OrderState, note: str, now_ns: int, out: Outcome) -> None:
        """End an order that is not to be paid."""
        self.release_budget(order, now_ns, out)
        self.end_order(order, state)
        order.note, order.contract = note, None
        self.announce(order, out)

    def end_order(self, order: Order, state: OrderState) -> None:
        """Give an order its final state."""
        order.state = state
        self.live.pop(order.id, None)

    def revoke(self, contract: Contract, reason: str, now_ns: int, out: Outcome, *, tell: bool = True) -> Order:
        """Take a contract from its robot, which may not ask for the order again for a while."""
        order = self.orders[contract.order]
        del self.contracts[contract.id]
        out.done.append(award_id(contract.id))
        order.cool_until_ns[contract.robot] = now_ns + round(self.terms.cooldown_s * 1e9)
        if tell:
            cancel = Cancel(contract=contract.id, reason=reason[:160])
            message = MessageId(f"cancel:{derive(contract.id)}")
            out.sends.append(Send(topics.to_robot(contract.robot, "cancel"), cancel, id=message))
        out.changed = True
        return order

    def handicap_uc(self, order: Order, robot: RobotId, line: AskLine) -> int:
        """Return what the customer expects to lose by this robot beside the price."""
        known = self.robots[robot]
        return handicap_uc(order, line.finish_ns, done=known.settled, failed=known.failed)

    def of_robot(self, robot: RobotId) -> list[Contract]:
        """Return the live contracts of a robot, oldest first."""
        return [c for c in self.contracts.values() if c.robot == robot]


def award_id(contract: ContractId) -> MessageId:
    """Return the message id of a contract's award."""
    return MessageId(f"award:{derive(contract)}")


def _customer(order: Order) -> AccountId:
    return account(AccountKind.CUSTOMER, order.customer)


def _escrow(order: Order) -> AccountId:
    return account(AccountKind.ESCROW, derive(order.customer, order.id))
