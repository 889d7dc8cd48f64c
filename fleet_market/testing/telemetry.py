"""A robot that writes signed telemetry records without driving: for tests and benchmarks of what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet_market.adapters.keyring import SigningKey
from fleet_market.ids import ContractId, PartyName, RobotId
from fleet_market.protocol.messages import Fix, RecordLeg, TelemetryRecord
from fleet_market.protocol.registry import Directory, Entry, Register, Role
from fleet_market.protocol.telemetry import GENESIS, record_hash, signed
from fleet_market.units import ns

TASK_S, WAY_M, ENERGY_J = 60.0, 40.0, 4000.0
"""What one record tells, unless told otherwise."""


@dataclass
class Scribe:
    """One robot with a key, and its chain of records.

    Each record drives `WAY_M` along x and back, with a pick-up at the far end.
    """

    robot: RobotId
    key: SigningKey = field(default_factory=SigningKey.generate)
    chain: int = 1
    seq: int = 0
    head: str = GENESIS
    now_ns: int = 0
    drawn_j: float = 0.0

    def entry(self) -> Entry:
        """Return the robot's line in the register."""
        return Entry(role=Role.ROBOT, name=PartyName(str(self.robot)), key=self.key.did, from_s=0)

    def write(self, **changed: Any) -> TelemetryRecord:
        """Return the next record, signed; fields named in `changed` are as given there."""
        start_ns, self.now_ns = self.now_ns, self.now_ns + ns(TASK_S)
        start_j, self.drawn_j = self.drawn_j, self.drawn_j + ENERGY_J
        fields: dict[str, Any] = {
            "robot": self.robot,
            "chain": self.chain,
            "seq": self.seq,
            "previous": self.head,
            "contract": ContractId(f"c-{self.robot}-{self.chain}-{self.seq}"),
            "legs": tuple(
                RecordLeg(length_m=WAY_M / 2, turn_rad=1.0, halts=1.0, payload_kg=kg, surface="floor") for kg in (0.0, 5.0)
            ),
            "dwell_s": 8.0,
            "executed_s": TASK_S,
            "energy_j": ENERGY_J,
            "fixes": (
                Fix(x=0.0, y=0.0, at_ns=start_ns, soc=0.8, energy_out_j=start_j),
                Fix(x=WAY_M / 2, y=0.0, at_ns=(start_ns + self.now_ns) // 2, soc=0.8, energy_out_j=start_j + ENERGY_J / 2),
                Fix(x=0.0, y=0.0, at_ns=self.now_ns, soc=0.8, energy_out_j=self.drawn_j),
            ),
        }
        record = signed(TelemetryRecord(**(fields | changed)), self.sign)
        self.seq, self.head = self.seq + 1, record_hash(record)
        return record

    def sign(self, content: bytes) -> tuple[Any, bytes]:
        """Return key and signature; what a robot's guard does."""
        return self.key.did, self.key.sign(content)


def directory_of(*scribes: Scribe) -> Directory:
    """Return a register of the keys of some robots."""
    return Directory(Register(serial=1, entries=tuple(scribe.entry() for scribe in scribes)))
