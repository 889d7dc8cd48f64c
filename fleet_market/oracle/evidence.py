"""The telemetry that an oracle's quotes rest on: every robot's signed records in their order, under one Merkle root.

A record is taken if its robot has signed it and it continues the robot's own chain. What comes twice, changed, late or
from another is refused; what comes too early is held back until the record before it has come, and after `GAP_S` that one
is counted as missing: the coverage of the root falls, and everybody sees it.

A buyer who has got a root draws leaves with a seed of his own (`choose`) and has them opened; `check` tells what is wrong
with an opening. Where a share p of the leaves is not what robots signed, n openings miss them all with probability
(1 - p)**n at most: 59 openings find 5 %, and 299 find 1 %, with probability 0.95.

Examples
--------
::

    log = EvidenceLog(directory, Verifier())        # register of keys; fleet_market.adapters.keyring
    log.hear(record, now_ns, unix_s)                # ProtocolError, or the leaves it became
    root = log.root()                               # goes out with a quote: root.hash, root.size, root.coverage
    for index in choose(seed, root.hash, root.size, 59):
        assert check(log.open(index, root.size), root.hash, root.size, directory, Verifier()) is None
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise

from fleet_market.errors import InputError, ProtocolError
from fleet_market.ids import DidKey, RobotId
from fleet_market.oracle.merkle import MerkleTree, is_included, leaf_hash
from fleet_market.protocol.did import decode_did
from fleet_market.protocol.gate import Verify
from fleet_market.protocol.messages.telemetry import TelemetryRecord
from fleet_market.protocol.registry import Directory, Role
from fleet_market.protocol.telemetry import GENESIS, content, record_hash, signature_of, statement
from fleet_market.units import ns

KEPT = 10_000
"""Newest leaves of a root that can be opened. A log keeps twice as many, and of older ones the hash alone: a root can be
opened until as many records have come after it."""
MAX_ROBOTS = 10_000
MAX_HELD = 64
"""Records of one robot that wait for one before them."""
MAX_REMEMBERED = 64
"""Newest records of a robot of which a second version is told from the same one sent twice."""
GAP_S = 60.0
"""How long a record waits for the one before it. [assumption: a message that is not lost comes within a minute]"""
SKEW_S = 30.0
"""How far ahead a robot's clock may be. [assumption: hosts run NTP or PTP]"""
FIRST_S = 600.0
"""The first record that is heard of a chain may be this old: more would be a replay to an oracle that has started anew."""
MAX_CHOSEN = 1000
DRAW = b"fleet-market/1 opening\n"


@dataclass(frozen=True, slots=True)
class Root:
    """What a quote says about its evidence."""

    hash: str
    """Merkle root, hexadecimal."""
    size: int
    """Records under it."""
    robots: int
    missing: int
    """Records that must exist, by the numbers of those that follow them, and were never heard."""
    oldest_ns: int | None
    newest_ns: int | None
    signed: bool
    """False: taken from robots without keys, and proves nothing about them."""

    @property
    def coverage(self) -> float | None:
        """Share of the records known to exist that are under the root; None without any."""
        return self.size / (self.size + self.missing) if self.size else None

    @property
    def first(self) -> int:
        """The oldest leaf that can be opened."""
        return max(0, self.size - KEPT)

    def age_s(self, now_ns: int) -> float | None:
        """Return how old the newest record is; None without any."""
        return None if self.newest_ns is None else max(0, now_ns - self.newest_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Opening:
    """A leaf, and the proof that it is under a root."""

    index: int
    size: int
    record: TelemetryRecord
    proof: tuple[str, ...]
    """Hashes of the siblings from the leaf to the root, hexadecimal."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where a robot's chain goes on."""

    robot: RobotId
    number: int
    next_seq: int
    head: str | None
    """Hash of the newest record; None: it is not known."""
    end_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a log needs to go on where it was (`EvidenceLog.resumed`)."""

    first: int
    """How many leaves lie before `records`."""
    frontier: tuple[bytes, ...]
    """Of these (`MerkleTree.frontier`)."""
    records: tuple[TelemetryRecord, ...]
    chains: tuple[ChainEnd, ...]
    root: Root


@dataclass(slots=True)
class _Chain:
    number: int
    next_seq: int
    head: str | None
    """None: the record before is not known."""
    end_ns: int
    held: dict[int, tuple[TelemetryRecord, int]] = field(default_factory=dict)
    """Records that came too early, and when."""
    seen: OrderedDict[int, str] = field(default_factory=OrderedDict)


class EvidenceLog:
    """Takes telemetry in, and proves what it has taken in.

    Parameters
    ----------
    directory : Directory or None
        Whose keys are whose; may be replaced when the register changes. None: robots have no keys, records are taken
        unsigned, and every root says so.
    verify : callable, optional
        Verifies an Ed25519 signature; needed with a directory.

    Raises
    ------
    InputError
        If there is a directory and nothing to verify with.
    """

    def __init__(self, directory: Directory | None, verify: Verify | None = None) -> None:
        if directory is not None and verify is None:
            raise InputError("evidence", "verify", verify, "with a register of keys, give what verifies signatures")
        self.directory, self._verify = directory, verify
        self._signed = directory is not None
        self._tree, self._records = MerkleTree(), OrderedDict[int, TelemetryRecord]()
        self._chains: dict[RobotId, _Chain] = {}
        self._missing = 0
        self._oldest_ns: int | None = None
        self._newest_ns: int | None = None

    @classmethod
    def resumed(cls, kept: Kept, directory: Directory | None, verify: Verify | None = None) -> EvidenceLog:
        """Return the log that goes on from what was kept; every record is verified again.

        Raises
        ------
        InputError
            If a record is not its robot's, or what is kept does not add up to its root.
        """
        log = cls(directory, verify)
        mend = "use what this oracle has kept, unchanged, or begin anew without it"
        try:
            log._tree = MerkleTree.resumed(kept.first, kept.frontier)
            log._chains = {end.robot: _Chain(end.number, end.next_seq, end.head, end.end_ns) for end in kept.chains}
            for record in kept.records:
                log._restore(record)
        except (IndexError, ProtocolError) as error:
            raise InputError("evidence", "kept", str(error), mend) from None
        log._missing, log._oldest_ns, log._newest_ns = kept.root.missing, kept.root.oldest_ns, kept.root.newest_ns
        if (root := log.root()) != kept.root:
            raise InputError("evidence", "root", root.hash, f"{mend}: it should be {kept.root.hash}")
        return log

    def kept(self, first: int) -> Kept:
        """Return what the log needs to go on, with the records of the leaves from `first` on.

        Raises
        ------
        InputError
            If these are not all known any more.
        """
        size = len(self._tree)
        if not 0 <= first <= size or (first < size and first not in self._records):
            raise InputError("evidence", "first", first, f"use a leaf that can be opened, up to {size}")
        records = tuple(self._records[index] for index in range(first, size))
        return Kept(first, self._tree.frontier(first), records, tuple(map(self.end_of, sorted(self._chains))), self.root())

    def end_of(self, robot: RobotId) -> ChainEnd:
        """Return where the chain of a robot goes on that has been heard."""
        chain = self._chains[robot]
        return ChainEnd(robot, chain.number, chain.next_seq, chain.head, chain.end_ns)

    def hear(self, record: TelemetryRecord, now_ns: int, unix_s: float) -> tuple[int, ...]:
        """Take a record in; return the leaves that follow from it: none while it waits for the one before it.

        Parameters
        ----------
        now_ns : int
            Market time.
        unix_s : float
            Wall clock, by which keys are valid.

        Raises
        ------
        ProtocolError
            In this order: ``malformed``, ``unsigned``, ``unknown_key``, ``revoked``, ``key_expired``, ``wrong_sender``,
            ``bad_signature``, ``clock``, ``stale``, ``replayed``, ``forked`` (the robot has signed two records of one
            number), ``broken_chain``, ``gap`` (too much is missing), ``too_many_robots``.
        """
        digest = record_hash(record)
        self._check_signature(record, unix_s)
        _check_times(record, now_ns)
        chain = self._chains.get(record.robot)
        if chain is None or record.chain > chain.number:
            chain = self._begin(record, now_ns)
        self._check_order(record, digest, chain)
        if record.seq > chain.next_seq:
            if len(chain.held) >= MAX_HELD:
                raise ProtocolError("gap", f"{MAX_HELD} records of {record.robot} wait for number {chain.next_seq}")
            chain.held[record.seq] = (record, now_ns)
            return ()
        return (self._append(record, digest, chain), *self._follow(chain))

    def tick(self, now_ns: int) -> tuple[int, ...]:
        """Give up waiting for what has not come within `GAP_S`; return the leaves that follow from it."""
        found: list[int] = []
        for chain in self._chains.values():
            while chain.held:
                first = min(chain.held)
                record, heard_ns = chain.held[first]
                if now_ns - heard_ns < ns(GAP_S):
                    break
                self._missing += first - chain.next_seq
                del chain.held[first]
                chain.next_seq, chain.head = first, None
                if record.fixes[-1].at_ns >= chain.end_ns:
                    found += (self._append(record, record_hash(record), chain), *self._follow(chain))
                else:
                    self._missing += 1
                    chain.next_seq, chain.head = first + 1, None
        return tuple(found)

    def root(self) -> Root:
        """Return the root over all that has been taken in."""
        return Root(
            hash=self._tree.root().hex(),
            size=len(self._tree),
            robots=len(self._chains),
            missing=self._missing,
            oldest_ns=self._oldest_ns,
            newest_ns=self._newest_ns,
            signed=self._signed,
        )

    def summary(self, now_ns: int) -> tuple[str, int, float] | None:
        """Return root, size and age in seconds, as a quote carries them; None without records."""
        root, age_s = self.root(), self.root().age_s(now_ns)
        return None if age_s is None else (root.hash, root.size, age_s)

    def open(self, index: int, size: int | None = None) -> Opening:
        """Return a leaf with its proof under the root over the first `size` records, by default over all.

        Raises
        ------
        InputError
            If there is no such leaf under that root, or it is too old to be opened.
        """
        size = len(self._tree) if size is None else size
        if not 0 < size <= len(self._tree):
            raise InputError("opening", "size", size, f"use a number from 1 to {len(self._tree)}")
        if not 0 <= index < size:
            raise InputError("opening", "index", index, f"use a number from 0 to {size - 1}")
        record = self._records.get(index)
        if record is None:
            raise InputError("opening", "index", index, f"use one of the newest {2 * KEPT} records")
        return Opening(index, size, record, tuple(node.hex() for node in self._tree.proof(index, size)))

    def consistency(self, old_size: int, size: int | None = None) -> tuple[str, ...]:
        """Return the proof that an older root is of the same log: nothing has been taken out or changed since.

        Raises
        ------
        InputError
            If there was no such root.
        """
        try:
            return tuple(node.hex() for node in self._tree.consistency(old_size, size))
        except IndexError as error:
            raise InputError("evidence", "old_size", old_size, str(error)) from None

    # --- what is taken in -------------------------------------------------------------------------------------------------

    def _check_signature(self, record: TelemetryRecord, unix_s: float) -> None:
        if self.directory is None or self._verify is None:
            return
        key, signature = signature_of(record)
        entry = self.directory.find(key, unix_s)
        if entry.role is not Role.ROBOT or str(entry.name) != str(record.robot):
            raise ProtocolError("wrong_sender", f"a record of {record.robot} is signed by {entry.role} {entry.name}")
        if not self._verify(decode_did(key), signature, content(record)):
            raise ProtocolError("bad_signature", f"record {record.seq} is not signed with the key of {record.robot}")

    def _begin(self, record: TelemetryRecord, now_ns: int) -> _Chain:
        """Begin a chain with a record, in the middle of it where the oracle was not there before."""
        known = self._chains.get(record.robot)
        if known is None and len(self._chains) >= MAX_ROBOTS:
            raise ProtocolError("too_many_robots", f"{record.robot} would be more than {MAX_ROBOTS}")
        end_ns = record.fixes[-1].at_ns
        if end_ns < now_ns - ns(FIRST_S):
            raise ProtocolError("stale", f"the first record heard of a chain is {(now_ns - end_ns) / 1e9:.0f} s old")
        if known is not None and end_ns < known.end_ns:
            raise ProtocolError("clock", f"{record.robot} begins a chain before the end of the last one")
        if record.seq == 0 and record.previous != GENESIS:
            raise ProtocolError("broken_chain", f"the first record of {record.robot} follows another one")
        if known is not None:
            self._missing += record.seq + len(known.held)
        chain = _Chain(record.chain, record.seq, GENESIS if record.seq == 0 else None, 0)
        self._chains[record.robot] = chain
        return chain

    def _check_order(self, record: TelemetryRecord, digest: str, chain: _Chain) -> None:
        what = f"record {record.seq} of {record.robot}"
        if record.chain < chain.number:
            raise ProtocolError("replayed", f"{what} is of a chain that is over")
        held = chain.held.get(record.seq)
        known = record_hash(held[0]) if held is not None else chain.seen.get(record.seq)
        if record.seq < chain.next_seq or held is not None:
            forked = known not in (None, digest)
            raise ProtocolError("forked" if forked else "replayed", f"{what} was taken before")
        if record.seq == chain.next_seq:
            if chain.head is not None and record.previous != chain.head:
                raise ProtocolError("broken_chain", f"{what} does not follow the one before it")
            if record.fixes[-1].at_ns < chain.end_ns:
                raise ProtocolError("clock", f"{what} ends before the one before it")

    def _restore(self, record: TelemetryRecord) -> None:
        index, chain = len(self._tree), self._chains.get(record.robot)
        if self.directory is not None and self._verify is not None:
            fault = signature_fault(record, self.directory, self._verify)
            if fault is not None:
                raise ProtocolError(fault, f"leaf {index} is no record that {record.robot} has signed")
        if chain is None:
            raise ProtocolError("malformed", f"leaf {index} belongs to no chain")
        self._add(self._tree.append(leaf_hash(statement(record))), record)
        if record.chain == chain.number:
            self._remember(chain, record.seq, record_hash(record))

    def _add(self, index: int, record: TelemetryRecord) -> None:
        self._records[index] = record
        if len(self._records) > 2 * KEPT:
            self._records.popitem(last=False)

    def _append(self, record: TelemetryRecord, digest: str, chain: _Chain) -> int:
        index = self._tree.append(leaf_hash(statement(record)))
        self._add(index, record)
        end_ns = record.fixes[-1].at_ns
        chain.next_seq, chain.head, chain.end_ns = record.seq + 1, digest, end_ns
        self._remember(chain, record.seq, digest)
        self._oldest_ns = end_ns if self._oldest_ns is None else min(self._oldest_ns, end_ns)
        self._newest_ns = end_ns if self._newest_ns is None else max(self._newest_ns, end_ns)
        return index

    def _remember(self, chain: _Chain, seq: int, digest: str) -> None:
        chain.seen[seq] = digest
        if len(chain.seen) > MAX_REMEMBERED:
            chain.seen.popitem(last=False)

    def _follow(self, chain: _Chain) -> list[int]:
        """Take in what was held back and is now next; what turns out not to follow is dropped and counted as missing."""
        found: list[int] = []
        while (held := chain.held.pop(chain.next_seq, None)) is not None:
            record = held[0]
            if record.previous == chain.head and record.fixes[-1].at_ns >= chain.end_ns:
                found.append(self._append(record, record_hash(record), chain))
            else:
                self._missing += 1
                chain.next_seq, chain.head = record.seq + 1, None
        return found


def choose(seed: bytes, root: str, size: int, count: int) -> tuple[int, ...]:
    """Return which leaves a buyer has opened, drawn without replacement from those that can be.

    The draw depends on the root: an oracle that has said it cannot choose the seed's leaves any more. The buyer keeps the
    seed, at least 16 random bytes, to himself until he has the root.

    Parameters
    ----------
    seed : bytes
    root : str
        Hexadecimal.
    size : int
        Leaves under the root; drawn are the newest `KEPT` at most.
    count : int
        1 to `MAX_CHOSEN`; all leaves where there are fewer.

    Raises
    ------
    InputError
        If a number is out of range or the seed is shorter.
    """
    if len(seed) < 16:
        raise InputError("opening", "seed", seed.hex(), "use at least 16 random bytes")
    if not 1 <= count <= MAX_CHOSEN:
        raise InputError("opening", "count", count, f"use a number from 1 to {MAX_CHOSEN}")
    if size < 1:
        raise InputError("opening", "size", size, "there is nothing to open")
    first = max(0, size - KEPT)
    chosen: dict[int, None] = {}
    number = 0
    while len(chosen) < min(count, size - first):
        drawn = hashlib.sha256(DRAW + seed + bytes.fromhex(root) + number.to_bytes(8)).digest()
        chosen[first + int.from_bytes(drawn) % (size - first)] = None
        number += 1
    return tuple(chosen)


def check(opening: Opening, root: str, size: int, directory: Directory | None, verify: Verify | None) -> str | None:
    """Return what is wrong with an opening, as one word; None if nothing is.

    Parameters
    ----------
    root, size
        As the quote said.
    directory : Directory or None
        A key counts here whatever has become of it since. None: signatures are not looked at.
    verify : callable or None

    Returns
    -------
    str or None
        ``other_root``, ``malformed``, ``not_in_root``, ``unsigned``, ``unknown_key``, ``wrong_sender``, ``bad_signature``.
    """
    if opening.size != size:
        return "other_root"
    try:
        leaf = leaf_hash(statement(opening.record))
        proof = [bytes.fromhex(node) for node in opening.proof]
        expected = bytes.fromhex(root)
    except (ProtocolError, ValueError):
        return "malformed"
    if not is_included(leaf, opening.index, size, proof, expected):
        return "not_in_root"
    return None if directory is None or verify is None else signature_fault(opening.record, directory, verify)


def signature_fault(record: TelemetryRecord, directory: Directory, verify: Verify) -> str | None:
    """Return what is wrong with a record's signature, as one word as in `check`; None if nothing is."""
    try:
        key, signature = signature_of(record)
        entry = directory.known(DidKey(key))
        if entry is None:
            return "unknown_key"
        if entry.role is not Role.ROBOT or str(entry.name) != str(record.robot):
            return "wrong_sender"
        return None if verify(decode_did(key), signature, content(record)) else "bad_signature"
    except (ProtocolError, ValueError) as error:
        return error.reason if isinstance(error, ProtocolError) else "malformed"


def _check_times(record: TelemetryRecord, now_ns: int) -> None:
    times = [fix.at_ns for fix in record.fixes]
    if any(late < early for early, late in pairwise(times)):
        raise ProtocolError("clock", f"the times of record {record.seq} of {record.robot} are not in order")
    if times[-1] > now_ns + ns(SKEW_S):
        raise ProtocolError("clock", f"record {record.seq} of {record.robot} is {(times[-1] - now_ns) / 1e9:.0f} s ahead")
