"""The oracle's fair bands in ROS: ``market/band`` (FairBand, relative), one for every lot of a cleared batch.

Parameters: `mqtt`, `customer`, `zone`, `keys`. The node needs `fleet_market_msgs`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet_market.adapters.guard import KEYS_VARIABLE, guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, parse_endpoint
from fleet_market.daemons.serving import run_until_signal
from fleet_market.errors import FleetMarketError, ProtocolError
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, decode
from fleet_market.protocol.messages import Band
from fleet_market.protocol.registry import Role
from fleet_market_ros import interfaces, qos
from fleet_market_ros.parameters import Declared, Parameters
from fleet_market_ros.ros import Ros

log = logging.getLogger("oracle_view")

PARAMETERS = (
    Declared("mqtt", "127.0.0.1:1883", "MQTT broker of the market, HOST:PORT.", needed=True),
    Declared("customer", "demo", "Customer in whose name the market is watched.", needed=True),
    Declared("zone", "main", "Zone whose batches are watched.", needed=True),
    Declared("keys", os.environ.get(KEYS_VARIABLE, ""), "Folder of keys; empty: only a broker on this machine."),
)


async def watch(ros: Ros) -> None:
    """Publish every band until cancelled; a broker that is away is waited for."""
    values, kinds = Parameters(ros.node, PARAMETERS, fixed=lambda: True).read(), interfaces.load()
    publisher = ros.publisher(kinds.msg.FairBand, "market/band", qos.EVENT)
    host, port = parse_endpoint(values["mqtt"])
    keys = Path(values["keys"]) if values["keys"] else None
    guard = guard_for(keys, Role.CUSTOMER, values["customer"], host)
    client = MqttConfig(host, port, f"{values['customer']}-oracle-view-{os.getpid()}")
    async with MqttTransport(client, [(topics.view(values["zone"], "band"), 1)], guard=guard) as transport:
        await transport.connected.wait()
        log.info("READY")
        async for delivery in transport.deliveries():
            delivery.ack()
            try:
                body = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body
            except ProtocolError as error:
                log.warning("passed over: %s", error)
                continue
            if isinstance(body, Band):
                publisher.publish(interfaces.band_of(kinds, body, ros.node.get_clock().now().nanoseconds))


async def serve(arguments: Sequence[str]) -> None:
    """Run the node until it is cancelled."""
    async with Ros("oracle_view", arguments) as ros:
        await watch(ros)


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    try:
        run_until_signal(serve(sys.argv))
    except FleetMarketError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is for a user, who mends his files
        sys.exit(2)


if __name__ == "__main__":
    main()
