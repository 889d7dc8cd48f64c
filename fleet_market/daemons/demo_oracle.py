"""What the oracle's quotes were worth in a demo: price against band per task, coverage, who bought."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fleet_market.daemons.demo_report import credits_of
from fleet_market.ids import OrderId
from fleet_market.ledger import AccountKind, TransferKind
from fleet_market.protocol.messages import FairReply, OrderView, Scored, WireBand


def fees_paid(ledger: Path) -> dict[str, int]:
    """Return how many quotes each account has paid for, by the exported journal."""
    paid: Counter[str] = Counter()
    with ledger.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            to_oracle = row["credit"].partition(":")[0] == AccountKind.ORACLE
            if to_oracle and row["kind"] == TransferKind.CAPTURE:
                paid[row["debit"]] += 1
    return dict(sorted(paid.items()))


def quotes_report(
    views: Sequence[OrderView], quotes: Mapping[OrderId, FairReply], scores: Sequence[Scored], buyers: Mapping[str, int]
) -> dict[str, Any]:
    """Return the part of the summary that is about quotes; see `docs/oracle_sale.md` for its fields."""
    bought = [reply for reply in quotes.values() if reply.result == "quoted"]
    tasks = [_task(view, quotes[view.order], band) for view in views if (band := _band(quotes.get(view.order))) is not None]
    sold = [task for task in tasks if task["price"] is not None and not task["thin"]]
    saved = sum(task["above"] for task in sold)
    fees = credits_of(sum(reply.fee_uc for reply in bought)) or 0.0
    return {
        "quotes": {
            "asked": len(quotes),
            "bought": len(bought),
            "thin": sum(task["thin"] for task in tasks),
            "fees": fees,
            "to_robots": credits_of(sum(reply.robots_uc for reply in bought)),
            "judged": len(scores),
            "held": sum(score.inside for score in scores),
            "score": round(mean(score.score for score in scores), 4) if scores else None,
        },
        "buyers": dict(buyers),
        "worth": {
            "saved": round(saved, 6),
            "after_fees": round(saved - fees, 6),
            "note": "what budgets at the top of the bands would have saved where the price was above; thin bands left out",
        },
        "tasks": tasks,
    }


def _band(reply: FairReply | None) -> WireBand | None:
    return None if reply is None or reply.result != "quoted" else reply.band


def _task(view: OrderView, reply: FairReply, band: WireBand) -> dict[str, Any]:
    price_uc = view.price_uc
    above_uc = 0 if price_uc is None else max(0, price_uc - band.high_uc)
    return {
        "order": view.order,
        "price": credits_of(price_uc),
        "low": credits_of(band.low_uc),
        "high": credits_of(band.high_uc),
        "confidence": band.confidence,
        "inside": None if price_uc is None else band.low_uc <= price_uc <= band.high_uc,
        "above": credits_of(above_uc),
        "thin": band.thin,
        "fee": credits_of(reply.fee_uc),
    }
