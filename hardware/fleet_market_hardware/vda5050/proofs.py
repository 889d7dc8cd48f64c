"""What a state proves about an order. Every rule stands for something that vehicle software was seen to do otherwise.

Completion is never the mere absence of nodes (a vehicle empties them while its drop still waits, one leaves the last one in
for ever, all empty them when someone cancels), never the age of a sequence number (it may still be that of the last order),
and never the standard's silence about failure: an order whose action failed runs to its end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fleet_market_hardware.vda5050.route import Route
from fleet_market_hardware.vda5050.seen import SeenError, SeenState

FINISHED, FAILED = "FINISHED", "FAILED"
GRAVE = frozenset({"FATAL", "CRITICAL"})
"""Error levels under which a vehicle cannot go on (VDA 5050 2.1.0, section 6.10.6; 3.0.0 adds the second)."""
AUTOMATIC_MODES = frozenset({"AUTOMATIC", "SEMIAUTOMATIC"})


def reached(route: Route, state: SeenState) -> int:
    """Return the sequence of the last node of this order that was reached, -1 before the first.

    The id of a node holds that of its order, so that the last node of an earlier order is never taken for one of this.
    """
    if state.last_node == route.node_id(state.last_sequence):
        return state.last_sequence
    return -1


def is_idle(state: SeenState) -> bool:
    """Return whether a vehicle stands and has nowhere to go; a reached node that is left in the list is nowhere."""
    ahead = [node for node in state.nodes if node != (state.last_node, state.last_sequence)]
    return state.driving is False and not ahead and not state.edges


def all_finished(actions: Collection[str], state: SeenState) -> bool:
    """Return whether every one of `actions` is reported, and as finished."""
    return all((done := state.actions.get(name)) is not None and done.status == FINISHED for name in actions)


def failed_action(actions: Collection[str], state: SeenState) -> str:
    """Return why one of `actions` has failed, empty if none has."""
    for name in actions:
        done = state.actions.get(name)
        if done is not None and done.status == FAILED:
            said = [str(error) for error in state.errors if error.names(name)]
            return "; ".join(said) or done.text or f"action {name} FAILED"
    return ""


def is_complete(route: Route, state: SeenState) -> bool:
    """Return whether the whole order is proven, but for the place: its node reached, its actions finished, at rest."""
    at_end = reached(route, state) == route.last.sequence
    return (
        route.complete
        and state.order_id == route.order_id
        and at_end
        and is_idle(state)
        and all_finished(route.action_of.values(), state)
    )


def rejection(route: Route, state: SeenState, known: Collection[SeenError]) -> SeenError | None:
    """Return the error that rejects the newest of an order's updates; those that were there before it do not.

    A state's order id does not change when an order is rejected: only the references say which one is meant.
    """
    for error in state.errors:
        update = error.reference("orderUpdateId")
        if error not in known and error.names(route.order_id) and update in {None, str(route.update_id)}:
            return error
    return None


def grave_error(state: SeenState, known: Collection[SeenError] = ()) -> SeenError | None:
    """Return an error under which the vehicle cannot go on."""
    return next((e for e in state.errors if e.level in GRAVE and e not in known), None)


def why_not_ready(state: SeenState, *, may_charge: bool, position_known: bool) -> str:
    """Return why a vehicle is given no order now, empty if it may be."""
    grave = grave_error(state)
    reasons: Mapping[str, bool] = {
        f"operatingMode is {state.mode}: set it to AUTOMATIC": state.mode not in AUTOMATIC_MODES,
        f"emergency stop {state.emergency_stop} is active": state.emergency_stop not in {"NONE", None},
        f"{grave}": grave is not None,
        "it does not know where it is on our map: localise it": not position_known,
        "it is paused": state.paused is True,
        "it is charging, and no action to end that is configured": state.charging is True and not may_charge,
        f"it has order {state.order_id} of somebody else": not is_idle(state),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
