"""How each program of this package runs, and ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from fleet_market.daemons.serving import run_until_signal
from fleet_market.errors import FleetMarketError

log = logging.getLogger("node")


def run_node(service: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run what a service does until SIGINT or SIGTERM; what a user can mend is one line, and exit code 2."""
    error: BaseException | None = None
    try:
        run_until_signal(service())
    except* FleetMarketError as group:
        error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        log.error("%s", error)
        sys.exit(2)
