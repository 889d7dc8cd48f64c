"""The state of one zone's market, and the few ways in which orders and money change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

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
    SetOf,
    TransferId,
    ZoneId,
    derive,
)
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, account
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.timetable import AsRows, Timetable
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Announce,
    AskLine,
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
    debts: list[Debt] = field(default_factory=list)
    debts_made: int = 0
    paused: bool = False
    """Whether no new call is opened for the time being."""
    unconfirmed: dict[MessageId, Send] = field(default_factory=dict)
    """Messages that must arrive and are not confirmed."""
    forgotten: int = 0
    """How many orders were forgotten."""

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
            TransferId(f"capture:{derive(contract.id)}"), TransferKind.CAPTURE, _customer(order), escrow_of(order), amount,
            order.hold, ref,
        )  # fmt: skip
        post = Transfer(
            TransferId(f"pay:{derive(contract.id)}"), TransferKind.POST, escrow_of(order), owner, amount, None, ref
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
                if (order := self.orders.get(debt.order)) is not None:
                    order.refund_uc += amount
            if amount < debt.amount_uc:
                left.append(replace(debt, amount_uc=debt.amount_uc - amount))
        self.debts = left

    def release_budget(self, order: Order, now_ns: int, out: Outcome) -> None:
        """Give the whole hold back to the customer."""
        wish = Transfer(
            TransferId(f"void:{derive(order.hold)}"), TransferKind.VOID, _customer(order), escrow_of(order), 0, order.hold,
            order.id,
        )  # fmt: skip
        if not self.transfer([wish], now_ns, out):
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


def _customer(order: Order) -> AccountId:
    return account(AccountKind.CUSTOMER, order.customer)


def escrow_of(order: Order) -> AccountId:
    """Return the account that an order's price waits in."""
    return account(AccountKind.ESCROW, order.hold.removeprefix(_HOLD))
