"""A contract: one award of one order to one robot, from the award to its end."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.contracts.levels import Level
from fleet_market.ids import ContractId, OrderId, OwnerId, RobotId
from fleet_market.protocol.messages import Phase, WirePose


@dataclass(slots=True)
class Contract:
    """An award and what is known of its execution; lives until it is settled, declined, lost or taken away."""

    id: ContractId
    order: OrderId
    robot: RobotId
    owner: OwnerId
    price_uc: int
    ask_uc: int
    energy_j: float
    parts_uc: tuple[int, ...]
    """What the ask is made of, in the order of `protocol.messages.ASK_PARTS`."""
    awarded_ns: int
    answer_by_ns: int
    limit_ns: int
    """Even a robot that is alive loses the contract after this."""
    due_ns: int = 0
    """The deadline, or when the robot promised to be done if that is later: lateness is counted from here."""
    accepted: bool = False
    lease_until_ns: int = 0
    phase: Phase = Phase.QUEUED
    aboard: bool = False
    pose: WirePose | None = None
    principals: tuple[Level, ...] = ()
    """Who has sold the order on to whom, the customer's contract first; empty: the customer's contract is this one."""

    @property
    def begun(self) -> bool:
        """Whether its robot is known to be at work on it."""
        return self.aboard or self.phase is not Phase.QUEUED

    def ends_at_ns(self) -> int:
        """Return when the contract is lost if nothing more is heard of it."""
        return min(self.lease_until_ns, self.limit_ns) if self.accepted else self.answer_by_ns
