"""What buyers ask oracles: a request becomes a question in numbers, or a list of what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.errors import PlaceError
from fleet_market.ids import QuoteId
from fleet_market.market.lookups import PlaceBook
from fleet_market.market.state import State
from fleet_market.protocol.messages import (
    TAKES,
    CongestionAdvice,
    FairAnswer,
    FairQuestion,
    FairRequest,
    FieldError,
    OrderState,
    Place,
    What,
)
from fleet_market.units import ns

ON_SALE = (OrderState.SCHEDULED, OrderState.OPEN)
_NAMES = {
    "later_s": "later",
    "price_uc": "price",
    "cost_uc": "cost",
    "deadline_s": "deadline",
    "payload_kg": "payload",
}
"""Fields as those who ask know them."""
_NEEDS: dict[What, tuple[str, str]] = {
    "budget": ("probability", "say with which probability, between 0 and 1"),
    "best_time": ("later_s", "say until how many seconds from now, more than 0"),
    "make_or_buy": ("cost_uc", "say what doing it costs you"),
    "judge": ("price_uc", "name the price that is to be judged, or an order that is settled"),
}


@dataclass(frozen=True, slots=True)
class Enquiry:
    """What is asked about; on the zone there are no places, and on a settled order its price is known."""

    pickup: Place | None
    dropoff: Place | None
    payload_kg: float
    deadline_ns: int
    on_sale: bool = False
    """Whether it is an order that nobody has won yet."""
    price_uc: int | None = None


def enquiry(state: State, places: PlaceBook, body: FairRequest, now_ns: int, errors: list[FieldError]) -> Enquiry | None:
    """Return what a request is about; None if it cannot be told, with what is wrong added to `errors`."""
    strange = sorted(name for name in frozenset().union(*TAKES.values()) - TAKES[body.what] if _given(body, name))
    errors += [_wrong(body, name, f"leave it out: {body.what} takes none") for name in strange]
    if errors:
        return None
    if body.what == "congestion":
        return Enquiry(None, None, 0.0, now_ns + ns(body.later_s))
    found = _of_order(state, body, errors) if body.order is not None else _of_places(places, body, now_ns, errors)
    needed, mend = _NEEDS.get(body.what, ("", ""))
    if found is None or not needed or _given(body, needed) or (needed == "price_uc" and found.price_uc is not None):
        return found
    errors.append(_wrong(body, needed, mend))
    return None


def question(name: QuoteId, found: Enquiry, body: FairRequest, now_ns: int, answer_by_ns: int) -> FairQuestion:
    """Return what the oracle is asked, under a name that the market has drawn."""
    pickup, dropoff = found.pickup, found.dropoff
    return FairQuestion(
        quote=name,
        what=body.what,
        pickup=None if pickup is None else (pickup.x, pickup.y),
        dropoff=None if dropoff is None else (dropoff.x, dropoff.y),
        payload_kg=found.payload_kg,
        deadline_ns=found.deadline_ns,
        at_ns=now_ns + ns(body.later_s),
        later=body.later_s > 0,
        confidence=body.confidence,
        preview=body.preview,
        probability=body.probability,
        price_uc=found.price_uc,
        cost_uc=body.cost_uc,
        answer_by_ns=answer_by_ns,
    )


def is_answer(what: What, answer: FairAnswer) -> bool:
    """Return whether an answer is one to what was asked, or says that the oracle cannot tell."""
    band, advice = answer.band, answer.advice
    if band is None and advice is None:
        return True
    if what == "band":
        return band is not None and advice is None
    return advice is not None and advice.what == what and (band is not None or what == "congestion")


def is_thin(answer: FairAnswer) -> bool:
    """Return whether an answer says of itself that it rests on too little."""
    if answer.band is not None:
        return answer.band.thin
    return isinstance(answer.advice, CongestionAdvice) and answer.advice.thin


def _of_order(state: State, body: FairRequest, errors: list[FieldError]) -> Enquiry | None:
    order = None if body.order is None else state.orders.get(body.order)
    if order is None:
        errors.append(_wrong(body, "order", "unknown"))
        return None
    paid_uc = order.price_uc if order.state is OrderState.SETTLED and body.what == "judge" else None
    if order.state.final and paid_uc is None:
        errors.append(_wrong(body, "order", f"it is over: {order.state}"))
        return None
    price_uc = paid_uc if body.price_uc is None else body.price_uc
    return Enquiry(order.pickup, order.dropoff, order.payload_kg, order.deadline_ns, order.state in ON_SALE, price_uc)


def _of_places(places: PlaceBook, body: FairRequest, now_ns: int, errors: list[FieldError]) -> Enquiry | None:
    pickup, dropoff = (_place(places, body, field, errors) for field in ("pickup", "dropoff"))
    if pickup is None or dropoff is None:
        return None
    deadline_ns = now_ns + ns(body.later_s + body.deadline_s)
    return Enquiry(pickup, dropoff, body.payload_kg, deadline_ns, price_uc=body.price_uc)


def _place(places: PlaceBook, body: FairRequest, field: str, errors: list[FieldError]) -> Place | None:
    text: str | None = getattr(body, field)
    if text is None:
        errors.append(_wrong(body, field, "name an order, or both places of a task"))
        return None
    try:
        return places.resolve(text, source="quote", field=field)
    except PlaceError as error:
        errors.append(_wrong(body, field, error.mend))
        return None


def _given(body: FairRequest, name: str) -> bool:
    return bool(getattr(body, name) != FairRequest.model_fields[name].default)


def _wrong(body: FairRequest, name: str, mend: str) -> FieldError:
    return FieldError(field=_NAMES.get(name, name), value=str(getattr(body, name))[:160], mend=mend[:300])
