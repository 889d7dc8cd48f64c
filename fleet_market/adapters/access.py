"""Mosquitto's access file: who may publish and read what. One section for each party that the register knows."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_market.protocol import topics
from fleet_market.protocol.registry import Entry, Register, Role

HEAD = """\
# Written by `fleet-market keys`: do not edit. The user name is the common name of the client's certificate.
# Whoever is not named here may do nothing.
"""


def access_file(register: Register, now_s: float) -> str:
    """Return the text of the file: a party without a valid key has no section, and so no rights."""
    parties = {(entry.role, entry.name): entry for entry in register.entries if entry.role.connects and entry.valid(now_s)}
    return HEAD + "".join(_section(entry) for entry in parties.values())


def _section(entry: Entry) -> str:
    return f"\nuser {entry.name}\n" + "".join(f"topic {access} {pattern}\n" for access, pattern in _rights(entry))


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
            yield "read", f"{prefix}/view/#"
        case Role.ORACLE:
            yield "read", f"{prefix}/view/#"
            yield "write", topics.view("+", "band")
        case Role.MARKET:
            zone = name.removeprefix("auc-")
            yield "read", topics.from_robot("+", zone, "#")
            yield "read", topics.state("+", "#")
            yield "read", topics.from_customer("+", "#", zone)
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
