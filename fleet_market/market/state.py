"""The state of one zone's market, and the few ways in which orders and money change it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_market.contracts import Contract, MarketTerms, Order
from fleet_market.errors import FleetMarketError
from fleet_market.ids import AccountId, CallId, ContractId, MessageId, OrderId, RobotId, TransferId, ZoneId, derive
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, account
from fleet_market.market.outcome import Outcome, Send
from fleet_market.protocol import topics
from fleet_market.protocol.messages import Announce, Ask, Cancel, Lot, OrderEvent, OrderState, Position

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
    position: Position | None = None
    """For those who look on only: positions are not logged, so nothing may be decided on them."""


@dataclass(slots=True)
class OpenCall:
    """The sealed call that is open."""

    id: CallId
    opened_ns: int
    close_ns: int
    lots: tuple[Lot, ...]
    asks: dict[RobotId, Ask] = field(default_factory=dict)


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
    contracts: dict[ContractId, Contract] = field(default_factory=dict)
    robots: dict[RobotId, RobotRecord] = field(default_factory=dict)
    early_presence: dict[RobotId, tuple[int, bool]] = field(default_factory=dict)
    """Session and presence of robots that have not announced themselves yet."""
    call: OpenCall | None = None
    quotes: list[PendingQuote] = field(default_factory=list)
    batches: int = 0
    paused: bool = False
    """Whether no new call is opened for the time being."""

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

    def pay(self, order: Order, contract: Contract, now_ns: int, out: Outcome) -> None:
        """Capture the price from the hold and pass it to the robot's owner, the rest returns to the customer."""
        owner = account(AccountKind.OWNER, contract.owner)
        self.open_account(owner, out)
        amount, ref = contract.price_uc, order.id
        capture = Transfer(
            TransferId(f"capture:{derive(contract.id)}"), TransferKind.CAPTURE, _customer(order), _escrow(order), amount,
            order.hold, ref,
        )  # fmt: skip
        post = Transfer(
            TransferId(f"pay:{derive(contract.id)}"), TransferKind.POST, _escrow(order), owner, amount, None, ref
        )
        if not self.transfer([capture, post], now_ns, out):
            raise MoneyError(f"contract {contract.id} could not be paid")

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
        order.state, order.note, order.contract = state, note, None
        self.announce(order, out)

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
