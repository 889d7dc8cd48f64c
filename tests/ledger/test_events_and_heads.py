"""The chains: of the event log, and of the days."""

import dataclasses

import pytest

from fleet_market.adapters.signing import Ed25519Signer, verify
from fleet_market.errors import InputError
from fleet_market.ids import TransferId
from fleet_market.ledger import (
    GENESIS,
    AccountKind,
    Event,
    Heads,
    Ledger,
    Transfer,
    TransferKind,
    account,
    first_broken_event,
    head_faults,
)
from fleet_market.ledger.heads import NS_PER_DAY

WORLD, ANN = account(AccountKind.WORLD, "mint"), account(AccountKind.CUSTOMER, "ann")


def log(count=4):
    events, last = [], GENESIS
    for seq in range(1, count + 1):
        event = Event(seq, 10 * seq, "ann", f"m{seq}", 1, b"{}", b"[]", ("out/ann", b"yes"), f"{seq:064x}")
        last = event.after(last)
        events.append(dataclasses.replace(event, hash=last))
    return events


@pytest.mark.parametrize(
    "change",
    [
        {"now_ns": 31},
        {"source": "eve"},
        {"message_id": None},
        {"sid": 2},
        {"body": b"{ }"},
        {"lookups": b""},
        {"reply": None},
        {"reply": ("out/ann", b"no")},
        {"reply": ("out/eve", b"yes")},
        {"effects": "f" * 64},
        {"hash": "0" * 64},
        {"seq": 9},
    ],
)
def test_a_changed_field_of_an_event_is_found_and_located(change):
    events = log()
    assert first_broken_event(events) is None
    events[2] = dataclasses.replace(events[2], **change)
    assert first_broken_event(events) == 3


def test_a_missing_and_a_doubled_event_are_found():
    events = log()
    assert first_broken_event([events[0], *events[2:]]) == 2
    assert first_broken_event([events[0], *events]) == 2


@pytest.fixture
def signer(make_key):
    return Ed25519Signer.load(make_key())


def three_days():
    """A ledger with rows on day 0 (two), day 1 (one) and day 4 (one)."""
    ledger = Ledger()
    for a in (WORLD, ANN):
        ledger.open_account(a)
    for number, day in enumerate((0.1, 0.9, 1.5, 4.2)):
        wish = Transfer(TransferId(f"t{number}"), TransferKind.POST, WORLD, ANN, 1)
        assert ledger.apply([wish], round(day * NS_PER_DAY)).ok
    return ledger


def test_a_day_gets_its_head_when_the_next_row_comes(signer):
    journal = three_days().journal
    heads = Heads(signer)
    due = [heads.follow([entry]) for entry in journal]
    assert [[(h.day, h.seq) for h in group] for group in due] == [[], [], [(0, 2)], [(1, 3)]]
    assert Heads(signer).follow(journal) == tuple(h for group in due for h in group)
    assert Heads(signer, last_day=0).follow(journal) == due[3]
    assert Heads(None).follow(journal) == ()


def test_a_head_that_does_not_belong_to_the_journal_or_is_forged_is_found(signer, make_key):
    journal = three_days().journal
    heads = Heads(signer).follow(journal)
    hashes = {e.seq: e.hash for e in journal}.get
    assert head_faults(heads, hashes, verify) == []
    moved = dataclasses.replace(heads[0], seq=1)
    assert len(head_faults([moved], hashes, verify)) == 2
    assert len(head_faults([moved], hashes, None)) == 1
    other = Ed25519Signer.load(make_key("other.pem"))
    forged = dataclasses.replace(heads[0], signature=other.sign(heads[0].signed_part()))
    assert "no valid signature" in head_faults([forged], hashes, verify)[0]


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (None, 0o600, "No such file"),
        (b"-----BEGIN NOTHING", 0o600, "openssl genpkey"),
        (b"", 0o600, "openssl genpkey"),
        ("key", 0o640, "chmod 600"),
        ("rsa", 0o600, "kind of key"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_with_its_mend(make_key, tmp_path, content, mode, says):
    path = tmp_path / "ledger.pem"
    if isinstance(content, str):
        make_key("ledger.pem", kind=content)
    elif content is not None:
        path.write_bytes(content)
    if path.exists():
        path.chmod(mode)
    with pytest.raises(InputError, match=says):
        Ed25519Signer.load(path)
