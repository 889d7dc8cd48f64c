"""Messages that must arrive: repeated until their receiver confirms them."""

from __future__ import annotations

from fleet_market.ids import MessageId
from fleet_market.protocol.messages import AnyBody
from fleet_market.robot.effects import Say
from fleet_market.units import ns

REPEAT_S = 3.0
MAX_WAITING = 100


class Outbox:
    """Keeps what has not been confirmed."""

    def __init__(self) -> None:
        self._waiting: dict[MessageId, tuple[Say, int]] = {}

    @property
    def empty(self) -> bool:
        """Whether everything has been confirmed."""
        return not self._waiting

    def add(self, kind: str, body: AnyBody, name: MessageId, now_ns: int) -> Say:
        """Return the message to send now; it will be due again until it is confirmed."""
        say = Say(kind, body, name)
        self._waiting[name] = (say, now_ns)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        return say

    def confirm(self, name: MessageId) -> None:
        """Take note that a message has arrived."""
        self._waiting.pop(name, None)

    def due(self, now_ns: int) -> list[Say]:
        """Return what is to be sent again."""
        again = [say for say, sent_ns in self._waiting.values() if now_ns - sent_ns >= ns(REPEAT_S)]
        for say in again:
            self._waiting[say.id] = (say, now_ns)
        return again
