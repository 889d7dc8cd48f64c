"""A robot asks an oracle what others would take for its queued contracts; off unless the fleet file says so.

It is told nothing that the robot could not do without: who does not consult resells what costs it more than it is paid.
Who does also resells what others do for less than it costs the robot itself, although it would not lose by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_market.ids import OrderId, PartyName, QuoteId, RobotId, derive
from fleet_market.protocol.messages import FairReply, FairRequest
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

PATIENCE_S = 30.0
"""A question without an answer is given up after this long."""
AGAIN_S = 30.0
"""After a refusal or a silence nothing is asked for so long [assumption]."""


@dataclass(frozen=True, slots=True)
class Consult:
    """Which oracle the robots of a fleet ask, and the most that they pay for a quote."""

    oracle: PartyName
    max_fee_uc: int


@dataclass(frozen=True, slots=True)
class _Opinion:
    expected_uc: int
    until_ns: int


class Adviser:
    """Buys quotes for one agent.

    Parameters
    ----------
    config : Consult or None
        None: it never asks.
    robot : RobotId
    session : int
        Number of this start of the robot.
    voice : Voice
    """

    def __init__(self, config: Consult | None, robot: RobotId, session: int, voice: Voice) -> None:
        self._config, self._voice = config, voice
        self._of_robot = derive(robot, session)
        self._opinions: dict[OrderId, _Opinion] = {}
        self._asked: QuoteId | None = None
        self._not_before_ns = 0
        self.fees_uc = 0
        """Paid so far."""

    def consider(self, tasks: Sequence[Task], now_ns: int) -> None:
        """Ask about the first of some contracts of which nothing is known, one at a time."""
        if self._config is None or now_ns < self._not_before_ns:
            return
        self._opinions = {order: one for order, one in self._opinions.items() if now_ns < one.until_ns}
        order = next((task.order for task in tasks if task.order not in self._opinions), None)
        if order is None:
            return
        self._asked = QuoteId(derive(self._of_robot, order, self._voice.number()))
        self._not_before_ns = now_ns + ns(PATIENCE_S)
        request = FairRequest(
            quote=self._asked, oracle=self._config.oracle, order=order, max_fee_uc=self._config.max_fee_uc
        )
        self._voice.say("fair", request)

    def hear(self, reply: FairReply, now_ns: int) -> bool:
        """Take an answer; return whether it says something new."""
        if reply.quote != self._asked:
            return False
        self._asked, self._not_before_ns = None, now_ns
        band, until_ns = reply.band, reply.valid_until_ns
        self.fees_uc += reply.fee_uc
        if reply.order is None or reply.result != "quoted" or band is None or until_ns is None:
            self._not_before_ns = now_ns + ns(AGAIN_S)
            return False
        expected_uc = (band.low_uc + band.high_uc) // 2 if band.expected_uc is None else band.expected_uc
        # what rests on too little is kept, so as not to be bought again, but nothing follows from it
        self._opinions[reply.order] = _Opinion(-1 if band.thin else expected_uc, until_ns)
        return not band.thin

    def others_uc(self, order: OrderId, now_ns: int) -> int | None:
        """Return what others are expected to take for an order; None if nobody knows."""
        opinion = self._opinions.get(order)
        return None if opinion is None or now_ns >= opinion.until_ns or opinion.expected_uc < 0 else opinion.expected_uc
