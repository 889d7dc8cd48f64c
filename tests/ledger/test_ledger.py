import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger import (
    AccountKind,
    Balance,
    Ledger,
    Metrics,
    Transfer,
    TransferKind,
    TransferResult,
    account,
    audit,
    first_break,
    refold,
)
from fleet_market.units import MAX_CREDITS_UC

WORLD = account(AccountKind.WORLD, "mint")
ANN = account(AccountKind.CUSTOMER, "ann")
BOB = account(AccountKind.OWNER, "bob")
ESCROW = account(AccountKind.ESCROW, "o1")
SINK = account(AccountKind.SINK, "burned")
ACCOUNTS = (WORLD, ANN, BOB, ESCROW, SINK)
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


NOBODY = AccountId("owner:nobody")
HOLD = TransferId("hold")
FAULTS = [
    (R.EXISTS_WITH_DIFFERENT_FIELDS, {"id": TransferId("fund")}),
    (R.FIELDS_DO_NOT_FIT, {"kind": K.POST, "pending": HOLD}),
    (R.FIELDS_DO_NOT_FIT, {"kind": K.CAPTURE, "expires_ns": 9}),
    (R.AMOUNT_NEGATIVE, {"amount_uc": -1}),
    (R.AMOUNT_ZERO, {"kind": K.POST, "amount_uc": 0}),
    (R.AMOUNT_ZERO, {"kind": K.CAPTURE, "amount_uc": 0}),
    (R.AMOUNT_TOO_LARGE, {"amount_uc": MAX_CREDITS_UC + 1}),
    (R.ACCOUNTS_SAME, {"debit": NOBODY, "credit": NOBODY}),
    (R.ACCOUNTS_SAME, {"debit": SINK, "credit": SINK}),
    (R.ACCOUNT_NOT_FOUND, {"debit": NOBODY}),
    (R.ACCOUNT_NOT_FOUND, {"credit": NOBODY}),
    (R.DEBIT_NOT_ALLOWED, {"debit": SINK}),
    (R.CREDIT_NOT_ALLOWED, {"credit": WORLD}),
    (R.PENDING_NOT_FOUND, {"kind": K.CAPTURE, "pending": None}),
    (R.PENDING_NOT_FOUND, {"kind": K.CAPTURE, "pending": TransferId("fund")}),
    (R.PENDING_HAS_DIFFERENT_ACCOUNTS, {"kind": K.CAPTURE, "credit": BOB, "pending": HOLD}),
    (R.PENDING_ALREADY_POSTED, {"kind": K.CAPTURE, "credit": ESCROW, "pending": TransferId("paid")}),
    (R.PENDING_ALREADY_VOIDED, {"kind": K.CAPTURE, "credit": ESCROW, "pending": TransferId("voided")}),
    (R.PENDING_EXPIRED, {"kind": K.CAPTURE, "credit": ESCROW, "pending": TransferId("expired")}),
    (R.PENDING_EXPIRED, {"kind": K.CAPTURE, "credit": ESCROW, "pending": TransferId("late")}),
    (R.PENDING_NOT_EXPIRED, {"kind": K.EXPIRE, "credit": ESCROW, "pending": HOLD}),
    (R.EXCEEDS_PENDING, {"kind": K.CAPTURE, "credit": ESCROW, "pending": HOLD, "amount_uc": 301}),
    (R.EXCEEDS_BALANCE, {"kind": K.POST, "amount_uc": 701}),
    (R.EXCEEDS_BALANCE, {"kind": K.HOLD, "amount_uc": MAX_CREDITS_UC}),
    (R.CREATED, {}),
]


def eventful() -> Ledger:
    """Ann has 700 uc free; holds that were paid, voided, expired, and one that is late."""
    ledger = funded()
    for name in ("paid", "voided", "expired", "late"):
        assert ledger.apply([transfer(name, K.HOLD, ANN, ESCROW, 10, expires_ns=20)], 3).ok
    ends = [("paid", K.CAPTURE, 4), ("voided", K.VOID, 5), ("expired", K.EXPIRE, 20)]
    for name, kind, now_ns in ends:
        assert ledger.apply([transfer(f"end-{name}", kind, ANN, ESCROW, 10, pending=TransferId(name))], now_ns).ok
    assert ledger.apply([transfer("more", amount=20)], 21).ok
    assert ledger.balance(ANN).available_uc == 700
    return ledger


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_two_reasons_the_one_that_is_listed_first_is_given(first):
    """Every pair of faults that one transfer can have at once."""
    precedence, pairs = list(TransferResult), 0
    for second in range(first, len(FAULTS)):
        (early, fields), (_, more) = FAULTS[first], FAULTS[second]
        if any(fields[name] != more[name] for name in fields.keys() & more.keys()):
            continue
        base = {"id": TransferId("x"), "kind": K.POST, "debit": ANN, "credit": BOB, "amount_uc": 7}
        wish = Transfer(**base | more | fields)
        ledger = eventful()
        before = ledger.balances()
        (result,) = ledger.apply([wish], 30).results
        if first == second:
            assert result is early, (wish, result)
        elif early is not R.CREATED:
            assert 0 < precedence.index(result) <= precedence.index(early), (wish, result)
        if result is not R.CREATED:
            assert ledger.balances() == before
        pairs += 1
    assert pairs


def test_every_result_can_happen_and_its_name_is_its_value():
    seen = {result for result, _ in FAULTS} | {R.EXISTS, R.OVERFLOWS, R.LINKED_FAILED}
    assert seen == set(TransferResult)
    assert all(r.value == r.name.lower() for r in TransferResult)


@pytest.mark.parametrize(
    ("wish", "now_ns", "result"),
    [
        (transfer("fund", amount=1000), 9, R.EXISTS),
        (capture(999), 50, R.PENDING_EXPIRED),
        (transfer("x", K.EXPIRE, ANN, ESCROW, 0, pending=HOLD), 49, R.PENDING_NOT_EXPIRED),
        (transfer("x", K.EXPIRE, ANN, ESCROW, 0, pending=HOLD), 50, R.CREATED),
        (capture(300), 49, R.CREATED),
        (transfer("x", K.POST, ANN, BOB, 700), 9, R.CREATED),
        (transfer("x", K.POST, ANN, SINK, 700), 9, R.CREATED),
        (transfer("x", K.VOID, ANN, ESCROW, 0, pending=HOLD), 60, R.CREATED),
    ],
)
def test_at_the_border_of_a_rule(wish, now_ns, result):
    assert funded().apply([wish], now_ns).results == (result,)


def test_a_sum_never_leaves_63_bits():
    ledger = funded()
    ledger._balances[BOB] = Balance(debits_posted=2**63 - 1 - 50, credits_posted=2**63 - 1 - 50)
    assert ledger.apply([transfer("x", K.POST, ANN, BOB, 51)], 9).results == (R.OVERFLOWS,)
    assert ledger.apply([transfer("x", K.POST, ANN, BOB, 50)], 9).results == (R.CREATED,)
    assert ledger.balance(BOB).credits_posted == 2**63 - 1


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


def test_what_is_burned_leaves_the_supply():
    ledger = funded()
    assert ledger.apply([transfer("burn", K.POST, ANN, SINK, 250)], 3).ok
    metrics = ledger.metrics()
    assert (metrics.issued_uc, metrics.burned_uc, metrics.supply_uc, metrics.circulating_uc) == (1000, 250, 750, 750)


def test_a_restored_ledger_goes_on_where_the_first_one_stopped():
    first = eventful()
    again = Ledger.restored(first.balances(), first.journal)
    assert again.balances() == first.balances()
    wishes = [
        capture(20),
        transfer("fund", amount=1000),
        transfer("x", K.VOID, ANN, ESCROW, 0, pending=TransferId("voided")),
    ]
    for wish in wishes:
        assert again.apply([wish], 40) == first.apply([wish], 40)
    assert again.journal == first.journal


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.plus(credit=1), "1001"),
        (lambda b: b.plus(debit=2000), "overdrawn by 1300"),
        (lambda b: b.plus(pending_debit=-300), "its journal says"),
    ],
)
def test_the_audit_finds_a_balance_that_was_changed(change, says):
    ledger = funded()
    balances = ledger.balances()
    assert audit(balances, ledger.journal) == []
    balances[ANN] = change(balances[ANN])
    assert any(says in fault for fault in audit(balances, ledger.journal))


def test_the_audit_finds_the_row_that_overdraws_even_if_a_later_one_makes_it_good():
    ledger = funded()
    ledger._balances[ANN] = ledger._balances[ANN].plus(credit=10**6)
    assert ledger.apply([transfer("too-much", K.POST, ANN, BOB, 5000)], 3).ok
    assert ledger.apply([transfer("back", K.POST, BOB, ANN, 5000)], 4).ok
    honest = refold(ACCOUNTS, ledger.journal)
    assert audit(honest, ledger.journal) == [f"journal row 3 overdraws {ANN}"]


def test_applying_costs_what_is_touched_and_not_what_is_held():
    """Counted, not timed: no step may walk over all accounts."""

    class Counted(dict):
        walks = 0

        def __iter__(self):
            Counted.walks += 1
            return super().__iter__()

        def keys(self):
            Counted.walks += 1
            return super().keys()

        items = values = copy = keys

    ledger = funded()
    ledger._balances = Counted(ledger._balances)
    for name in ("_transfers", "_resolved"):
        setattr(ledger, name, Counted(getattr(ledger, name)))
    ledger.apply([transfer("a"), transfer("b", amount=0)], 5)
    ledger.apply([capture(5)], 6)
    assert Counted.walks == 0


def test_an_account_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="bank"):
        Ledger().open_account(AccountId("bank:x"))


def may_move(debit, credit):
    return debit not in (credit, SINK) and credit != WORLD


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
        allowed = amount > 0 and may_move(debit, credit) and (debit == WORLD or amount <= self.free(debit))
        assert applied.ok == allowed
        if allowed:
            self.model[debit] -= amount
            self.model[credit] += amount

    @rule(target=holds, debit=st.sampled_from(ACCOUNTS), credit=st.sampled_from(ACCOUNTS), amount=st.integers(0, 50))
    def hold(self, debit, credit, amount):
        wish, applied = self.make(K.HOLD, debit, credit, amount)
        if applied.ok:
            assert may_move(debit, credit)
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
        metrics = Metrics.of(self.ledger.balances())
        assert metrics.supply_uc == metrics.circulating_uc == sum(self.model[a] for a in (ANN, BOB, ESCROW))
        assert refold(ACCOUNTS, self.ledger.journal) == self.ledger.balances()


TestLedgerHistories = LedgerMachine.TestCase
TestLedgerHistories.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
