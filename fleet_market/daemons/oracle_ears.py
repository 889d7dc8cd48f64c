"""Between the wire and what an oracle knows: public messages become observations, and its quotes become answers."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from fleet_market.auction import SealedAsk
from fleet_market.errors import InputError
from fleet_market.ids import CallId, Identifier, OrderId, RobotId, ZoneId
from fleet_market.oracle import FairBand, Privacy
from fleet_market.oracle.sale import coarse
from fleet_market.oracle.terms import (
    ClosedBatch,
    ClosedLot,
    FairQuote,
    Observation,
    OrderGone,
    OrderSeen,
    Question,
    Resource,
    ResourceLoad,
    RobotState,
    Settlement,
)
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES
from fleet_market.protocol.messages import (
    MAX_REASONS,
    MAX_USED,
    Advised,
    Band,
    Cleared,
    FairAnswer,
    FairQuestion,
    LotRecord,
    OrderState,
    OrderView,
    RobotView,
    StatusReply,
    WireBand,
    printable,
)
from fleet_market.units import seconds

MAX_PARTIAL = 100
"""Batches of which some pages are still missing; the oldest are given up."""
MAX_ORDERS = 20_000
"""Orders that are remembered, so as not to be told twice."""
CHARGERS, CHARGING = Identifier("chargers"), "charging"
"""All chargers of a zone, and what a robot is `doing` that takes one of them."""
MAX_ANSWER_BYTES = MAX_INBOUND_BYTES - 400
"""Of a body; the rest is left for its envelope."""


class Pages:
    """Puts the pages of cleared batches together."""

    def __init__(self) -> None:
        self._pages: defaultdict[CallId, dict[int, Cleared]] = defaultdict(dict)

    def add(self, page: Cleared) -> list[LotRecord] | None:
        """Return all records of the batch if this was the last page that was missing."""
        pages = self._pages[page.call]
        pages[page.page] = page
        if len(pages) == page.pages:
            del self._pages[page.call]
            return [record for number in sorted(pages) for record in pages[number].lots]
        while len(self._pages) > MAX_PARTIAL:
            self._pages.pop(next(iter(self._pages)))
        return None


def published(batch: ClosedBatch, bands: Iterable[FairBand]) -> Iterator[Band]:
    """Yield the bands of a closed batch as they are published, each with the price that was paid.

    The clearing records hold the asks of the round that sold a lot, or of the last one. Where a batch had several rounds,
    what else was on sale in an earlier one is not known, and its bands are an approximation.
    """
    price_of = {lot.order: lot.price_uc for lot in batch.lots}
    for band in bands:
        price_uc = price_of[band.order]
        yield Band(
            call=batch.call,
            order=band.order,
            low_uc=band.low_uc,
            high_uc=band.high_uc,
            second_best_ask_uc=band.second_best_ask_uc,
            optimum_uc=band.optimum_uc,
            price_uc=price_uc,
            inside=None if price_uc is None else band.low_uc <= price_uc <= band.high_uc,
        )


class Ears:
    """Turns what everyone may hear into observations, each of them once.

    An order's budget is left out of what is heard when it is posted: it is told when its batch has closed.

    Parameters
    ----------
    zone : ZoneId
    chargers : int, optional
        How many the zone has; 0: not known.
    """

    def __init__(self, zone: ZoneId, chargers: int = 0) -> None:
        self._zone, self._chargers = zone, chargers
        self._looked: dict[RobotId, bool] = {}
        """Robots on the pages of the present look, and whether each charges."""
        self._orders: OrderedDict[OrderId, OrderState] = OrderedDict()

    def batch(self, call: CallId, records: Sequence[LotRecord]) -> list[ClosedBatch]:
        """Return the rounds of a closed batch: each is a market of its own."""
        found: list[ClosedBatch] = []
        for number in sorted({record.round for record in records}):
            lots = [record for record in records if record.round == number]
            asks = tuple(
                SealedAsk(ask.robot, ask.owner, record.order, ask.ask_uc, ask.handicap_uc)
                for record in lots
                for ask in record.asks
                if ask.ask_uc is not None
            )
            sold = tuple(ClosedLot(r.order, r.budget_uc, r.price_uc, r.winner) for r in lots)
            found.append(ClosedBatch(call, self._zone, max(r.closed_ns for r in lots), sold, asks, number))
        return found

    def order(self, view: OrderView, now_ns: int) -> list[Observation]:
        """Return what the new state of an order says."""
        before = self._orders.get(view.order)
        self._orders[view.order] = view.state
        self._orders.move_to_end(view.order)
        while len(self._orders) > MAX_ORDERS:
            self._orders.popitem(last=False)
        comes_on_sale = before is None or (view.state is OrderState.OPEN and before is not OrderState.OPEN)
        found: list[Observation] = [OrderSeen(view.order, self._task(view), now_ns)] if comes_on_sale else []
        if before == view.state:
            return found
        if view.state is OrderState.SETTLED and view.robot is not None and view.price_uc is not None:
            at_ns, awarded_ns = view.settled_ns or now_ns, view.awarded_ns or now_ns
            energy_j = view.measured_energy_j
            return [*found, Settlement(view.order, self._zone, view.robot, view.price_uc, at_ns, awarded_ns, energy_j)]
        return [*found, OrderGone(view.order, now_ns)] if view.state.final else found

    def robot(self, view: RobotView, now_ns: int) -> list[Observation]:
        """Return what the market says of a robot: where it will be when its queue is done, and how long that is."""
        at = view.ends_at or view.pose
        if not view.online or at is None or view.max_payload_kg is None:
            return []
        return [
            RobotState(view.robot, self._zone, now_ns, (at.x, at.y), view.max_payload_kg, len(view.contracts), view.soc)
        ]

    def chargers(self, page: StatusReply, now_ns: int) -> list[Observation]:
        """Return how busy the chargers are, with the last page of what the market says of the robots.

        A robot that charges, or is on its way to do so, takes one. Nothing is said of fewer robots than the threshold for
        what is private, and nothing where it is not known how many chargers there are.
        """
        if page.robots and self._looked and page.robots[0].robot <= max(self._looked):
            self._looked.clear()  # the end of the last look has not come
        self._looked |= {view.robot: view.doing == CHARGING for view in page.robots if view.online}
        if page.more:
            return []
        looked, self._looked = self._looked, {}
        if not self._chargers or len(looked) < Privacy().least_robots:
            return []
        taken = sum(looked.values())
        busy, waiting = min(1.0, taken / self._chargers), max(0, taken - self._chargers)
        return [ResourceLoad(CHARGERS, Resource.CHARGER, self._zone, now_ns, busy, waiting)]

    def _task(self, view: OrderView) -> Question:
        pickup, dropoff = view.pickup, view.dropoff
        within_s = max(0.0, seconds(view.deadline_ns - view.release_ns))
        return Question((pickup.x, pickup.y), (dropoff.x, dropoff.y), view.payload_kg, within_s, self._zone)


def question_of(asked: FairQuestion, zone: ZoneId) -> Question:
    """Return the task that was asked about, without what names it; raises `InputError` if it is about the zone."""
    if asked.pickup is None or asked.dropoff is None:
        raise InputError("question", "pickup", asked.pickup, "name both places of a task")
    within_s = max(0.0, seconds(asked.deadline_ns - asked.at_ns))
    return Question(asked.pickup, asked.dropoff, asked.payload_kg, within_s, zone)


def answer_of(
    asked: FairQuestion,
    quote: FairQuote | None,
    evidence: tuple[str, int, float] | None = None,
    advice: Advised | None = None,
) -> FairAnswer:
    """Return what is said to a question, short enough to be sent.

    Parameters
    ----------
    quote : FairQuote or None
        None: the oracle cannot tell, or the advice is not on a task.
    evidence : (root, records, age_s), optional
        Merkle root of the telemetry, hexadecimal, over how many records, and how old the newest is.
    advice : Advised, optional
        What follows from the band, if more than that was asked for.
    """
    if quote is None:
        return FairAnswer(quote=asked.quote, advice=advice)
    if asked.preview:
        low_uc, high_uc = coarse(quote.low_uc, quote.high_uc)
        return FairAnswer(
            quote=asked.quote, band=WireBand(low_uc=low_uc, high_uc=high_uc, confidence=quote.confidence, thin=quote.thin)
        )
    root, records, age_s = evidence or (None, 0, None)
    band = WireBand(
        low_uc=quote.low_uc,
        high_uc=quote.high_uc,
        confidence=quote.confidence,
        expected_uc=quote.expected_uc,
        shadow_low_uc=quote.shadow_low_uc,
        shadow_high_uc=quote.shadow_high_uc,
        second_best_uc=quote.second_best_uc,
        model_low_uc=quote.model_low_uc,
        model_high_uc=quote.model_high_uc,
        settled_low_uc=quote.settled_low_uc,
        settled_high_uc=quote.settled_high_uc,
        samples=quote.samples,
        age_s=quote.age_s,
        coverage=quote.coverage,
        thin=quote.thin,
        reasons=_texts(quote.reasons),
        unknown=_texts(quote.unknown),
        root=root,
        evidence_records=records,
        evidence_age_s=age_s,
    )
    return _fitted(FairAnswer(quote=asked.quote, band=band, advice=advice, used=_used(quote)))


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(printable(text) for text in list(texts)[:MAX_REASONS])


def _used(quote: FairQuote) -> tuple[tuple[RobotId, int], ...]:
    ranked = sorted((quote.used or {}).items(), key=lambda item: (-item[1], item[0]))
    return tuple((robot, min(records, 10**6)) for robot, records in ranked if records > 0)[:MAX_USED]


def _fitted(answer: FairAnswer) -> FairAnswer:
    """Return the answer as long as it may be: the robots with the least records are left out first, then words."""
    while len(answer.model_dump_json()) > MAX_ANSWER_BYTES and answer.used:
        answer = answer.model_copy(update={"used": answer.used[: len(answer.used) // 2]})
    while len(answer.model_dump_json()) > MAX_ANSWER_BYTES and (band := answer.band) is not None:
        less = {"reasons": band.reasons[:-1], "unknown": band.unknown[:-1]}
        answer = answer.model_copy(update={"band": band.model_copy(update=less)})
    return answer
