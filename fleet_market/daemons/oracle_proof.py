"""The telemetry that an oracle verifies, keeps under its Merkle root, and watches for what is signed and false."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fleet_market.adapters.evidence_file import EvidenceFile
from fleet_market.body import RobotType
from fleet_market.errors import ProtocolError
from fleet_market.ids import RobotId
from fleet_market.oracle.evidence import EvidenceLog
from fleet_market.oracle.plausibility import Distance, PlausibilityWatch, straight
from fleet_market.oracle.residuals import EnergyFinding, EnergyWatch
from fleet_market.protocol.gate import Verify
from fleet_market.protocol.messages import TelemetryRecord
from fleet_market.protocol.registry import Directory

log = logging.getLogger(__name__)

J_PER_WH = 3600.0


class Proofs:
    """Takes robots' records in.

    Parameters
    ----------
    types : mapping of str to RobotType
        Spec sheets by the name that robots announce; robots of other types are not judged.
    directory : Directory, optional
        Whose keys are whose; None: robots have no keys, and the root says so.
    verify : callable, optional
        Needed with a directory.
    file : EvidenceFile, optional
        Where the evidence is kept, and is read from at first; without one it is lost with the process.
    distance : Distance, optional
        Of the roads; without them ways are judged by straight lines.

    Raises
    ------
    InputError
        If what the file holds is not what this oracle wrote.
    """

    def __init__(
        self,
        types: Mapping[str, RobotType],
        directory: Directory | None = None,
        verify: Verify | None = None,
        file: EvidenceFile | None = None,
        distance: Distance = straight,
    ) -> None:
        kept = None if file is None else file.load()
        self.log = EvidenceLog(directory, verify) if kept is None else EvidenceLog.resumed(kept, directory, verify)
        self._file = file
        self._types = types
        self._type_of: dict[RobotId, str] = {}
        self._energy, self._places = EnergyWatch(types), PlausibilityWatch(distance)
        self._contradicted: set[RobotId] = set()

    def know(self, robot: RobotId, type_name: str) -> None:
        """Take note of what a robot is."""
        self._type_of[robot] = type_name

    @property
    def suspects(self) -> set[RobotId]:
        """Robots whose records do not fit: they have no part in fees."""
        return self._energy.suspects | self._contradicted

    def hear(self, record: TelemetryRecord, now_ns: int, unix_s: float) -> list[EnergyFinding]:
        """Take a record, or say in the log why it is refused; return how robots' energy now fits their ways.

        Raises
        ------
        StoreError
            If the evidence cannot be kept: no quote may rest on it.
        """
        try:
            taken = self.log.hear(record, now_ns, unix_s)
        except ProtocolError as error:
            log.warning("no evidence: %s", error)
            return []
        leaves = (*taken, *self.log.tick(now_ns))
        if self._file is not None and leaves:
            self._file.append(self.log, leaves)
        findings = [self._watch(self.log.open(index).record) for index in leaves]
        return [finding for finding in findings if finding is not None]

    def summary(self, now_ns: int) -> tuple[str, int, float] | None:
        """Return root, number of records and age in seconds, as a quote carries them."""
        return self.log.summary(now_ns)

    def _watch(self, record: TelemetryRecord) -> EnergyFinding | None:
        name = self._type_of.get(record.robot, "")
        if (kind := self._types.get(name)) is None:
            return None
        finding = self._energy.hear(record, name)
        if finding is not None and finding.alarm:
            log.warning("%s uses %.0f %% more energy than its way takes", record.robot, 100 * finding.excess)
        contradictions = self._places.hear(
            record, max_speed_mps=kind.max_speed_mps, capacity_j=J_PER_WH * kind.battery.capacity_wh
        )
        for contradiction in contradictions:
            log.warning("%s contradicts itself: %s, %s", record.robot, contradiction.rule, contradiction.detail)
        (self._contradicted.add if contradictions else self._contradicted.discard)(record.robot)
        return finding
