"""Every error of the product, one tree.

::

    FleetMarketError
    ├── InputError(ValueError)         a file, message or argument of a user is wrong
    │   └── PlaceError                 a place is occupied, outside of the map or not reachable
    ├── ProtocolError(ValueError)      a message on the wire is malformed, oversized or misplaced
    ├── UnreachableError               no way leads from one point of the map to another
    ├── StoreError(RuntimeError)       the database is locked, corrupt or from another version
    │   └── LeaseLostError             another daemon runs the zone by now
    ├── LedgerMismatchError            the pure ledger and the store disagree: the daemon stops
    ├── ClockError(RuntimeError)       the clock of this machine cannot be trusted: the daemon stops
    ├── BrokerError(ConnectionError)   the MQTT broker cannot be had or reached
    ├── ControlError(ConnectionError)  no daemon answers on its control socket, or it cannot do what was asked
    └── ReplyTimeoutError(TimeoutError)  the market did not answer in time
"""

from __future__ import annotations


class FleetMarketError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(FleetMarketError, ValueError):
    """Input of a user is wrong; says where, what was found and what would be right.

    Parameters
    ----------
    source : str
        The file, command or message that holds the input.
    field : str
        The field or the line, e.g. ``robots[2].soc`` or ``line 7, payload_kg``.
    value : object
        What was found there.
    mend : str
        What would be accepted, as an imperative ("use a number of at least 0").
    """

    def __init__(self, source: str, field: str, value: object, mend: str) -> None:
        self.source, self.field, self.value, self.mend = source, field, value, mend
        super().__init__(f"{source}: {field} was {value!r}: {mend}")


class UnreadableError(InputError):
    """A file that a user names cannot be read.

    Parameters
    ----------
    path : object
        The file.
    error : OSError
        What came of the attempt.
    mend : str, optional
    """

    def __init__(self, path: object, error: OSError, mend: str = "name a file that can be read") -> None:
        why = error.strerror or str(error)
        super().__init__(str(path), "file", why, mend)
        self.args = (f"{path}: cannot be read: {why}: {mend}",)


class PlaceError(InputError):
    """A place cannot be used: outside of the map, occupied, or cut off from the fleet."""


class ProtocolError(FleetMarketError, ValueError):
    """A message on the wire cannot be accepted.

    Parameters
    ----------
    reason : str
        Short machine-readable reason (``oversized``, ``malformed``, ``wrong_sender`` ...), the label it is counted under.
    detail : str
        What exactly is wrong, for the log.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class UnreachableError(FleetMarketError):
    """No way leads from one point of the map to the other."""


class StoreError(FleetMarketError, RuntimeError):
    """The ledger's database cannot be used as it is."""


class LeaseLostError(StoreError):
    """Another daemon has taken over the zone: this one stops it, and has stored nothing since."""


class LedgerMismatchError(FleetMarketError, RuntimeError):
    """The pure ledger and the database disagree about a balance; nothing may be committed."""


class ClockError(FleetMarketError, RuntimeError):
    """The clock of this machine has jumped, or is far behind the market's time."""


class ControlError(FleetMarketError, ConnectionError):
    """No daemon answers on its control socket, or it cannot do what the operator asked."""


class BrokerError(FleetMarketError, ConnectionError):
    """The MQTT broker cannot be found, started or reached."""


class ReplyTimeoutError(FleetMarketError, TimeoutError):
    """The market did not answer a request in time."""
