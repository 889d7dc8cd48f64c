"""How bands did: all that were named for an order are judged when it is settled, and told to everyone."""

from __future__ import annotations

from fleet_market.contracts import Order
from fleet_market.ids import PartyName
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import State
from fleet_market.oracle.scoring import Band, judged, reference_price_uc
from fleet_market.protocol import topics
from fleet_market.protocol.messages import Scored


def score_quotes(state: State, order: Order, out: Outcome) -> None:
    """Tell everyone how the bands did that were named for an order before it was sold; it is settled now.

    Bands that were asked for at the same time, one of them paid, are compared with each other.
    """
    about = [c for c in state.consultations.values() if c.order == order.id and c.band is not None]
    sale = next((record for record in reversed(order.records) if record.winner is not None), None) if about else None
    if sale is None or order.price_uc is None:
        return
    owner = next((ask.owner for ask in sale.asks if ask.robot == sale.winner), "")
    reference_uc = reference_price_uc(((a.owner, a.ask_uc) for a in sale.asks if a.ask_uc is not None), owner)
    if reference_uc is None:
        return
    rounds: dict[str, dict[str, Band]] = {}
    for consultation in about:
        if consultation.band is not None:
            rounds.setdefault(consultation.sealed_with or consultation.name, {})[consultation.oracle] = consultation.band
            consultation.band = None
    for bands in rounds.values():
        standings = {name: state.oracles[PartyName(name)].standing for name in bands}
        for name, (score, standing) in judged(standings, bands, reference_uc, order.max_price_uc).items():
            low_uc, high_uc, confidence = bands[name]
            state.oracles[PartyName(name)].standing = standing
            said = Scored(
                oracle=PartyName(name),
                order=order.id,
                low_uc=low_uc,
                high_uc=high_uc,
                confidence=confidence,
                price_uc=order.price_uc,
                reference_uc=reference_uc,
                inside=low_uc <= reference_uc <= high_uc,
                score=score,
            )
            out.sends.append(Send(topics.view(state.zone, "scored"), said))
