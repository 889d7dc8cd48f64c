"""How ROS 2 nodes of one machine find each other and nobody else."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from fleet_market.errors import FleetMarketError

PORT_BASE, DOMAIN_GAIN = 7400, 250
"""UDP ports of a DDS domain start at 7400 + 250 times its number (OMG DDSI-RTPS 2.5, section 9.6.2.3)."""
DOMAINS = range(1, 101)
"""Above 101 the ports reach into those that Linux hands out by itself."""
PROBED_PORTS = 40
CLAIM_OFFSET = 2
"""The port of a domain that whoever claims it keeps: multicast has 0 and 1, the participants those from 10 on (there)."""


class NoDomainError(FleetMarketError):
    """Every ROS domain of this machine is in use."""


def loopback_environment(domain_id: int, log_folder: Path) -> dict[str, str]:
    """Return the environment variables of a node that talks over the loopback interface in this domain only."""
    profile = resources.files("fleet_market_ros").joinpath("loopback.xml")
    return {
        "FASTDDS_DEFAULT_PROFILES_FILE": str(profile),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_LOG_DIR": str(log_folder),
        "ROS_PYTHON_CHECK_FIELDS": "1",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
    }


@contextlib.contextmanager
def claimed_domain_id() -> Iterator[int]:
    """Give a ROS domain whose ports nobody on this machine uses now, and keep it until the end from all who look for one.

    Nodes take some time to come up: without the claim, somebody else may find their domain free until then. Processes
    begin to look at different domains: two that look at the same time find different ones.

    Raises
    ------
    NoDomainError
        If there is none.
    """
    first = os.getpid()
    with contextlib.ExitStack() as claim:
        for k in range(len(DOMAINS)):
            domain = DOMAINS[(first + k) % len(DOMAINS)]
            if _claim(domain, claim):
                break
        else:
            raise NoDomainError(f"ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all in use: end other ROS processes")
        yield domain


def _claim(domain: int, claim: contextlib.ExitStack) -> bool:
    """Keep the port of `domain` that says whose it is in `claim`, if all of its ports are free."""
    first_port = PORT_BASE + DOMAIN_GAIN * domain
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        held = stack.enter_context(_bound(first_port + CLAIM_OFFSET))
        with contextlib.ExitStack() as probed:
            for offset in set(range(PROBED_PORTS)) - {CLAIM_OFFSET}:
                probed.enter_context(_bound(first_port + offset))
        stack.pop_all()
        claim.enter_context(held)
        return True
    return False


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        raise
    return bound
