"""What the market says of how things stand, when that is more than one message may hold."""

import pytest
from market_town import Town, announce

from fleet_market.ids import OrderId, RobotId
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, encode
from fleet_market.protocol.messages import MAX_TEXT, Place, StatusReply, StatusRequest

LONG = "\u20ac"
"""A sign of three bytes in UTF-8."""


def pages_of(town, what, **more):
    """Ask on until there is nothing more; returns the pages."""
    pages, after = [], None
    while not pages or pages[-1].more:
        (page,) = town.give("ann", StatusRequest(what=what, after_id=after, **more), f"s{len(pages)}")
        assert isinstance(page, StatusReply)
        assert len(encode(Envelope(id="m", ts=1, src="market", body=page))) <= MAX_OUTBOUND_BYTES
        pages.append(page)
        after = (page.robots[-1].robot if what == "robots" else page.orders[-1].order) if page.more else None
    return pages


@pytest.fixture
def crowd():
    """A town with 300 orders and 300 robots, whose texts are as long as they may be."""
    town = Town(credit=10**6)
    for n in range(300):
        town.post(f"o{n}".ljust(48, "x"))
        town.give(f"r{n}".ljust(64, "x"), announce("o".ljust(64, "x")))
    for order in town.market.state.orders.values():
        order.note = LONG * MAX_TEXT
        order.pickup = Place(x=1.0, y=1.0, name=LONG * 64)
    return town


def test_every_order_is_on_one_page_oldest_first(crowd):
    pages = pages_of(crowd, "orders")
    assert len(pages) > 1
    assert [view.order for page in pages for view in page.orders] == list(crowd.market.state.orders)


def test_every_robot_is_on_one_page_by_name(crowd):
    pages = pages_of(crowd, "robots")
    assert len(pages) > 1
    assert [view.robot for page in pages for view in page.robots] == sorted(crowd.market.state.robots)


def test_a_robot_that_joins_between_two_pages_moves_no_other(crowd):
    (first,) = crowd.give("ann", StatusRequest(what="robots"), "s1")
    crowd.give("a0", announce("acme"))
    (second,) = crowd.give("ann", StatusRequest(what="robots", after_id=first.robots[-1].robot), "s2")
    known = sorted(crowd.market.state.robots)
    assert known[0] == "a0"
    assert [v.robot for v in first.robots + second.robots] == known[1 : 1 + len(first.robots) + len(second.robots)]


def test_the_books_are_on_the_first_page(crowd):
    first, *others = pages_of(crowd, "orders")
    assert first.sum_debits_uc == first.sum_credits_uc > 0
    assert first.escrow_left_uc == sum(order.max_price_uc for order in crowd.market.state.orders.values())
    assert {page.escrow_left_uc for page in others} == {0}


def test_one_order_can_be_asked_for_alone(crowd):
    (page,) = pages_of(crowd, "orders", order=OrderId("o7".ljust(48, "x")))
    assert [view.order for view in page.orders] == ["o7".ljust(48, "x")]
    (page,) = pages_of(crowd, "orders", order=OrderId("none"))
    assert page.orders == ()


def test_after_an_unknown_order_nothing_follows(crowd):
    (page,) = crowd.give("ann", StatusRequest(what="orders", after_id=OrderId("none")), "s")
    assert (page.orders, page.more) == ((), False)


def test_a_robots_view_lists_its_orders():
    town = Town()
    for name in ("o1", "o2"):
        town.post(name)
        town.trade({"r1": 10**6})
    (page,) = pages_of(town, "robots")
    assert {view.robot: view.contracts for view in page.robots} == {RobotId("r1"): ("o1", "o2"), RobotId("r2"): ()}
