"""Vehicle software of others to try ours on: npm ``vda-5050-lib`` (Siemens, MIT), as vehicle, as master and as validator.

``python -m fleet_market_hardware.vda5050.peer`` installs it into ``.cache/vda5050`` of the working directory; Node.js and
npm come with apt where they are missing. Nothing of it is part of this package.
"""

from fleet_market_hardware.vda5050.peer.install import DEFAULT_FOLDER, Peer, PeerError, find, install

__all__ = ["DEFAULT_FOLDER", "Peer", "PeerError", "find", "install"]
