"""What `fleet-market why` shows of an order that was sold on."""

from typer.testing import CliRunner

from fleet_market.cli import customers
from fleet_market.cli.app import app
from fleet_market.protocol.messages import (
    GainRecord,
    LevelView,
    MoveRecord,
    OrderState,
    OrderView,
    Place,
    TradeRecord,
    WhyReply,
)

CREDIT = 10**6


def test_why_shows_who_does_it_for_whom_and_what_each_gained(monkeypatch):
    levels = tuple(
        LevelView(
            contract=f"c-{robot}", robot=robot, owner=f"owner-{robot}", ask_uc=1, price_uc=price * CREDIT, paid_uc=paid
        )
        for robot, price, paid in (("left", 9, None), ("right", 6, 5 * CREDIT))
    )
    trade = TradeRecord(
        call="main:1:r1",
        kind="contract",
        closed_ns=1,
        orders=("o1",),
        moves=(MoveRecord(order="o1", giver="left", taker="right", ask_uc=2 * CREDIT, price_uc=6 * CREDIT),),
        gains=(GainRecord(robot="left", saving_uc=10 * CREDIT, asks_uc=0, gain_uc=4 * CREDIT),),
        surplus_uc=8 * CREDIT,
        summary="o1 from left to right",
    )
    place, times = Place(x=0.0, y=0.0), {"release_ns": 0, "deadline_ns": 1}
    view = OrderView(
        order="o1", customer="ann", state=OrderState.SETTLED, pickup=place, dropoff=place, payload_kg=1.0,
        max_price_uc=CREDIT, **times,
    )  # fmt: skip
    reply = WhyReply(order="o1", found=True, view=view, levels=levels, trades=(trade,))
    monkeypatch.setattr(customers, "request", lambda *_: reply)
    shown = CliRunner().invoke(app, ["why", "o1"])
    assert shown.exit_code == 0, shown.output
    assert "left has paid 5 of 6 to right" in shown.output
    assert "main:1:r1: o1 from left to right" in " ".join(shown.output.split())
