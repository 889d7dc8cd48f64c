"""What a demo has shown, in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from fleet_market.daemons.supervisor import Usage
from fleet_market.ids import OrderId
from fleet_market.protocol.messages import Band, OrderState, OrderView, StatusReply
from fleet_market.units import MICROCREDITS_PER_CREDIT, seconds


def credits_of(amount_uc: int | None) -> float | None:
    """Return micro-credits as a number of credits, for reports only."""
    return None if amount_uc is None else amount_uc / MICROCREDITS_PER_CREDIT


def summarise(
    views: Sequence[OrderView],
    refused: Mapping[OrderId, str],
    ledger: StatusReply,
    bands: Sequence[Band],
    usage: Mapping[str, Usage],
    simulation: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the summary without times and versions; everything in it is a number, a text or a list of such."""
    states = [view.state for view in views]
    settled = [view for view in views if view.state is OrderState.SETTLED]
    energies = [
        (view.measured_energy_j, view.predicted_energy_j)
        for view in settled
        if view.measured_energy_j is not None and view.predicted_energy_j
    ]
    errors = [measured_j / predicted_j - 1 for measured_j, predicted_j in energies]
    waits = [seconds(view.awarded_ns - view.release_ns) for view in views if view.awarded_ns is not None]
    return {
        "orders": {
            "posted": len(views),
            "refused": len(refused),
            "awarded": sum(view.attempts > 0 for view in views),
            "completed": len(settled),
            "expired": states.count(OrderState.EXPIRED),
            "failed": states.count(OrderState.FAILED),
            "cancelled": states.count(OrderState.CANCELLED),
            "awarded_again": sum(view.attempts > 1 for view in views),
        },
        "settled": [_settled(view) for view in settled],
        "not_settled": [{"order": v.order, "state": v.state, "note": v.note} for v in views if v not in settled],
        "refused": [{"order": order, "error": error} for order, error in refused.items()],
        "ledger": {
            "sum_debits": credits_of(ledger.sum_debits_uc),
            "sum_credits": credits_of(ledger.sum_credits_uc),
            "escrow_left": credits_of(ledger.escrow_left_uc),
            "balanced": ledger.sum_debits_uc == ledger.sum_credits_uc,
        },
        "energy_error": {
            "orders": len(errors),
            "total": _rounded(sum(m for m, _ in energies) / sum(p for _, p in energies) - 1) if energies else None,
            "median": _rounded(median(errors)) if errors else None,
            "median_abs": _rounded(median(map(abs, errors))) if errors else None,
            "p90_abs": _rounded(_p90([abs(e) for e in errors])) if errors else None,
            "worst_abs": _rounded(max(map(abs, errors))) if errors else None,
        },
        "award_wait_sim_s": {
            "median": _rounded(median(waits)) if waits else None,
            "p90": _rounded(_p90(waits)) if waits else None,
            "orders": len(waits),
        },
        "oracle": {
            "bands": len(bands),
            "sold": sum(band.inside is not None for band in bands),
            "inside": sum(band.inside is True for band in bands),
        },
        "contacts": simulation.get("contacts", {}),
        "processes": {name: _used(use) for name, use in usage.items()},
    }


def versions(mosquitto: str) -> dict[str, str]:
    """Return the versions of what carries the market."""
    return {
        "fleet_market": _version("fleet-market"),
        "rclpy": _version("ros-rclpy"),
        "ros_distribution": "kilted" if _version("ros-kilted-rclpy") != "unknown" else "unknown",
        "rmw": f"rmw_fastrtps_cpp {_version('ros-rmw-fastrtps-cpp')}",
        "mosquitto": mosquitto,
        "pybullet": _version("pybullet"),
    }


def _settled(view: OrderView) -> dict[str, Any]:
    return {
        "order": view.order,
        "robot": view.robot,
        "ask": credits_of(view.ask_uc),
        "price": credits_of(view.price_uc),
        "predicted_energy_j": view.predicted_energy_j,
        "measured_energy_j": view.measured_energy_j,
        "attempts": view.attempts,
        "note": view.note,
    }


def _used(usage: Usage) -> dict[str, float]:
    share = usage.cpu_s / usage.lived_s if usage.lived_s else 0.0
    return {"cpu_s": _rounded(usage.cpu_s), "cpu_share": _rounded(share), "peak_rss_mib": _rounded(usage.peak_rss_mib)}


def _p90(values: Sequence[float]) -> float:
    """Return the smallest value that at least 90 % of `values` do not exceed."""
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


def _rounded(value: float) -> float:
    return round(value, 3)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
