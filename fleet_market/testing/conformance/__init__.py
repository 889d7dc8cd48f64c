"""The conformance suite of robot drivers: every line of the contract is a row, and every driver runs the same rows.

Whoever writes a driver gives the suite a `Bench`: his robot, real or emulated, and what can be done to it::

    @pytest.mark.parametrize("row", ROWS, ids=str)
    async def test_contract(row):
        outcome = await check(row, my_bench)
        assert outcome.kept, outcome.text

or registers it as an entry point and calls ``fleet-market driver check NAME``. What a robot cannot do its `DriverSpec`
declares (`actions`, `lacks`); the row then checks that the driver refuses it. What a bench cannot do makes a row *skipped*,
never passed.
"""

from fleet_market.testing.conformance.bench import ABILITIES, Bench
from fleet_market.testing.conformance.checking import BrokenContractError, Outcome, Row, check
from fleet_market.testing.conformance.rows import ROWS

__all__ = ["ABILITIES", "ROWS", "Bench", "BrokenContractError", "Outcome", "Row", "check"]
