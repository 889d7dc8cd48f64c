"""What an evidence log takes in, what it refuses, and what its openings prove."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.adapters.keyring import SigningKey, Verifier
from fleet_market.errors import InputError, ProtocolError
from fleet_market.ids import Identifier, MessageId, RobotId
from fleet_market.oracle import evidence
from fleet_market.oracle.evidence import GAP_S, MAX_HELD, EvidenceLog, check, choose
from fleet_market.oracle.merkle import is_consistent
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import MAX_RECORD_LEGS, Fix
from fleet_market.protocol.registry import Directory, Entry, Register, Role, revoke
from fleet_market.protocol.telemetry import content, signed
from fleet_market.testing.telemetry import Scribe, directory_of
from fleet_market.units import ns

UNIX_S = 1_000.0
R1, R2 = RobotId("r1"), RobotId("r2")
VERIFY = Verifier()


@pytest.fixture
def scribe():
    return Scribe(R1)


def log_of(*scribes):
    return EvidenceLog(directory_of(*scribes), VERIFY)


def hear(log, *records):
    return [log.hear(record, record.fixes[-1].at_ns, UNIX_S) for record in records]


def refused(log, record, now_ns=None):
    before = (log.root(), log._missing)
    with pytest.raises(ProtocolError) as caught:
        log.hear(record, record.fixes[-1].at_ns if now_ns is None else now_ns, UNIX_S)
    assert (log.root(), log._missing) == before
    return caught.value.reason


def test_records_of_several_robots_are_taken_in_their_order(scribe):
    other = Scribe(R2)
    log = log_of(scribe, other)
    assert hear(log, scribe.write(), other.write(), scribe.write()) == [(0,), (1,), (2,)]
    root = log.root()
    assert (root.size, root.robots, root.missing, root.coverage, root.signed) == (3, 2, 0, 1.0, True)
    assert root.age_s(scribe.now_ns + ns(5.0)) == pytest.approx(5.0)
    assert log.summary(scribe.now_ns) == (root.hash, 3, 0.0)


def test_an_empty_log_says_that_it_knows_nothing(scribe):
    log = log_of(scribe)
    assert (log.root().coverage, log.root().age_s(10), log.summary(10)) == (None, None, None)
    with pytest.raises(InputError, match="size"):
        log.open(0)


CHANGES = {
    "robot": R2,
    "chain": 7,
    "seq": 5,
    "previous": "1" * 64,
    "legs": (),
    "dwell_s": 1.0,
    "executed_s": 61.0,
    "energy_j": 4000.1,
    "charged": True,
    "shared": True,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_record_that_was_changed_is_refused(scribe, field):
    log = log_of(scribe, Scribe(R2))
    hear(log, scribe.write())
    changed = scribe.write().model_copy(update={field: CHANGES[field]})
    assert refused(log, changed) == ("wrong_sender" if field == "robot" else "bad_signature")


def test_what_is_not_signed_by_the_robot_itself_is_refused(scribe):
    other, stranger, oracle = Scribe(R2), SigningKey.generate(), SigningKey.generate()
    entries = (*(s.entry() for s in (scribe, other)), Entry(role=Role.ORACLE, name="eye", key=oracle.did, from_s=0))
    log = EvidenceLog(Directory(Register(serial=1, entries=entries)), VERIFY)
    record = scribe.write()
    assert refused(log, record.model_copy(update={"key": None, "signature": None})) == "unsigned"
    assert refused(log, signed(record, lambda c: (stranger.did, stranger.sign(c)))) == "unknown_key"
    assert refused(log, signed(record, lambda c: (oracle.did, oracle.sign(c)))) == "wrong_sender"
    assert refused(log, signed(record, other.sign)) == "wrong_sender"
    assert refused(log, signed(record, lambda c: (scribe.key.did, other.key.sign(c)))) == "bad_signature"
    assert refused(log, signed(record, lambda c: (scribe.key.did, scribe.key.sign(b"x" + c)))) == "bad_signature"
    assert hear(log, record) == [(0,)]


def test_a_signature_has_one_spelling_only(scribe):
    record = scribe.write()
    last = record.signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(last) ^ 1]  # the last character has bits that mean nothing
    assert (
        refused(log_of(scribe), record.model_copy(update={"signature": record.signature[:-1] + other})) == "bad_signature"
    )


def test_a_record_is_taken_once_and_a_second_version_is_known_as_such(scribe):
    log = log_of(scribe)
    first = scribe.write()
    hear(log, first)
    assert refused(log, first) == "replayed"
    assert refused(log, signed(first.model_copy(update={"energy_j": 1.0}), scribe.sign)) == "forked"


def test_a_record_that_does_not_follow_is_refused_though_it_is_signed(scribe):
    log = log_of(scribe)
    hear(log, scribe.write())
    assert refused(log, scribe.write(previous="2" * 64)) == "broken_chain"


def test_records_in_another_order_are_put_in_order(scribe):
    log = log_of(scribe)
    a, b, c, d = (scribe.write() for _ in range(4))
    assert hear(log, a, c, d, b) == [(0,), (), (), (1, 2, 3)]
    assert [log.open(i).record.seq for i in range(4)] == [0, 1, 2, 3]
    assert log.root().missing == 0


def test_what_is_held_back_is_told_from_a_second_version_of_it(scribe):
    log = log_of(scribe)
    hear(log, scribe.write())
    scribe.write()
    ahead = scribe.write()
    hear(log, ahead)
    assert refused(log, ahead) == "replayed"
    assert refused(log, signed(ahead.model_copy(update={"energy_j": 1.0}), scribe.sign)) == "forked"


def test_a_record_that_never_comes_is_missing_after_a_while_and_too_late_then(scribe):
    log = log_of(scribe)
    a, b, c, d = (scribe.write() for _ in range(4))
    hear(log, a, c)
    now_ns = c.fixes[-1].at_ns
    assert log.tick(now_ns + ns(GAP_S) - 1) == ()
    assert log.tick(now_ns + ns(GAP_S)) == (1,)
    assert (log.root().size, log.root().missing, log.root().coverage) == (2, 1, pytest.approx(2 / 3))
    assert refused(log, b) == "replayed"
    assert hear(log, d) == [(2,)]


def test_too_many_records_ahead_are_refused(scribe):
    log = log_of(scribe)
    hear(log, scribe.write())
    scribe.write()
    assert hear(log, *(scribe.write() for _ in range(MAX_HELD))) == [()] * MAX_HELD
    assert refused(log, scribe.write()) == "gap"


def test_a_robot_that_has_lost_its_memory_begins_a_new_chain_and_the_old_one_is_over(scribe):
    log = log_of(scribe)
    hear(log, scribe.write())
    old = scribe.write()
    scribe.chain, scribe.seq, scribe.head = 2, 0, "0" * 64
    assert hear(log, scribe.write()) == [(1,)]
    assert refused(log, old) == "replayed"


def test_a_log_that_begins_late_counts_nothing_as_missing_and_takes_no_old_records(scribe):
    for _ in range(5):
        scribe.write()
    late, log = scribe.write(), log_of(scribe)
    assert refused(log, late, late.fixes[-1].at_ns + ns(evidence.FIRST_S) + 1) == "stale"
    assert hear(log, late, scribe.write()) == [(0,), (1,)]
    assert log.root().missing == 0


def test_times_that_cannot_be_are_refused(scribe):
    log = log_of(scribe)
    record = scribe.write()
    assert refused(log, record, record.fixes[-1].at_ns - ns(31.0)) == "clock"
    back = Scribe(R1, scribe.key)
    fixes = (Fix(x=0.0, y=0.0, at_ns=10), Fix(x=0.0, y=0.0, at_ns=9))
    assert refused(log, back.write(fixes=fixes)) == "clock"
    hear(log, record)
    early = (Fix(x=0.0, y=0.0, at_ns=0), Fix(x=0.0, y=0.0, at_ns=record.fixes[-1].at_ns - 1))
    assert refused(log, scribe.write(fixes=early)) == "clock"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused_on_the_wire_and_behind_it(scribe, value):
    record = scribe.write()
    assert refused(log_of(scribe), record.model_copy(update={"energy_j": value})) == "malformed"
    text = encode(Envelope(id=MessageId("m"), ts=0, src=Identifier("r1"), body=record)).decode()
    with pytest.raises(ProtocolError, match="malformed"):
        decode(
            text.replace(
                '"energy_j":4000.0', f'"energy_j":{value}'.replace("inf", "Infinity").replace("nan", "NaN")
            ).encode()
        )


def test_a_revoked_key_signs_nothing_more_and_what_it_signed_stays_proved(scribe):
    log = log_of(scribe)
    hear(log, scribe.write())
    log.directory = Directory(revoke(log.directory.register, Role.ROBOT, R1, 5))
    assert refused(log, scribe.write()) == "revoked"
    root = log.root()
    assert check(log.open(0), root.hash, root.size, log.directory, VERIFY) is None


def test_without_keys_records_are_taken_and_every_root_says_so(scribe):
    log = EvidenceLog(None)
    record = scribe.write().model_copy(update={"key": None, "signature": None})
    assert log.hear(record, scribe.now_ns, UNIX_S) == (0,)
    assert not log.root().signed
    with pytest.raises(InputError, match="verify"):
        EvidenceLog(directory_of(scribe))


def test_the_largest_record_fits_into_a_message(scribe):
    leg = (
        scribe.write()
        .legs[0]
        .model_copy(
            update={"length_m": 12345.678, "turn_rad": 12.3456, "halts": 12.3456, "payload_kg": 123.456, "grade": -0.12345}
        )
    )
    fix = Fix(x=-12345.678, y=-12345.678, at_ns=2**61, soc=0.12345, energy_out_j=123456789012.3)
    record = scribe.write(legs=(leg,) * MAX_RECORD_LEGS, fixes=(fix,) * 5)
    message = encode(Envelope(id=MessageId("telemetry-123456789-123456"), ts=2**61, src=Identifier("r" * 64), body=record))
    assert decode(message).body == record


@given(st.integers(0, 2**31), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_whatever_the_order_of_arrival_the_log_is_that_of_the_robots(seed, count):
    chance = random.Random(seed)
    scribes = [Scribe(R1), Scribe(R2)]
    written = {s.robot: [s.write() for _ in range(count)] for s in scribes}
    arriving = [record for records in written.values() for record in records[1:]]
    chance.shuffle(arriving)
    log, now_ns = log_of(*scribes), max(s.now_ns for s in scribes)
    for record in [records[0] for records in written.values()] + arriving:
        log.hear(record, min(now_ns, record.fixes[-1].at_ns + ns(evidence.FIRST_S)), UNIX_S)
    root = log.root()
    assert (root.size, root.missing) == (2 * count, 0)
    opened = [log.open(i) for i in range(root.size)]
    assert all(check(one, root.hash, root.size, log.directory, VERIFY) is None for one in opened)
    for robot, records in written.items():
        assert [one.record for one in opened if one.record.robot == robot] == records


def test_old_roots_stay_provable_and_belong_to_the_same_log(scribe):
    log = log_of(scribe)
    roots = []
    for _ in range(9):
        hear(log, scribe.write())
        roots.append(log.root())
    for root in roots:
        for index in range(root.size):
            assert check(log.open(index, root.size), root.hash, root.size, log.directory, VERIFY) is None
        proof = [bytes.fromhex(node) for node in log.consistency(root.size)]
        assert is_consistent(root.size, bytes.fromhex(root.hash), 9, bytes.fromhex(roots[-1].hash), proof)
    with pytest.raises(InputError, match="old_size"):
        log.consistency(10)
    with pytest.raises(InputError, match="index"):
        log.open(3, 3)


def test_only_the_newest_leaves_can_be_opened(scribe, monkeypatch):
    monkeypatch.setattr(evidence, "KEPT", 4)
    log = log_of(scribe)
    hear(log, *(scribe.write() for _ in range(11)))
    root = log.root()
    assert root.first == 7
    assert set(choose(b"s" * 16, root.hash, root.size, 100)) == {7, 8, 9, 10}
    assert all(check(log.open(i), root.hash, root.size, log.directory, VERIFY) is None for i in range(7, 11))
    with pytest.raises(InputError, match="newest"):
        log.open(2)


@given(st.binary(min_size=16, max_size=32), st.integers(1, 500), st.integers(1, 100))
def test_a_seed_draws_the_same_leaves_for_everyone_each_once(seed, size, count):
    root = "ab" * 32
    leaves = choose(seed, root, size, count)
    assert leaves == choose(seed, root, size, count)
    assert len(set(leaves)) == len(leaves) == min(size, count)
    assert all(0 <= leaf < size for leaf in leaves)


@pytest.mark.parametrize(("seed", "size", "count"), [(b"short", 10, 5), (b"s" * 16, 0, 5), (b"s" * 16, 10, 0)])
def test_a_draw_that_cannot_be_is_refused(seed, size, count):
    with pytest.raises(InputError):
        choose(seed, "ab" * 32, size, count)


def test_what_is_wrong_with_an_opening_is_named(scribe):
    log = log_of(scribe)
    hear(log, *(scribe.write() for _ in range(5)))
    root, good = log.root(), log.open(2)

    def fault(**changed):
        opening = evidence.Opening(**{k: changed.get(k, getattr(good, k)) for k in ("index", "size", "record", "proof")})
        return check(opening, root.hash, root.size, log.directory, VERIFY)

    assert fault() is None
    assert fault(size=4) == "other_root"
    assert fault(index=3) == "not_in_root"
    assert fault(record=log.open(1).record) == "not_in_root"
    assert fault(record=good.record.model_copy(update={"energy_j": 1.0})) == "not_in_root"
    assert fault(proof=("zz",)) == "malformed"
    assert fault(record=good.record.model_copy(update={"energy_j": math.nan})) == "malformed"


def test_content_is_canonical_and_without_the_signature(scribe):
    record = scribe.write()
    text = content(record)
    assert text.startswith(b'fleet-market/1 telemetry\n{"chain":1,"charged":false,"contract":')
    assert record.signature.encode() not in text
    again = decode(encode(Envelope(id=MessageId("m"), ts=0, src=Identifier("r1"), body=record))).body
    assert content(again) == text
