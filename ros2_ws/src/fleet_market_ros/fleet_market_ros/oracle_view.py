"""The oracle in ROS: its fair bands of cleared batches as a topic, and its quotes as a service.

    market/band    FairBand     a topic: one for every lot of a cleared batch
    quote_band     QuoteBand    a service: a preview, or a quote that is paid for

Parameters: `mqtt`, `customer`, `zone`, `keys`, `timeout_s`. The node needs `fleet_market_msgs`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleet_market.adapters.guard import KEYS_VARIABLE, guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, parse_endpoint
from fleet_market.errors import ProtocolError
from fleet_market.ids import CustomerId, ZoneId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, decode
from fleet_market.protocol.messages import Band, FairReply
from fleet_market.protocol.registry import Role
from fleet_market_ros import interfaces, qos
from fleet_market_ros.customers import Customer
from fleet_market_ros.parameters import NEW_START, Declared, Parameters
from fleet_market_ros.ros import Ros
from fleet_market_ros.running import run_node

log = logging.getLogger("oracle_view")

PARAMETERS = (
    Declared("mqtt", "127.0.0.1:1883", "MQTT broker of the market, HOST:PORT.", needed=True),
    Declared(
        "customer", "demo", "Customer in whose name the market is watched, and who pays.", kind=CustomerId, needed=True
    ),
    Declared("zone", "main", "Zone whose batches are watched.", kind=ZoneId, needed=True),
    Declared("keys", os.environ.get(KEYS_VARIABLE, ""), "Folder of keys; empty: only a broker on this machine."),
    Declared("timeout_s", 15.0, "How long to wait for a quote, seconds; oracles have 5 s.", 0.5, 600.0),
)


class View:
    """The node; use `serve`.

    Parameters
    ----------
    ros : Ros
    """

    def __init__(self, ros: Ros) -> None:
        self._values = Parameters(ros.node, PARAMETERS, fixed=lambda: NEW_START).read()
        self._kinds = interfaces.load()
        values = self._values
        self._keys = Path(values["keys"]) if values["keys"] else None
        who, zone = CustomerId(values["customer"]), ZoneId(values["zone"])
        self.customer = Customer(values["mqtt"], who, zone, self._keys, values["timeout_s"])
        self._bands = ros.publisher(self._kinds.msg.FairBand, "market/band", qos.EVENT)
        ros.serve(self._kinds.srv.QuoteBand, "quote_band", self._quote)

    async def serve(self) -> None:
        """Serve until cancelled; a broker that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.customer.run(), name="customer")
            tasks.create_task(self._watch(), name="bands")

    async def _watch(self) -> None:
        """Publish every band."""
        values = self._values
        host, port = parse_endpoint(values["mqtt"])
        guard = guard_for(self._keys, Role.CUSTOMER, values["customer"], host)
        client = MqttConfig(host, port, f"{values['customer']}-oracle-view-{os.getpid()}")
        async with MqttTransport(client, [(topics.view(values["zone"], "band"), 1)], guard=guard) as transport:
            await transport.connected.wait()
            log.info("READY")
            async for delivery in transport.deliveries():
                delivery.ack()
                try:
                    message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
                except ProtocolError as error:
                    log.warning("passed over: %s", error)
                    continue
                if isinstance(message.body, Band):
                    self._bands.publish(interfaces.band_of(self._kinds, message.body, message.ts))

    async def _quote(self, request: Any, response: Any) -> Any:
        """Buy a band, or look at a coarse one; what was paid is in the answer."""
        request.id = request.id or f"q-{secrets.token_hex(6)}"
        response.id, response.oracle = request.id, request.oracle
        try:
            wanted = interfaces.fair_request_of(request)
        except ValidationError as error:
            response.result, response.errors = response.REFUSED, interfaces.errors_of(self._kinds, error)
            return response
        reply = await self.customer.ask("fair", wanted, FairReply)
        if reply is None:
            response.result = response.NO_ANSWER
            return response
        return interfaces.fair_reply_into(self._kinds, reply, response)


async def serve(arguments: Sequence[str]) -> None:
    """Run the node until it is cancelled."""
    async with Ros("oracle_view", arguments) as ros:
        await View(ros).serve()


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    run_node(lambda: serve(sys.argv))


if __name__ == "__main__":
    main()
