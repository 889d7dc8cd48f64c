"""The invariants: what must be true at every commit, at every start, and at the end, whatever the faults were.

The watcher stands outside of the product. It sees what was committed, what went over the wire and where the parcels
really are, and keeps its own short account of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet_market.body import Act
from fleet_market.daemons.zone import Zone
from fleet_market.ids import RobotId
from fleet_market.ledger import Metrics, OutboxRow, StoreRecord, TransferKind
from fleet_market.market import Market, order_faults, replay
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode
from fleet_market.protocol.messages import Accept, Award, OrderEvent, OrderState, Receipt
from fleet_market.robot.effects import Effect, Say
from fleet_market.testing.simulation import site
from fleet_market.testing.simulation.bodies import Parcel
from fleet_market.testing.simulation.machines import is_market
from fleet_market.testing.simulation.network import Message
from fleet_market.testing.simulation.scenario import TERMS

if TYPE_CHECKING:
    from fleet_market.testing.simulation.machines import RobotMachine
    from fleet_market.testing.simulation.runs import Simulation

MAX_FAULTS = 20
"""Broken invariants that are told one by one."""
FROM_OUTBOX = frozenset({"award", "settle", "cancel"})
NOT_STORED = frozenset({"position", "route"})
"""Kinds of messages to the market that leave no trace on the disk."""
ENDS = frozenset({OrderState.SETTLED, OrderState.EXPIRED, OrderState.FAILED, OrderState.CANCELLED})


class Watch:
    """Watches one simulation.

    Parameters
    ----------
    sim : Simulation
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.faults: list[str] = []
        """Broken invariants, in the order in which they were found."""
        self.lies = 0
        self._hashes: list[str] = []
        """Of all events that are known to be durable."""
        self._taken: set[tuple[str, str]] = set()
        """Sources and ids of the messages that are known to be durable."""
        self._outbox: set[str] = set()
        """Messages that have ever been in a durable outbox."""
        self._waiting: dict[str, str] = {}
        """Receiver by message, of those that nobody has confirmed."""
        self._newest_ns = 0
        """Of the durable inputs."""
        self._awarded: dict[str, tuple[str, str]] = {}
        """Robot and order by contract, of the awards that are durable."""
        self._paid: dict[str, int] = {}
        """By order."""
        self._told: set[str] = set()
        """Orders that their customers know to be accepted."""
        self._ended: dict[str, OrderState] = {}
        """By order, as the market has told it."""

    def fault(self, what: str) -> None:
        """Take note of a broken invariant."""
        if len(self.faults) < MAX_FAULTS and what not in self.faults:
            self.faults.append(what)
            self._sim.trace.note(f"FAULT {what}")

    # --- the disk --------------------------------------------------------------------------------------------------------

    def committed(self, records: Sequence[StoreRecord]) -> None:
        """Look at what has just become durable."""
        for record in records:
            self._keep(record.event.hash, record.event.source, record.event.message_id)
            if record.event.now_ns < self._newest_ns:
                self.fault(f"the market's time ran backwards, input {record.event.seq}")
            self._newest_ns = record.event.now_ns
            for message in record.done:
                self._waiting.pop(message, None)
            for row in record.outbox:
                self._keep_row(row)
            for entry in record.entries:
                if entry.transfer.kind is TransferKind.CAPTURE:
                    self._pay(entry.transfer.reference, entry.transfer.amount_uc)
        self._look_at_contracts()

    def recovered(self, zone: Zone) -> None:
        """Look at a market that has just recovered, before it trades."""
        events = list(zone.engine._store.events())  # noqa: SLF001 - what it has read itself
        if [event.hash for event in events[: len(self._hashes)]] != self._hashes:
            self.fault(f"of {len(self._hashes)} durable inputs not all are there after a start")
        if zone.engine.diverged:
            self.fault(f"input {zone.engine.diverged[0]} was decided otherwise after a start: the log does not say all")
        for event in events[len(self._hashes) :]:
            self._keep(event.hash, event.source, event.message_id)
        for order in sorted(self._told - zone.engine.market.state.orders.keys()):
            self.fault(f"order {order} was accepted, and is not there after a start")
        if events:
            self._newest_ns = events[-1].now_ns
        rows = zone.engine._store.outbox()  # noqa: SLF001 - as above
        self._waiting = {message: name for message, name in self._waiting.items() if message in {row.id for row in rows}}
        for row in rows:
            self._keep_row(row)
        for entry in zone.engine.market.ledger.journal:
            if entry.transfer.kind is TransferKind.CAPTURE:
                self._paid.setdefault(entry.transfer.reference, entry.transfer.amount_uc)
        self._look_at_contracts()

    def _keep(self, digest: str, source: str, message: str | None) -> None:
        self._hashes.append(digest)
        if message is not None:
            if (source, message) in self._taken:
                self.fault(f"{message} of {source} was taken twice")
            self._taken.add((source, message))

    def _keep_row(self, row: OutboxRow) -> None:
        name = topics.parse(row.topic).name
        self._outbox.add(row.id)
        self._waiting[row.id] = name
        if row.topic.endswith("/award") and isinstance(award := _read(row.payload).body, Award):
            self._awarded[award.contract] = (name, award.order)

    def _pay(self, order: str, amount_uc: int) -> None:
        if order in self._paid:
            self.fault(f"order {order} was paid twice")
        self._paid[order] = amount_uc
        zone, parcel = self._sim.market.zone, self._sim.world.parcels.get(order)
        known = None if zone is None else next((o for o in zone.engine.market.state.orders.values() if o.id == order), None)
        if known is None or parcel is None:
            self.fault(f"order {order} was paid, and there is no such order")
        elif why := _not_at(parcel, known.dropoff.x, known.dropoff.y, known.dropoff.radius_m + TERMS.pose_slack_m):
            self.fault(f"order {order} was paid, but its parcel is {why}")

    def _look_at_contracts(self) -> None:
        zone = self._sim.market.zone
        contracts = [] if zone is None else list(zone.engine.market.state.contracts.values())
        orders = [contract.order for contract in contracts]
        if len(set(orders)) < len(orders):
            self.fault(f"order {max(orders, key=orders.count)} is awarded to two robots at once")

    # --- the wire --------------------------------------------------------------------------------------------------------

    def acknowledged(self, client: str, message: Message) -> None:
        """Look at an acknowledgement: what a market acknowledges must be durable."""
        writer = self._sim.market.writer
        if not is_market(client) or writer is None or not writer.undurable:
            return
        if topics.parse(message.topic).kind in NOT_STORED or not message.payload:
            return
        told = _read(message.payload)
        if any((r.event.source, r.event.message_id) == (told.src, told.id) for r in writer.undurable):
            self.fault(f"{told.id} of {told.src} was acknowledged before it was stored")

    def published(self, client: str, topic: str, payload: bytes) -> None:
        """Look at a message that is sent: what follows from an input must not go out before the input is durable."""
        if not is_market(client):
            return
        address = topics.parse(topic)
        if address.direction == "view" and address.kind == "order":
            self._look_at_order(_read(payload))
        elif address.direction == "to" and address.kind in FROM_OUTBOX:
            told = _read(payload)
            if told.id not in self._outbox:
                self.fault(f"{address.kind} {told.id} was sent before it was stored")
        elif address.direction == "to" and address.kind == "receipt":
            told = _read(payload)
            if isinstance(told.body, Receipt) and (address.name, told.body.of) not in self._taken:
                self.fault(f"{told.body.of} of {address.name} was confirmed before it was stored")

    def _look_at_order(self, told: Envelope) -> None:
        if not isinstance(told.body, OrderEvent):
            return
        order, state = told.body.view.order, told.body.view.state
        if (before := self._ended.get(order)) not in (None, state):
            self.fault(f"order {order} was {before}, and is {state}")
        if state.final:
            self._ended[order] = state

    # --- customers and robots --------------------------------------------------------------------------------------------

    def accepted(self, order: str) -> None:
        """Take note that a customer was told that its order is accepted."""
        self._told.add(order)

    def agent(self, machine: RobotMachine, effects: Sequence[Effect]) -> None:
        """Look at what a robot's agent has decided."""
        for effect in effects:
            if isinstance(effect, Say) and isinstance(effect.body, Accept):
                awarded = self._awarded.get(effect.body.contract)
                if awarded is None or awarded[0] != machine.robot:
                    self.fault(f"{machine.robot} accepts contract {effect.body.contract}, which it never got")

    def handling(self, robot: RobotId, act: Act) -> None:
        """Look at a robot that begins to load or to unload."""
        if (robot, act.parcel) not in self._awarded.values():
            self.fault(f"{robot} begins to {act.kind} {act.parcel}, which it never was to carry")

    # --- the end ---------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Return what has not come to its end, one sentence each."""
        sim, zone = self._sim, self._sim.market.zone
        left = [f"a request of {c.name} has no answer" for c in sim.customers if not c.done]
        if zone is None or not zone.ready.is_set():
            return [*left, "the market is not open"]
        engine = zone.engine
        left += [f"order {o.id} is {o.state}" for o in engine.market.state.orders.values() if not o.state.final]
        there = {robot.name for robot in sim.robots if robot.on}
        left += [f"{name} has not confirmed message {message}" for message, name in self._waiting.items() if name in there]
        if engine.waiting() or (sim.market.writer is not None and sim.market.writer.undurable):
            left.append("inputs wait to be stored")
        return left

    def last_look(self) -> None:
        """Look at everything when all orders should have ended."""
        for what in self.unfinished():
            self.fault(f"at the end, {what}")
        zone = self._sim.market.zone
        if zone is None:
            return
        state = zone.engine.market.state
        again = Market(site.places())
        if diverged := replay(again, zone.engine._store.events()).diverged:  # noqa: SLF001 - white box
            self.fault(f"input {diverged[0]} is decided otherwise when the log is replayed")
        elif again.ledger.balances() != state.ledger.balances():
            self.fault("the replayed log leads to other books")
        metrics = Metrics.of(state.ledger.balances())
        for fault in [*state.ledger.audit(), *order_faults(state)]:
            self.fault(fault)
        if metrics.escrow_left_uc and not self.unfinished():
            self.fault(f"all orders have ended, and {metrics.escrow_left_uc} uc are left in escrow")
        for lost in sorted(self._told - state.orders.keys()):
            self.fault(f"order {lost} was accepted, and is lost")
        for order in state.orders.values():
            if (told := self._ended.get(order.id)) not in (None, order.state):
                self.fault(f"order {order.id} is {order.state}, and was told to be {told}")
            if order.state is OrderState.SETTLED and order.price_uc != self._paid.get(order.id, 0):
                self.fault(f"order {order.id} cost {order.price_uc} uc, {self._paid.get(order.id, 0)} were paid")


def _not_at(parcel: Parcel, x: float, y: float, radius_m: float) -> str:
    if parcel.on is not None:
        return f"aboard {parcel.on}"
    gap_m = math.hypot(parcel.at[0] - x, parcel.at[1] - y)
    return f"{gap_m:.2f} m away from where it was to be" if gap_m > radius_m else ""


def _read(payload: bytes) -> Envelope:
    return decode(payload, limit=MAX_OUTBOUND_BYTES)
