"""Identifiers, each a type of its own, validated when it is made.

Robots, zones and customers appear in MQTT topics and ROS names, so their alphabet is narrow. Order ids are the
customer's own key and may hold capitals and dots. Ids of derived facts are hashes of what they are derived from, so that
a replay or a retry produces the same id and is recognised.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import GetCoreSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema


class Identifier(str):
    """Base of the identifiers: a `str` that matches its class's pattern.

    Raises
    ------
    ValueError
        If the text does not match.
    """

    __slots__ = ()
    PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
    RULE: ClassVar[str] = "1 to 128 letters, digits, '.', '_', ':' or '-'"

    def __new__(cls, text: str) -> Self:
        """Return `text` as this kind of id, checked."""
        if type(text) is cls:
            return text
        if not isinstance(text, str) or not cls.PATTERN.fullmatch(text):
            raise ValueError(f"{cls.__name__} must be {cls.RULE}, was {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a plain string into this type; on the wire an id is a string."""
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(pattern=f"^(?:{cls.PATTERN.pattern})$", strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


class _TopicId(Identifier):
    __slots__ = ()
    PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
    RULE = "1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or digit"


class RobotId(_TopicId):
    """A robot; also its MQTT client id. Must start with a letter, since it names a ROS namespace too."""

    __slots__ = ()
    PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,63}")
    RULE = "1 to 64 lower-case letters, digits, '_' or '-', starting with a letter"

    @property
    def ros_namespace(self) -> str:
        """The robot's ROS namespace: ROS names allow no hyphen."""
        return self.replace("-", "_")


class CustomerId(_TopicId):
    """A customer, who posts orders and pays; also an MQTT client id."""

    __slots__ = ()


class OwnerId(_TopicId):
    """The owner of one or more robots, who is paid."""

    __slots__ = ()


class ZoneId(_TopicId):
    """A market zone: own batches, own book."""

    __slots__ = ()


MAIN_ZONE = ZoneId("main")
"""The zone of those who name none."""


class OrderId(Identifier):
    """An order, named by its customer."""

    __slots__ = ()
    PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
    RULE = "1 to 48 letters, digits, '.', '_' or '-', starting with a letter or digit"


class QuoteId(Identifier):
    """A quote of an oracle, named by its buyer; towards the oracle by the market."""

    __slots__ = ()
    PATTERN = OrderId.PATTERN
    RULE = OrderId.RULE


class ContractId(Identifier):
    """A contract: one award of one order to one robot."""

    __slots__ = ()


class CallId(Identifier):
    """A sealed call for asks: one batch of one zone."""

    __slots__ = ()


class RouteId(Identifier):
    """A right of way through the shared floor, granted to one robot."""

    __slots__ = ()


class MessageId(Identifier):
    """A message on the wire; the receiver de-duplicates by (sender, id)."""

    __slots__ = ()


class PartyName(_TopicId):
    """Whoever may connect: a robot, a customer, a market daemon ...; also its MQTT user name."""

    __slots__ = ()


class DidKey(Identifier):
    """An Ed25519 public key as a W3C ``did:key``; see `fleet_market.protocol.did`."""

    __slots__ = ()
    PATTERN = re.compile(r"did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}")
    RULE = "did:key:z6Mk and 44 letters and digits of base58"


class AccountId(Identifier):
    """A ledger account: ``kind:name``."""

    __slots__ = ()


class TransferId(Identifier):
    """A ledger transfer."""

    __slots__ = ()


_Id = TypeVar("_Id", bound=str)
_SORTED: Any = PlainSerializer(sorted, return_type=list[str])
SetOf = Annotated[set[_Id], _SORTED]
"""A set of identifiers that looks the same wherever it is written down."""


def derive(*parts: object) -> str:
    """Return a 20-digit hexadecimal id that depends on all `parts` and on nothing else."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:20]
