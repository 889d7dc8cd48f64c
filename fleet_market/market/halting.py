"""The operator's halt: nothing is sold, and what robots are doing goes on."""

from __future__ import annotations

from fleet_market.market.commands import Halt
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import State
from fleet_market.protocol import topics

REASON = "the market is halted"


def set_halted(state: State, body: Halt, now_ns: int, out: Outcome) -> None:
    """Halt the market, or let it go on.

    A halt ends the open batch without a sale and takes back the awards that no robot has accepted yet, without blame:
    their orders wait for the market to go on. Contracts under way are followed, proved and paid as ever, those included
    that have just been sold on and whose new robot has still to accept: their old one has let go of them.
    """
    repeated = state.halted is body.halted
    out.changed = not repeated or state.halt_reason != body.reason
    state.halted, state.halt_reason = body.halted, body.reason
    if repeated:
        return
    if body.halted:
        state.call = None
        _take_back(state, now_ns, out)
    if state.epoch:
        out.sends.append(Send(topics.zone(state.zone, "auctioneer"), state.auctioneer(), retain=True))


def _take_back(state: State, now_ns: int, out: Outcome) -> None:
    for contract in [c for c in state.contracts.values() if not (c.accepted or c.principals)]:
        order = state.revoke(contract, REASON, now_ns, out)
        del order.cool_until_ns[contract.robot]
        order.attempts -= 1
        order.reopen(REASON)
        state.put_on_sale(order, now_ns)
        state.announce(order, out)
