"""What a master says to one vehicle, in the version that the vehicle speaks."""

from __future__ import annotations

from collections.abc import Callable

from fleet_market_hardware.vda5050.effects import Send
from fleet_market_hardware.vda5050.messages import Action, InstantActions, Order
from fleet_market_hardware.vda5050.versions import VERSIONS, instant_actions_in, order_in


class Speech:
    """Words for one vehicle.

    Parameters
    ----------
    version : str
        In which to speak until the vehicle has said its own.
    new_id : callable
        Makes ids that no other order or action has ever had.
    """

    def __init__(self, version: str, new_id: Callable[[], str]) -> None:
        self.version, self.new_id = version, new_id

    def learn(self, version: str | None) -> None:
        """Speak as the vehicle does: some take no other version than their own."""
        if version is not None and version.partition(".")[0] in {known.partition(".")[0] for known in VERSIONS}:
            self.version = version

    def order(self, order: Order) -> Send:
        """Return an order, or an update of one."""
        return Send("order", self.version, order_in(self.version, order.body()))

    def instant(self, kind: str, name: str | None = None) -> Send:
        """Return an instant action, under a new id unless it is sent again."""
        action = Action(action_type=kind, action_id=name or self.new_id(), blocking_type="NONE")
        body = InstantActions(actions=(action,)).body()
        return Send("instantActions", self.version, instant_actions_in(self.version, body["actions"]))
