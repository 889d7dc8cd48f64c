"""The command `fleet-market`."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from fleet_market.errors import BrokerError, ClockError, ControlError, FleetMarketError, InputError, ReplyTimeoutError

QUICK = ("halt", "resume", "status")
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NO_ANSWER, EXIT_CLOCK = 1, 2, 4, 6


def main() -> None:
    """Run the command; errors of the product become one line and an exit code.

    0 done, 1 failed, 2 bad input, 3 refused by the market, 4 no broker or no answer, 5 the order ended without success,
    6 the clock of this machine cannot be trusted.
    """
    error: BaseException | None = None
    try:
        _commands()()
    except* FleetMarketError as group:
        error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(_exit_code(error))


def _commands() -> typer.Typer:
    """Return the commands: all of them, or, so that a halt does not wait for them to be loaded, those of the operator."""
    if sys.argv[1:2] and sys.argv[1] in QUICK:
        from fleet_market.cli.operate import app  # noqa: PLC0415 - a third of the time
    else:
        from fleet_market.cli.app import app  # noqa: PLC0415 - as above
    return app


def _exit_code(error: BaseException) -> int:
    if isinstance(error, InputError):
        return EXIT_BAD_INPUT
    if isinstance(error, ClockError):
        return EXIT_CLOCK
    return EXIT_NO_ANSWER if isinstance(error, BrokerError | ControlError | ReplyTimeoutError) else EXIT_FAILED


__all__ = ["main"]
