"""What a market says about its books, for all to see and keep."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.protocol.messages.fields import Body, Count


class JournalHead(Body):
    """The last row of a day's journal, signed: whoever keeps it can prove later that the past was not rewritten.

    The signature is that of `fleet_market.ledger.heads`, with the market's ledger key.
    """

    type: Literal["journal_head"] = "journal_head"
    day: Count
    """Whole days of market time since its zero."""
    seq: Count
    """Number of the row."""
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The public key, hexadecimal."""
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
