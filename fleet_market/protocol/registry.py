"""The register of keys: who is who, since when, until when. Pure: changes return a new register."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from fleet_market.errors import InputError, ProtocolError
from fleet_market.ids import DidKey, OwnerId, PartyName, RobotId
from fleet_market.protocol.did import decode_did
from fleet_market.protocol.messages import Body, Count
from fleet_market.protocol.topics import Address

MAX_ENTRIES = 50_000
UnixSeconds = Annotated[int, Field(ge=0, le=2**40)]


NEWCOMERS, CUSTOMERS, FIRST_ROBOT, ROBOT_SESSIONS = 0, 1, 2, 100
"""Further sessions of a market: one hears robots announce themselves, one hears the customers, the rest hear robots."""
SESSIONS = FIRST_ROBOT + ROBOT_SESSIONS


ORACLES_ONLY = ("terms", "answer", "opening")
"""What customers may not say to a market."""
ORACLE_KINDS = (*ORACLES_ONLY, "status")
"""What oracles may."""


class Role(StrEnum):
    """What a key is for."""

    ROBOT = "robot"
    CUSTOMER = "customer"
    OWNER = "owner"
    ORACLE = "oracle"
    MARKET = "market"
    SIMULATOR = "simulator"

    @property
    def connects(self) -> bool:
        """Whether it has a connection of its own to the MQTT broker, and so a certificate."""
        return self is not Role.OWNER


class Entry(Body):
    """One key."""

    role: Role
    name: PartyName
    key: DidKey
    owner: OwnerId | None = None
    """Of a robot: whom it earns for, and who alone it may announce."""
    from_s: UnixSeconds
    until_s: UnixSeconds | None = None
    revoked_s: UnixSeconds | None = None
    certificate: Annotated[str, Field(pattern="^[0-9a-f]{1,40}$")] | None = None
    """Serial number of the X.509 certificate issued with it, hexadecimal."""

    def valid(self, now_s: float) -> bool:
        """Return whether the key counts at this Unix time."""
        return self.revoked_s is None and self.from_s <= now_s and (self.until_s is None or now_s < self.until_s)


class Register(Body):
    """All keys; `serial` grows with every change, so that an old register cannot come back."""

    version: Literal[1] = 1
    serial: Count
    entries: Annotated[tuple[Entry, ...], Field(max_length=MAX_ENTRIES)] = ()

    def of(self, role: Role, name: str) -> list[Entry]:
        """Return the keys of one party, oldest first."""
        return [entry for entry in self.entries if entry.role is role and entry.name == name]


def enrol(register: Register, entry: Entry, now_s: int, *, source: str = "register") -> Register:
    """Return the register with one more key.

    Raises
    ------
    InputError
        If the key is known already, under whatever name, revoked or not; if the name is taken; or if it cannot be one.
    """
    _check_key(register, entry, source)
    for known in register.entries:
        if known.name != entry.name or not known.valid(now_s):
            continue
        if known.role is entry.role:
            raise InputError(source, "name", str(entry.name), f"there is such a {entry.role}: `rotate` or `revoke` its key")
        if known.role.connects and entry.role.connects:
            raise InputError(source, "name", str(entry.name), f"there is a {known.role} of this name: use another one")
    return _next(register, (*register.entries, entry))


def rotate(register: Register, entry: Entry, now_s: int, *, overlap_s: int, source: str = "register") -> Register:
    """Return the register in which `entry` takes over; the present key of that party is valid `overlap_s` longer.

    Raises
    ------
    InputError
        If the party has no valid key, or the new one is enrolled already.
    """
    _check_key(register, entry, source)
    old = [known for known in register.of(entry.role, entry.name) if known.valid(now_s)]
    if not old:
        raise InputError(source, "name", str(entry.name), f"there is no valid {entry.role} key of this name: `issue` one")
    end_s = now_s + overlap_s
    kept = tuple(
        known.model_copy(update={"until_s": min(end_s, known.until_s or end_s)}) if known in old else known
        for known in register.entries
    )
    return _next(register, (*kept, entry))


def revoke(register: Register, role: Role, name: str, now_s: int, *, source: str = "register") -> Register:
    """Return the register in which no key of the party counts any more, whenever it was signed with.

    Raises
    ------
    InputError
        If the party has no key that could be revoked.
    """
    if not any(known.revoked_s is None for known in register.of(role, name)):
        raise InputError(source, "name", name, f"there is no {role} key of this name: see `fleet-market keys show`")
    return _next(
        register,
        tuple(
            known.model_copy(update={"revoked_s": now_s})
            if known.role is role and known.name == name and known.revoked_s is None
            else known
            for known in register.entries
        ),
    )


def may_write(entry: Entry, address: Address) -> bool:
    """Return whether the holder of a key may say anything on a topic: the access rules, once more and end to end."""
    match address.direction:
        case "from" | "state":
            return entry.role is Role.ROBOT and entry.name == address.name
        case "in":
            may = entry.role is Role.CUSTOMER and address.kind not in ORACLES_ONLY
            may = may or (entry.role is Role.ORACLE and address.kind in ORACLE_KINDS)
            return may and entry.name == address.name
        case "view" if address.kind == "band":
            return entry.role is Role.ORACLE
        case "zone" | "view":
            return entry.role is Role.MARKET and entry.name == market_name(address.zone)
        case "to" | "out":
            return entry.role is Role.MARKET
        case "clock":
            return entry.role is Role.SIMULATOR
        case _:
            return False


def market_name(zone: str) -> PartyName:
    """Return the name under which the market daemon of a zone connects."""
    return PartyName(f"auc-{zone}")


def zone_of(market: str) -> str:
    """Return the zone of the market that connects under a name."""
    return market.removeprefix("auc-")


def session_name(zone: str, number: int) -> str:
    """Return the name under which a further session of a market connects; no `PartyName` has a dot in it."""
    return f"{market_name(zone)}.{number}"


class Directory:
    """A register, ready for look-ups."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self._of_key = {entry.key: entry for entry in register.entries}
        self._owners: dict[str, OwnerId | None] = {
            entry.name: entry.owner for entry in register.entries if entry.role is Role.ROBOT and entry.revoked_s is None
        }

    def find(self, kid: DidKey, now_s: float) -> Entry:
        """Return whose key it is.

        Raises
        ------
        ProtocolError
            ``unknown_key``, ``revoked`` or ``key_expired``.
        """
        entry = self._of_key.get(kid)
        if entry is None:
            raise ProtocolError("unknown_key", f"{kid} is not in the register")
        if entry.revoked_s is not None:
            raise ProtocolError("revoked", f"the key of {entry.role} {entry.name} is revoked")
        if not entry.valid(now_s):
            raise ProtocolError("key_expired", f"the key of {entry.role} {entry.name} does not count at this time")
        return entry

    def known(self, kid: DidKey) -> Entry | None:
        """Return whose key it is or was, valid or not; None if it never was in the register."""
        return self._of_key.get(kid)

    def owner_of(self, robot: str) -> OwnerId | None:
        """Return the owner that the register names for a robot."""
        return self._owners.get(robot)


def _check_key(register: Register, entry: Entry, source: str) -> None:
    try:
        decode_did(entry.key)
    except ValueError:
        raise InputError(source, "key", str(entry.key), "use the did:key of an Ed25519 public key") from None
    if entry.role is Role.ROBOT and not RobotId.PATTERN.fullmatch(entry.name):
        raise InputError(source, "name", str(entry.name), f"a robot's name must be {RobotId.RULE}")
    for known in register.entries:
        if known.key == entry.key:
            raise InputError(source, "key", str(entry.key), f"it is enrolled as {known.role} {known.name}: make a new key")


def _next(register: Register, entries: tuple[Entry, ...]) -> Register:
    return Register(serial=register.serial + 1, entries=entries)
