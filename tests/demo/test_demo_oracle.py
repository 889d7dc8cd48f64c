"""The part of the demo's report that is about quotes."""

import pytest

from fleet_market.daemons.demo_oracle import fees_paid, quotes_report
from fleet_market.protocol.messages import FairReply, OrderState, OrderView, Place, Scored, WireBand

CREDIT = 10**6
PLACE = Place(x=0.0, y=0.0)


def view(order, price):
    state = OrderState.SETTLED if price else OrderState.EXPIRED
    return OrderView(
        order=order, customer="demo", state=state, pickup=PLACE, dropoff=PLACE,
        payload_kg=1.0, release_ns=0, deadline_ns=1, max_price_uc=20 * CREDIT, price_uc=price and price * CREDIT,
    )  # fmt: skip


def quote(order, low, high, result="quoted", **band):
    made = WireBand(low_uc=low * CREDIT, high_uc=high * CREDIT, confidence=0.8, **band)
    paid = {"fee_uc": 100_000, "robots_uc": 40_000} if result == "quoted" else {}
    return FairReply(quote=f"q-{order}", result=result, oracle="oracle", order=order, band=made, **paid)


def test_price_against_band_fees_and_what_budgets_at_the_top_would_have_saved():
    views = [view("o1", 6), view("o2", 9), view("o3", None), view("o4", 9), view("o5", 9)]
    quotes = {
        "o1": quote("o1", 5, 7),
        "o2": quote("o2", 5, 7),
        "o3": quote("o3", 5, 7),
        "o4": quote("o4", 5, 7, thin=True),
        "o5": FairReply(quote="q-o5", result="no_quote", oracle="oracle", order="o5"),
    }
    scores = [
        Scored(
            oracle="oracle",
            order="o1",
            low_uc=5,
            high_uc=7,
            confidence=0.8,
            price_uc=6,
            reference_uc=6,
            inside=True,
            score=0.1,
        )
    ]
    report = quotes_report(views, quotes, scores, {"customer:demo": 4})
    tasks = {task["order"]: task for task in report["tasks"]}
    assert set(tasks) == {"o1", "o2", "o3", "o4"}, "no quote, no line"
    assert [tasks[o]["inside"] for o in ("o1", "o2", "o3")] == [True, False, None]
    assert (tasks["o2"]["above"], tasks["o1"]["above"]) == (2.0, 0.0)
    assert report["quotes"] == {
        "asked": 5, "bought": 4, "thin": 1, "fees": pytest.approx(0.4), "to_robots": pytest.approx(0.16), "judged": 1,
        "held": 1, "score": 0.1,
    }  # fmt: skip
    assert report["worth"]["saved"] == 2.0, "nothing follows from a thin band"
    assert report["worth"]["after_fees"] == pytest.approx(1.6)
    assert report["buyers"] == {"customer:demo": 4}


def test_without_quotes_there_is_nothing_to_tell():
    report = quotes_report([view("o1", 6)], {}, [], {})
    assert (report["quotes"]["bought"], report["quotes"]["score"], report["tasks"]) == (0, None, [])


def test_buyers_are_those_whose_holds_an_oracle_captured(tmp_path):
    file = tmp_path / "ledger.csv"
    rows = [
        "hold,customer:demo,oracle:sib", "capture,customer:demo,oracle:sib", "capture,owner:acme,oracle:sib",
        "void,customer:eve,oracle:sib", "post,oracle:sib,owner:acme", "capture,customer:demo,escrow:o1",
    ]  # fmt: skip
    file.write_text("kind,debit,credit\n" + "\n".join(rows) + "\n")
    assert fees_paid(file) == {"customer:demo": 1, "owner:acme": 1}
