"""Re-auctions: contracts that are only queued go on sale again between batches, and move if the sum of costs falls.

One at a time. The holders say what they save by losing their contracts and ask, like the others, to take each of them; the
lots are sold one after the other to fresh marginal asks (Koenig et al. 2006). What comes out is taken apart into deals
(`fleet_market.auction.trading`). A deal waits until every robot that gives something away has let go of it, so that no task
is done twice. New orders come first: a batch that is due ends the bidding, and waits for pending deals `round_s` at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fleet_market.auction.trading import Move, components, settle_prices
from fleet_market.contracts import Contract, damage_uc, lateness_uc
from fleet_market.ids import CallId, ContractId, MessageId, OrderId, OwnerId, RobotId, derive
from fleet_market.market.batch import lot_of
from fleet_market.market.bundles import Bundle, Chooser, asked_for, movable, orders_of
from fleet_market.market.commands import Command
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import Bid, Pending, Resale, State, Wish
from fleet_market.market.trades import Trades
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    AskLine,
    DeclineLine,
    Keep,
    Offer,
    Prepare,
    Prepared,
    Reauction,
    Receipt,
    ResaleAsk,
)
from fleet_market.units import ns

NOTHING_BETTER = "no better found"
PAUSE_S_PER_CONTRACT = 1e-4
"""Choosing a bundle takes up to 10 us for each contract that may be chosen (measured, 5,000 contracts, 1,000 robots): with
pauses ten times as long it takes a tenth of a core at most."""


class Resales:
    """Runs the zone's re-auctions, one after the other."""

    def __init__(self, state: State) -> None:
        self._state, self._trades = state, Trades(state)

    def tick(self, now_ns: int, out: Outcome) -> None:
        """End what is due, and open the next re-auction when no batch is open and there is something to try."""
        state, resale = self._state, self._state.resale
        if resale is not None and now_ns >= resale.close_ns:
            out.changed = True
            if resale.pending:
                for pending in list(resale.pending):
                    late = ", ".join(sorted(pending.unprepared))
                    self._drop(resale, pending, f"{late} did not let go in time", now_ns, out)
            else:
                resale.waiting, out.changed = set(), True
                self._go_on(resale, now_ns, out)
        idle = state.resale is None and state.call is None and not (state.paused or state.halted)
        if idle and state.terms.resale and now_ns >= state.next_resale_ns:
            self._open(now_ns, out)

    def make_way(self, now_ns: int, out: Outcome) -> bool:
        """End the bidding when a batch is due; return whether the batch may open."""
        state, resale = self._state, self._state.resale
        if resale is None:
            return True
        due = state.call is None and now_ns >= state.next_batch_ns and not state.paused
        if not due or not (state.quotes or state.open_orders()):
            return False
        if resale.pending:
            return False
        state.resale, out.changed = None, True
        return True

    def take(self, robot: RobotId, ask: ResaleAsk, now_ns: int, out: Outcome) -> None:
        """Keep a robot's answer to the present round."""
        resale = self._state.resale
        if resale is None or (ask.call, ask.round) != (resale.id, resale.round) or robot not in resale.waiting:
            return
        offered = resale.offered[robot]
        lines: tuple[AskLine | DeclineLine, ...] = (*ask.asks, *ask.declines)
        if any(line.lot >= len(offered) for line in lines):
            return
        resale.answers[robot] = {offered[line.lot]: line for line in reversed(ask.asks)}
        if ask.saving_uc is not None and resale.round == 1 and robot in resale.holders:
            resale.saving_uc[robot] = ask.saving_uc
        resale.waiting.discard(robot)
        out.changed = True
        self._go_on(resale, now_ns, out)

    def prepared(self, command: Command, body: Prepared, out: Outcome) -> None:
        """Take a robot's word that it has let go of its contracts, or that it has not."""
        robot, state, resale = RobotId(command.source), self._state, self._state.resale
        if command.message_id is not None:
            receipt = Receipt(of=command.message_id)
            out.sends.append(Send(topics.to_robot(robot, "receipt"), receipt, corr=command.message_id, reply=True))
        out.changed = True
        asked = resale.pending if resale is not None and resale.id == body.call else []
        waits = [pending for pending in asked if robot in pending.unprepared]
        if resale is None or not waits:
            self._tell_to_keep(robot, body.call, body.contracts, out, after=command.message_id or "")
            return
        if not body.agreed:
            self._drop(resale, waits[0], f"{robot} has begun it", command.now_ns, out)
            return
        waits[0].unprepared.discard(robot)
        if not waits[0].unprepared:
            self._carry_out(resale, waits[0], command.now_ns, out)
        state.resale = resale if resale.pending else None

    def offer(self, robot: RobotId, body: Offer, out: Outcome) -> None:
        """Remember what a robot would rather have others do."""
        orders = tuple(dict.fromkeys(contract.order for contract in self._own(robot, body.contracts)))
        if orders and (wish := Wish("offer", orders)) != self._state.wishes.get(robot):
            self._state.wishes[robot], out.changed = wish, True

    def gone(self, robot: RobotId, now_ns: int, out: Outcome) -> None:
        """Go on without a robot that has left: it takes and gives nothing."""
        resale = self._state.resale
        if resale is None:
            return
        for pending in [p for p in resale.pending if robot in p.deal.gain_uc]:
            self._drop(resale, pending, f"{robot} has left", now_ns, out)
        if self._state.resale is not resale or resale.pending:
            return
        resale.answers.pop(robot, None)
        if robot in resale.waiting:
            resale.waiting.discard(robot)
            self._go_on(resale, now_ns, out)

    def stop(self, out: Outcome) -> None:
        """Drop what is open, to be tried again: the daemon has started anew, or the market is halted."""
        resale, self._state.resale = self._state.resale, None
        if resale is not None:
            self._state.tries = 0
            for pending in resale.pending:
                self._free_givers(pending, resale, out)

    def _own(self, robot: RobotId, names: Iterable[ContractId]) -> list[Contract]:
        """Return those of some contracts that are a robot's."""
        found = [self._state.contracts.get(name) for name in names]
        return [contract for contract in found if contract is not None and contract.robot == robot]

    # --- a re-auction and its rounds --------------------------------------------------------------------------------------

    def _open(self, now_ns: int, out: Outcome) -> None:
        state, terms = self._state, self._state.terms
        contracts = movable(state, now_ns)
        if not contracts or sum(robot.online for robot in state.robots.values()) < 2:
            return
        chooser = Chooser(state, contracts)
        tries = state.tries if chooser.situation == state.situation else 0
        first: tuple[RobotId, ...] = ()
        wished, found = chooser.wished(), chooser.number(tries)
        if wished is not None and not (state.wish_met and found is not None):
            robot, bundle = wished
            del state.wishes[robot]
            first, state.wish_met = (robot,), True
        elif found is not None:
            tries, bundle, state.wish_met = found[0] + 1, found[1], False
        else:
            return
        state.situation, state.tries, state.resales = chooser.situation, tries, state.resales + 1
        state.next_resale_ns = now_ns + ns(max(terms.resale_every_s, len(contracts) * PAUSE_S_PER_CONTRACT))
        self._call_for(bundle, first, now_ns, out)

    def _call_for(self, bundle: Bundle, first: Iterable[RobotId], now_ns: int, out: Outcome) -> None:
        state, (kind, contracts) = self._state, bundle
        resale = Resale(
            CallId(f"{state.zone}:{state.epoch}:r{state.resales}"),
            kind,
            now_ns,
            now_ns + ns(state.terms.resale_s),
            {contract.order: contract.id for contract in contracts},
            orders_of(contracts),
        )
        state.resale, out.changed = resale, True
        self._ask(resale, asked_for(state, contracts, first), now_ns, out)
        self._go_on(resale, now_ns, out)

    def _ask(self, resale: Resale, robots: Iterable[RobotId], now_ns: int, out: Outcome) -> None:
        state = self._state
        resale.close_ns = min(now_ns + ns(state.terms.round_s), resale.until_ns)
        for robot in robots:
            own = tuple(resale.lots[order] for order in resale.holders.get(robot, ()) if order in resale.lots)
            lots = tuple(o for o in resale.lots if o not in resale.sold and self._may_ask(robot, resale.lots[o], now_ns))
            resale.offered[robot] = lots
            resale.answers.pop(robot, None)
            if not lots and not own:
                continue
            resale.waiting.add(robot)
            body = Reauction(
                call=resale.id,
                round=resale.round,
                lots=tuple(lot_of(state.orders[order]) for order in lots),
                own=own,
                won=resale.won_by(robot),
                close_ns=resale.close_ns,
            )
            out.sends.append(Send(topics.to_robot(robot, "reauction"), body))

    def _may_ask(self, robot: RobotId, name: ContractId, now_ns: int) -> bool:
        """Return whether a robot may take a contract: it can, does not cool down, and is no worse a risk."""
        state = self._state
        contract = state.contracts.get(name)
        if contract is None:
            return False
        if contract.robot == robot:
            return True
        order, known, holder = state.orders[contract.order], state.robots[robot], state.robots[contract.robot]
        risk_uc, accepted_uc = (damage_uc(order, done=r.settled, failed=r.failed) for r in (known, holder))
        return (
            order.payload_kg <= known.announce.max_payload_kg
            and robot not in order.unfit
            and now_ns >= order.cool_until_ns.get(robot, 0)
            and risk_uc <= accepted_uc
        )

    def _go_on(self, resale: Resale, now_ns: int, out: Outcome) -> None:
        """Sell lot after lot until somebody has to be waited for, or nothing more can be sold."""
        if resale.round == 1 and not resale.waiting:
            self._withdraw(resale)
        while self._state.resale is resale and not resale.waiting and not resale.pending:
            order = self._sell(resale)
            left = [name for name in resale.lots if name not in resale.sold]
            if order is None or not left or now_ns >= resale.until_ns:
                self._decide(resale, now_ns, out)
            else:
                resale.round += 1
                self._ask(resale, [resale.sold[order].robot], now_ns, out)

    def _withdraw(self, resale: Resale) -> None:
        """Take off what its holder does not give away."""
        for robot, orders in resale.holders.items():
            if robot not in resale.saving_uc:
                for order in orders:
                    resale.lots.pop(order, None)

    def _sell(self, resale: Resale) -> OrderId | None:
        """Sell the lot with the lowest ask that is open; return it, None if nobody asks for any."""
        best: tuple[int, str, OrderId, Bid] | None = None
        for order in resale.lots:
            if order not in resale.sold and (bid := self._lowest(resale, order)) is not None:
                key = (bid.line.ask_uc + bid.extra_uc, derive(resale.id, order))
                if best is None or key < best[:2]:
                    best = (*key, order, bid)
        if best is None:
            return None
        resale.sold[best[2]] = best[3]
        return best[2]

    def _lowest(self, resale: Resale, name: OrderId) -> Bid | None:
        """Return the lowest ask for a lot, ties settled by a draw."""
        contract = self._contract(resale, name)
        if contract is None:
            return None
        asks = sorted(
            (line.ask_uc + (extra := self._extra_uc(contract, line)), derive(resale.id, robot), robot, line, extra)
            for robot, lines in resale.answers.items()
            if (line := lines.get(name)) is not None
        )
        if not asks:
            return None
        _, _, robot, line, extra_uc = asks[0]
        concerned = {self._owner(robot), contract.owner}
        rivals = (score for score, _, other, _, _ in asks[1:] if self._owner(other) not in concerned)
        return Bid(robot, line, extra_uc, next(rivals, None))

    def _extra_uc(self, contract: Contract, line: AskLine) -> int:
        """Return what the holder loses if the order is done as late as an ask says."""
        return lateness_uc(self._state.orders[contract.order], contract.due_ns, line.finish_ns)

    def _owner(self, robot: RobotId) -> OwnerId:
        return self._state.robots[robot].announce.owner

    def _contract(self, resale: Resale, order: OrderId) -> Contract | None:
        return self._state.contracts.get(resale.lots[order])

    # --- deals -----------------------------------------------------------------------------------------------------------

    def _decide(self, resale: Resale, now_ns: int, out: Outcome) -> None:
        """Take apart what was sold into deals, and ask those who give something away to let go of it."""
        state, moves, kept_uc = self._state, [], dict(resale.saving_uc)
        stuck = {
            robot for robot, orders in resale.holders.items() for o in orders if o in resale.lots and o not in resale.sold
        }
        for order, bid in resale.sold.items():
            contract = self._contract(resale, order)
            if contract is None:
                stuck.add(bid.robot)
            elif contract.robot == bid.robot:
                kept_uc[bid.robot] -= bid.line.ask_uc + bid.extra_uc
            else:
                moves.append(Move(order, contract.robot, bid.robot, bid.line.ask_uc, bid.extra_uc, bid.rival_uc))
        whys = [] if moves else [NOTHING_BETTER]
        for part in components(moves):
            robots = {robot for move in part for robot in (move.giver, move.taker)}
            deal = settle_prices(part, kept_uc, least_uc=state.terms.resale_gain_uc)
            if deal is None or robots & stuck:
                whys.append(NOTHING_BETTER)
            elif why := self._trades.obstacle(resale, deal, now_ns):
                whys.append(why)
            else:
                resale.pending.append(Pending(deal, {move.giver for move in part}))
        for why in sorted(set(whys)):
            self._trades.report(resale, None, why, now_ns, out)
        if not resale.pending:
            state.resale = None
            out.changed = True
            return
        resale.close_ns = now_ns + ns(state.terms.round_s)
        for pending in resale.pending:
            for robot in sorted(pending.unprepared):
                body = Prepare(call=resale.id, contracts=_given_by(robot, pending, resale))
                out.sends.append(Send(topics.to_robot(robot, "prepare"), body))

    def _carry_out(self, resale: Resale, pending: Pending, now_ns: int, out: Outcome) -> None:
        """Let a deal come into force: everyone has let go."""
        if why := self._trades.obstacle(resale, pending.deal, now_ns):
            self._drop(resale, pending, why, now_ns, out)
            return
        if not self._trades.make(resale, pending.deal, now_ns, out):
            self._drop(resale, pending, "what it costs could not be put on hold", now_ns, out)
            return
        resale.pending.remove(pending)

    def _drop(self, resale: Resale, pending: Pending, why: str, now_ns: int, out: Outcome) -> None:
        resale.pending.remove(pending)
        self._free_givers(pending, resale, out)
        self._trades.report(resale, pending.deal, why, now_ns, out)
        if not resale.pending:
            self._state.resale = None
        out.changed = True

    def _free_givers(self, pending: Pending, resale: Resale, out: Outcome) -> None:
        for robot in sorted({move.giver for move in pending.deal.moves}):
            self._tell_to_keep(robot, resale.id, _given_by(robot, pending, resale), out)

    def _tell_to_keep(
        self, robot: RobotId, call: CallId, contracts: Collection[ContractId], out: Outcome, *, after: str = ""
    ) -> None:
        """Tell a robot which contracts are still its own: what was sold meanwhile is not among them."""
        own = tuple(contract.id for contract in self._own(robot, contracts))
        message = MessageId(f"keep:{derive(call, robot, after)}")
        out.sends.append(Send(topics.to_robot(robot, "keep"), Keep(call=call, contracts=own), id=message))


def _given_by(robot: RobotId, pending: Pending, resale: Resale) -> tuple[ContractId, ...]:
    return tuple(resale.lots[move.order] for move in pending.deal.moves if move.giver == robot)
