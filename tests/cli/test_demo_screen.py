"""What the demo says about orders while it runs."""

from fleet_market.cli.demo import Screen
from fleet_market.ids import CustomerId, OrderId, RobotId
from fleet_market.protocol.messages import OrderState, OrderView, Place

S = 10**9


def view(state, **more):
    place = Place(x=1.0, y=1.0)
    about = {"pickup": place, "dropoff": place, "payload_kg": 1.0, "release_ns": 0, "deadline_ns": 900 * S}
    about |= {"max_price_uc": 5_000_000, "ask_uc": 1_500_000, "price_uc": 2_000_000}
    return OrderView(order=OrderId("o1"), customer=CustomerId("acme"), state=state, **about | more)


def test_an_order_that_is_sold_on_is_not_told_as_sold_once_more(capsys):
    screen = Screen()
    screen.order(view(OrderState.OPEN))
    screen.order(view(OrderState.AWARDED, attempts=1, robot=RobotId("r1"), awarded_ns=3 * S))
    screen.order(view(OrderState.EXECUTING, attempts=1, robot=RobotId("r1"), awarded_ns=3 * S))
    screen.order(view(OrderState.AWARDED, attempts=1, robot=RobotId("r2"), awarded_ns=3 * S, note="r2 does it for r1"))
    screen.order(view(OrderState.OPEN, attempts=1, note="r2 has broken down"))
    screen.order(view(OrderState.AWARDED, attempts=2, robot=RobotId("r1"), awarded_ns=9 * S))
    screen.close()
    assert capsys.readouterr().out.splitlines() == [
        "    3.0s o1: r1 asked 1.5 and gets 2 credits",
        "         o1: sold on, r2 does it for r1",
        "         o1: on sale again, r2 has broken down",
        "    9.0s o1: r1 asked 1.5 and gets 2 credits",
    ]
