"""The gate without a network: nothing forged, repeated, stale or misplaced comes in; allowances are each sender's own."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters.keyring import SigningKey, Verifier
from fleet_market.errors import ProtocolError
from fleet_market.ids import PartyName
from fleet_market.protocol import topics
from fleet_market.protocol.gate import MAX_LIFE_S, SKEW_S, Allowances, Gate, Limits
from fleet_market.protocol.registry import Directory, Entry, Register, Role
from fleet_market.protocol.seal import (
    BEGIN,
    LAST_SEQ,
    MAX_SEAL_BYTES,
    SIGNATURE_CHARACTERS,
    Seal,
    read_signature,
    to_sign,
    write_rest,
    write_signature,
)

NOW = 1_800_000_000
PARTIES = {
    "r1": Role.ROBOT, "r2": Role.ROBOT, "ann": Role.CUSTOMER, "bob": Role.CUSTOMER, "oracle": Role.ORACLE,
    "auc-main": Role.MARKET, "auc-other": Role.MARKET, "acme": Role.OWNER, "simulator": Role.SIMULATOR,
}  # fmt: skip
KEYS = {name: SigningKey.generate() for name in PARTIES}
STRANGER, ASK, BODY = SigningKey.generate(), topics.from_robot("r1", "main", "ask"), b'{"any":"bytes"}'
TOPICS = {
    ASK: "r1",
    topics.from_robot("r2", "main", "complete"): "r2",
    topics.state("r1", "presence"): "r1",
    topics.from_customer("ann", "order"): "ann",
    topics.from_customer("bob", "cancel"): "bob",
    topics.zone("main", "call"): "auc-main",
    topics.zone("main", "auctioneer"): "auc-main",
    topics.to_robot("r1", "award"): "auc-main",
    topics.to_customer("ann", "order"): "auc-main",
    topics.view("main", "cleared"): "auc-main",
    topics.view("main", "band"): "oracle",
    topics.from_customer("oracle", "terms"): "oracle",
    topics.from_customer("oracle", "answer"): "oracle",
    topics.from_customer("oracle", "status"): "oracle",
    topics.from_customer("oracle", "opening"): "oracle",
    topics.from_customer("ann", "open"): "ann",
    topics.CLOCK: "simulator",
}
FREE = Limits(rate_per_s=1e9, burst=1e9, refused_costs=0.0)


def entry(name, **more):
    return Entry(role=PARTIES[name], name=PartyName(name), key=KEYS[name].did, from_s=0, **more)


def gate(limits=FREE, **changed):
    entries = [entry(name, **changed.get(name.replace("-", "_"), {})) for name in PARTIES]
    return Gate(limits, Directory(Register(serial=1, entries=tuple(entries))), Verifier())


def sealed(topic, name=None, body=BODY, key=None, **seal):
    name = name or TOPICS[topic]
    fields = {"kid": KEYS[name].did, "conn": 1000 * NOW, "seq": 1, "exp": NOW + 60} | seal
    rest = write_rest(Seal(**fields), body)
    return write_signature((key or KEYS[name]).sign(to_sign(topic, rest))) + rest


def let_in(a_gate, topic, payload, at=NOW):
    return a_gate.open(topic, payload, unix_s=at, now_s=at)


def refusal(a_gate, topic, payload, at=NOW):
    with pytest.raises(ProtocolError) as caught:
        let_in(a_gate, topic, payload, at)
    return caught.value.reason


@pytest.mark.parametrize("topic", TOPICS)
def test_what_its_own_sender_says_is_let_in_byte_for_byte(topic):
    body = b'{ "spaces" :1.0e0,\n"line":"breaks"}'
    assert let_in(gate(), topic, sealed(topic, body=body)) == body


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("name", PARTIES)
def test_nobody_else_may_say_it_with_his_own_good_key(topic, name):
    if name != TOPICS[topic] and not (PARTIES[name] is Role.MARKET and topic.startswith(("mkt/1/to", "mkt/1/out"))):
        assert refusal(gate(), topic, sealed(topic, name)) == "wrong_sender"


def test_every_way_of_being_refused_has_its_reason():
    at = gate(r2={"revoked_s": NOW - 1}, bob={"until_s": NOW}, ann={})
    late = MAX_LIFE_S + SKEW_S
    assert refusal(at, ASK, BODY) == "unsigned"
    assert refusal(at, ASK, b"") == "unsigned"
    assert refusal(at, "mkt/2/from/r1/main/ask", sealed(ASK)) == "topic"
    assert refusal(at, ASK, sealed(ASK, key=STRANGER)) == "bad_signature"
    assert refusal(at, ASK, sealed(ASK, kid=STRANGER.did, key=STRANGER)) == "unknown_key"
    assert (
        refusal(at, topics.from_robot("r2", "main", "complete"), sealed(topics.from_robot("r2", "main", "complete")))
        == "revoked"
    )
    assert (
        refusal(at, topics.from_customer("bob", "cancel"), sealed(topics.from_customer("bob", "cancel"))) == "key_expired"
    )
    assert refusal(at, ASK, sealed(ASK, exp=NOW - 1)) == "expired"
    assert refusal(at, ASK, sealed(ASK, exp=0)) == "expired", "only what is retained may be without expiry"
    assert refusal(at, ASK, sealed(ASK, exp=int(NOW + late + 1))) == "expiry"
    assert refusal(at, ASK, sealed(ASK, conn=int(1000 * (NOW + SKEW_S + 1)))) == "clock"
    assert refusal(at, ASK, write_signature(bytes(64)) + b"no seal") == "malformed"
    assert refusal(at, ASK, write_signature(bytes(64)) + b'{"kid":1}\n{}') == "malformed"
    assert let_in(at, ASK, sealed(ASK)) == BODY
    assert refusal(at, ASK, sealed(ASK)) == "replayed"
    assert let_in(at, ASK, sealed(ASK, seq=3)) == BODY
    assert refusal(at, ASK, sealed(ASK, seq=2)) == "replayed", "reordered"
    assert refusal(at, ASK, sealed(ASK, conn=1000 * NOW - 1, seq=9)) == "replayed", "of an earlier connection"
    assert let_in(at, ASK, sealed(ASK, conn=1000 * NOW + 1, seq=1)) == BODY
    assert refusal(at, ASK, sealed(ASK, body=b"x" * 5000, seq=9)) == "oversized"


def test_the_largest_body_with_its_seal_is_let_in():
    seal = {"conn": 1000 * NOW, "seq": LAST_SEQ, "exp": NOW + 60}
    payload = sealed(ASK, body=b"x" * 4096, **seal)
    assert len(payload) - 4096 <= MAX_SEAL_BYTES
    assert len(let_in(gate(), ASK, payload)) == 4096


def test_a_last_will_counts_until_the_next_connection_and_no_longer():
    presence = topics.state("r1", "presence")
    at, year = gate(), NOW + 365 * 86400
    assert let_in(at, presence, sealed(presence, body=b"online", exp=0)) == b"online"
    will = sealed(presence, body=b"lost", seq=LAST_SEQ, exp=0)
    assert let_in(at, presence, will, at=year) == b"lost"
    assert let_in(at, presence, sealed(presence, body=b"online", conn=1000 * year, exp=0), at=year) == b"online"
    assert refusal(at, presence, will, at=year) == "replayed"
    assert let_in(at, ASK, sealed(ASK, conn=1000 * year, seq=2, exp=year + 60), at=year) == BODY


def test_a_restarted_gate_remembers_what_it_has_let_in_but_hears_what_is_retained_again():
    presence, before, after = topics.state("r1", "presence"), gate(), gate()
    ask, online = sealed(ASK, seq=7), sealed(presence, seq=1, exp=0)
    assert let_in(before, ASK, ask) == let_in(before, presence, online) == BODY
    after.order.restore(before.order.marks())
    assert refusal(after, ASK, ask) == "replayed"
    assert let_in(after, presence, online) == BODY


def test_after_a_rotation_both_keys_count_until_the_old_one_ends():
    old, new = KEYS["r1"], SigningKey.generate()
    entries = (
        Entry(role=Role.ROBOT, name=PartyName("r1"), key=old.did, from_s=0, until_s=NOW + 100),
        Entry(role=Role.ROBOT, name=PartyName("r1"), key=new.did, from_s=NOW),
    )
    at = Gate(FREE, Directory(Register(serial=2, entries=entries)), Verifier())
    assert let_in(at, ASK, sealed(ASK)) == let_in(at, ASK, sealed(ASK, kid=new.did, key=new)) == BODY
    assert refusal(at, ASK, sealed(ASK, seq=2, exp=NOW + 150), at=NOW + 100) == "key_expired"
    assert let_in(at, ASK, sealed(ASK, kid=new.did, key=new, seq=2, exp=NOW + 150), at=NOW + 100) == BODY


# --- ten thousand attempts ---------------------------------------------------------------------------------------------

FORGERIES = 10_000


def _bit(chance, payload):
    at = chance.randrange(len(payload))
    return payload[:at] + bytes([payload[at] ^ (1 << chance.randrange(8))]) + payload[at + 1 :]


def _inserted(chance, payload):
    at = chance.randrange(len(payload) + 1)
    return payload[:at] + bytes([chance.randrange(256)]) + payload[at:]


def _signed_by_a_stranger(chance, topic, payload):
    _, rest = read_signature(payload)
    return topic, write_signature(STRANGER.sign(to_sign(topic, rest))) + rest


def _signed_by_another(chance, topic, payload):
    name = chance.choice([n for n in PARTIES if PARTIES[n] is not Role.MARKET and n != TOPICS[topic]])
    return topic, sealed(topic, name, seq=chance.randrange(10**7, 10**8))


def _signature_of_another_message(chance, topic, payload):
    _, better = read_signature(sealed(topic, body=b'{"better":1}', seq=10**7))
    return topic, write_signature(read_signature(payload)[0]) + better


ATTEMPTS = {
    "one bit": lambda chance, topic, payload: (topic, _bit(chance, payload)),
    "cut off": lambda chance, topic, payload: (topic, payload[: chance.randrange(len(payload))]),
    "longer": lambda chance, topic, payload: (topic, payload + bytes([chance.randrange(256)])),
    "a byte more": lambda chance, topic, payload: (topic, _inserted(chance, payload)),
    "on another topic": lambda chance, topic, payload: (chance.choice([t for t in TOPICS if t != topic]), payload),
    "once more": lambda chance, topic, payload: (topic, payload),
    "signed by a stranger": _signed_by_a_stranger,
    "signed by another": _signed_by_another,
    "a stranger's key": lambda chance, topic, payload: (
        topic,
        sealed(topic, key=STRANGER, kid=STRANGER.did, seq=chance.randrange(10**7, 10**8)),
    ),
    "expired": lambda chance, topic, payload: (topic, sealed(topic, seq=10**7, exp=NOW - chance.randrange(1, 10**6))),
    "an older one": lambda chance, topic, payload: (topic, sealed(topic, seq=chance.randrange(FIRST))),
    "an earlier connection": lambda chance, topic, payload: (
        topic,
        sealed(topic, seq=10**7, conn=1000 * NOW - chance.randrange(1, 10**6)),
    ),
    "the signature of another": _signature_of_another_message,
    "a newer number written in": lambda chance, topic, payload: (
        topic,
        re.sub(rb'"seq":[0-9]+', b'"seq":%d' % chance.randrange(10**4, 10**6), payload),
    ),
}
FIRST = 100


@pytest.mark.parametrize("seed", range(4))
def test_of_ten_thousand_forged_repeated_and_misplaced_messages_none_is_let_in(seed):
    chance, at = random.Random(seed), gate()
    good = {topic: sealed(topic, seq=FIRST + n) for n, topic in enumerate(TOPICS)}
    for topic, payload in good.items():
        assert let_in(at, topic, payload) == BODY
    reasons = set()
    for n in range(FORGERIES // 4):
        topic, attempt = chance.choice(list(TOPICS)), list(ATTEMPTS.values())[n % len(ATTEMPTS)]
        reasons.add(refusal(at, *attempt(chance, topic, good[topic])))
    assert reasons == {
        "bad_signature", "replayed", "wrong_sender", "expired", "unsigned", "malformed", "unknown_key",
    } | (reasons & {"expiry", "clock"})  # fmt: skip
    for n, topic in enumerate(TOPICS):
        assert let_in(at, topic, sealed(topic, seq=10**8 + n)) == BODY, "what is good is still let in"


@pytest.mark.parametrize("topic", TOPICS)
def test_no_second_form_of_a_message_is_let_in_before_the_first(topic):
    """On a gate that has not seen the genuine one, so that its order cannot be what refuses the changed one."""
    chance, at, payload = random.Random(topic), gate(), sealed(topic)
    base64url = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= "
    end = len(BEGIN) + SIGNATURE_CHARACTERS
    changed = {payload[: end - 1] + bytes([sign]) + payload[end:] for sign in base64url}
    changed |= {
        payload[:at_] + sign + payload[at_:] for at_ in (0, 1, end, end + 1, end + 3) for sign in (b" ", b"\n", b"=")
    }
    for change in (_bit, _inserted, lambda chance, payload: payload + b" "):
        changed |= {change(chance, payload) for _ in range(60)}
    for attempt in changed - {payload}:
        refusal(at, topic, attempt)
    assert let_in(at, topic, payload) == BODY


@given(st.binary(max_size=500), st.text(max_size=60))
def test_no_bytes_and_no_topic_do_more_than_raise_the_documented_error(payload, topic):
    for where in (topic, ASK, f"mkt/1/{topic}"):
        for start in (b"", sealed(ASK)[:97]):
            with pytest.raises(ProtocolError):
                let_in(gate(), where, start + payload)


# --- allowances ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("ab")), max_size=200))
def test_nobody_gets_more_than_his_burst_and_his_rate_and_nobody_less_for_what_others_do(steps):
    limits = Limits(rate_per_s=10.0, burst=5.0)
    both, alone = Allowances(limits), Allowances(limits)
    now, taken = 0.0, {"a": 0, "b": 0}
    for wait, who in steps:
        now += wait
        allowed = both.take(who, now)
        taken[who] += allowed
        if who == "a":
            assert allowed == alone.take("a", now)
    assert all(count <= limits.burst + limits.rate_per_s * now + 1e-6 for count in taken.values())


def test_a_sender_of_rubbish_is_soon_not_listened_to_and_comes_back():
    limits = Limits(rate_per_s=10.0, burst=50.0, refused_costs=10.0, debt=100.0)
    at = gate(limits)
    reasons = [refusal(at, ASK, b"rubbish") for _ in range(30)]
    assert reasons.count("unsigned") <= 5
    assert set(reasons) == {"unsigned", "flood"}
    assert refusal(at, ASK, sealed(ASK)) == "flood"
    other = topics.from_robot("r2", "main", "complete")
    assert let_in(at, other, sealed(other)) == BODY
    assert let_in(at, ASK, sealed(ASK), at=NOW + 11) == BODY
