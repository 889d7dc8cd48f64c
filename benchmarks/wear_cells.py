"""The measured battery cells behind `wear_life`: their test conditions, and the life predicted from these alone.

Sources: HUST (Ma et al. 2022, Energy Environ. Sci. 15:4083, 10.1039/d2ee01676a), MIT (Severson et al. 2019, Nat. Energy
4:383, 10.1038/s41560-019-0356-8), TJU (Zhu et al. 2022, Nat. Commun. 13:2261, 10.1038/s41467-022-29837-w), XJTU (Wang et
al. 2024, Nat. Commun. 15:4332, 10.1038/s41467-024-48779-z; wang-fujin.github.io).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleet_market.body import BatterySpec
from fleet_market.errors import InputError
from fleet_market.pricing.ageing import mean_c_rate
from fleet_market.pricing.life import efc_to_end


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a group of cells was cycled, all between empty and full."""

    source: str
    group: str
    chemistry: str | None
    """Form that predicts it; ``None``: not predicted, `source` says why."""
    temperature_c: float = 25.0
    charge_c: float = 1.0
    discharge_c: float = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its conditions and its equivalent full cycles to 90 and 80 % (``None``: not reached)."""

    conditions: Conditions
    efc: dict[int, float | None]


# To 80 % at 5C (MIT: 3.6C to 6C, here 4.8C), then at 1C. HUST: four stages of discharge at 1C to 5C, mean about 2.1C.
FAST_CHARGE = {"HUST": 1 / (0.8 / 5 + 0.2 / 1), "MIT": 1 / (0.8 / 4.8 + 0.2 / 1)}
XJTU_MIXED_C = 5 / (1 / 0.5 + 1 / 1 + 1 / 2 + 1 / 3 + 1 / 5)
"""Discharge at 0.5, 1, 2, 3 and 5C in turn: harmonic mean."""
XJTU = {"2C": (2.0, 1.0), "3C": (3.0, 1.0), "R2.5": (2.0, XJTU_MIXED_C), "R3": (2.0, XJTU_MIXED_C)}


def conditions_of(source: str, group: str) -> Conditions:
    """Return the conditions of a group in the file.

    Raises
    ------
    InputError
        If the group is not known.
    """
    if source == "HUST":
        return Conditions("HUST", group, "lfp", 30.0, FAST_CHARGE["HUST"], 2.1)
    if source == "MIT":
        return Conditions("MIT", group, "lfp", 30.0, FAST_CHARGE["MIT"], 4.0)
    if source == "XJTU":
        if group not in XJTU:
            return Conditions("XJTU random walk and satellite (no constant cycle)", group, None)
        return Conditions("XJTU", group, "nmc", 25.0, *XJTU[group])
    named = re.fullmatch(r"Dataset_(\d)_(\w+)\|CY(\d\d)-(\d+)_(\d)", group) if source == "TJU" else None
    if named is None:
        raise InputError("battery_cell_life.csv", "grp", group, "add its test conditions to benchmarks/wear_cells.py")
    number, chemistry, celsius, charge, discharge = named.groups()
    if chemistry == "NCA":
        return Conditions("TJU NCA (no form for this chemistry)", group, None)
    charge_c = float(charge) if len(charge) == 1 else float(f"0.{charge[1:]}")
    name = {"2": "TJU NCM", "3": "TJU NCM+NCA"}[number]
    return Conditions(name, group, "nmc", float(celsius), charge_c, float(discharge))


def cells_of(path: Path) -> list[Cell]:
    """Return the cells of the file."""
    with path.open(newline="") as file:
        return [
            Cell(conditions_of(row["ds"], row["grp"]), {left: _number(row[f"efc{left}"]) for left in (90, 80)})
            for row in csv.DictReader(file)
        ]


@lru_cache(maxsize=256)
def predicted_efc(conditions: Conditions, left: int) -> float:
    """Return the equivalent full cycles to `left` per cent of the capacity, from the conditions alone."""
    battery = BatterySpec.model_validate(
        {
            "chemistry": conditions.chemistry,
            "voltage_v": 3.6,
            "capacity_wh": 1.0,
            "max_charge_w": conditions.charge_c,
            "charge_efficiency": 1.0,
            "reserve_soc": 0.0,
            "resume_soc": 0.0,
            "target_soc": 1.0,
            "replacement_uc": 0,
            "end_capacity": left / 100,
            "temperature_c": conditions.temperature_c,
        }
    )
    c_rate = float(mean_c_rate(conditions.charge_c, conditions.discharge_c))
    hours_per_efc = 1 / conditions.charge_c + 1 / conditions.discharge_c
    return efc_to_end(battery, 1.0, 0.5, c_rate, hours_per_efc)


def _number(text: str) -> float | None:
    return float(text) if text and text != "nan" else None
