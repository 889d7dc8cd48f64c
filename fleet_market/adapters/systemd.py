"""Tell the service manager how the process is, by the protocol of sd_notify(3): datagrams to the socket it has named."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
TAKEN_WITHIN_S = 1.0
"""The datagrams of a manager that does not read fill a queue of ten (net.unix.max_dgram_qlen); then sending waits."""


def notify(*states: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send `states`, e.g. `READY` and ``STATUS=text``; return whether there was a service manager that has taken it.

    A manager that reads nothing any more holds its service up for `TAKEN_WITHIN_S` and no longer.
    """
    name = environment.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return False
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(TAKEN_WITHIN_S)
            out.sendto("\n".join(states).encode(), address)
    except OSError as error:
        log.warning("the service manager could not be told %s: %s", states[0], error)
        return False
    return True


def watchdog_period_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return how often `ALIVE` is sent: half of what is allowed, as sd_watchdog_enabled(3) says; None if nobody waits."""
    allowed_us, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not allowed_us.isdigit() or int(allowed_us) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(allowed_us) / 2e6
