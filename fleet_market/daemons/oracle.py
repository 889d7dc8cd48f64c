"""The oracle daemon: hears what everyone may hear, publishes a fair band for every lot that was sold, and sells quotes.

Several oracles can serve one zone, each under its own name, with an account and fees of its own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ValidationError

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.auction import LotOffer, SealedAsk
from fleet_market.daemons.oracle_ears import Ears, Pages, answer_of, question_of
from fleet_market.daemons.oracle_proof import Proofs
from fleet_market.errors import BrokerError, InputError, ProtocolError
from fleet_market.ids import CallId, Identifier, MessageId, PartyName, ZoneId, derive
from fleet_market.oracle import Knowledge, fair_bands
from fleet_market.oracle.sale import Fees
from fleet_market.oracle.terms import CalibrationDrift, FairQuote, Observation, Question
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    AnyBody,
    Band,
    Cleared,
    FairAnswer,
    FairQuestion,
    LeafOpening,
    LotRecord,
    OpenDemand,
    OracleTerms,
    OrderEvent,
    Receipt,
    StatusReply,
    StatusRequest,
    TelemetryRecord,
)
from fleet_market.protocol.registry import Role

log = logging.getLogger(__name__)

NAME = PartyName("oracle")
FEE_UC = 100_000
"""Usual fee of a quote, 0.1 credits [assumption]."""
SAY_AGAIN_S = 2.0
"""Terms are said again so often until the market has taken note of them."""
LOOK_S = 5.0
"""How often the oracle asks where the robots are (wall time) [assumption: about as often as batches]."""
LEAVE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Where an oracle listens, under which name it sells, and for how much."""

    host: str
    port: int
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    keys: Path | None = None
    name: PartyName = NAME
    fee_uc: int = FEE_UC


def bands_of(call: CallId, records: list[LotRecord]) -> list[Band]:
    """Return the bands of one closed batch, from all that its clearing records tell: each round is a market of its own.

    The records hold the asks of the round that sold a lot, or of the last one. Where a batch had several rounds, what else
    was on sale in an earlier one is not known, and its bands are an approximation.
    """
    rounds = sorted({record.round for record in records})
    return [band for number in rounds for band in _bands_of_round(call, [r for r in records if r.round == number])]


def _bands_of_round(call: CallId, records: list[LotRecord]) -> list[Band]:
    offers = [LotOffer(record.order, record.budget_uc) for record in records]
    asks = [
        SealedAsk(ask.robot, ask.owner, record.order, ask.ask_uc, ask.handicap_uc)
        for record in records
        for ask in record.asks
        if ask.ask_uc is not None
    ]
    price_of = {record.order: record.price_uc for record in records}
    bands = []
    for band in fair_bands(offers, asks):
        price_uc = price_of[band.order]
        bands.append(
            Band(
                call=call,
                order=band.order,
                low_uc=band.low_uc,
                high_uc=band.high_uc,
                second_best_ask_uc=band.second_best_ask_uc,
                optimum_uc=band.optimum_uc,
                price_uc=price_uc,
                inside=None if price_uc is None else band.low_uc <= price_uc <= band.high_uc,
            )
        )
    return bands


class Seer(Protocol):
    """What knows prices; `fleet_market.oracle.knowledge.Knowledge` does."""

    def hear(self, observation: Observation, now_ns: int) -> None:
        """Take note of a fact."""

    def band(self, question: Question, now_ns: int, at_ns: int | None = None, confidence: float = 0.8) -> FairQuote:
        """Return the fair band of a task at `at_ns`."""


class Oracle:
    """One oracle between the MQTT broker and what it knows.

    Parameters
    ----------
    config : OracleConfig
    seer : Seer
    proofs : Proofs, optional
        Keeps the telemetry that it hears; by default without keys.
    """

    def __init__(
        self,
        config: OracleConfig,
        seer: Seer,
        proofs: Proofs | None = None,
    ) -> None:
        self.config = config
        self.guard = guard_for(config.keys, Role.ORACLE, config.name, config.host)
        self._proofs = self._own_proofs() if proofs is None else proofs
        self._seer = seer
        self._fees = Fees.of(config.fee_uc)
        self._pages, self._ears = Pages(), Ears(config.zone)
        self._now_ns = self._said = 0
        self._session = secrets.token_hex(6)
        self._entered = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled, and say then that nothing is sold any more."""
        config = self.config
        mqtt = MqttConfig(config.host, config.port, config.name)
        heard = [topics.view(config.zone, kind) for kind in ("cleared", "order")]
        heard += [topics.to_customer(config.name, kind) for kind in ("question", "receipt", "status", "open")]
        heard.append(topics.from_robot("+", config.zone, "telemetry"))
        async with MqttTransport(mqtt, [(t, 1) for t in heard], [self._greet], self.guard) as transport:
            await transport.connected.wait()
            log.info("READY")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._enter(transport), name="terms")
                    tasks.create_task(self._look(transport), name="robots")
                    tasks.create_task(self._listen(transport), name="inputs")
            finally:
                with contextlib.suppress(BrokerError, TimeoutError):
                    async with asyncio.timeout(LEAVE_TIMEOUT_S):
                        await self._say(transport, "terms", self._terms("closed"))

    async def _greet(self) -> None:
        """After every connection the market is told anew what a quote costs."""
        self._entered.clear()

    async def _enter(self, transport: MqttTransport) -> None:
        """Say what a quote costs until the market has taken note of it."""
        while True:
            if not self._entered.is_set():
                with contextlib.suppress(BrokerError):
                    await self._say(transport, "terms", self._terms("open"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAY_AGAIN_S):
                    await self._entered.wait()
                    await asyncio.sleep(SAY_AGAIN_S)

    async def _look(self, transport: MqttTransport) -> None:
        """Ask the market now and then where the robots are."""
        while True:
            with contextlib.suppress(BrokerError):
                await self._say(transport, "status", StatusRequest(what="robots"))
            await asyncio.sleep(LOOK_S)

    async def _see(self, transport: MqttTransport, page: StatusReply) -> None:
        for view in page.robots:
            self._proofs.know(view.robot, view.robot_type)
            for observation in self._ears.robot(view, self._now_ns):
                self._take(observation)
        if page.more and page.robots:
            with contextlib.suppress(BrokerError):
                await self._say(transport, "status", StatusRequest(what="robots", after_id=page.robots[-1].robot))

    def _terms(self, status: Literal["open", "closed"]) -> OracleTerms:
        fees = self._fees
        return OracleTerms(status=status, now_uc=fees.now_uc, later_uc=fees.later_uc, thin_uc=fees.thin_uc)

    async def _listen(self, transport: MqttTransport) -> None:
        async for delivery in transport.deliveries():
            try:
                message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            except ProtocolError as error:
                log.warning("passed over: %s", error)
                delivery.ack()
                continue
            if isinstance(message.body, TelemetryRecord):
                self._keep(message.body, delivery.topic)
            else:
                self._now_ns = max(self._now_ns, message.ts)
                await self._hear(transport, message.body)
            delivery.ack()

    def _own_proofs(self) -> Proofs:
        if self.config.keys is None:
            return Proofs(shipped_types())
        from fleet_market.adapters.keyring import Verifier  # noqa: PLC0415 - see guard_for

        return Proofs(shipped_types(), self.guard.gate.directory, Verifier())

    def _keep(self, record: TelemetryRecord, topic: str) -> None:
        """Take a robot's own record; market time is the market's alone to tell."""
        if topics.parse(topic).name != record.robot:
            log.warning("passed over: a record of %s came on %s", record.robot, topic)
            return
        self._proofs.log.directory = self.guard.gate.directory
        for finding in self._proofs.hear(record, self._now_ns, self.guard.unix_s()):
            if finding.excess > -1:
                self._take(CalibrationDrift(finding.robot, self.config.zone, self._now_ns, 1 + finding.excess))

    async def _hear(self, transport: MqttTransport, body: AnyBody) -> None:
        match body:
            case Cleared() if (records := self._pages.add(body)) is not None:
                for observation in self._ears.batch(body.call, records):
                    self._take(observation)
                await _publish(transport, self.config, bands_of(body.call, records))
            case OrderEvent():
                for observation in self._ears.order(body.view, self._now_ns):
                    self._take(observation)
            case FairQuestion():
                with contextlib.suppress(BrokerError):
                    await self._say(transport, "answer", self.answer(body))
            case OpenDemand():
                for opening in self.openings(body):
                    with contextlib.suppress(BrokerError):
                        await self._say(transport, "opening", opening)
            case StatusReply():
                await self._see(transport, body)
            case Receipt():
                if body.result == "ok":
                    self._entered.set()
                else:
                    log.info("the market says %s to %s", body.result, body.of)
            case _:
                pass

    def _take(self, observation: Observation) -> None:
        try:
            self._seer.hear(observation, self._now_ns)
        except InputError as error:
            log.warning("passed over: %s", error)

    def answer(self, asked: FairQuestion) -> FairAnswer:
        """Return what the oracle says to a question; it knows of the buyer nothing that it could be swayed by."""
        at_ns = asked.at_ns if asked.later else None
        try:
            quote = self._seer.band(question_of(asked, self.config.zone), self._now_ns, at_ns, asked.confidence)
        except InputError as error:
            log.info("cannot tell: %s", error)
            return answer_of(asked, None)
        suspects = self._proofs.suspects
        used = {robot: records for robot, records in (quote.used or {}).items() if robot not in suspects}
        try:
            return answer_of(asked, replace(quote, used=used), self._proofs.summary(self._now_ns))
        except ValidationError as error:  # a number that no message can carry must not end the daemon
            log.warning("cannot tell: %s", str(error).splitlines()[0])
            return answer_of(asked, None)

    def openings(self, demand: OpenDemand) -> Iterator[LeafOpening]:
        """Yield the leaves that a buyer has drawn."""
        for leaf in demand.leaves:
            try:
                found = self._proofs.log.open(leaf, demand.size)
            except InputError as error:
                log.warning("cannot open a leaf: %s", error)
                continue
            proof = base64.urlsafe_b64encode(b"".join(map(bytes.fromhex, found.proof))).rstrip(b"=").decode()
            yield LeafOpening(quote=demand.quote, index=leaf, size=demand.size, record=found.record, proof=proof)

    async def _say(self, transport: MqttTransport, kind: str, body: AnyBody) -> None:
        self._said += 1
        name = MessageId(derive(self.config.name, self._session, self._said))
        message = Envelope(id=name, ts=self._now_ns, src=Identifier(self.config.name), body=body)
        await transport.publish(topics.from_customer(self.config.name, kind, self.config.zone), encode(message))


async def run_oracle(config: OracleConfig) -> None:
    """Serve until cancelled."""
    await Oracle(config, Knowledge()).run()


async def _publish(transport: MqttTransport, config: OracleConfig, bands: list[Band]) -> None:
    for band in bands:
        name = MessageId(derive("band", config.name, band.call, band.order))
        message = Envelope(id=name, ts=0, src=Identifier(config.name), body=band)
        try:
            await transport.publish(topics.view(config.zone, "band"), encode(message))
        except BrokerError as error:
            log.info("not sent, %s", error)
