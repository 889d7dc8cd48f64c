"""Whether a market's MQTT broker can be reached at all, before anything depends on it."""

from __future__ import annotations

import asyncio

from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.errors import BrokerError

CONNECT_TIMEOUT_S = 5.0


async def check_broker(where: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` if something listens there.

    Raises
    ------
    InputError
        If it is no such text.
    BrokerError
        If nothing listens there.
    """
    host, port = parse_endpoint(where)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        mend = "start the market and its broker, or set the parameter mqtt"
        raise BrokerError(f"mqtt was {where!r}: no MQTT broker answers there ({error or 'no answer'}): {mend}") from None
    writer.close()
    return host, port
