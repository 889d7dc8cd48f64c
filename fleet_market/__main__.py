"""``python -m fleet_market`` is the command `fleet-market`."""

from fleet_market.cli import main

main()
