"""Where the chains of a store go on whose beginning has been archived."""

from __future__ import annotations

from dataclasses import dataclass

GENESIS = "0" * 64
"""What the first row follows."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last rows of event log and journal that are kept elsewhere; the default: none are.

    Parameters
    ----------
    event_seq, event_hash : int, str
        Of the last archived event. The next one is a checkpoint, and its snapshot holds the books as they were.
    journal_seq, journal_hash, journal_ns : int, str, int
        Number, hash and time of the last archived row of the journal.
    """

    event_seq: int = 0
    event_hash: str = GENESIS
    journal_seq: int = 0
    journal_hash: str = GENESIS
    journal_ns: int = -1

    def fields(self) -> list[str | int]:
        """Return the anchor as plain values, in the order of the store's columns."""
        return [self.event_seq, self.event_hash, self.journal_seq, self.journal_hash, self.journal_ns]


START = Anchor()
"""Of a store that holds everything."""
