"""Fees, shares to the micro-credit, previews."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.oracle.sale import MILLE, Fees, coarse, share_out, split

AMOUNTS = st.integers(0, 10**12)
WEIGHTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).map(RobotId), st.integers(0, 10**6), max_size=30
)


@given(AMOUNTS, WEIGHTS.filter(lambda w: sum(w.values()) > 0))
def test_shares_sum_to_the_amount_and_nobody_is_off_by_a_whole_micro_credit(amount, weights):
    parts, total = share_out(amount, weights), sum(weights.values())
    assert sum(parts.values()) == amount
    for name, part in parts.items():
        assert abs(part * total - amount * weights[name]) < total


@given(AMOUNTS, WEIGHTS, st.integers(0, MILLE))
def test_a_fee_is_given_out_whole(fee, used, share):
    parts = split(fee, used, share)
    assert parts.oracle_uc + sum(parts.robots_uc.values()) == fee
    assert parts.oracle_uc >= 0
    assert all(uc >= 0 for uc in parts.robots_uc.values())
    assert set(parts.robots_uc) == {name for name, n in used.items() if n}


def test_largest_remainders_get_what_is_left():
    assert share_out(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert share_out(7, {"a": 10, "b": 15, "c": 5}) == {"a": 2, "b": 4, "c": 1}, "remainders 1/3, 1/2, 1/6"


def test_without_telemetry_all_is_the_oracles():
    assert split(99, {}) == split(99, {RobotId("r"): 0})
    assert split(99, {}).oracle_uc == 99


WHATS = ("band", "budget", "best_time", "make_or_buy", "judge", "congestion")


@given(st.integers(0, 10**9), st.sampled_from(WHATS), st.booleans(), st.booleans())
def test_never_more_is_due_than_was_put_on_hold(fee, what, later, thin):
    fees = Fees.of(fee)
    assert 0 <= fees.due_uc(what, later=later, thin=thin) <= fees.held_uc(what, later=later)


@given(st.integers(0, 10**9))
def test_what_contains_a_band_costs_no_less_than_one(fee):
    fees = Fees.of(fee)
    assert all(fees.held_uc(what) >= fees.held_uc() for what in ("budget", "best_time", "make_or_buy", "judge"))


@pytest.mark.parametrize("what", WHATS[1:])
def test_what_has_no_fee_is_not_sold(what):
    fees = Fees(3, 4, 1)
    with pytest.raises(InputError, match="another oracle"):
        fees.held_uc(what)
    with pytest.raises(InputError, match="another oracle"):
        fees.due_uc(what, thin=True)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_preview_holds_the_band_and_is_coarse(a, b):
    low, high = min(a, b), max(a, b)
    shown_low, shown_high = coarse(low, high)
    assert shown_low <= low
    assert high <= shown_high
    assert shown_high >= 2 * shown_low
    assert coarse(shown_low, max(shown_low, shown_high - 1)) == (shown_low, shown_high), "it hides where inside"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fees(-1, 0, 0),
        lambda: Fees(2, 2, 3),
        lambda: Fees(2, 2, 1, judge_uc=-1),
        lambda: share_out(-1, {"a": 1}),
        lambda: share_out(1, {"a": -1}),
        lambda: share_out(1, {}),
        lambda: split(1, {}, MILLE + 1),
        lambda: split(-1, {}),
        lambda: coarse(2, 1),
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="was"):
        wrong()
