"""The oracle daemon on a real Mosquitto."""

import asyncio
import contextlib

import pytest

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.auction import LotOffer
from fleet_market.daemons.oracle import OracleConfig, run_oracle
from fleet_market.daemons.oracle_ears import Ears, published
from fleet_market.ids import CallId, Identifier, MessageId, OrderId, ZoneId
from fleet_market.oracle import fair_bands
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import AskRecord, Cleared, LotRecord


def lot(order, budget, price, **asks):
    records = tuple(AskRecord(robot=r, owner=r, ask_uc=a, outcome="") for r, a in asks.items())
    return LotRecord(
        call=CallId("c"), order=OrderId(order), closed_ns=1, budget_uc=budget, winner=None if price is None else "r1",
        price_uc=price, asks=records, summary="",
    )  # fmt: skip


def bands_of(call, records):
    (batch,) = Ears(ZoneId("main")).batch(call, records)
    return list(published(batch, fair_bands([LotOffer(lot.order, lot.budget_uc) for lot in batch.lots], batch.asks)))


def test_the_band_of_a_single_lot_runs_from_the_best_ask_to_the_second_best():
    (band,) = bands_of(CallId("c"), [lot("o", 100, 60, r1=40, r2=60, r3=90)])
    assert (band.low_uc, band.high_uc, band.second_best_ask_uc, band.optimum_uc) == (40, 60, 60, 60)
    assert band.inside


def test_a_price_above_the_band_is_said_to_be_outside():
    (band,) = bands_of(CallId("c"), [lot("o", 100, 61, r1=40, r2=60)])
    assert not band.inside


def test_competition_for_a_robot_lifts_the_low_end():
    bands = {b.order: b for b in bands_of(CallId("c"), [lot("o", 100, 50, r1=40), lot("p", 80, None, r1=40)])}
    assert set(bands) == {"o"}, "only what the optimum sells has a band"
    assert (bands["o"].low_uc, bands["o"].high_uc) == (80, 100), "the other buyer would leave r1 a gain of 40"


@pytest.mark.real
async def test_the_oracle_waits_for_all_pages_and_publishes_a_band_per_lot_sold(mqtt_broker):
    where = {"host": mqtt_broker.host, "port": mqtt_broker.port}
    running = asyncio.ensure_future(run_oracle(OracleConfig(**where)))
    async with MqttTransport(MqttConfig(client_id="w", **where), [(topics.view("main", "band"), 1)]) as watcher:
        await asyncio.wait_for(watcher.connected.wait(), 60)
        pages = [(lot("o", 100, 60, r1=40, r2=60),), (lot("p", 100, 70, r1=70, r2=50),)]
        got = []

        async def publish():
            for number, lots in enumerate(pages):
                body = Cleared(
                    call=CallId("c"), page=number, pages=2, opened_ns=0, closed_ns=1, welfare_uc=110, seed="s", lots=lots
                )
                message = Envelope(id=MessageId(f"m{number}"), ts=1, src=Identifier("market"), body=body)
                await watcher.publish(topics.view("main", "cleared"), encode(message))

        async def listen():
            async for delivery in watcher.deliveries():
                band = decode(delivery.payload).body
                got.append(band)

        listening = asyncio.ensure_future(listen())
        async with asyncio.timeout(60):
            while {band.order for band in got} != {"o", "p"}:
                await watcher.publish(topics.view("main", "cleared"), b"garbage")
                await publish()
                await asyncio.wait([listening], timeout=0.5)
        listening.cancel()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert {band.optimum_uc for band in got} == {110}
