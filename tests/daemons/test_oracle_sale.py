"""Quotes bought on the command line from oracle daemons, over a real Mosquitto and a real market daemon."""

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest
from market_process import Daemon, Peer, cli

from fleet_market.adapters.requests import Requester
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.ids import ContractId, CustomerId, OrderId, PartyName
from fleet_market.oracle.terms import FairQuote
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import decode
from fleet_market.protocol.messages import (
    FairAnswer,
    FairQuestion,
    FairReply,
    FairRequest,
    Fix,
    OrderReply,
    PostOrder,
    Receipt,
    TelemetryRecord,
    WireBand,
)
from fleet_market.protocol.telemetry import GENESIS, record_hash

CREDIT = 10**6
FEE = 300_001
QUOTE = FairQuote(
    low_uc=3 * CREDIT, high_uc=5 * CREDIT, confidence=0.8, expected_uc=4 * CREDIT, shadow_low_uc=None, shadow_high_uc=None,
    second_best_uc=None, model_low_uc=None, model_high_uc=None, settled_low_uc=None, settled_high_uc=None, samples=40,
    age_s=2.0, coverage=0.8, thin=False, reasons=("forty settlements like it",), unknown=("tomorrow",),
)  # fmt: skip


def records(number):
    """A robot's chain of records, unsigned."""
    previous = GENESIS
    for seq in range(number):
        made = TelemetryRecord(
            robot="r1", chain=1, seq=seq, previous=previous, contract=ContractId(f"c{seq}"), dwell_s=0.0, executed_s=20.0,
            legs=(), energy_j=None, fixes=(Fix(x=0.0, y=0.0, at_ns=seq), Fix(x=0.0, y=0.0, at_ns=seq)),
        )  # fmt: skip
        previous = record_hash(made)
        yield made


class Told:
    """Knows one price."""

    def begin(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        return QUOTE


@contextlib.asynccontextmanager
async def selling(oracle):
    running = asyncio.create_task(oracle.run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def standing(requester, condition):
    """What the market says of the oracle sib, once it is so."""
    async with asyncio.timeout(60):
        while True:
            for view in (await requester.status("oracles")).oracles:
                if view.oracle == "sib" and condition(view):
                    return view
            await asyncio.sleep(0.05)


@pytest.mark.real
async def test_a_quote_is_bought_on_the_wire_and_every_refusal_leaves_the_money_where_it_was(mqtt_broker, tmp_path):
    where = f"{mqtt_broker.host}:{mqtt_broker.port}"
    with Daemon(tmp_path, mqtt_broker) as daemon:
        await asyncio.to_thread(daemon.wait_ready)
        oracle = Oracle(OracleConfig(mqtt_broker.host, mqtt_broker.port, name=PartyName("sib"), fee_uc=FEE), Told())
        for record in records(30):
            oracle._keep(record, "mkt/1/from/r1/main/telemetry")
        mute = Peer(mqtt_broker, "mute", topics.to_customer("mute", "#"))
        cheat = Peer(mqtt_broker, "cheat", topics.to_customer("cheat", "#"))
        async with selling(oracle), Requester(mqtt_broker.host, mqtt_broker.port, CustomerId("ann"), timeout_s=60) as ann:
            await standing(ann, lambda sib: sib.open)
            order = PostOrder(
                order="o1", pickup="dock", dropoff="shelf", payload_kg=1.0, deadline_s=900.0, max_price_uc=9 * CREDIT
            )
            assert (await ann.ask("order", order, OrderReply)).result == "accepted"

            async def buy(name, **more):
                fields = {"quote": name, "oracle": "sib", "order": "o1", "max_fee_uc": CREDIT} | more
                return await ann.ask("fair", FairRequest(**fields), FairReply)

            bought = await buy("q1")
            assert (bought.result, bought.fee_uc, bought.band.low_uc) == ("quoted", FEE, 3 * CREDIT)
            assert bought.band.reasons == QUOTE.reasons
            told = await asyncio.to_thread(cli, "oracle", "verify", "q1", "--as", "ann", "--mqtt", where)
            assert "q1 is sound: 30 records of sib are as its root says" in told
            assert (await buy("q1")).result == "quoted", "the same again"
            assert (await buy("p1", preview=True)).fee_uc == 0
            refused = [await buy("q2", order="o9"), await buy("q3", oracle="nobody"), await buy("q4", max_fee_uc=FEE - 1)]
            assert [[e.field for e in r.errors] for r in refused] == [["order"], ["oracle"], ["max_fee"]]
            posting = ["order", "post", "--pickup", "dock", "--dropoff", "shelf", "--as", "ann", "--mqtt", where]
            told = await asyncio.to_thread(cli, *posting, "o2", "--max-price", "9", "--consult", "sib")
            assert "sib says 3 to 5 credits for 0.300001: offering at most 5" in told
            (view,) = (await ann.status("orders", OrderId("o2"))).orders
            assert view.max_price_uc == 5 * CREDIT
            told = await asyncio.to_thread(cli, *posting, "o3", "--max-price", "2.9", "--consult", "sib", code=3)
            assert "not posted" in told
            assert not (await ann.status("orders", OrderId("o3"))).orders
            told = await asyncio.to_thread(cli, "oracle", "explain", "q1", "--as", "ann", "--mqtt", where)
            assert "forty settlements like it" in told
            assert "not known: tomorrow" in told
            async with mute.transport, cheat.transport:
                await asyncio.gather(mute.transport.connected.wait(), cheat.transport.connected.wait())
                await mute.say(topics.from_customer("mute", "terms"), oracle._terms("open"))
                waiting = asyncio.create_task(buy("q5", oracle="mute"))
                async for delivery in mute.transport.deliveries():
                    delivery.ack()
                    if isinstance(question := decode(delivery.payload, limit=10**6).body, FairQuestion):
                        break
                band = WireBand(low_uc=1, high_uc=2, confidence=0.8)
                await cheat.say(topics.from_customer("cheat", "answer"), FairAnswer(quote=question.quote, band=band))
                async for delivery in cheat.transport.deliveries():
                    delivery.ack()
                    body = decode(delivery.payload, limit=10**6).body
                    assert isinstance(body, Receipt)
                    assert body.result == "not_your_question"
                    break
                silent = await waiting
                assert (silent.result, silent.fee_uc) == ("no_quote", 0)
            books = await ann.status("ledger")
            assert books.sum_debits_uc == books.sum_credits_uc
        async with Requester(mqtt_broker.host, mqtt_broker.port, CustomerId("ann"), timeout_s=60) as ann:
            view = await standing(ann, lambda sib: not sib.open)
        assert (view.sold, view.earned_uc, view.breaches) == (3, 3 * FEE, 0)
        assert daemon.stop() == 0
    shown = json.loads(await asyncio.to_thread(cli, "ledger", "audit", "--database", daemon.database, "--json"))
    assert shown["faults"] == []
    rows = await asyncio.to_thread(cli, "ledger", "show", "bond:sib", "--database", daemon.database)
    assert "0.900003" in rows


def test_the_command_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "fleet_market", "oracle", "quote"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "name an order, or both --pickup and --dropoff" in done.stderr
