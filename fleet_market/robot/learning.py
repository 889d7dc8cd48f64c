"""A robot learns from its settled contracts what it really takes, and takes down what they wore off."""

from __future__ import annotations

from fleet_market.ids import ContractId
from fleet_market.robot.effects import Remember
from fleet_market.robot.situation import Situation
from fleet_market.robot.voice import Voice


class Learner:
    """Learns for one agent."""

    def __init__(self, situation: Situation, voice: Voice) -> None:
        self._now, self._voice = situation, voice
        self._aged_ns: int | None = None

    def learn(self, contract: ContractId, now_ns: int) -> None:
        """Learn from a task that was found good and paid."""
        done = self._now.done.pop(contract, None)
        if done is None:
            return
        elapsed_s = done.executed_s if self._aged_ns is None else (now_ns - self._aged_ns) / 1e9
        self._aged_ns = now_ns
        self._now.memory.settled(
            done.plan,
            done.quote,
            measured_j=done.measured_j,
            executed_s=done.executed_s,
            elapsed_s=max(0.0, elapsed_s),
        )
        self._voice.want(Remember(self._now.memory.export()))
