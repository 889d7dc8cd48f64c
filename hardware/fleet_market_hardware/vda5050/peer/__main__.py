"""Install the peer; see the package."""

from __future__ import annotations

import sys

from fleet_market_hardware.vda5050.peer import DEFAULT_FOLDER, PeerError, install

try:
    install(DEFAULT_FOLDER)
except PeerError as error:
    sys.exit(str(error))
