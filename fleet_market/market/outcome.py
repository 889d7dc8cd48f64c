"""What an input of the market leads to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from fleet_market.ids import AccountId, MessageId
from fleet_market.ledger import Balance, Entry
from fleet_market.ledger.journal import canonical
from fleet_market.protocol.messages import AnyBody


@dataclass(frozen=True, slots=True)
class Send:
    """A message to be sent after the commit."""

    topic: str
    body: AnyBody
    corr: MessageId | None = None
    id: MessageId | None = None
    """Set for a message that must arrive: it is repeated under this id until its receiver confirms."""
    reply: bool = False
    """The answer to this input, to be given again when the input is repeated."""
    retain: bool = False


@dataclass(slots=True)
class Outcome:
    """Everything that one input has changed; empty where it has changed nothing."""

    sends: list[Send] = field(default_factory=list)
    accounts: list[AccountId] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    balances: dict[AccountId, Balance] = field(default_factory=dict)
    done: list[MessageId] = field(default_factory=list)
    """Messages that need not be repeated any more."""
    changed: bool = False
    """Whether the market's state is another one than before."""
    lookups: bytes = b""
    """What the map answered, for the log."""
    snapshot: bytes = b""
    """The market's whole state, where it is to be kept."""

    def digest(self) -> str:
        """Return the SHA-256 of all that was decided, hexadecimal: messages to the byte, accounts, transfers."""
        decided: list[object] = [
            [[s.topic, s.body.model_dump_json(), s.corr, s.id, s.reply, s.retain] for s in self.sends],
            self.accounts,
            [entry.hash for entry in self.entries],
            self.done,
        ]
        if self.snapshot:
            decided.append(hashlib.sha256(self.snapshot).hexdigest())
        return hashlib.sha256(canonical(decided).encode()).hexdigest()
