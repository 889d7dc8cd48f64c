"""An oracle as a process of its own that knows one price: HOST PORT NAME [EVIDENCE]."""

import asyncio
import logging
import sys
from pathlib import Path

from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.ids import PartyName
from fleet_market.oracle.terms import FairQuote

CREDIT = 10**6
QUOTE = FairQuote(
    low_uc=3 * CREDIT, high_uc=5 * CREDIT, confidence=0.8, expected_uc=4 * CREDIT, shadow_low_uc=None, shadow_high_uc=None,
    second_best_uc=None, model_low_uc=None, model_high_uc=None, settled_low_uc=None, settled_high_uc=None, samples=40,
    age_s=2.0, coverage=0.8, thin=False, reasons=(), unknown=(),
)  # fmt: skip


class Told:
    """Knows one price."""

    def begin(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        return QUOTE


if __name__ == "__main__":
    host, port, name, *evidence = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    config = OracleConfig(host, int(port), name=PartyName(name), evidence=Path(evidence[0]) if evidence else None)
    asyncio.run(Oracle(config, Told()).run())
