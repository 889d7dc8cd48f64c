"""The gate: what of all that arrives is let in. Pure; time comes as an argument.

Cheap questions come first, the signature last: size, the sender's allowance, the form of the seal, whose key it is and
whether its holder may write here, expiry and order, and only then the 100 to 200 microseconds of Ed25519. Whoever sends too
much, or rubbish, uses up its own allowance and nobody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market.ids import DidKey
from fleet_market.protocol import topics
from fleet_market.protocol.did import decode_did
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES
from fleet_market.protocol.registry import Directory, may_write
from fleet_market.protocol.seal import MAX_SEAL_BYTES, Seal, read_sealed
from fleet_market.protocol.topics import Address

MAX_SENDERS = 20_000
"""Senders whose allowance is kept; beyond it the one that has been silent the longest starts afresh."""
SKEW_S = 30.0
"""How far a sender's clock may be ahead. [assumption: hosts run NTP or PTP]"""
MAX_LIFE_S = 600.0
"""Longest life of a message that is not retained: how long a network may hold it back and still be believed."""
LASTING = frozenset({("state", "presence"), ("state", "announce"), ("zone", "auctioneer")})
"""Retained topics, also of last wills: they may be without expiry, and each has an order of its own."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""``verify(public_key, signature, message)``."""
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sender may send. A robot at five times real time sends about 50 messages a second."""

    rate_per_s: float = 100.0
    burst: float = 200.0
    refused_costs: float = 10.0
    """Allowance that a refused message uses up, so that a sender of rubbish is soon not listened to at all."""
    debt: float = 1000.0
    """How far refusals can push a sender below zero: with the rate above, ten seconds of silence."""
    max_bytes: int = MAX_INBOUND_BYTES


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Allowances:
    """A token bucket for each sender."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, sender: str, now_s: float) -> bool:
        """Take one message's worth; False if the sender has none left."""
        bucket = self._fill(sender, now_s)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def fine(self, sender: str, now_s: float) -> None:
        """Take what a refused message costs, down to the greatest debt."""
        bucket = self._fill(sender, now_s)
        bucket.tokens = max(bucket.tokens - self._limits.refused_costs, -self._limits.debt)

    def _fill(self, sender: str, now_s: float) -> _Bucket:
        limits, bucket = self._limits, self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Bucket(limits.burst, now_s)
            if len(self._buckets) > MAX_SENDERS:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(sender)
        earned = (now_s - bucket.at_s) * limits.rate_per_s if now_s > bucket.at_s else 0.0
        bucket.tokens, bucket.at_s = min(limits.burst, bucket.tokens + earned), max(now_s, bucket.at_s)
        return bucket


class Order:
    """The place of the newest message of every key: nothing is taken twice, and nothing after what came later.

    Retained topics have an order of their own each, since a broker delivers them again whenever somebody subscribes.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[DidKey, str], Place] = {}

    def check(self, seal: Seal, stream: str) -> None:
        """Raise ``ProtocolError("replayed")`` unless the message comes after all that were taken."""
        newest = self._newest.get((seal.kid, stream))
        if newest is not None and (seal.conn, seal.seq) <= newest:
            raise ProtocolError("replayed", f"({seal.conn}, {seal.seq}) does not come after {newest}")

    def take(self, seal: Seal, stream: str) -> None:
        """Take note of a message that was let in."""
        self._newest[seal.kid, stream] = (seal.conn, seal.seq)

    def marks(self) -> list[tuple[str, int, int]]:
        """Return key and place of what must not come again after a restart; what is retained must, and is not in it."""
        return [(kid, *place) for (kid, stream), place in self._newest.items() if not stream]

    def restore(self, marks: Iterable[tuple[str, int, int]]) -> None:
        """Take what `marks` returned in an earlier process."""
        self._newest.update({(DidKey(kid), ""): (conn, seq) for kid, conn, seq in marks})


class Gate:
    """Lets messages in.

    Parameters
    ----------
    limits : Limits
    directory : Directory, optional
        Whose keys are whose; None: messages are not sealed, which is for the loopback interface only.
    verify : callable, optional
        Verifies an Ed25519 signature; needed with a directory.
    """

    def __init__(self, limits: Limits, directory: Directory | None = None, verify: Verify | None = None) -> None:
        self.limits, self.directory, self.order = limits, directory, Order()
        self._verify = verify
        self._allowances = Allowances(limits)

    def another(self, limits: Limits) -> Gate:
        """Return a gate with the same keys, but allowances and an order of its own."""
        return Gate(limits, self.directory, self._verify)

    def open(self, topic: str, payload: bytes, *, unix_s: float, now_s: float) -> bytes:
        """Return the envelope in `payload`, still to be decoded.

        Parameters
        ----------
        unix_s : float
            Wall clock, for expiry.
        now_s : float
            Monotonic clock, for allowances.

        Raises
        ------
        ProtocolError
            In this order: ``oversized``, ``topic``, ``flood``, ``unsigned``, ``malformed``, ``unknown_key``,
            ``revoked``, ``key_expired``, ``wrong_sender``, ``expired``, ``expiry``, ``clock``, ``replayed``,
            ``bad_signature``.
        """
        limit = self.limits.max_bytes + (0 if self.directory is None else MAX_SEAL_BYTES)
        if len(payload) > limit:
            self.fine(topic, now_s)
            raise ProtocolError("oversized", f"{len(payload)} bytes, at most {limit} are read")
        address = topics.parse(topic)
        if not self._allowances.take(_sender(address), now_s):
            raise ProtocolError("flood", f"more than {self.limits.rate_per_s:g} messages a second")
        if self.directory is None:
            return payload
        try:
            return self._unseal(self.directory, topic, address, payload, unix_s)
        except ProtocolError:
            self.fine(topic, now_s)
            raise

    def fine(self, topic: str, now_s: float) -> None:
        """Take from a sender's allowance what a refused message costs."""
        try:
            self._allowances.fine(_sender(topics.parse(topic)), now_s)
        except ProtocolError:
            return

    def _unseal(self, directory: Directory, topic: str, address: Address, payload: bytes, unix_s: float) -> bytes:
        sealed = read_sealed(topic, payload)
        seal = sealed.seal
        entry = directory.find(seal.kid, unix_s)
        if not may_write(entry, address):
            raise ProtocolError("wrong_sender", f"{entry.role} {entry.name} may not write to {topic}")
        lasting = (address.direction, address.kind) in LASTING
        _check_time(seal, unix_s, lasting=lasting)
        stream = topic if lasting else ""
        self.order.check(seal, stream)
        if self._verify is None or not self._verify(decode_did(seal.kid), sealed.signature, sealed.signed):
            raise ProtocolError("bad_signature", f"not signed with the key of {entry.role} {entry.name}")
        self.order.take(seal, stream)
        return sealed.body


def _check_time(seal: Seal, unix_s: float, *, lasting: bool) -> None:
    if seal.conn > 1000 * (unix_s + SKEW_S):
        raise ProtocolError("clock", f"signed {seal.conn / 1000 - unix_s:.0f} s in the future: set the sender's clock")
    if lasting and not seal.exp:
        return
    if seal.exp < unix_s:
        raise ProtocolError("expired", f"of no use since {unix_s - seal.exp:.0f} s")
    if seal.exp > unix_s + MAX_LIFE_S + SKEW_S:
        raise ProtocolError("expiry", f"would live {seal.exp - unix_s:.0f} s, at most {MAX_LIFE_S:g}")


def _sender(address: Address) -> str:
    """Return whose allowance a message uses: robots and customers are told apart, all else is one sender by topic."""
    kind = {"from": "robot", "state": "robot", "in": "customer"}.get(address.direction, address.direction)
    return f"{kind}/{address.name}"
