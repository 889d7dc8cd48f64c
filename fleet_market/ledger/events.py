"""The event log: every input of the market in its order, each row bound to all before it by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from fleet_market.ledger.anchor import START, Anchor
from fleet_market.ledger.journal import canonical


@dataclass(frozen=True, slots=True)
class Event:
    """One input of the market; the events in their order re-make the market's state.

    Parameters
    ----------
    seq : int
        1, 2, 3 ... without gaps: the order in which the inputs took effect.
    now_ns : int
        Market time.
    source : str
        Who sent it: a robot, a customer, or the daemon itself.
    message_id : str, optional
        Id under which the sender repeats it; None for the daemon's own.
    sid : int
        Session of the sender.
    body : bytes
        JSON of the body.
    lookups : bytes
        JSON of what the map answered while the market handled it, empty if it was not asked: with these answers the log
        needs no map to be replayed, and a map that was changed since changes nothing.
    reply : (str, bytes), optional
        Topic and payload of the answer, given again when the input is repeated.
    effects : str
        SHA-256 of everything that the market did upon it, hexadecimal.
    hash : str
        SHA-256 over the previous row's hash and this row, hexadecimal.
    """

    seq: int
    now_ns: int
    source: str
    message_id: str | None
    sid: int
    body: bytes
    lookups: bytes = b""
    reply: tuple[str, bytes] | None = None
    effects: str = ""
    hash: str = ""

    def fields(self) -> list[str | int | bytes | None]:
        """Return the row as plain values, in the order of the store's columns."""
        topic, payload = self.reply or (None, None)
        return [
            self.seq, self.now_ns, self.source, self.message_id, self.sid, self.body, self.lookups, topic, payload,
            self.effects, self.hash,
        ]  # fmt: skip

    @classmethod
    def of(cls, row: Iterable[object]) -> Event:
        """Return the event of a row made by `fields`.

        Raises
        ------
        ValueError
            If a field is not what it must be: the row was damaged.
        """
        seq, now_ns, source, message_id, sid, body, lookups, topic, payload, effects, digest = row
        if not (isinstance(seq, int) and isinstance(now_ns, int) and isinstance(sid, int)):
            raise ValueError(f"seq, now_ns and sid must be integers, were {seq!r}, {now_ns!r}, {sid!r}")  # noqa: TRY004 - damage, not a wrong call
        if not (isinstance(body, bytes) and isinstance(lookups, bytes)):
            raise ValueError(f"body and lookups of event {seq} must be bytes")  # noqa: TRY004 - damage, not a wrong call
        reply = (str(topic), payload) if isinstance(payload, bytes) else None
        message = None if message_id is None else str(message_id)
        return cls(seq, now_ns, str(source), message, sid, body, lookups, reply, str(effects), str(digest))

    def after(self, previous_hash: str) -> str:
        """Return the hash that this row must carry behind a row with `previous_hash`."""
        topic, payload = self.reply or (None, None)
        row = canonical([
            self.seq, self.now_ns, self.source, self.message_id, self.sid, _sha(self.body), _sha(self.lookups), topic,
            None if payload is None else _sha(payload), self.effects,
        ])  # fmt: skip
        return _sha(f"{previous_hash}{row}".encode())


def first_broken_event(events: Iterable[Event], after: Anchor = START) -> int | None:
    """Return the number of the first event that does not follow from those before it, None if the chain is whole.

    Parameters
    ----------
    after : Anchor
        What the first event follows.
    """
    previous_hash = after.event_hash
    for expected_seq, event in enumerate(events, start=after.event_seq + 1):
        if event.seq != expected_seq or event.after(previous_hash) != event.hash:
            return expected_seq
        previous_hash = event.hash
    return None


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
