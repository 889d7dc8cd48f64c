"""The independent checker of the replay benchmark: it reads an instance and a schedule, and no code of the allocator."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLERANCE_S = 1e-3
TOLERANCE_SOC = 1e-7


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a schedule comes to, and what is wrong with it."""

    cost_s: float
    makespan_s: float
    travel_s: float
    charges: int
    assigned: int
    faults: tuple[str, ...]


def check(instance_file: Path, schedule_file: Path) -> Verdict:
    """Drive a schedule through and compare what it says."""
    given, made = json.loads(instance_file.read_text()), json.loads(schedule_file.read_text())
    tasks = {str(task["id"]): task for task in given["tasks"]}
    faults: list[str] = []
    done: list[str] = []
    cost = makespan = travel = 0.0
    charges = 0
    for robot in given["robots"]:
        drive = _Drive(given, robot, faults)
        for row in made["schedule"]:
            if row["robot"] != str(robot["id"]):
                continue
            if row["task"] is None:
                drive.charge(row)
                charges += 1
            elif row["task"] not in tasks:
                faults.append(f"task {row['task']} does not exist")
            else:
                cost += drive.do(row, tasks[row["task"]])
                done.append(row["task"])
        if drive.served:
            makespan = max(makespan, drive.time_s)
        travel += drive.travel_s
    faults += [f"task {name} is done {done.count(name)} times" for name in sorted(set(done)) if done.count(name) > 1]
    named = [row["task"] for row in made["unassigned"]]
    faults += [f"task {name} is neither done nor named" for name in tasks if name not in done and name not in named]
    faults += [f"task {name} is done and named as unassigned" for name in named if name in done]
    return Verdict(cost, makespan, travel, charges, len(set(done)), tuple(faults))


class _Drive:
    """One robot on its way."""

    def __init__(self, given: Any, robot: Any, faults: list[str]) -> None:
        self._given, self._robot, self._faults = given, robot, faults
        self._config = given["config"]
        self._at, self.time_s, self._soc = robot["start"], 0.0, robot["soc"]
        self.travel_s, self.served = 0.0, False

    def _fault(self, text: str) -> None:
        self._faults.append(f"robot {self._robot['id']}: {text}")

    def _leg(self, a: int, b: int) -> tuple[float, float]:
        time_s, dsoc = self._given["travel_s"][a][b], self._given["travel_dsoc"][a][b]
        if time_s is None or dsoc is None:
            self._fault(f"there is no way from {a} to {b}")
            return math.inf, math.inf
        return time_s, dsoc

    def _go(self, place: int) -> None:
        time_s, dsoc = self._leg(self._at, place)
        self.time_s += time_s
        self.travel_s += time_s
        self._soc -= dsoc
        self._at = place
        if self._soc < -TOLERANCE_SOC:
            self._fault(f"battery is empty at {place}")

    def charge(self, row: Any) -> None:
        """Charge as a row says."""
        if row["charger"] != self._robot["charger"]:
            self._fault(f"charges at {row['charger']}, its own charger is {self._robot['charger']}")
        self._go(row["charger"])
        if row["start"] < self.time_s - TOLERANCE_S:
            self._fault(f"begins to charge at {row['start']}, is there at {self.time_s}")
        most = self._soc + (row["finish"] - row["start"]) * self._config["charge_rate_soc_per_s"]
        if row["soc"] > most + TOLERANCE_SOC or row["soc"] > self._config["recharge_soc"] + TOLERANCE_SOC:
            self._fault(f"charges to {row['soc']}, possible were {min(most, self._config['recharge_soc'])}")
        if row["soc"] < self._soc - TOLERANCE_SOC:
            self._fault(f"loses charge at the charger: {self._soc} to {row['soc']}")
        self.time_s, self._soc = row["finish"], row["soc"]

    def do(self, row: Any, task: Any) -> float:
        """Do a task as a row says; return its cost."""
        self._go(task["pickup"])
        begin_s = max(self.time_s, task["earliest_start_s"])
        if row["start"] < begin_s - TOLERANCE_S:
            self._fault(f"task {row['task']} starts at {row['start']}, possible is {begin_s}")
        self.time_s = max(begin_s, row["start"])
        self._go(task["dropoff"])
        if abs(row["finish"] - self.time_s) > TOLERANCE_S:
            self._fault(f"task {row['task']} finishes at {row['finish']}, computed {self.time_s}")
        if abs(row["soc"] - self._soc) > TOLERANCE_SOC:
            self._fault(f"task {row['task']} leaves a charge of {row['soc']}, computed {self._soc}")
        _, home = self._leg(task["dropoff"], self._robot["charger"])
        if not self._soc - home > self._config["threshold_soc"]:
            self._fault(f"after task {row['task']} {self._soc - home} would be left at the charger")
        self.served = True
        return float(self.time_s - task["earliest_start_s"])
