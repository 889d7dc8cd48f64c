"""The market of one zone: orders, batches, contracts and money composed into one deterministic state machine."""

from fleet_market.market.commands import Checkpoint, Command, Halt, OpenMarket, Pace
from fleet_market.market.lookups import PlaceBook
from fleet_market.market.market import Market
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.replay import Replayed, ReplayError, order_faults, replay, resume
from fleet_market.market.snapshot import SnapshotError

__all__ = [
    "Checkpoint",
    "Command",
    "Halt",
    "Market",
    "OpenMarket",
    "Outcome",
    "Pace",
    "PlaceBook",
    "ReplayError",
    "Replayed",
    "Send",
    "SnapshotError",
    "order_faults",
    "replay",
    "resume",
]
