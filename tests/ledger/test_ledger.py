import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, TransferResult, account, first_break
from fleet_market.ledger.ledger import refold

WORLD = account(AccountKind.WORLD, "mint")
ANN = account(AccountKind.CUSTOMER, "ann")
BOB = account(AccountKind.OWNER, "bob")
ESCROW = account(AccountKind.ESCROW, "o1")
ACCOUNTS = (WORLD, ANN, BOB, ESCROW)
R = TransferResult
K = TransferKind


def transfer(name: str, kind: TransferKind = K.POST, debit=WORLD, credit=ANN, amount=100, **more) -> Transfer:
    return Transfer(TransferId(name), kind, debit, credit, amount, **more)


def funded() -> Ledger:
    ledger = Ledger()
    for a in ACCOUNTS:
        ledger.open_account(a)
    assert ledger.apply([transfer("fund", amount=1000)], 1).ok
    assert ledger.apply([transfer("hold", K.HOLD, ANN, ESCROW, 300, expires_ns=50)], 2).ok
    return ledger


def capture(amount: int, **more) -> Transfer:
    fields = {"debit": ANN, "credit": ESCROW, "pending": TransferId("hold")} | more
    return transfer("capture", K.CAPTURE, amount=amount, **fields)


def test_an_order_is_paid_out_of_its_hold_and_leaves_nothing_in_escrow():
    ledger = funded()
    assert ledger.balance(ANN).available_uc == 700
    assert ledger.escrow_left_uc() == 300
    applied = ledger.apply([capture(120), transfer("pay", K.POST, ESCROW, BOB, 120)], 3)
    assert applied.ok
    assert [e.transfer.id for e in applied.entries] == ["capture", "pay"]
    assert ledger.balance(ANN).available_uc == 880
    assert ledger.balance(BOB).available_uc == 120
    assert ledger.escrow_left_uc() == 0
    assert ledger.totals() == (1240, 1240)
    assert ledger.audit() == []


@pytest.mark.parametrize(
    ("wish", "now_ns", "result"),
    [
        (transfer("fund", amount=1000), 9, R.EXISTS),
        (transfer("fund", amount=1), 9, R.EXISTS_WITH_DIFFERENT_FIELDS),
        (transfer("x", debit=ANN, amount=-1), 9, R.AMOUNT_NEGATIVE),
        (transfer("x", debit=ANN, amount=0), 9, R.AMOUNT_ZERO),
        (transfer("x", debit=AccountId("owner:nobody"), credit=AccountId("owner:nobody")), 9, R.ACCOUNTS_SAME),
        (transfer("x", K.CAPTURE, debit=AccountId("owner:nobody"), pending=None), 9, R.ACCOUNT_NOT_FOUND),
        (capture(9, pending=TransferId("fund"), debit=BOB), 9, R.PENDING_NOT_FOUND),
        (capture(999, debit=BOB), 60, R.PENDING_HAS_DIFFERENT_ACCOUNTS),
        (capture(999), 50, R.PENDING_EXPIRED),
        (transfer("x", K.EXPIRE, ANN, ESCROW, 0, pending=TransferId("hold")), 49, R.PENDING_NOT_EXPIRED),
        (capture(301), 49, R.EXCEEDS_PENDING),
        (transfer("x", K.POST, ANN, BOB, 701), 9, R.EXCEEDS_BALANCE),
        (transfer("x", K.POST, ANN, BOB, 700), 9, R.CREATED),
        (transfer("x", K.VOID, ANN, ESCROW, 0, pending=TransferId("hold")), 60, R.CREATED),
    ],
)
def test_the_first_reason_in_the_documented_order_is_given(wish, now_ns, result):
    ledger = funded()
    before = ledger.balances()
    applied = ledger.apply([wish], now_ns)
    assert applied.results == (result,)
    assert applied.ok == (result in (R.CREATED, R.EXISTS))
    if result is not R.CREATED:
        assert ledger.balances() == before
        assert applied.entries == ()


@pytest.mark.parametrize(
    ("first", "again"),
    [(K.CAPTURE, R.PENDING_ALREADY_POSTED), (K.VOID, R.PENDING_ALREADY_VOIDED), (K.EXPIRE, R.PENDING_EXPIRED)],
)
def test_a_hold_ends_once(first, again):
    ledger = funded()
    end = transfer("end", first, ANN, ESCROW, 10, pending=TransferId("hold"))
    assert ledger.apply([end], 60 if first is K.EXPIRE else 9).ok
    assert ledger.apply([end], 70).results == (R.EXISTS,)
    for kind in (K.CAPTURE, K.VOID):
        second = transfer("second", kind, ANN, ESCROW, 10, pending=TransferId("hold"))
        assert ledger.apply([second], 9).results == (again,)


def test_linked_transfers_are_made_together_or_not_at_all():
    ledger = funded()
    before = (ledger.balances(), len(ledger.journal))
    applied = ledger.apply([capture(120), transfer("pay", K.POST, ESCROW, BOB, 121)], 3)
    assert applied.results == (R.LINKED_FAILED, R.EXCEEDS_BALANCE)
    assert (ledger.balances(), len(ledger.journal)) == before
    assert ledger.apply([capture(120), transfer("pay", K.POST, ESCROW, BOB, 120)], 3).ok


def test_time_in_the_journal_always_grows():
    ledger = funded()
    ledger.apply([transfer("late", amount=1)], 0)
    stamps = [e.timestamp_ns for e in ledger.journal]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("row", [0, 1])
def test_a_changed_row_of_the_journal_is_found(row):
    ledger = funded()
    rows = list(ledger.journal)
    changed = dataclasses.replace(rows[row].transfer, amount_uc=rows[row].transfer.amount_uc + 1)
    rows[row] = dataclasses.replace(rows[row], transfer=changed)
    assert first_break(ledger.journal) is None
    assert first_break(rows) == row + 1
    assert first_break(ledger.journal[1:]) == 1


def test_an_account_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="bank"):
        Ledger().open_account(AccountId("bank:x"))


class LedgerMachine(RuleBasedStateMachine):
    """Random business; a dict of plain integers is the model."""

    holds = Bundle("holds")

    def __init__(self):
        super().__init__()
        self.ledger = Ledger()
        for a in ACCOUNTS:
            self.ledger.open_account(a)
        self.model = dict.fromkeys(ACCOUNTS, 0)
        self.open: dict[TransferId, tuple[AccountId, AccountId, int]] = {}
        self.clock = 0

    def make(self, kind, debit, credit, amount, pending=None, name=None):
        self.clock += 1
        wish = Transfer(TransferId(name or f"t{self.clock}"), kind, debit, credit, amount, pending)
        return wish, self.ledger.apply([wish], self.clock)

    def free(self, a):
        return self.model[a] - sum(held for debit, _, held in self.open.values() if debit == a)

    @rule(debit=st.sampled_from(ACCOUNTS), credit=st.sampled_from(ACCOUNTS), amount=st.integers(-1, 50))
    def post(self, debit, credit, amount):
        _, applied = self.make(K.POST, debit, credit, amount)
        allowed = amount > 0 and debit != credit and (debit == WORLD or amount <= self.free(debit))
        assert applied.ok == allowed
        if allowed:
            self.model[debit] -= amount
            self.model[credit] += amount

    @rule(target=holds, debit=st.sampled_from(ACCOUNTS), credit=st.sampled_from(ACCOUNTS), amount=st.integers(0, 50))
    def hold(self, debit, credit, amount):
        wish, applied = self.make(K.HOLD, debit, credit, amount)
        if applied.ok:
            assert debit == WORLD or amount <= self.free(debit)
            self.open[wish.id] = (debit, credit, amount)
        return wish.id

    @rule(held=holds, amount=st.integers(0, 60))
    def capture(self, held, amount):
        debit, credit, most = self.open.get(held, (ANN, BOB, -1))
        _, applied = self.make(K.CAPTURE, debit, credit, amount, held)
        assert applied.ok == (0 < amount <= most)
        if applied.ok:
            del self.open[held]
            self.model[debit] -= amount
            self.model[credit] += amount

    @rule(held=holds)
    def void(self, held):
        debit, credit, _ = self.open.get(held, (ANN, BOB, -1))
        _, applied = self.make(K.VOID, debit, credit, 0, held)
        assert applied.ok == (held in self.open)
        self.open.pop(held, None)

    @rule()
    def retry_everything(self):
        before = self.ledger.balances()
        for entry in list(self.ledger.journal):
            assert self.ledger.apply([entry.transfer], self.clock).results == (R.EXISTS,)
        assert self.ledger.balances() == before

    @invariant()
    def books_are_closed(self):
        assert self.ledger.audit() == []
        assert {a: b.credits_posted - b.debits_posted for a, b in self.ledger.balances().items()} == self.model
        assert sum(self.model.values()) == 0
        assert refold(ACCOUNTS, self.ledger.journal) == self.ledger.balances()


TestLedgerHistories = LedgerMachine.TestCase
TestLedgerHistories.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
