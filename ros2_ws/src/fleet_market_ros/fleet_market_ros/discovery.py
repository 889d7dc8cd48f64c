"""How ROS 2 nodes of one machine find each other and nobody else."""

from __future__ import annotations

import contextlib
import os
import socket
from importlib import resources
from pathlib import Path

from fleet_market.errors import FleetMarketError

PORT_BASE, DOMAIN_GAIN = 7400, 250
"""UDP ports of a DDS domain start at 7400 + 250 times its number (OMG DDSI-RTPS 2.5, section 9.6.2.3)."""
DOMAINS = range(1, 101)
"""Above 101 the ports reach into those that Linux hands out by itself."""
PROBED_PORTS = 40


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


def free_domain_id() -> int:
    """Return a ROS domain whose ports nobody on this machine uses now.

    Processes begin to look at different domains: two that look at the same time find different ones.

    Raises
    ------
    NoDomainError
        If there is none.
    """
    first = os.getpid()
    for k in range(len(DOMAINS)):
        domain = DOMAINS[(first + k) % len(DOMAINS)]
        if _is_free(PORT_BASE + DOMAIN_GAIN * domain):
            return domain
    raise NoDomainError(f"ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all in use: end other ROS processes")


def _is_free(first_port: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in range(first_port, first_port + PROBED_PORTS):
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
