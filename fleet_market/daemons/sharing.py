"""Which of the zones a daemon takes, and which it gives away: each looks at the others and evens out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleet_market.ids import ZoneId
from fleet_market.ports import Member


def may_claim(zone: ZoneId, held: int, others: Collection[Member]) -> bool:
    """Return whether a free zone is this daemon's to take, which runs `held` zones: nobody else runs fewer."""
    return all(other.held >= held for other in others if zone in other.zones)


def to_give_away(held: Sequence[ZoneId], others: Collection[Member]) -> ZoneId | None:
    """Return a zone that another daemon should rather run, None if it is even enough: the newest of those `held`.

    Only a difference of two or more is evened out, so that no zone goes back and forth.
    """
    return next((zone for zone in reversed(held) if any(zone in o.zones and o.held + 2 <= len(held) for o in others)), None)
