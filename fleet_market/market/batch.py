"""The batch: a sealed call in rounds. Each round asks, clears and holds what it sold; the end of the batch awards it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fleet_market.auction import LotOffer, Mechanism, SealedAsk, clear
from fleet_market.contracts import Order
from fleet_market.contracts.terms import MAX_QUOTES_PER_CALL
from fleet_market.ids import CallId, OrderId, RobotId
from fleet_market.market.closing import award, publish, seed_of
from fleet_market.market.offers import Stall
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.records import Recorder
from fleet_market.market.release import members_of
from fleet_market.market.state import Missed, OpenCall, State, Win, Wish
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Ask,
    AskLine,
    Call,
    DeclineLine,
    DeclineReason,
    Lot,
    LotRecord,
    OrderState,
    WirePose,
)
from fleet_market.units import ns

MAX_LOTS = 10_000
"""Lots of one batch; more wait for the next."""
MAX_PERIODS = 10
"""A batch opens no further round after so many batch periods, lest slow robots hold everyone up."""
SEND_S, ANSWER_S = 0.002, 0.01
"""A large fleet must not be late because it is large. For each robot that is asked, the market waits so much longer for
the first answer, since all calls have to be sent; and for the last one, as long as answers keep coming [both some times
what benchmarks.burst measures]."""
MAX_DOUBLINGS = 3
"""After each batch that no robot has answered, the market waits twice as long for the first answer, up to so often: calls
that come faster than they can be answered keep the answers away."""
KEPT_SHARE = 2
"""A robot that has won nothing is asked again when less than one in so many of its lots can still be had."""
FOR_GOOD = (DeclineReason.PAYLOAD, DeclineReason.UNREACHABLE)
"""What a robot declines for these reasons it is not offered again."""


class Batches:
    """Runs the zone's batches, one after the other."""

    def __init__(self, state: State) -> None:
        self._state = state

    def tick(self, now_ns: int, out: Outcome, *, may_open: bool = True) -> None:
        """End the round that is due, and open the next batch when it is time and there is anything to sell."""
        call = self._state.call
        if call is not None and now_ns >= min(call.close_ns, call.quiet_ns):
            call.taking_part -= call.waiting
            for robot in sorted(call.waiting):
                self._state.missed[robot] = Missed(call.id, call.round, call.offered[robot])
            call.waiting = set()
            self._clear_if_answered(call, now_ns, out)
        may_open = may_open and not (self._state.paused or self._state.halted)
        if may_open and self._state.call is None and now_ns >= self._state.next_batch_ns:
            self._open(now_ns, out)

    def take(self, robot: RobotId, ask: Ask, now_ns: int, out: Outcome) -> None:
        """Keep a robot's sealed asks; the first message for a round counts, late or foreign ones do not.

        The round ends with the answer of the last robot that was asked: nobody gains by being quicker than others. It
        does not wait for robots that are silent when no other answer has come for a while. What a robot asks for too
        late comes first in the next re-auction.
        """
        state, call = self._state, self._state.call
        if call is None or (ask.call, ask.round) != (call.id, call.round) or robot not in call.waiting:
            self._take_late(robot, ask, out)
            return
        offered = call.offered[robot]
        lines: tuple[AskLine | DeclineLine, ...] = (*ask.declines, *reversed(ask.asks))
        if any(line.lot >= len(offered) for line in lines):
            return
        answers = {offered[line.lot]: line for line in lines}
        call.answers[robot] = {order: line for order, line in answers.items() if order in state.orders}
        if call.round == 1:
            call.quotes[robot] = {order: line for order, line in answers.items() if order not in state.orders}
        known = state.robots[robot]
        known.at = ask.at or known.at
        for order, line in call.answers[robot].items():
            if isinstance(line, DeclineLine) and line.reason in FOR_GOOD:
                state.orders[order].unfit.add(robot)
        call.taking_part.add(robot)
        call.waiting.discard(robot)
        call.quiet_ns = max(call.quiet_ns, now_ns + ns(state.terms.round_s))
        out.changed = True
        self._clear_if_answered(call, now_ns, out)

    def _take_late(self, robot: RobotId, ask: Ask, out: Outcome) -> None:
        """Remember what a robot has asked for after its round was over."""
        missed = self._state.missed.get(robot)
        if missed is None or (ask.call, ask.round) != (missed.call, missed.round):
            return
        del self._state.missed[robot]
        cheapest = sorted((line.ask_uc, line.lot) for line in ask.asks if line.lot < len(missed.offered))
        orders = tuple(dict.fromkeys(missed.offered[lot] for _, lot in cheapest))
        if orders:
            self._state.wishes[robot] = Wish("late ask", orders)
        out.changed = True

    def gone(self, robot: RobotId, now_ns: int, out: Outcome) -> None:
        """Go on without a robot that has left."""
        call = self._state.call
        if call is None:
            return
        call.answers.pop(robot, None)
        call.taking_part.discard(robot)
        if robot in call.waiting:
            call.waiting.discard(robot)
            self._clear_if_answered(call, now_ns, out)

    # --- a batch and its rounds ------------------------------------------------------------------------------------------

    def _open(self, now_ns: int, out: Outcome) -> None:
        state = self._state
        orders = state.open_orders()[:MAX_LOTS]
        quotes = state.quotes[:MAX_QUOTES_PER_CALL]
        lots = {order.id: lot_of(order) for order in orders} | {quote.lot.order: quote.lot for quote in quotes}
        online = [name for name, robot in state.robots.items() if robot.online]
        if not lots or not online:
            return
        state.batches += 1
        within_s = state.terms.batch_s * 2 ** min(state.unanswered, MAX_DOUBLINGS)
        until_ns = now_ns + ns(within_s + (MAX_PERIODS - 1) * state.terms.batch_s)
        call = OpenCall(CallId(f"{state.zone}:{state.epoch}:{state.batches}"), now_ns, now_ns, now_ns, until_ns, lots)
        call.floor = self._next_floor(call, now_ns)
        state.call, out.changed = call, True
        state.next_batch_ns = now_ns + ns(state.terms.batch_s)
        self._ask(call, online, now_ns, within_s, out)
        self._clear_if_answered(call, now_ns, out)

    def _on_sale(self, call: OpenCall, now_ns: int) -> list[Order]:
        """Return the orders of the present round."""
        open_orders = self._unsold(call)
        if call.floor <= 0:
            return open_orders
        ranks = self._ranks(open_orders, now_ns)
        return [order for order in open_orders if ranks[order.id] >= call.floor]

    def _unsold(self, call: OpenCall) -> list[Order]:
        orders = (self._state.orders[name] for name in call.lots if name in self._state.orders)
        return [o for o in orders if o.state is OrderState.OPEN and o.id not in call.wins and o.id not in call.left_out]

    def _ranks(self, orders: Iterable[Order], now_ns: int) -> dict[OrderId, int]:
        """Return the rank of each order, of a group the highest."""
        aging_ns = ns(self._state.terms.aging_s)
        own = {order.id: order.rank(now_ns, aging_ns) for order in orders}
        best: dict[tuple[str, str | None], int] = {}
        key_of = {name: (order.customer, order.bound_group()) for name in own if (order := self._state.orders[name])}
        for name, key in key_of.items():
            best[key] = max(best.get(key, 0), own[name])
        return {name: best[key] if key[1] is not None else own[name] for name, key in key_of.items()}

    def _next_floor(self, call: OpenCall, now_ns: int, *, below: int | None = None) -> int:
        """Return the highest rank that is unsold, under `below` if given; -1 if there is none."""
        ranks = self._ranks(self._unsold(call), now_ns).values()
        return max((rank for rank in ranks if below is None or rank < below), default=-1)

    def _ask(self, call: OpenCall, robots: Iterable[RobotId], now_ns: int, within_s: float, out: Outcome) -> None:
        """Send the round's calls."""
        state = self._state
        orders = self._on_sale(call, now_ns)
        quotes = [name for name in call.lots if name not in state.orders] if call.round == 1 else []
        robots = list(robots)
        call.close_ns, call.waiting = now_ns + ns(within_s + ANSWER_S * len(robots)), set()
        call.quiet_ns = now_ns + ns(within_s + SEND_S * len(robots))
        out.changed = True
        if call.round == 1 and len(orders) <= state.terms.lots_per_robot:
            everything = (*(order.id for order in orders), *quotes)
            call.offered = dict.fromkeys(robots, everything)
            call.waiting = set(call.offered)
            out.sends.append(Send(topics.zone(state.zone, "call"), _page(call, everything)))
            return
        stall = Stall(orders, now_ns)
        for robot in robots:
            known = state.robots[robot]
            lots = stall.nearest(robot, known.at, state.terms.lots_per_robot, carries_kg=known.announce.max_payload_kg)
            offered = (*lots, *quotes)
            if not offered and call.round > 1:
                continue
            call.offered[robot] = offered
            call.answers.pop(robot, None)
            if offered:
                call.waiting.add(robot)
                page = _page(call, offered, won=call.won.get(robot, ()))
                out.sends.append(Send(topics.to_robot(robot, "call"), page))

    def _clear_if_answered(self, call: OpenCall, now_ns: int, out: Outcome) -> None:
        """Clear round after round until somebody has to be waited for or the batch has ended."""
        while self._state.call is call and not call.waiting:
            winners = self._sell(call, now_ns)
            if not self._next_round(call, winners, now_ns, out):
                self._finish(call, now_ns, out)

    def _sell(self, call: OpenCall, now_ns: int) -> set[RobotId]:
        """Sell what the present round can sell; return who has won something."""
        state = self._state
        orders = {order.id: order for order in self._on_sale(call, now_ns)}
        asks = [ask for robot in sorted(call.answers) for ask in self._eligible(call, robot, orders, now_ns)]
        cleared = clear(
            [LotOffer(order.id, order.max_price_uc) for order in orders.values()],
            asks,
            seed=seed_of(state, call),
            mechanism=Mechanism(state.terms.mechanism),
        )
        lots_of = {won.robot: won for won in cleared.awards}
        recorder = Recorder(state, call, now_ns)
        for robot, won in lots_of.items():
            order, line = orders[won.order], call.answers[robot][won.order]
            if not isinstance(line, AskLine):
                raise TypeError(f"{robot} won {order.id} without an ask")
            call.wins[order.id] = Win(won, line, recorder.sold(order, won, cleared, lots_of))
            call.won[robot] = (*call.won.get(robot, ()), order.id)
            state.robots[robot].at = WirePose(x=order.dropoff.x, y=order.dropoff.y)
        for robot in lots_of:
            del call.answers[robot]
        call.welfare_uc += cleared.welfare_uc
        return set(lots_of)

    def _next_round(self, call: OpenCall, winners: Collection[RobotId], now_ns: int, out: Outcome) -> bool:
        """Open the next round if there is something to gain in it; return whether there is."""
        terms = self._state.terms
        if call.round >= terms.max_rounds or now_ns >= call.until_ns or not call.taking_part:
            return False
        left = {order.id for order in self._on_sale(call, now_ns)}
        if left and winners:
            again = [r for r in sorted(call.taking_part) if r in winners or self._is_short(call, r, left)]
        else:
            call.floor, again = self._next_floor(call, now_ns, below=call.floor), sorted(call.taking_part)
            if call.floor < 0:
                return False
        call.round += 1
        self._ask(call, again, now_ns, terms.round_s, out)
        return True

    def _is_short(self, call: OpenCall, robot: RobotId, left: Collection[OrderId]) -> bool:
        """Return whether a robot has few lots left of those it was offered, while there are others."""
        offered = call.offered[robot]
        kept = sum(order in left and robot not in self._state.orders[order].unfit for order in offered)
        return kept * KEPT_SHARE < min(len(offered), len(left)) and kept < len(left)

    def _eligible(self, call: OpenCall, robot: RobotId, orders: dict[OrderId, Order], now_ns: int) -> Iterable[SealedAsk]:
        owner = self._state.robots[robot].announce.owner
        for name, line in call.answers[robot].items():
            order = orders.get(name)
            if order is not None and isinstance(line, AskLine) and now_ns >= order.cool_until_ns.get(robot, 0):
                yield SealedAsk(robot, owner, name, line.ask_uc, self._state.handicap_uc(order, robot, line))

    # --- the end of a batch ----------------------------------------------------------------------------------------------

    def _finish(self, call: OpenCall, now_ns: int, out: Outcome) -> None:
        """Award what was sold; if a group was sold in part, begin again without it."""
        state = self._state
        self._drop_void_wins(call)
        if parts := self._sold_in_part(call):
            self._keep_why(call, parts, now_ns)
            if call.round < state.terms.max_rounds and call.taking_part:
                call.wins.clear()
                call.won.clear()
                call.answers.clear()
                call.welfare_uc = 0
                call.round, call.floor = call.round + 1, self._next_floor(call, now_ns)
                self._ask(call, sorted(call.taking_part), now_ns, state.terms.round_s, out)
                return
            for name in parts & call.wins.keys():
                del call.wins[name]
        state.call = None
        state.unanswered = 0 if call.taking_part else state.unanswered + 1
        recorder = Recorder(state, call, now_ns)
        found: list[LotRecord] = []
        out.changed = True
        for name in call.lots:
            order = state.orders.get(name)
            if order is None or order.state is not OrderState.OPEN:
                continue
            win = call.wins.get(name)
            record = win.record if win is not None else call.lost.get(name) or recorder.unsold(order)
            order.keep(record)
            found.append(record)
        for name, win in call.wins.items():
            award(state, state.orders[name], win, call, now_ns, out)
        publish(state, call, found, now_ns, out)

    def _keep_why(self, call: OpenCall, parts: Collection[OrderId], now_ns: int) -> None:
        """Leave these orders out of the rest of the batch, and keep what was asked for them."""
        recorder = Recorder(self._state, call, now_ns)
        for name in sorted(parts & call.lots.keys()):
            order, win = self._state.orders[name], call.wins.get(name)
            call.lost[name] = recorder.unsold(order) if win is None else recorder.withdrawn(order, win.record)
        call.left_out |= set(parts)

    def _drop_void_wins(self, call: OpenCall) -> None:
        """Forget wins of orders that were cancelled meanwhile and of robots that have left."""
        state = self._state
        for name, win in list(call.wins.items()):
            if state.orders[name].state is not OrderState.OPEN or not state.robots[win.award.robot].online:
                del call.wins[name]

    def _sold_in_part(self, call: OpenCall) -> set[OrderId]:
        """Return the orders of groups of which some are sold and some are not."""
        parts: set[OrderId] = set()
        for name in call.wins:
            order = self._state.orders[name]
            if order.bound_group() is not None:
                members = {member.id for member in members_of(self._state, order)}
                if not members <= call.wins.keys():
                    parts |= members
        return parts


def _page(call: OpenCall, offered: Collection[OrderId], won: tuple[OrderId, ...] = ()) -> Call:
    lots = tuple(call.lots[name] for name in offered)
    return Call(call=call.id, round=call.round, won=won, page=0, pages=1, close_ns=call.close_ns, lots=lots)


def lot_of(order: Order) -> Lot:
    """Return an order as robots are asked for it."""
    return Lot(
        order=order.id,
        pickup=order.pickup,
        dropoff=order.dropoff,
        payload_kg=order.payload_kg,
        deadline_ns=order.deadline_ns,
        lateness_uc_per_h=order.lateness_uc_per_h,
    )
