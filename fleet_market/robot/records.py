"""The robot's telemetry records: one for each contract that it has carried out, each bound to the one before it.

The chain's head is part of the robot's memory and is on the disk before the record is sent: a crash in between leaves a gap
that others see, never two records of one number. A robot without memory begins a new chain at every start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_market.body import Pose, Telemetry
from fleet_market.errors import InputError
from fleet_market.ids import ContractId, RobotId
from fleet_market.pricing import PlanLeg
from fleet_market.protocol.messages import MAX_RECORD_LEGS, MAX_STOPS, Fix, RecordLeg, TelemetryRecord
from fleet_market.protocol.telemetry import GENESIS, record_hash
from fleet_market.robot.tasks import Task

_HASH = re.compile("[0-9a-f]{64}")


@dataclass(slots=True)
class Chain:
    """Where a robot's chain of records stands."""

    begun: int | None = None
    """Session in which it began; None: not yet."""
    seq: int = 0
    """Of the next record."""
    head: str = GENESIS

    def export(self) -> dict[str, Any]:
        """Return the head as JSON holds it."""
        return {"begun": self.begun, "seq": self.seq, "head": self.head}

    @classmethod
    def restored(cls, data: Mapping[str, Any], source: str) -> Chain:
        """Return what `export` gave.

        Raises
        ------
        InputError
            If `data` is no head of a chain.
        """
        begun, seq, head = data.get("begun"), data.get("seq"), data.get("head")
        mend = "use a memory that this program wrote, or remove the file"
        if begun is not None and not (type(begun) is int and begun >= 0):
            raise InputError(source, "begun", begun, mend)
        if not (type(seq) is int and seq >= 0):
            raise InputError(source, "seq", seq, mend)
        if not (isinstance(head, str) and _HASH.fullmatch(head)):
            raise InputError(source, "head", head, mend)
        return cls(begun, seq, head)

    def add(self, robot: RobotId, session: int, task: Task, energy_j: float | None) -> TelemetryRecord:
        """Return the record of a task that was carried out; it is the chain's head from now on."""
        if self.begun is None:
            self.begun = session
        record = TelemetryRecord(
            robot=robot,
            chain=self.begun,
            seq=self.seq,
            previous=self.head,
            contract=ContractId(task.award.contract),
            legs=tuple(_leg(leg) for leg in _few(task.legs)),
            dwell_s=round(task.dwell_s, 3),
            executed_s=round(task.executed_s, 3),
            energy_j=energy_j,
            fixes=(task.fixes[0], *task.fixes[1:][-MAX_STOPS:]),
            charged=task.charged,
            shared=task.shared,
        )
        self.seq, self.head = self.seq + 1, record_hash(record)
        return record


def fix(pose: Pose, telemetry: Telemetry | None, now_ns: int) -> Fix:
    """Return where the robot is and what its battery says, to the millimetre, 10**-5 and 0.1 J."""
    battery = None if telemetry is None else telemetry.battery
    soc = None if battery is None or battery.soc is None else min(1.0, max(0.0, round(battery.soc, 5)))
    drawn_j = None if battery is None or battery.energy_out_j is None else max(0.0, round(battery.energy_out_j, 1))
    return Fix(x=round(pose.x, 3), y=round(pose.y, 3), at_ns=now_ns, soc=soc, energy_out_j=drawn_j)


def _few(legs: Iterable[PlanLeg]) -> list[PlanLeg]:
    """Return the legs, those alike in load and floor put together where there are too many for one record."""
    found = list(legs)
    if len(found) <= MAX_RECORD_LEGS:
        return found
    alike: dict[tuple[float, float, str], PlanLeg] = {}
    for leg in found:
        key = (leg.payload_kg, leg.grade, leg.surface)
        if (sum_ := alike.get(key)) is not None:
            leg = PlanLeg(  # noqa: PLW2901 - the sum goes on
                sum_.length_m + leg.length_m,
                sum_.turn_rad + leg.turn_rad,
                sum_.halts + leg.halts,
                leg.payload_kg,
                grade=leg.grade,
                surface=leg.surface,
            )
        alike[key] = leg
    return sorted(alike.values(), key=lambda leg: -leg.length_m)[:MAX_RECORD_LEGS]


def _leg(leg: PlanLeg) -> RecordLeg:
    return RecordLeg(
        length_m=round(leg.length_m, 3),
        turn_rad=round(leg.turn_rad, 4),
        halts=max(1e-4, round(leg.halts, 4)),
        payload_kg=round(leg.payload_kg, 3),
        grade=round(max(-1.0, min(1.0, leg.grade)), 5),
        surface=leg.surface[:64],
    )
