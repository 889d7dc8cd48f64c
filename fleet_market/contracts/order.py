"""An order: what a customer wants done, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fleet_market.ids import ContractId, CustomerId, OrderId, OwnerId, RobotId, SetOf, TransferId
from fleet_market.protocol.messages import (
    MAX_TRADES_TOLD,
    LevelView,
    LotRecord,
    OrderState,
    OrderView,
    Phase,
    Place,
    StepEvidence,
    TradeRecord,
)

MAX_RECORDS = 50
"""Clearing records kept per order; of a lot that nobody takes, the newest are kept."""
NS_PER_H = 3_600 * 10**9


class Records(Sequence[LotRecord]):
    """Clearing records, oldest first; those that are packed or come from a snapshot are read when they are asked for."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Iterable[LotRecord | str] = ()) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> LotRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> LotRecord | Records:
        """Return one record, or some of them."""
        if isinstance(index, slice):
            return Records(self._rows[index])
        row = self._rows[index]
        if isinstance(row, str):
            row = self._rows[index] = LotRecord.model_validate_json(row)
        return row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and self.texts() == other.texts()

    __hash__ = None  # type: ignore[assignment]

    def keep(self, record: LotRecord) -> None:
        """Add a record; repeated refusals replace each other, and the oldest give way."""
        if self._rows and self[-1].winner is None and record.winner is None:
            self._rows[-1] = record
        else:
            self._rows.append(record)
        del self._rows[:-MAX_RECORDS]

    def pack(self) -> None:
        """Keep the records as texts: they are hardly asked for any more."""
        self._rows[:] = self.texts()

    def texts(self) -> list[str]:
        """Return the records as JSON texts."""
        return [row if isinstance(row, str) else row.model_dump_json() for row in self._rows]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a snapshot they are a list of texts."""
        texts = core_schema.list_schema(core_schema.str_schema())
        return core_schema.no_info_after_validator_function(
            cls, texts, serialization=core_schema.plain_serializer_function_ser_schema(cls.texts, return_schema=texts)
        )


@dataclass(frozen=True, slots=True)
class Promise:
    """A price at which an owner had an order awarded."""

    owner: OwnerId
    price_uc: int
    below: tuple[tuple[OwnerId, int], ...] = ()
    """To whom it was sold on, and for how much, level by level; the last one is who failed."""


@dataclass(slots=True)
class Order:
    """One order and its state.

    The maximum price stays on hold from the customer's account into the order's escrow until the order is over.
    """

    id: OrderId
    customer: CustomerId
    pickup: Place
    dropoff: Place
    payload_kg: float
    release_ns: int
    deadline_ns: int
    max_price_uc: int
    hold: TransferId
    priority: int = 0
    lateness_uc_per_h: int = 0
    value_uc: int = 0
    after: OrderId | None = None
    group: OrderId | None = None
    group_size: int = 1
    state: OrderState = OrderState.SCHEDULED
    attempts: int = 0
    contract: ContractId | None = None
    robot: RobotId | None = None
    ask_uc: int | None = None
    price_uc: int | None = None
    predicted_energy_j: float | None = None
    energy_so_far_j: float | None = None
    phase: Phase | None = None
    """Of the robot at work, as it last said."""
    measured_energy_j: float | None = None
    awarded_ns: int | None = None
    settled_ns: int | None = None
    note: str = ""
    cool_until_ns: dict[RobotId, int] = field(default_factory=dict)
    unfit: SetOf[RobotId] = field(default_factory=set)
    """Robots that cannot do it at all, as they have said themselves: it is not offered to them again."""
    records: Records = field(default_factory=Records)
    opened_ns: int = 0
    """When it came on sale."""
    broken: list[Promise] = field(default_factory=list)
    """Awards that were not kept, oldest first."""
    refund_uc: int = 0
    levels: tuple[LevelView, ...] = ()
    """The contracts on top of each other by which it is done; empty while it has been sold once only."""
    trades: list[TradeRecord] = field(default_factory=list)
    evidence: tuple[StepEvidence, ...] = ()
    """What it was paid on."""
    brought_back_from: Place | None = None
    """Set when it was cancelled with the parcel aboard: where it was to go; `dropoff` is then where it came from."""

    @property
    def last_call_ns(self) -> int:
        """When it is worth nothing any more: at its deadline, or when lateness has eaten up the budget."""
        if self.lateness_uc_per_h == 0:
            return self.deadline_ns
        return self.deadline_ns + self.max_price_uc * NS_PER_H // self.lateness_uc_per_h

    def rank(self, now_ns: int, aging_ns: int) -> int:
        """Return its priority, grown by one for every `aging_ns` on sale."""
        return self.priority + max(0, now_ns - self.opened_ns) // aging_ns

    def bound_group(self) -> OrderId | None:
        """Return the group that it must be awarded with; what was awarded once is sold again alone."""
        return self.group if self.attempts == 0 else None

    def keep(self, record: LotRecord) -> None:
        """Remember what a batch did with this order."""
        self.records.keep(record)

    def keep_trade(self, record: TradeRecord) -> None:
        """Remember a trade by which this order has changed hands."""
        self.trades.append(record)
        del self.trades[:-MAX_TRADES_TOLD]

    def reopen(self, note: str) -> None:
        """Put the order back on sale."""
        self.state, self.note = OrderState.OPEN, note
        self.contract = self.robot = self.ask_uc = self.price_uc = None
        self.predicted_energy_j = self.energy_so_far_j = self.awarded_ns = self.phase = None
        self.levels = ()

    def view(self) -> OrderView:
        """Return the order as its customer sees it."""
        return OrderView(
            order=self.id,
            customer=self.customer,
            state=self.state,
            pickup=self.pickup,
            dropoff=self.dropoff,
            payload_kg=self.payload_kg,
            release_ns=self.release_ns,
            deadline_ns=self.deadline_ns,
            max_price_uc=self.max_price_uc,
            attempts=self.attempts,
            robot=self.robot,
            contract=self.contract,
            ask_uc=self.ask_uc,
            price_uc=self.price_uc,
            predicted_energy_j=self.predicted_energy_j,
            energy_so_far_j=None if self.state.final else self.energy_so_far_j,
            phase=self.phase if self.state is OrderState.EXECUTING else None,
            measured_energy_j=self.measured_energy_j,
            awarded_ns=self.awarded_ns,
            settled_ns=self.settled_ns,
            note=self.note[:160],
            priority=self.priority,
            lateness_uc_per_h=self.lateness_uc_per_h,
            after=self.after,
            group=self.group,
            refund_uc=self.refund_uc,
            evidence=self.evidence,
        )
