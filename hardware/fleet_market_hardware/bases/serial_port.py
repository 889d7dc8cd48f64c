"""Serial ports (pyserial), with errors that say what to mend."""

from __future__ import annotations

import errno
from typing import Any

import serial

from fleet_market_hardware.devices import DeviceError

READ_S = 0.005
"""Longest wait of one read."""
WRITE_S = 0.1


def open_port(name: str, port: str, baud: int) -> Any:
    """Return the open port.

    Raises
    ------
    DeviceError
        If there is no such port, it may not be opened, another process has it, or it cannot do `baud`.
    """
    try:
        opened = serial.Serial(port, baud, timeout=READ_S, write_timeout=WRITE_S, exclusive=True)
        opened.reset_input_buffer()
    except (OSError, ValueError) as error:
        raise _explained(name, port, baud, error) from error
    return opened


def _explained(name: str, port: str, baud: int, error: Exception) -> DeviceError:
    number = getattr(error, "errno", None)
    if number in {errno.ENOENT, errno.ENXIO, errno.ENODEV}:
        return DeviceError(name, "port", port, "no such device: plug it in, or name another; see /dev/serial/by-id")
    if number in {errno.EACCES, errno.EPERM}:
        return DeviceError(name, "port", port, "permission denied: add this user to the group dialout, and log in again")
    if number in {errno.EAGAIN, errno.EBUSY} or "exclusively lock" in str(error):
        return DeviceError(name, "port", port, "another process has it open: end that one")
    if isinstance(error, ValueError):
        return DeviceError(name, "baud", baud, f"use a rate that the port can do ({error})")
    return DeviceError(name, "port", port, f"use a serial port ({error})")
