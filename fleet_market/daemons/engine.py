"""The engine of a market daemon: inputs to the pure market, its effects to the disk, and then to the world.

For every input: decide in memory, store input and effects in one transaction, and only then acknowledge the input and
send what follows from it. A start goes on from the last snapshot and replays the inputs stored since, so that recovery and
start are the same thing; a snapshot that cannot be used, or does not lead to the stored books, is passed over.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Protocol

from fleet_market.adapters.store_base import Reads
from fleet_market.errors import BrokerError, LedgerMismatchError, StoreError
from fleet_market.ids import AccountId, Identifier, MessageId, derive
from fleet_market.ledger import (
    GENESIS,
    AccountKind,
    Balance,
    Entry,
    Event,
    Head,
    Heads,
    HeadSigner,
    OutboxRow,
    StoreRecord,
    kind_of,
)
from fleet_market.market import Checkpoint, Command, Market, Outcome, Replayed, Send, order_faults, resume
from fleet_market.market import replay as replay_log
from fleet_market.market.commands import SELF
from fleet_market.market.snapshot import form
from fleet_market.ports import Publisher
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import JournalHead

log = logging.getLogger(__name__)

MAX_UNPUBLISHED = 10_000
"""Inputs whose effects wait to be sent; beyond that no further input is taken."""
SNAPSHOT_INPUTS = 2_000
"""So many inputs after a snapshot the next is taken: what a start replays at most."""
MAX_REPLIES = 100_000
"""Answers kept in memory, to be given again; the store knows the older ones."""
MAX_SENDING = 500
"""Messages that the MQTT broker has not confirmed yet: waiting for one at a time costs a round trip each."""
RESEND_S = 5.0
"""A message that must arrive is sent again after this long without a receipt (wall time)."""

Ack = Callable[[], None]


class Writer(Protocol):
    """Makes records durable, in the order in which they are submitted; `StoreWriter` does."""

    def submit(self, record: StoreRecord) -> asyncio.Future[None]:
        """Queue `record`; the future is done when it is on the disk, and fails if it cannot get there."""


@dataclass(frozen=True, slots=True)
class _Effect:
    stored: asyncio.Future[None] | None
    messages: tuple[tuple[str, bytes, bool], ...]
    ack: Ack


class Engine:
    """Runs one market over one store.

    Parameters
    ----------
    market : Market
        Fresh; `recover` brings it to where the store is.
    store : Reads
        A store of `fleet_market.adapters.stores`.
    writer : Writer
        The only one that writes to `store`.
    signer : HeadSigner, optional
        Signs the journal's head of each day.
    observe : callable
        Is shown what every new input has led to.
    whole : callable, optional
        Gives the store with the archives of its beginning: for a start without a usable snapshot.
    """

    def __init__(
        self,
        market: Market,
        store: Reads,
        writer: Writer,
        signer: HeadSigner | None = None,
        observe: Callable[[Outcome], None] = lambda _outcome: None,
        whole: Callable[[], Reads] | None = None,
    ) -> None:
        self.market, self._whole = market, whole
        self._store, self._writer, self._signer, self._observe = store, writer, signer, observe
        self._heads = Heads(signer)
        self._due_heads: tuple[Head, ...] = ()
        self._unsaid: tuple[Head, ...] = ()
        """Heads that are to be published."""
        self._hash = GENESIS
        self._effects: asyncio.Queue[_Effect] = asyncio.Queue(MAX_UNPUBLISHED)
        self._replies: OrderedDict[tuple[str, str], tuple[str, bytes] | None] = OrderedDict()
        self._outbox: dict[str, tuple[str, bytes]] = {}
        self._forgot = False
        self._room = asyncio.Semaphore(MAX_SENDING)
        self._sending: set[asyncio.Task[None]] = set()
        self._seq = self._snapshot_seq = self._sent = self.now_ns = self.epoch = 0
        self.snapshot_inputs = SNAPSHOT_INPUTS
        """So many inputs after a snapshot the next is taken."""
        self.diverged: list[int] = []
        """Stored inputs that this program words or decides otherwise than the one that took them."""

    @property
    def inputs(self) -> int:
        """How many inputs the market has taken since its first start."""
        return self._seq

    def recover(self) -> None:
        """Re-make the market from the stored inputs, and audit it.

        Raises
        ------
        LedgerMismatchError
            If the books that follow from the inputs are not those in the database, or are not sound.
        StoreError
            If the database cannot be read.
        """
        for snapshot in self._store.snapshots():
            try:
                self._go_on(resume(self.market, snapshot), self._store)
            except LedgerMismatchError as error:
                log.warning("not started from the snapshot at event %d: %s", snapshot.event.seq, error)
                self.market.reset()
                self._replies.clear()
            else:
                return
        whole = self._store
        if archived := whole.anchor().event_seq:
            if self._whole is None:
                raise StoreError(
                    f"no snapshot of this database can be used, and its events 1 to {archived} are archived: set"
                    " retention_folder to where the archives are"
                )
            whole = self._whole()
            log.warning("no snapshot can be used: everything is replayed, with the archives")
        self._go_on(Replayed(), whole)

    def _go_on(self, at: Replayed, store: Reads) -> None:
        """Replay what was put in since `at`, compare, audit."""
        ledger = self.market.ledger
        rows, last = ledger.rows, ledger.last
        entries: list[Entry] = []

        def follow(event: Event, outcome: Outcome) -> None:
            entries.extend(outcome.entries)
            if event.message_id is not None:
                self._keep_reply(event.source, event.message_id, event.reply)

        self._snapshot_seq, self._forgot = at.seq, at.seq > 0
        with _without_collector(), closing(store.events(at.seq)) as events:
            at = replay_log(self.market, events, since=at, each=follow)
        self._seq, self.now_ns, self.epoch, self._hash = at.seq, at.now_ns, self.market.state.epoch, at.hash
        self.diverged = at.diverged
        if at.diverged:
            log.warning("this program words or decides %d of the stored inputs otherwise than the one that took them, "
                        "first input %d", len(at.diverged), at.diverged[0])  # fmt: skip
        same = all(ours == stored for ours, stored in zip_longest(entries, store.journal(rows)))
        if not same or _open(self.market.ledger.balances()) != _open(self._store.open_balances()):
            raise LedgerMismatchError("the stored inputs lead to other books than those stored: do not trade, audit first")
        if faults := [*self.market.ledger.audit(), *order_faults(self.market.state)]:
            raise LedgerMismatchError("; ".join(faults))
        self._recover_outbox(diverged=bool(at.diverged))
        known = self._store.heads()
        self._heads = Heads(self._signer, known[-1].day if known else -1)
        self._unsaid = known[-1:]
        self._due_heads = self._heads.follow(entries if last is None else [last, *entries])

    def _keep_reply(self, source: str, message_id: str, reply: tuple[str, bytes] | None) -> None:
        self._replies[source, message_id] = reply
        if len(self._replies) > MAX_REPLIES:
            self._replies.popitem(last=False)
            self._forgot = True

    def _recover_outbox(self, *, diverged: bool) -> None:
        rows, unconfirmed = self._store.outbox(), self.market.state.unconfirmed
        self._outbox = {row.id: (row.topic, row.payload) for row in rows}
        if diverged:
            return
        for row in rows:
            send = unconfirmed.get(MessageId(row.id))
            if send is None or (send.topic, send.body) != (row.topic, decode(row.payload, limit=MAX_OUTBOUND_BYTES).body):
                raise LedgerMismatchError(f"message {row.id} of the outbox follows from no stored input")
        if missing := unconfirmed.keys() - self._outbox.keys():
            raise LedgerMismatchError(f"message {min(missing)} should wait in the outbox and is not there")

    def _said_heads(self) -> list[tuple[str, bytes, bool]]:
        """Return what is published of the heads that are new since the last call, the newest after a start."""
        heads, self._unsaid = self._unsaid, ()
        topic = topics.view(self.market.state.zone, "head")
        bodies = [
            JournalHead(day=h.day, seq=h.seq, hash=h.hash, key_id=h.key_id, signature=h.signature.hex()) for h in heads
        ]
        return [(topic, self._sealed(Send(topic, body)), True) for body in bodies]

    def waiting(self) -> int:
        """Return how many inputs wait for the disk or to be answered."""
        return self._effects.qsize()

    async def take(self, command: Command, ack: Ack = lambda: None) -> asyncio.Future[None] | None:
        """Take one input; returns when it is decided and queued for the disk, not when it is stored.

        An input that was taken before gets the stored answer again.

        Returns
        -------
        Future or None
            Done when the input is on the disk; None if there is nothing to store. `publish_effects` looks after it.
        """
        if (known := self._answered(command)) is not None:
            await self._effects.put(_Effect(None, tuple((*reply, False) for reply in known), ack))
            return None
        self.now_ns = max(self.now_ns, command.now_ns)
        outcome = self.market.handle(command)
        self._observe(outcome)
        if not (outcome.changed or outcome.sends):
            ack()
            return None
        messages = [(send, self._sealed(send)) for send in outcome.sends]
        stored = self._store_effects(command, outcome, messages) if outcome.changed else None
        public = tuple((send.topic, payload, send.retain) for send, payload in messages)
        await self._effects.put(_Effect(stored, (*public, *self._said_heads()), ack))
        if self._seq >= self._snapshot_seq + self.snapshot_inputs:
            self._snapshot_seq = self._seq
            await self.take(Command(SELF, Checkpoint(form=form()), self.now_ns))
        return stored

    def _answered(self, command: Command) -> Sequence[tuple[str, bytes]] | None:
        """Return the answer that this input has got before (empty if it got none), None if it is new."""
        if command.message_id is None:
            return None
        key = (command.source, command.message_id)
        if key in self._replies:
            reply = self._replies[key]
            return () if reply is None else (reply,)
        if self._forgot and (event := self._store.find_event(*key)) is not None:
            return () if event.reply is None else (event.reply,)
        return None

    async def tell(self, transport: Publisher, sends: Sequence[Send], ack: Ack = lambda: None) -> None:
        """Send what follows from nothing that is to be stored: it waits for no commit, only for room among `MAX_SENDING`.

        It may overtake what was decided before it. What it answers is acknowledged in its turn, as MQTT 5.0 wants it (4.6).
        """
        for send in sends:
            await self._send(transport, send.topic, self._sealed(send), send.retain)
        await self._effects.put(_Effect(None, (), ack))

    def _store_effects(
        self, command: Command, outcome: Outcome, messages: list[tuple[Send, bytes]]
    ) -> asyncio.Future[None]:
        self._seq += 1
        reply = next(((send.topic, payload) for send, payload in messages if send.reply), None)
        if command.message_id is not None:
            self._keep_reply(command.source, command.message_id, reply)
        outbox: dict[str, tuple[str, bytes]] = {
            send.id: (send.topic, payload) for send, payload in messages if send.id is not None
        }
        done = tuple(i for i in outcome.done if self._outbox.pop(i, None) is not None)
        self._outbox.update(outbox)
        event = Event(
            self._seq, command.now_ns, command.source, command.message_id, command.sid, command.logged(), outcome.lookups,
            reply, outcome.digest(),
        )  # fmt: skip
        self._hash = event.after(self._hash)
        heads, self._due_heads = (*self._due_heads, *self._heads.follow(outcome.entries)), ()
        self._unsaid = (*self._unsaid, *heads)
        record = StoreRecord(
            event=replace(event, hash=self._hash),
            accounts=tuple(outcome.accounts),
            entries=tuple(outcome.entries),
            balances=tuple(outcome.balances.items()),
            outbox=tuple(OutboxRow(i, topic, payload) for i, (topic, payload) in outbox.items()),
            done=done,
            heads=heads,
            snapshot=outcome.snapshot,
        )
        return self._writer.submit(record)

    def _sealed(self, send: Send) -> bytes:
        self._sent += 1
        return encode(
            Envelope(
                id=send.id or MessageId(derive(self.epoch, self._seq, self._sent)),
                ts=self.now_ns,
                src=Identifier(SELF),
                sid=self.epoch,
                corr=send.corr,
                body=send.body,
            )
        )

    async def publish_effects(self, transport: Publisher) -> None:
        """Send what the inputs led to, in their order, each after its commit; runs until cancelled.

        Not awaited is that a message is confirmed: what must arrive is kept, and sent again.

        Raises
        ------
        StoreError, LedgerMismatchError
            If a commit fails: memory is then ahead of the disk, and only a restart helps.
        """
        try:
            while True:
                effect = await self._effects.get()
                if effect.stored is not None:
                    await effect.stored
                effect.ack()
                for message in effect.messages:
                    await self._send(transport, *message)
                self._effects.task_done()
        finally:
            for task in self._sending:
                task.cancel()

    async def _send(self, transport: Publisher, topic: str, payload: bytes, retain: bool = False) -> None:  # noqa: FBT001, FBT002 - a field
        """Let a message leave, without waiting for the confirmation of those before it."""
        await self._room.acquire()
        task = asyncio.create_task(self._publish(transport, topic, payload, retain=retain))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _publish(self, transport: Publisher, topic: str, payload: bytes, *, retain: bool) -> None:
        try:
            await transport.publish(topic, payload, retain=retain)
        except BrokerError as error:
            log.info("not sent, %s", error)
        finally:
            self._room.release()

    def unconfirmed(self) -> int:
        """Return how many messages that must arrive are not confirmed yet."""
        return len(self._outbox)

    async def send_unconfirmed(self, transport: Publisher) -> None:
        """Send every message once more that its receiver has not confirmed; raises `BrokerError`."""
        for message, (topic, payload) in dict(self._outbox).items():
            if message in self._outbox:
                await transport.publish(topic, payload)

    async def stored(self) -> None:
        """Wait until all that was taken so far is stored and on its way."""
        await self._effects.join()

    async def settled(self) -> None:
        """Wait until all that was taken so far is stored and sent."""
        await self.stored()
        while self._sending:
            await asyncio.wait(self._sending)

    async def resend(self, transport: Publisher) -> None:
        """Send every message again that its receiver has not confirmed; runs until cancelled."""
        while True:
            waiting = dict(self._outbox)
            await asyncio.sleep(RESEND_S)
            for message, (topic, payload) in waiting.items():
                if message in self._outbox:
                    await self._send(transport, topic, payload)


def _open(balances: Mapping[AccountId, Balance]) -> dict[AccountId, Balance]:
    """Return the accounts that are in use: those of orders that are over need not be remembered."""
    return {a: b for a, b in balances.items() if not (b.is_empty and kind_of(a) is AccountKind.ESCROW)}


@contextmanager
def _without_collector() -> Iterator[None]:
    """Spare the search for garbage while nearly all that is made is kept: a sixth of a replay's time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
