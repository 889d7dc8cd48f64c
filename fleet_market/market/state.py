"""The state of one zone's market, and the few ways in which orders and money change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fleet_market.auction import LotAward
from fleet_market.auction.trading import Deal
from fleet_market.contracts import Contract, Level, MarketTerms, Order, due_uc, handicap_uc, shortfalls
from fleet_market.errors import FleetMarketError
from fleet_market.ids import (
    AccountId,
    CallId,
    ContractId,
    CustomerId,
    MessageId,
    OrderId,
    OwnerId,
    PartyName,
    RobotId,
    SetOf,
    TransferId,
    ZoneId,
    derive,
)
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, account
from fleet_market.ledger.accounts import kind_of
from fleet_market.market.consultations import Consultation, Inspection, OracleRecord
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.timetable import AsRows, Timetable
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


_HOLD = "hold:"


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
    quiet_ns: int
    """When it ends unless another answer comes first."""
    until_ns: int
    """When no further round is opened."""
    lots: dict[OrderId, Lot]
    """Everything on sale in this batch, quotes included."""
    floor: int = 0
    """Orders of a lower rank are not on sale yet."""
    round: int = 1
    offered: dict[RobotId, tuple[OrderId, ...]] = field(default_factory=dict)
    """What each robot was offered last; its answers count positions in it."""
    waiting: SetOf[RobotId] = field(default_factory=set)
    """Robots whose answer to the present round is still to come."""
    answers: dict[RobotId, Answers] = field(default_factory=dict)
    """Answers that hold: of a robot that has won since, they do not."""
    quotes: dict[RobotId, Answers] = field(default_factory=dict)
    taking_part: SetOf[RobotId] = field(default_factory=set)
    """Robots that have answered, and not missed a round since."""
    wins: dict[OrderId, Win] = field(default_factory=dict)
    won: dict[RobotId, tuple[OrderId, ...]] = field(default_factory=dict)
    """What each robot has won so far, oldest first."""
    welfare_uc: int = 0
    left_out: SetOf[OrderId] = field(default_factory=set)
    """Orders of groups that could not be sold whole."""
    lost: dict[OrderId, LotRecord] = field(default_factory=dict)
    """What was asked for them."""


@dataclass(frozen=True, slots=True)
class Bid:
    """An ask that has won a lot of a re-auction, and the next lowest one of an owner who is not concerned."""

    robot: RobotId
    line: AskLine
    extra_uc: int
    """What the holder expects to lose by this robot beside the price."""
    rival_uc: int | None


@dataclass(slots=True)
class Pending:
    """A deal that waits until all who give something away have let go of it."""

    deal: Deal
    unprepared: SetOf[RobotId]


@dataclass(slots=True)
class Resale:
    """The re-auction that is open: its present round, or the deals it has come to."""

    id: CallId
    kind: str
    """How its contracts were chosen."""
    close_ns: int
    """When the present round ends at the latest, or the wait for those who give something away."""
    until_ns: int
    lots: dict[OrderId, ContractId]
    """Everything on sale."""
    holders: dict[RobotId, tuple[OrderId, ...]]
    round: int = 1
    offered: dict[RobotId, tuple[OrderId, ...]] = field(default_factory=dict)
    """What each robot was offered last; its answers count positions in it."""
    waiting: SetOf[RobotId] = field(default_factory=set)
    answers: dict[RobotId, dict[OrderId, AskLine]] = field(default_factory=dict)
    saving_uc: dict[RobotId, int] = field(default_factory=dict)
    sold: dict[OrderId, Bid] = field(default_factory=dict)
    """Lots that have found who does them, its own holder perhaps, in their order."""
    pending: list[Pending] = field(default_factory=list)

    def won_by(self, robot: RobotId) -> tuple[OrderId, ...]:
        """Return the lots that a robot has won, oldest first."""
        return tuple(order for order, bid in self.sold.items() if bid.robot == robot)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to come first in the next re-auction: orders that a robot offers, or has asked for too late."""

    kind: str
    orders: tuple[OrderId, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A round that has ended without the answer of a robot, and what it was offered."""

    call: CallId
    round: int
    offered: tuple[OrderId, ...]


@dataclass(frozen=True, slots=True)
class Debt:
    """What an owner owes a customer or another owner for a broken promise and could not pay at once."""

    owner: OwnerId
    creditor: AccountId
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


class Contracts(dict[ContractId, Contract]):
    """The contracts under way, oldest first, and when each of them may end if nothing more is heard of it.

    A contract whose end comes nearer must be watched anew; one whose end moves off need not: it is looked at too early.
    """

    def __init__(self) -> None:
        super().__init__()
        self._when: Timetable[ContractId] = Timetable()

    def __setitem__(self, name: ContractId, contract: Contract) -> None:
        """Take a contract in."""
        super().__setitem__(name, contract)
        self.watch(contract)

    def __delitem__(self, name: ContractId) -> None:
        """Let go of a contract."""
        super().__delitem__(name)
        self._when.drop(name)

    def watch(self, contract: Contract) -> None:
        """Have the contract looked at when it ends by what is known now."""
        self._when.set(contract.id, contract.ends_at_ns())

    @classmethod
    def of(cls, contracts: Mapping[ContractId, Contract]) -> Self:
        """Return these contracts, each watched."""
        found = cls()
        for name, contract in contracts.items():
            found[name] = contract
        return found

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a snapshot they are a plain dictionary."""
        return core_schema.no_info_after_validator_function(cls.of, handler.generate_schema(dict[ContractId, Contract]))

    def overdue(self, now_ns: int) -> list[Contract]:
        """Return the contracts that have ended, oldest first."""
        found = []
        for contract in (self[name] for name in self._when.due(now_ns)):
            if now_ns >= contract.ends_at_ns():
                found.append(contract)
            else:
                self.watch(contract)
        return found


Group: TypeAlias = tuple[CustomerId, OrderId]
"""A customer, and his word for orders that are awarded together."""


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
    order_times: Annotated[Timetable[OrderId], AsRows] = field(default_factory=Timetable)
    """When each live order is to be looked at again; see `fleet_market.market.release`."""
    on_sale: dict[OrderId, Order] = field(default_factory=dict)
    """Every open order; those that have been sold since are still among them until `open_orders` is asked for."""
    followers: dict[OrderId, list[OrderId]] = field(default_factory=dict)
    """Which orders wait for a live order to be settled."""
    groups: dict[Group, list[OrderId]] = field(default_factory=dict)
    """The live orders of each group."""
    contracts: Contracts = field(default_factory=Contracts)
    robots: dict[RobotId, RobotRecord] = field(default_factory=dict)
    heaviest_kg: float | None = None
    """What the strongest robot carries."""
    early_presence: dict[RobotId, tuple[int, bool]] = field(default_factory=dict)
    """Session and presence of robots that have not announced themselves yet."""
    call: OpenCall | None = None
    quotes: list[PendingQuote] = field(default_factory=list)
    batches: int = 0
    next_batch_ns: int = 0
    unanswered: int = 0
    """Batches since the latest one that a robot has answered."""
    resale: Resale | None = None
    resales: int = 0
    next_resale_ns: int = 0
    situation: str = ""
    """Which contracts could be sold on, and who was there, when the latest re-auction opened."""
    tries: int = 0
    """Re-auctions in this situation so far: none of them has found anything better."""
    wishes: dict[RobotId, Wish] = field(default_factory=dict)
    """At most one of each robot, the oldest first."""
    wish_met: bool = False
    """Whether the latest re-auction was for a wish: then one of the market's own choice is next."""
    missed: dict[RobotId, Missed] = field(default_factory=dict)
    """The latest round that each robot has missed."""
    debts: list[Debt] = field(default_factory=list)
    debts_made: int = 0
    paused: bool = False
    """Whether no new call is opened for the time being."""
    unconfirmed: dict[MessageId, Send] = field(default_factory=dict)
    """Messages that must arrive and are not confirmed."""
    forgotten: int = 0
    """How many orders were forgotten."""
    oracles: dict[PartyName, OracleRecord] = field(default_factory=dict)
    consultations: dict[str, Consultation] = field(default_factory=dict)
    """Questions to oracles by name, those that were answered lately too."""
    asked: dict[str, None] = field(default_factory=dict)
    """Names of those that are not answered yet, the oldest first."""
    inspections: dict[str, Inspection] = field(default_factory=dict)
    """Demands of buyers that wait for an oracle's openings, by the name of the question."""
    consulted: int = 0
    """How many questions were ever put."""
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
        escrow = escrow_of(order)
        opened = self.open_account(escrow, out)
        wish = Transfer(order.hold, TransferKind.HOLD, _customer(order), escrow, order.max_price_uc, reference=order.id)
        held = self.transfer([wish], now_ns, out)
        if opened and not held:
            self.ledger.drop_account(escrow)
            out.accounts.remove(escrow)
        return held

    def pay(self, order: Order, contract: Contract, now_ns: int, out: Outcome) -> list[int]:
        """Capture the price from the hold and pass it on, level by level, to the robot that did it; the rest returns.

        What lateness beyond deadline and promise has cost is kept from the price of each level. Who had promised the order
        for less and did not do it pays the difference. All transfers are made, or none.

        Returns
        -------
        list of int
            What each level was paid, the customer's contract first, micro-credits.
        """
        levels: tuple[Level | Contract, ...] = (*contract.principals, contract)
        dues = [due_uc(order, level.price_uc, level.due_ns, now_ns) for level in levels]
        accounts = [account(AccountKind.OWNER, level.owner) for level in levels]
        names = [level.contract for level in contract.principals] + [contract.id]
        for owner in accounts:
            self.open_account(owner, out)
        if dues[0]:
            capture = TransferId(f"capture:{derive(names[0])}")
            wishes = [
                Transfer(
                    capture, TransferKind.CAPTURE, _customer(order), escrow_of(order), dues[0], order.hold, order.id
                ),
                _payment(names[0], escrow_of(order), accounts[0], dues[0], order),
            ]  # fmt: skip
        else:
            wishes = [_release(order.hold, _customer(order), order)]
        wishes += _freed(order, contract)
        for upper, lower, name, amount in zip(accounts, accounts[1:], names[1:], dues[1:], strict=False):
            if amount and upper != lower:
                wishes.append(_payment(name, upper, lower, amount, order))
        if not self.transfer(wishes, now_ns, out):
            raise MoneyError(f"contract {contract.id} could not be paid")
        for owed in shortfalls(order.broken, dues[0]):
            creditor = _customer(order) if owed.to is None else account(AccountKind.OWNER, owed.to)
            self.debts_made += 1
            self.debts.append(Debt(owed.owner, creditor, order.id, owed.amount_uc, self.debts_made))
        self._collect(now_ns, out)
        return dues

    def _collect(self, now_ns: int, out: Outcome) -> None:
        """Have owners pay what they owe, oldest debt first, as far as their accounts reach."""
        left: list[Debt] = []
        for debt in self.debts:
            owner = account(AccountKind.OWNER, debt.owner)
            self.open_account(owner, out)
            self.open_account(debt.creditor, out)
            amount = min(debt.amount_uc, self.ledger.balance(owner).available_uc)
            if amount > 0:
                name = TransferId(f"refund:{derive(debt.number, debt.amount_uc)}")
                wish = Transfer(name, TransferKind.POST, owner, debt.creditor, amount, None, debt.order)
                if not self.transfer([wish], now_ns, out):
                    raise MoneyError(f"{debt.owner} could not pay what it owes for order {debt.order}")
                if kind_of(debt.creditor) is AccountKind.CUSTOMER and (order := self.orders.get(debt.order)) is not None:
                    order.refund_uc += amount
            if amount < debt.amount_uc:
                left.append(replace(debt, amount_uc=debt.amount_uc - amount))
        self.debts = left

    def release_budget(self, order: Order, now_ns: int, out: Outcome) -> None:
        """Give the whole hold back to the customer."""
        if not self.transfer([_release(order.hold, _customer(order), order)], now_ns, out):
            raise MoneyError(f"the hold of order {order.id} could not be released")

    # --- orders and contracts ---

    def hold_id(self, customer: CustomerId, order: OrderId) -> TransferId:
        """Return the id of the hold for a new order, another one if an order of that name was forgotten."""
        return TransferId(_HOLD + derive(customer, order, *([self.forgotten] if self.forgotten else [])))

    def compact(self) -> None:
        """Forget the oldest of the orders that are over, and what the ledger knows of them.

        What is left grows with the business that is under way, not with its history. An order that another one still waits
        for is kept.
        """
        awaited = {order.after for order in self.live.values()}
        over = [name for name, order in self.orders.items() if order.state.final and name not in awaited]
        for name in over[: max(0, len(over) - self.terms.keep_orders)]:
            del self.orders[name]
            self.forgotten += 1
        for order in self.orders.values():
            if order.state.final:
                order.records.pack()
        judged = [
            n for n, c in self.consultations.items() if c.reply is not None and (not c.band or c.order not in self.live)
        ]
        for quote in judged[: max(0, len(judged) - self.terms.keep_orders)]:
            del self.consultations[quote]
        self.ledger.compact()

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

    def add_order(self, order: Order) -> None:
        """Take in a new order: it comes on sale at the next look at the timetable, or later."""
        self.orders[order.id] = order
        self.order_times.set(order.id, order.release_ns)
        self.find_again(order)

    def find_again(self, order: Order) -> None:
        """Have a live order found by all who look for it."""
        self.live[order.id] = order
        if order.state is OrderState.OPEN:
            self.on_sale[order.id] = order
        if order.after in self.live:
            self.followers.setdefault(order.after, []).append(order.id)
        if order.group is not None:
            self.groups.setdefault((order.customer, order.group), []).append(order.id)

    def put_on_sale(self, order: Order, now_ns: int) -> None:
        """Have batches find an order that is open, until its time is over."""
        self.on_sale[order.id] = order
        self.order_times.set(order.id, max(order.last_call_ns, now_ns + 1))

    def open_orders(self) -> list[Order]:
        """Return the open orders, in the order in which they were posted."""
        self.on_sale = {name: order for name, order in self.on_sale.items() if order.state is OrderState.OPEN}
        return sorted(self.on_sale.values(), key=lambda order: self.order_times.number(order.id))

    def look_again(self, names: Iterable[OrderId]) -> None:
        """Have live orders looked at as soon as possible."""
        for name in names:
            if name in self.live:
                self.order_times.set(name, 0)

    def end_order(self, order: Order, state: OrderState) -> None:
        """Give an order its final state."""
        order.state = state
        if self.live.pop(order.id, None) is None:
            return
        self.order_times.drop(order.id)
        self.on_sale.pop(order.id, None)
        order.unfit.clear()
        if order.group is not None:
            group = self.groups[order.customer, order.group]
            group.remove(order.id)
            if not group:
                del self.groups[order.customer, order.group]
        self.look_again(self.followers.pop(order.id, ()))

    def revoke(self, contract: Contract, reason: str, now_ns: int, out: Outcome, *, tell: bool = True) -> Order:
        """Take a contract from its robot, which may not ask for the order again for a while."""
        order = self.orders[contract.order]
        del self.contracts[contract.id]
        if (wishes := _freed(order, contract)) and not self.transfer(wishes, now_ns, out):
            raise MoneyError(f"what was on hold for contract {contract.id} could not be released")
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


def award_id(contract: ContractId) -> MessageId:
    """Return the message id of a contract's award."""
    return MessageId(f"award:{derive(contract)}")


def _payment(contract: ContractId, debit: AccountId, credit: AccountId, amount_uc: int, order: Order) -> Transfer:
    return Transfer(TransferId(f"pay:{derive(contract)}"), TransferKind.POST, debit, credit, amount_uc, reference=order.id)


def _release(hold: TransferId, debit: AccountId, order: Order) -> Transfer:
    return Transfer(TransferId(f"void:{derive(hold)}"), TransferKind.VOID, debit, escrow_of(order), 0, hold, order.id)


def _freed(order: Order, contract: Contract) -> list[Transfer]:
    """Return what releases everything that owners have on hold for the levels below them."""
    return [
        _release(level.hold, account(AccountKind.OWNER, level.owner), order)
        for level in contract.principals
        if level.hold is not None
    ]


def _customer(order: Order) -> AccountId:
    return account(AccountKind.CUSTOMER, order.customer)


def escrow_of(order: Order) -> AccountId:
    """Return the account that holds what is meant for an order."""
    return account(AccountKind.ESCROW, order.hold.removeprefix(_HOLD))
