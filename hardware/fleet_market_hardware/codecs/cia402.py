"""The state machine of CiA 402 drives: what a statusword means and which controlword comes next (IEC 61800-7-201, 7.2)."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """States of the power drive system."""

    NOT_READY = "not ready to switch on"
    DISABLED = "switch on disabled"
    READY = "ready to switch on"
    SWITCHED_ON = "switched on"
    ENABLED = "operation enabled"
    QUICK_STOP = "quick stop active"
    REACTING = "fault reaction active"
    FAULT = "fault"


_MASKED = (
    (0x4F, 0x00, State.NOT_READY),
    (0x4F, 0x40, State.DISABLED),
    (0x6F, 0x21, State.READY),
    (0x6F, 0x23, State.SWITCHED_ON),
    (0x6F, 0x27, State.ENABLED),
    (0x6F, 0x07, State.QUICK_STOP),
    (0x4F, 0x0F, State.REACTING),
    (0x4F, 0x08, State.FAULT),
)
SHUTDOWN, SWITCH_ON, ENABLE, QUICK_STOP, DISABLE_VOLTAGE, FAULT_RESET = 0x06, 0x07, 0x0F, 0x02, 0x00, 0x80


def state_of(statusword: int) -> State | None:
    """Return the state; None for a word that the standard does not know."""
    return next((state for mask, value, state in _MASKED if statusword & mask == value), None)


def towards_enabled(state: State | None) -> int | None:
    """Return the controlword for the next step towards ENABLED; None if there is nothing to do but wait."""
    return {
        State.DISABLED: SHUTDOWN,
        State.READY: SWITCH_ON,
        State.SWITCHED_ON: ENABLE,
        State.QUICK_STOP: DISABLE_VOLTAGE,
        State.FAULT: FAULT_RESET,
    }.get(state) if state is not None else None  # fmt: skip
