import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleet_market.errors import ProtocolError
from fleet_market.ids import Identifier, MessageId, OrderId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES, MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    MAX_ASKS,
    MAX_WAYPOINTS,
    Accept,
    AskLine,
    Call,
    Lot,
    Place,
    Route,
)

GOOD = (
    '{"v":"1.0","id":"m1","ts":1,"src":"r1","sid":0,"corr":null,"deadline":null,"body":{"type":"accept","contract":"c1"}}'
)


def test_a_message_survives_the_wire():
    message = decode(GOOD.encode())
    assert isinstance(message.body, Accept)
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"contract":"c1"', '"contract":"c1","bonus":1'),
        ('"contract":"c1"', '"contract":5'),
        ('"contract":"c1"', '"contract":"c1 "'),
        ('"type":"accept"', '"type":"pay_me"'),
        ('"v":"1.0"', '"v":"2.0"'),
        ('"ts":1', '"ts":1e999'),
        ('"ts":1', '"ts":NaN'),
        ('"ts":1', '"ts":true'),
        ('"ts":1', '"ts":"1"'),
        ('"ts":1', '"ts":-1'),
        ('"id":"m1",', ""),
        (GOOD, "[" * 2000),
        (GOOD, ""),
    ],
)
def test_what_is_not_exactly_a_message_is_refused(old, new):
    assert old in GOOD
    with pytest.raises(ProtocolError) as caught:
        decode(GOOD.replace(old, new).encode())
    assert caught.value.reason == "malformed"


def test_nothing_is_kept_of_messages_that_are_gone():
    payloads = [GOOD.replace('"m1"', f'"message-{k}"').replace('"c1"', f'"contract-{k}"').encode() for k in range(2000)]
    decode(encode(decode(payloads[0])))
    before = sys.getallocatedblocks()
    for payload in payloads:
        message = decode(payload)
        Envelope(id=MessageId(f"again-{message.id}"), ts=1, src=message.src, body=message.body)
    assert sys.getallocatedblocks() - before < len(payloads) / 10


def test_an_oversized_message_is_refused_before_it_is_read():
    with pytest.raises(ProtocolError) as caught:
        decode(GOOD.encode() + b" " * MAX_INBOUND_BYTES)
    assert caught.value.reason == "oversized"


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_raise_the_documented_error(payload):
    with pytest.raises(ProtocolError):
        decode(payload)


def test_an_ask_whose_parts_do_not_add_up_is_refused():
    parts = (5, 4, 3, 0, 2, 0, 1, 0, 0)
    assert AskLine(lot=0, ask_uc=15, parts_uc=parts, energy_j=1.0, finish_ns=1).parts_uc == parts
    for ask_uc, wrong in ((14, parts), (15, parts[:-1]), (15, (*parts, 0)), (15, (-1, 10, *parts[2:]))):
        with pytest.raises(ValidationError):
            AskLine(lot=0, ask_uc=ask_uc, parts_uc=wrong, energy_j=1.0, finish_ns=1)


def test_the_longest_page_of_a_call_and_the_longest_route_fit_into_what_the_market_may_send():
    sent = {"ts": 10**15, "src": Identifier("r" * 20), "id": MessageId("m" * 20)}
    place = Place(x=-1234.567, y=-1234.567, yaw=-3.142, radius_m=0.333, keep_off_m=0.999, name="p" * 64)
    lot = Lot(order=OrderId("o" * 48), pickup=place, dropoff=place, payload_kg=12.345, deadline_ns=18 * 10**17)
    call = Call(call="c", round=10, page=0, pages=1, close_ns=1, lots=(lot,) * MAX_ASKS, won=(OrderId("o" * 48),) * 100)
    assert len(encode(Envelope(body=call, **sent))) <= MAX_OUTBOUND_BYTES
    points = ((-123.456, -123.456),) * MAX_WAYPOINTS
    route = Route(request="q", route="r", served=True, points=points, stops=(1, 2), released=0)
    assert len(encode(Envelope(body=route, **sent))) <= MAX_OUTBOUND_BYTES


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        (topics.from_robot("r1", "main", "ask"), ("from", "r1", "main", "ask")),
        (topics.to_robot("r1", "award"), ("to", "r1", "", "award")),
        (topics.zone("main", "call"), ("zone", "main", "main", "call")),
        (topics.view("main", "cleared"), ("view", "main", "main", "cleared")),
        (topics.state("r1", "presence"), ("state", "r1", "", "presence")),
        (topics.from_customer("ann", "order"), ("in", "ann", "main", "order")),
        (topics.CLOCK, ("clock", "", "", "clock")),
    ],
)
def test_topics_are_read_as_they_are_written(topic, address):
    assert topics.parse(topic) == address
    with pytest.raises(ProtocolError):
        topics.parse(topic.replace("mkt/1", "mkt/2"))
