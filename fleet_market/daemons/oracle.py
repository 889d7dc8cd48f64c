"""The oracle daemon: hears every closed batch, publishes a fair band for every lot that was sold."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.auction import LotOffer, SealedAsk
from fleet_market.errors import BrokerError, ProtocolError
from fleet_market.ids import CallId, Identifier, MessageId, ZoneId, derive
from fleet_market.oracle import fair_bands
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import Band, Cleared, LotRecord
from fleet_market.protocol.registry import Role

log = logging.getLogger(__name__)

NAME = Identifier("oracle")
MAX_PARTIAL = 100
"""Batches of which some pages are still missing; the oldest are given up."""


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Where the oracle listens."""

    host: str
    port: int
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    keys: Path | None = None


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


async def run_oracle(config: OracleConfig) -> None:
    """Serve until cancelled."""
    mqtt = MqttConfig(config.host, config.port, NAME)
    pages: defaultdict[CallId, dict[int, Cleared]] = defaultdict(dict)
    guard = guard_for(config.keys, Role.ORACLE, NAME, config.host)
    async with MqttTransport(mqtt, [(topics.view(config.zone, "cleared"), 1)], guard=guard) as transport:
        await transport.connected.wait()
        log.info("READY")
        async for delivery in transport.deliveries():
            try:
                body = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body
            except ProtocolError as error:
                log.warning("passed over: %s", error)
                delivery.ack()
                continue
            if isinstance(body, Cleared):
                pages[body.call][body.page] = body
                if len(pages[body.call]) == body.pages:
                    whole = pages.pop(body.call)
                    await _publish(
                        transport, config.zone, bands_of(body.call, [r for n in sorted(whole) for r in whole[n].lots])
                    )
                while len(pages) > MAX_PARTIAL:
                    pages.pop(next(iter(pages)))
            delivery.ack()


async def _publish(transport: MqttTransport, zone: ZoneId, bands: list[Band]) -> None:
    for band in bands:
        message = Envelope(id=MessageId(derive("band", band.call, band.order)), ts=0, src=NAME, body=band)
        try:
            await transport.publish(topics.view(zone, "band"), encode(message))
        except BrokerError as error:
            log.info("not sent, %s", error)
