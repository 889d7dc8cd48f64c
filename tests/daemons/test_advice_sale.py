"""Advice beside bands, bought on the command line from an oracle daemon that knows a market, over a real Mosquitto."""

import asyncio
import contextlib
import json
import subprocess
import time

import pytest
from market_process import PATIENT, PROGRAM, Daemon, cli

from benchmarks._oracle_floor import Batch, Floor
from fleet_market.adapters.requests import Requester
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.ids import ContractId, CustomerId, OrderId, PartyName
from fleet_market.oracle import Knowledge
from fleet_market.protocol.messages import Fix, TelemetryRecord
from fleet_market.protocol.telemetry import GENESIS

FEE = 100_001
BATCHES, BATCH_S = 300, 2


def knowing():
    """What an oracle knows of a market that has traded up to now."""
    floor, knowledge = Floor(1011, robots=12, load=0.8), Knowledge()
    floor.now_s = time.time() - BATCHES * BATCH_S
    for robot in floor.robots:
        knowledge.hear(floor.state(robot), floor.now_ns)
    for _ in range(BATCHES):
        for task in floor.arrivals():
            knowledge.hear(floor.post(task), floor.now_ns)
        for batch in floor.close():
            knowledge.hear(batch.heard if isinstance(batch, Batch) else batch, floor.now_ns)
        for robot in floor.robots:
            knowledge.hear(floor.state(robot), floor.now_ns)
    return knowledge


def record():
    fix = Fix(x=0.0, y=0.0, at_ns=0)
    return TelemetryRecord(
        robot="r1", chain=1, seq=0, previous=GENESIS, contract=ContractId("c0"), dwell_s=0.0, executed_s=20.0,
        legs=(), energy_j=None, fixes=(fix, fix),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def selling(oracle, ann):
    running = asyncio.create_task(oracle.run())
    try:
        async with asyncio.timeout(60):
            while True:
                if (await ann.status("oracles")).oracles:
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.real
async def test_every_kind_of_advice_is_bought_on_the_command_line_and_the_books_close(mqtt_broker, tmp_path):
    who = ["--as", "ann", "--mqtt", f"{mqtt_broker.host}:{mqtt_broker.port}", "--timeout", "90"]
    task = ["--pickup", "dock", "--dropoff", "shelf", "--payload", "1"]

    async def run(*arguments, code=0):
        return await asyncio.to_thread(cli, *arguments, *who, code=code)

    async def buy(advice, *arguments, code=0):
        return await run("oracle", "quote", "--oracle", "sib", "--advice", advice, *arguments, code=code)

    with Daemon(tmp_path, mqtt_broker, terms=PATIENT) as daemon:
        await asyncio.to_thread(daemon.wait_ready)
        oracle = Oracle(OracleConfig(mqtt_broker.host, mqtt_broker.port, name=PartyName("sib"), fee_uc=FEE), knowing())
        oracle._keep(record(), "mkt/1/from/r1/main/telemetry")
        async with (
            Requester(mqtt_broker.host, mqtt_broker.port, CustomerId("ann"), timeout_s=60) as ann,
            selling(oracle, ann),
        ):
            told = await buy("budget", *task, "--by", "500", "--probability", "0.6", "--id", "b1")
            assert "offer at most" in told
            assert "both with 60%" in told
            assert "fee 0.200002" in told
            again = json.loads(await run("oracle", "explain", "b1", "--json"))
            assert (again["what"], again["fee_uc"], again["advice"]["probability"]) == ("budget", 2 * FEE, 0.6)
            assert "b1 is sound: 1 records of sib" in await run("oracle", "verify", "b1")
            assert "no budget is enough" in await buy("budget", *task, "--by", "0.5", "--probability", "0.6")
            times = json.loads(await buy("best-time", *task, "--later", "800", "--json"))["advice"]["times"]
            assert [round((at - times[0][0]) / 10**9) for at, _ in times][0::4] == [0, 400, 800]
            assert "post it " in await buy("best_time", *task, "--later", "800")
            assert "do it: expected gain 0 credits" in await buy("make-or-buy", *task, "--cost", "0")
            told = await buy("make-or-buy", *task, "--cost", "90", "--later", "60")
            assert "it costs you 90, others take" in told
            assert "do it" not in told
            assert "90 credits are above: " in await buy("judge", *task, "--price", "90")
            assert "lots per robot" in await buy("congestion", "--later", "60")

            told = await run("order", "post", "o1", *task, "--max-price", "80", "--consult", "sib", "--by", "500",
                             "--probability", "0.6")  # fmt: skip
            (view,) = (await ann.status("orders", OrderId("o1"))).orders
            assert view.max_price_uc < 80 * 10**6
            assert f"offering at most {view.max_price_uc / 10**6:.6f}".rstrip("0") in told
            assert "credits have it done in 500 s with 60%" in told
            told = await run("order", "post", "o2", *task, "--max-price", "0.000001", "--consult", "sib", "--by", "500",
                             code=3)  # fmt: skip
            assert "not posted" in told
            assert not (await ann.status("orders", OrderId("o2"))).orders

            before = (await ann.status("oracles")).oracles
            told = await buy("judge", *task, code=3)
            assert "refused: price was 'None': name the price that is to be judged" in told
            told = await buy("budget", *task, "--probability", "0.6", "--max-fee", "0.2", code=3)
            assert "it charges 0.200002 credits" in told
            assert "leave it out: congestion takes none" in await buy("congestion", *task, code=3)
            assert (await ann.status("oracles")).oracles == before, "nothing was sold"
            assert "0.300003" in await run("oracle", "score")
        assert daemon.stop() == 0
    shown = json.loads(await asyncio.to_thread(cli, "ledger", "audit", "--database", daemon.database, "--json"))
    assert shown["faults"] == []


@pytest.mark.parametrize(
    ("command", "mend"),
    [
        (["oracle", "quote", "--advice", "budget"], "say with which probability"),
        (["order", "post", "o1", "--max-price", "3", "--by", "5"], "--consult ORACLE"),
    ],
)
def test_bad_options_are_refused_before_anyone_is_asked(command, mend):
    command = [*PROGRAM, *command, "--pickup", "a", "--dropoff", "b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert mend in done.stderr.replace("\n", " ")
