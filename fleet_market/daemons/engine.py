"""The engine of a market daemon: inputs to the pure market, its effects to the disk, and then to the world.

For every input: decide in memory, store input and effects in one transaction, and only then acknowledge the input and
send what follows from it. A start replays the stored inputs, so that recovery and start are the same thing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet_market.adapters.sqlite_store import MAX_REPLIES, SqliteStore
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.errors import BrokerError, LedgerMismatchError
from fleet_market.ids import Identifier, MessageId, derive
from fleet_market.ledger import Event, OutboxRow, StoreRecord
from fleet_market.market import Command, Market, OpenMarket, Outcome, Send
from fleet_market.market.commands import SELF, read_logged
from fleet_market.ports import Transport
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, encode
from fleet_market.protocol.messages import Receipt

log = logging.getLogger(__name__)

MAX_UNPUBLISHED = 10_000
"""Inputs whose effects wait to be sent; beyond that no further input is taken."""
RESEND_S = 5.0
"""A message that must arrive is sent again after this long without a receipt (wall time)."""

Ack = Callable[[], None]


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
    store : SqliteStore
    writer : StoreWriter
        The only one that writes to `store`.
    """

    def __init__(self, market: Market, store: SqliteStore, writer: StoreWriter) -> None:
        self.market = market
        self._store, self._writer = store, writer
        self._effects: asyncio.Queue[_Effect] = asyncio.Queue(MAX_UNPUBLISHED)
        self._replies: OrderedDict[tuple[str, str], tuple[str, bytes] | None] = OrderedDict()
        self._outbox: dict[str, tuple[str, bytes]] = {}
        self._seq = self._sent = self.now_ns = self.epoch = 0

    def recover(self) -> None:
        """Re-make the market from the stored inputs.

        Raises
        ------
        LedgerMismatchError
            If the books that follow from the inputs are not those in the database.
        """
        found = self._store.recover()
        for event in found.events:
            body = read_logged(event.body)
            self.epoch += isinstance(body, OpenMarket)
            message = None if event.message_id is None else MessageId(event.message_id)
            self.market.handle(Command(event.source, body, event.now_ns, message, event.sid))
            self._seq, self.now_ns = event.seq, max(self.now_ns, event.now_ns)
        ledger = self.market.ledger
        if tuple(ledger.journal) != found.journal or ledger.balances() != found.balances:
            raise LedgerMismatchError("the stored inputs lead to other books than those stored: do not trade, audit first")
        if faults := ledger.audit():
            raise LedgerMismatchError("; ".join(faults))
        self._replies.update(found.replies)
        self._outbox = {row.id: (row.topic, row.payload) for row in found.outbox}

    def waiting(self) -> int:
        """Return how many inputs wait for the disk or to be answered."""
        return self._effects.qsize()

    async def take(self, command: Command, ack: Ack = lambda: None) -> None:
        """Take one input; returns when it is decided and queued for the disk, not when it is stored.

        An input that was taken before gets the stored answer again.
        """
        key = (command.source, command.message_id or "")
        if command.message_id is not None and key in self._replies:
            reply = self._replies[key]
            again = () if reply is None else ((*reply, False),)
            await self._effects.put(_Effect(None, again, ack))
            return
        self.now_ns = max(self.now_ns, command.now_ns)
        outcome = self.market.handle(command)
        if not (outcome.changed or outcome.sends):
            ack()
            return
        messages = [(send, self._sealed(send)) for send in outcome.sends]
        stored = self._store_effects(command, outcome, messages) if outcome.changed else None
        public = tuple((send.topic, payload, send.retain) for send, payload in messages)
        await self._effects.put(_Effect(stored, public, ack))

    async def tell(self, sends: Sequence[Send], ack: Ack = lambda: None) -> None:
        """Send messages that follow from nothing stored, in their turn; then acknowledge what they answer."""
        messages = tuple((send.topic, self._sealed(send), send.retain) for send in sends)
        await self._effects.put(_Effect(None, messages, ack))

    def _store_effects(
        self, command: Command, outcome: Outcome, messages: list[tuple[Send, bytes]]
    ) -> asyncio.Future[None]:
        self._seq += 1
        reply = next(((send.topic, payload) for send, payload in messages if send.reply), None)
        if command.message_id is not None:
            self._replies[command.source, command.message_id] = reply
            if len(self._replies) > MAX_REPLIES:
                self._replies.popitem(last=False)
        outbox: dict[str, tuple[str, bytes]] = {
            send.id: (send.topic, payload) for send, payload in messages if send.id is not None
        }
        done = tuple(i for i in outcome.done if self._may_confirm(command, i) and self._outbox.pop(i, None) is not None)
        self._outbox.update(outbox)
        record = StoreRecord(
            event=Event(self._seq, command.now_ns, command.source, command.message_id, command.sid, command.logged()),
            reply=reply,
            accounts=tuple(outcome.accounts),
            entries=tuple(outcome.entries),
            balances=tuple(outcome.balances.items()),
            outbox=tuple(OutboxRow(i, topic, payload) for i, (topic, payload) in outbox.items()),
            done=done,
        )
        return self._writer.submit(record)

    def _may_confirm(self, command: Command, message: str) -> bool:
        """Return whether a message waits, and a receipt for it comes from whom it was sent to."""
        waiting = self._outbox.get(message)
        return waiting is not None and (
            not isinstance(command.body, Receipt) or topics.parse(waiting[0]).name == command.source
        )

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

    async def publish_effects(self, transport: Transport) -> None:
        """Send what the inputs led to, in their order, each after its commit; runs until cancelled.

        Raises
        ------
        StoreError, LedgerMismatchError
            If a commit fails: memory is then ahead of the disk, and only a restart helps.
        """
        while True:
            effect = await self._effects.get()
            if effect.stored is not None:
                await effect.stored
            effect.ack()
            for topic, payload, retain in effect.messages:
                try:
                    await transport.publish(topic, payload, retain=retain)
                except BrokerError as error:
                    log.info("not sent, %s", error)

    async def resend(self, transport: Transport) -> None:
        """Send every message again that its receiver has not confirmed; runs until cancelled."""
        while True:
            waiting = dict(self._outbox)
            await asyncio.sleep(RESEND_S)
            for message, (topic, payload) in waiting.items():
                if message in self._outbox:
                    try:
                        await transport.publish(topic, payload)
                    except BrokerError as error:
                        log.info("not sent again, %s", error)
                        break
