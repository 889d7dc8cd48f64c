"""An oracle that is killed between a sale and the opening of its evidence, on a real Mosquitto and a real market daemon."""

import asyncio
import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from market_process import PATIENT, Daemon, Peer, cli

from fleet_market.adapters.requests import Requester
from fleet_market.ids import ContractId, CustomerId
from fleet_market.protocol import topics
from fleet_market.protocol.messages import FairReply, FairRequest, Fix, OrderReply, PostOrder, TelemetryRecord
from fleet_market.protocol.telemetry import GENESIS, record_hash

CREDIT = 10**6
PROGRAM = Path(__file__).with_name("oracle_process.py")
RECORDS = 30


def records(now_ns):
    """A robot's chain of records, unsigned."""
    previous = GENESIS
    for seq in range(RECORDS):
        made = TelemetryRecord(
            robot="r1", chain=1, seq=seq, previous=previous, contract=ContractId(f"c{seq}"), dwell_s=0.0, executed_s=20.0,
            legs=(), energy_j=None, fixes=(Fix(x=0.0, y=0.0, at_ns=now_ns + seq), Fix(x=0.0, y=0.0, at_ns=now_ns + seq)),
        )  # fmt: skip
        previous = record_hash(made)
        yield made


class Selling:
    """The oracle in its process."""

    def __init__(self, mqtt, folder, *evidence):
        self.command = [sys.executable, str(PROGRAM), mqtt.host, str(mqtt.port), "sib", *map(str, evidence)]
        self.log = folder / "oracle.log"

    async def start(self):
        before = self.log.read_text().count("READY") if self.log.exists() else 0
        self.process = subprocess.Popen(self.command, stderr=self.log.open("a"))
        async with asyncio.timeout(60):
            while self.log.read_text().count("READY") == before:
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(60) == -signal.SIGKILL


@pytest.mark.real
@pytest.mark.parametrize("kept", [True, False])
async def test_what_was_sold_before_a_kill_is_opened_after_it_if_the_evidence_was_kept(mqtt_broker, tmp_path, kept):
    where = f"{mqtt_broker.host}:{mqtt_broker.port}"
    oracle = Selling(mqtt_broker, tmp_path, *([tmp_path / "evidence.db"] if kept else []))
    with Daemon(tmp_path / "market", mqtt_broker, terms=PATIENT) as daemon:
        await asyncio.to_thread(daemon.wait_ready)
        await oracle.start()
        try:
            robot = Peer(mqtt_broker, "r1", topics.to_robot("r1", "#"))
            async with (
                robot.transport,
                Requester(mqtt_broker.host, mqtt_broker.port, CustomerId("ann"), timeout_s=60) as ann,
            ):
                await robot.transport.connected.wait()
                order = PostOrder(
                    order="o1", pickup="dock", dropoff="shelf", payload_kg=1.0, deadline_s=900.0, max_price_uc=9 * CREDIT
                )
                assert (await ann.ask("order", order, OrderReply)).result == "accepted"
                for record in records((await ann.status("robots")).now_ns):
                    await robot.say(topics.from_robot("r1", "main", "telemetry"), record)
                async with asyncio.timeout(60):
                    for number in itertools.count():
                        fields = {"quote": f"q{number}", "oracle": "sib", "order": "o1", "max_fee_uc": CREDIT}
                        bought = await ann.ask("fair", FairRequest(**fields), FairReply)
                        if bought.band is not None and bought.band.evidence_records == RECORDS:
                            break
            oracle.kill()
            await oracle.start()
            said = await asyncio.to_thread(
                cli,
                "oracle",
                "verify",
                f"q{number}",
                "--as",
                "ann",
                "--mqtt",
                where,
                "--timeout",
                "90",
                code=0 if kept else 1,
            )
            assert (f"{RECORDS} records of sib are as its root says" in said) is kept
        finally:
            oracle.kill()
