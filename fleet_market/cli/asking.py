"""What commands that ask a market have in common: options, the way there, amounts and names, and how answers are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.requests import Requester
from fleet_market.cli.settings import zone_id
from fleet_market.errors import InputError
from fleet_market.ids import CustomerId, Identifier
from fleet_market.protocol.messages import MAX_PRICE_UC, FieldError, printable
from fleet_market.units import Credits

EXIT_REFUSED = 3
console = Console(markup=False, emoji=False)  # what strangers wrote is shown as it is
note = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)

AsOption = Annotated[str, typer.Option("--as", help="Customer in whose name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait for an answer.", min=0.1)]
Answer = TypeVar("Answer")
IdType = TypeVar("IdType", bound=Identifier)


class Access(NamedTuple):
    """Where a customer finds the market, and as whom."""

    mqtt: str
    keys: Path | None
    customer: str
    zone: str


def request(access: Access, timeout_s: float, action: Callable[[Requester], Coroutine[Any, Any, Answer]]) -> Answer:
    """Return what `action` gets from the market."""
    host, port = parse_endpoint(access.mqtt)
    name, zone = id_of(CustomerId, access.customer, "--as"), zone_id(access.zone)

    async def run() -> Answer:
        async with Requester(host, port, name, timeout_s=timeout_s, keys=access.keys, zone=zone) as requester:
            return await action(requester)

    return asyncio.run(run())


def show_errors(errors: tuple[FieldError, ...]) -> None:
    """Print what was refused, and how to mend it."""
    for error in errors:
        line = Text.assemble(("refused:", "red"), f" {error.field} was {error.value!r}: {error.mend}")
        console.print(line, highlight=False, soft_wrap=True)


def print_json(reply: BaseModel) -> None:
    """Print a message as JSON."""
    typer.echo(reply.model_dump_json(indent=2))


def place_text(text: str, option: str) -> str:
    """Return the text of a place; raises `InputError` if it cannot be sent."""
    if printable(text) != text:
        raise InputError("command line", option, text, "leave out line breaks and control characters")
    return text[:64]


def credits_in(text: str, option: str, *, least: int = 1) -> int:
    """Return an amount in micro-credits; raises `InputError` if it is none, or out of range."""
    try:
        amount = Credits.parse(text).micro
    except ValueError as error:
        raise InputError("command line", option, text, str(error)) from None
    if not least <= amount <= MAX_PRICE_UC:
        low = "more than 0" if least else "at least 0"
        raise InputError("command line", option, text, f"use {low} and at most {Credits(MAX_PRICE_UC)} credits")
    return amount


def id_of(kind: type[IdType], text: str, where: str) -> IdType:
    """Return an identifier; raises `InputError` if it is none."""
    try:
        return kind(text)
    except ValueError:
        raise InputError("command line", where, text, f"use {kind.RULE}") from None
