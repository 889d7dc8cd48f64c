"""Mosquitto's access file: who may publish and read what. One section for each party that the register knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fleet_market.protocol import topics
from fleet_market.protocol.registry import (
    CUSTOMERS,
    NEWCOMERS,
    ORACLE_KINDS,
    SESSIONS,
    Entry,
    Register,
    Role,
    session_name,
    zone_of,
)

HEAD = """\
# Written by `fleet-market keys`: do not edit. The user name is the common name of the client's certificate.
# Whoever is not named here may do nothing.
"""


def access_file(register: Register, now_s: float) -> str:
    """Return the text of the file: a party without a valid key has no section, and so no rights."""
    parties = {(entry.role, entry.name): entry for entry in register.entries if entry.role.connects and entry.valid(now_s)}
    return HEAD + "".join(_sections(entry) for entry in parties.values())


def _sections(entry: Entry) -> str:
    text = _section(entry.name, _rights(entry))
    if entry.role is Role.MARKET:
        zone = zone_of(entry.name)
        text += "".join(_section(session_name(zone, n), [("read", t) for t in _hears(zone, n)]) for n in range(SESSIONS))
    return text


def _section(user: str, rights: Iterable[tuple[str, str]]) -> str:
    return f"\nuser {user}\n" + "".join(f"topic {access} {pattern}\n" for access, pattern in rights)


def _hears(zone: str, number: int) -> list[str]:
    """Return what a further session of a market may read."""
    own = {NEWCOMERS: [topics.state("+", "announce")], CUSTOMERS: [topics.from_customer("+", "#", zone)]}
    return own.get(number, [topics.from_robot("+", zone, "#"), topics.state("+", "#")])


def _rights(entry: Entry) -> Iterator[tuple[str, str]]:
    name, prefix = entry.name, topics.PREFIX
    match entry.role:
        case Role.ROBOT:
            yield "write", f"{prefix}/from/{name}/#"
            yield "write", topics.state(name, "#")
            yield "read", topics.to_robot(name, "#")
            yield "read", f"{prefix}/zone/#"
        case Role.CUSTOMER:
            yield "write", f"{prefix}/in/{name}/#"
            yield "read", topics.to_customer(name, "#")
            yield "read", topics.zone("+", "auctioneer")
            yield "read", f"{prefix}/view/#"
        case Role.ORACLE:
            yield "read", f"{prefix}/view/#"
            yield "write", topics.view("+", "band")
            yield from (("write", topics.from_customer(name, kind, "+")) for kind in ORACLE_KINDS)
            yield "read", topics.to_customer(name, "#")
            yield "read", topics.from_robot("+", "+", "telemetry")
        case Role.MARKET:
            zone = zone_of(name)
            yield "read", topics.CLOCK
            yield "write", topics.to_robot("+", "#")
            yield "write", topics.to_customer("+", "#")
            yield "write", topics.zone(zone, "#")
            yield "write", topics.view(zone, "#")
            yield "deny", topics.view(zone, "band")
        case Role.SIMULATOR:
            yield "write", topics.CLOCK
        case Role.OWNER:
            return
