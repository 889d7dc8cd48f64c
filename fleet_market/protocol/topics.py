"""MQTT topics: direction and identity first, so that an access rule is one prefix; the zone inside the up-topic.

::

    mkt/1/state/{robot}/presence|announce     retained; presence is also the last will
    mkt/1/zone/{zone}/auctioneer|call         from the market to every robot of the zone
    mkt/1/from/{robot}/{zone}/{kind}          from a robot: ask, accept, decline, progress, complete, abort, receipt,
                                              resale, prepared, offer, route, position, fair;
                                              telemetry (for the oracles, not for the market)
    mkt/1/to/{robot}/{kind}                   to one robot: call, award, cancel, settle, receipt, reauction, prepare,
                                              keep, route, release, reroute, fair
    mkt/1/in/{customer}/{zone}/{kind}         from a customer: order, quote, cancel, why, status, fair, open;
                                              from an oracle: terms, answer, opening, status
    mkt/1/out/{customer}/{kind}               the answer, same kind; to an oracle: question, open, receipt
    mkt/1/view/{zone}/{kind}                  for all to see: order, cleared, traded, band, scored, fleet; head (retained)
    mkt/1/clock                               simulation time, where a simulator is the clock
"""

from __future__ import annotations

from typing import NamedTuple

from fleet_market.errors import ProtocolError

MAJOR = 1
PREFIX = f"mkt/{MAJOR}"
CLOCK = f"{PREFIX}/clock"


class Address(NamedTuple):
    """The parts of a topic behind the prefix; `zone` is empty where the topic has none."""

    direction: str
    name: str
    zone: str
    kind: str


def state(robot: str, kind: str) -> str:
    """Return the retained topic of a robot's presence or announcement."""
    return f"{PREFIX}/state/{robot}/{kind}"


def zone(name: str, kind: str) -> str:
    """Return a topic from the market to the robots of a zone."""
    return f"{PREFIX}/zone/{name}/{kind}"


def from_robot(robot: str, zone_name: str, kind: str) -> str:
    """Return a robot's topic towards the auctioneer of a zone."""
    return f"{PREFIX}/from/{robot}/{zone_name}/{kind}"


def to_robot(robot: str, kind: str) -> str:
    """Return the market's topic towards one robot."""
    return f"{PREFIX}/to/{robot}/{kind}"


def from_customer(customer: str, kind: str, zone_name: str = "main") -> str:
    """Return a customer's topic towards the market of a zone."""
    return f"{PREFIX}/in/{customer}/{zone_name}/{kind}"


def to_customer(customer: str, kind: str) -> str:
    """Return the market's topic towards a customer."""
    return f"{PREFIX}/out/{customer}/{kind}"


def view(zone_name: str, kind: str) -> str:
    """Return a public topic of a zone."""
    return f"{PREFIX}/view/{zone_name}/{kind}"


def parse(topic: str) -> Address:
    """Return the parts of `topic`.

    Raises
    ------
    ProtocolError
        If the topic is not of this protocol and major version.
    """
    parts = topic.split("/")
    if parts[:2] == PREFIX.split("/"):
        match parts[2:]:
            case [("from" | "in") as direction, name, zone_name, kind]:
                return Address(direction, name, zone_name, kind)
            case [("zone" | "view") as direction, zone_name, kind]:
                return Address(direction, zone_name, zone_name, kind)
            case [("state" | "to" | "out") as direction, name, kind]:
                return Address(direction, name, "", kind)
            case ["clock"]:
                return Address("clock", "", "", "clock")
    raise ProtocolError("topic", f"{topic!r} is not a topic of {PREFIX}")
