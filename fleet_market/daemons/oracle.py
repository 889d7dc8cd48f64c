"""The oracle daemon: hears what everyone may hear, publishes a fair band for every lot that was sold, and sells quotes.

Several oracles can serve one zone, each under its own name, with an account and fees of its own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from pydantic import ValidationError

from fleet_market.adapters.evidence_file import EvidenceFile
from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.daemons.oracle_advice import advise, congestion_of
from fleet_market.daemons.oracle_ears import Ears, Pages, answer_of, published, question_of
from fleet_market.daemons.oracle_proof import Proofs
from fleet_market.errors import BrokerError, InputError, ProtocolError
from fleet_market.ids import Identifier, MessageId, PartyName, ZoneId, derive
from fleet_market.oracle import FairBand, Knowledge
from fleet_market.oracle.knowledge import Hearing
from fleet_market.oracle.plausibility import Distance, straight
from fleet_market.oracle.sale import Fees
from fleet_market.oracle.terms import CalibrationDrift, FairQuote, Observation, Question
from fleet_market.ports import Transport
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    AdviceFees,
    Advised,
    AnyBody,
    Band,
    Cleared,
    FairAnswer,
    FairQuestion,
    LeafOpening,
    OpenDemand,
    OracleTerms,
    OrderEvent,
    Receipt,
    StatusReply,
    StatusRequest,
    TelemetryRecord,
)
from fleet_market.protocol.registry import Role
from fleet_market.units import NS_PER_S

log = logging.getLogger(__name__)

NAME = PartyName("oracle")
FEE_UC = 100_000
"""Usual fee of a quote, 0.1 credits [assumption]."""
SAY_AGAIN_S = 2.0
"""Terms are said again so often until the market has taken note of them."""
LOOK_S, LOOK_NS = 5, 5 * NS_PER_S
"""How often the oracle asks where the robots are: of the wall clock or of market time, whichever passes sooner, for a
simulation may hurry; at most every second [assumption: about as often as batches]."""
LEAVE_TIMEOUT_S = 2.0
MAX_HEARD = 5_000
"""Observations and pages of batches that wait for their turn; beyond, they are passed over [assumption: with the longest
pages 330 MB]."""

Heard: TypeAlias = tuple[Observation | bytes, int]
"""A fact, or a page of a closed batch as it came, and when it was heard."""


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Where an oracle listens, under which name it sells, and for how much."""

    host: str
    port: int
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    keys: Path | None = None
    name: PartyName = NAME
    fee_uc: int = FEE_UC
    map: Path | None = None
    """Map of the zone; None: robots' ways are judged by straight lines."""
    clearance_m: float | None = None
    """How far robots keep from walls; None: as the smallest type that comes with the package."""
    chargers: int = 0
    """How many the zone has; 0: not known, and their load is not told."""
    evidence: Path | None = None
    """File in which the evidence is kept; None: what was sold before a crash cannot be opened after it."""


class Seer(Protocol):
    """What knows prices; `fleet_market.oracle.knowledge.Knowledge` does. Of any other only bands are sold."""

    def begin(self, observation: Observation, now_ns: int) -> Hearing | None:
        """Begin to take note of a fact; return the work that is left of it."""

    def take(self, hearing: Hearing) -> None:
        """Let work that has been done count."""

    def drop(self) -> None:
        """Give up what has been begun."""

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
        fees = Fees.of(config.fee_uc)
        self._fees = fees if isinstance(seer, Knowledge) else Fees(fees.now_uc, fees.later_uc, fees.thin_uc)
        self._pages, self._ears = Pages(), Ears(config.zone, config.chargers)
        self._heard: asyncio.Queue[Heard] = asyncio.Queue(MAX_HEARD)
        self._behind = False
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
                await self.serve(transport)
            finally:
                with contextlib.suppress(BrokerError, TimeoutError):
                    async with asyncio.timeout(LEAVE_TIMEOUT_S):
                        await self._say(transport, "terms", self._terms("closed"))

    async def serve(self, transport: Transport) -> None:
        """Hear and answer over a connection until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._enter(transport), name="terms")
            tasks.create_task(self._look(transport), name="robots")
            tasks.create_task(self._listen(transport), name="inputs")
            tasks.create_task(self._learn(transport), name="learning")

    async def _greet(self) -> None:
        """After every connection the market is told anew what a quote costs."""
        self._entered.clear()

    async def _enter(self, transport: Transport) -> None:
        """Say what a quote costs until the market has taken note of it."""
        while True:
            if not self._entered.is_set():
                with contextlib.suppress(BrokerError):
                    await self._say(transport, "terms", self._terms("open"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAY_AGAIN_S):
                    await self._entered.wait()
                    await asyncio.sleep(SAY_AGAIN_S)

    async def _look(self, transport: Transport) -> None:
        """Ask the market now and then where the robots are."""
        while True:
            looked_ns = self._now_ns
            with contextlib.suppress(BrokerError):
                await self._say(transport, "status", StatusRequest(what="robots"))
            for _ in range(LOOK_S):
                await asyncio.sleep(1.0)
                if self._now_ns - looked_ns >= LOOK_NS:
                    break

    async def _see(self, transport: Transport, page: StatusReply) -> None:
        for view in page.robots:
            self._proofs.know(view.robot, view.robot_type)
            self._note(self._ears.robot(view, self._now_ns))
        self._note(self._ears.chargers(page, self._now_ns))
        if page.more and page.robots:
            with contextlib.suppress(BrokerError):
                await self._say(transport, "status", StatusRequest(what="robots", after_id=page.robots[-1].robot))

    def _terms(self, status: Literal["open", "closed"]) -> OracleTerms:
        fees = self._fees
        others = {field: getattr(fees, field) for field in AdviceFees.model_fields}
        return OracleTerms(status=status, now_uc=fees.now_uc, later_uc=fees.later_uc, thin_uc=fees.thin_uc, **others)

    async def _listen(self, transport: Transport) -> None:
        """Answer questions at once, and put what is to be learned in a queue."""
        async for delivery in transport.deliveries():
            if topics.parse(delivery.topic).kind == "cleared":
                self._note([delivery.payload])  # to be decoded beside the answers
            elif (message := _decoded(delivery.payload)) is None:
                pass
            elif isinstance(message.body, TelemetryRecord):
                self._note(self._keep(message.body, delivery.topic))
            else:
                self._now_ns = max(self._now_ns, message.ts)
                await self._hear(transport, message.body)
            delivery.ack()

    def _own_proofs(self) -> Proofs:
        config, types = self.config, shipped_types()
        distance: Distance = straight
        if config.map is not None:
            from fleet_market.daemons.oracle_roads import Roads  # noqa: PLC0415 - slow to load

            smallest_m = min(kind.footprint_radius_m for kind in types.values())
            distance = Roads.of(config.map, smallest_m if config.clearance_m is None else config.clearance_m)
        file = None if config.evidence is None else EvidenceFile(config.evidence, config.zone, config.name)
        if config.keys is None:
            return Proofs(types, file=file, distance=distance)
        from fleet_market.adapters.keyring import Verifier  # noqa: PLC0415 - see guard_for

        return Proofs(types, self.guard.gate.directory, Verifier(), file, distance)

    def _keep(self, record: TelemetryRecord, topic: str) -> list[Observation]:
        """Take a robot's own record, return what follows from it; market time is the market's alone to tell."""
        if topics.parse(topic).name != record.robot:
            log.warning("passed over: a record of %s came on %s", record.robot, topic)
            return []
        self._proofs.log.directory = self.guard.gate.directory
        return [
            CalibrationDrift(finding.robot, self.config.zone, self._now_ns, 1 + finding.excess)
            for finding in self._proofs.hear(record, self._now_ns, self.guard.unix_s())
            if finding.excess > -1
        ]

    async def _hear(self, transport: Transport, body: AnyBody) -> None:
        match body:
            case OrderEvent():
                self._note(self._ears.order(body.view, self._now_ns))
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

    def _note(self, heard: Iterable[Observation | bytes]) -> None:
        for one in heard:
            if self._heard.full():
                if not self._behind:
                    log.warning("passed over until fewer wait: %d observations wait already", MAX_HEARD)
                self._behind = True
                return
            self._heard.put_nowait((one, self._now_ns))

    async def _learn(self, transport: Transport) -> None:
        """Learn what was heard, one after the other; what takes long is done in a thread, beside the answers."""
        at_ns = 0
        while True:
            self._behind = self._behind and not self._heard.empty()
            heard, now_ns = await self._heard.get()
            at_ns = max(at_ns, now_ns)
            if not isinstance(heard, bytes):
                await self._take(heard, at_ns)
            elif (page := await asyncio.to_thread(_decoded, heard)) is not None and isinstance(page.body, Cleared):
                at_ns = max(at_ns, page.ts)
                self._now_ns = max(self._now_ns, page.ts)
                await self._turn(transport, page.body, at_ns)
            self._heard.task_done()
            await asyncio.sleep(0)  # let a question come in between

    async def _turn(self, transport: Transport, page: Cleared, now_ns: int) -> None:
        """Take a page of a closed batch; with the last one learn from the batch, and publish its bands."""
        if (records := self._pages.add(page)) is None:
            return
        for batch in await asyncio.to_thread(self._ears.batch, page.call, records):
            bands = await self._take(batch, now_ns)
            await _publish(transport, self.config, published(batch, bands), now_ns)

    async def _take(self, observation: Observation, now_ns: int) -> Sequence[FairBand]:
        """Take one observation in; return the bands of a closed batch."""
        try:
            hearing = self._seer.begin(observation, now_ns)
        except InputError as error:
            log.warning("passed over: %s", error)
            return ()
        if hearing is None:
            return ()
        try:
            await asyncio.to_thread(hearing.run)
        except BaseException:
            self._seer.drop()
            raise
        self._seer.take(hearing)
        return hearing.bands

    def answer(self, asked: FairQuestion) -> FairAnswer:
        """Return what the oracle says to a question; it knows of the buyer nothing that it could be swayed by."""
        try:
            advice, quote = self._think(asked)
            if quote is not None:
                suspects = self._proofs.suspects
                used = {robot: records for robot, records in (quote.used or {}).items() if robot not in suspects}
                quote = replace(quote, used=used)
            return answer_of(asked, quote, self._proofs.summary(self._now_ns), advice)
        except InputError as error:
            log.info("cannot tell: %s", error)
        except ValidationError as error:  # a number that no message can carry must not end the daemon
            log.warning("cannot tell: %s", str(error).splitlines()[0])
        return answer_of(asked, None)

    def _think(self, asked: FairQuestion) -> tuple[Advised | None, FairQuote | None]:
        """Return what is asked for; raises `InputError` if it is not known, `ValidationError` if it cannot be said."""
        seer, zone, now_ns = self._seer, self.config.zone, self._now_ns
        if asked.what == "band":
            return None, seer.band(question_of(asked, zone), now_ns, asked.at_ns if asked.later else None, asked.confidence)
        if not isinstance(seer, Knowledge):
            raise InputError("question", "what", asked.what, "ask for a band: nothing else is sold here")
        if asked.what == "congestion":
            return congestion_of(seer, asked, zone, now_ns), None
        return advise(seer, asked, question_of(asked, zone), now_ns)

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

    async def _say(self, transport: Transport, kind: str, body: AnyBody) -> None:
        self._said += 1
        name = MessageId(derive(self.config.name, self._session, self._said))
        message = Envelope(id=name, ts=self._now_ns, src=Identifier(self.config.name), body=body)
        await transport.publish(topics.from_customer(self.config.name, kind, self.config.zone), encode(message))


async def run_oracle(config: OracleConfig) -> None:
    """Serve until cancelled."""
    await Oracle(config, Knowledge()).run()


def _decoded(payload: bytes) -> Envelope | None:
    try:
        return decode(payload, limit=MAX_OUTBOUND_BYTES)
    except ProtocolError as error:
        log.warning("passed over: %s", error)
        return None


async def _publish(transport: Transport, config: OracleConfig, bands: Iterable[Band], now_ns: int) -> None:
    for band in bands:
        name = MessageId(derive("band", config.name, band.call, band.order))
        message = Envelope(id=name, ts=now_ns, src=Identifier(config.name), body=band)
        try:
            await transport.publish(topics.view(config.zone, "band"), encode(message))
        except BrokerError as error:
            log.info("not sent, %s", error)
