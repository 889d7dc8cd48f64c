"""What an agent wants done, collected until its caller takes it; messages are numbered here."""

from __future__ import annotations

from fleet_market.ids import CallId, ContractId, MessageId, RobotId, derive
from fleet_market.protocol.messages import AnyBody, Receipt
from fleet_market.robot.effects import Effect, Say
from fleet_market.robot.outbox import Outbox


class Voice:
    """Collects the effects of one agent.

    Parameters
    ----------
    robot : RobotId
    session : int
        Number of this start of the robot: no two starts use a name twice.
    """

    def __init__(self, robot: RobotId, session: int) -> None:
        self._robot, self._session = robot, session
        self._numbers = 0
        self._outbox = Outbox()
        self._effects: list[Effect] = []

    @property
    def heard(self) -> bool:
        """Whether everything that must arrive has been confirmed."""
        return self._outbox.empty

    def number(self) -> int:
        """Return a number that was not given before."""
        self._numbers += 1
        return self._numbers

    def name(self, kind: str) -> MessageId:
        """Return a name for a message that was not given before."""
        return MessageId(f"{kind}-{self._session}-{self.number()}")

    def want(self, effect: Effect) -> None:
        """Have something done."""
        self._effects.append(effect)

    def say(self, kind: str, body: AnyBody) -> None:
        """Say something once."""
        self.want(Say(kind, body, self.name(kind)))

    def must_say(self, kind: str, body: AnyBody, now_ns: int, about: ContractId | CallId) -> None:
        """Say something about a contract or a call again and again until the market confirms it."""
        self.want(self._outbox.add(kind, body, MessageId(f"{kind}-{derive(self._robot, about)}"), now_ns))

    def confirm(self, receipt: Receipt) -> None:
        """Take note that something has arrived."""
        self._outbox.confirm(receipt.of)

    def repeat(self, now_ns: int) -> None:
        """Say again what has not been confirmed."""
        self._effects += self._outbox.due(now_ns)

    def take(self) -> list[Effect]:
        """Return the effects since the last time."""
        effects, self._effects = self._effects, []
        return effects
