"""How a deal comes into force: holds, contracts, awards, and the record of it."""

from __future__ import annotations

from collections import Counter

from fleet_market.auction.trading import Deal, Move
from fleet_market.contracts import Contract, Level, to_hold_uc
from fleet_market.ids import AccountId, ContractId, MessageId, OwnerId, TransferId, derive
from fleet_market.ledger import AccountKind, Transfer, TransferKind, account
from fleet_market.market.bundles import may_move
from fleet_market.market.closing import announce_award
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import Bid, Resale, State, award_id, escrow_of
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Cancel,
    GainRecord,
    LevelView,
    MoveRecord,
    OrderState,
    Traded,
    TradeRecord,
)
from fleet_market.units import Credits, ns


class Trades:
    """Carries out what re-auctions have come to."""

    def __init__(self, state: State) -> None:
        self._state = state

    def obstacle(self, resale: Resale, deal: Deal, now_ns: int) -> str:
        """Return why a deal cannot come into force, empty if it can."""
        state, needed = self._state, Counter[AccountId]()
        for move in deal.moves:
            contract = state.contracts.get(resale.lots[move.order])
            if contract is None or contract.robot != move.giver or not may_move(state, contract, now_ns):
                return f"{move.giver} no longer has {move.order} to give"
            if not state.robots[move.taker].online:
                return f"{move.taker} has left"
            due_ns = self._due_ns(contract, resale.sold[move.order])
            owner = account(AccountKind.OWNER, contract.owner)
            needed[owner] += to_hold_uc(state.orders[move.order], _level(contract), deal.price_uc[move.order], due_ns)
        for owner, amount in sorted(needed.items()):
            available = state.ledger.balance(owner).available_uc if state.ledger.has(owner) else 0
            if amount > available:
                return f"{owner} cannot put {Credits(amount)} on hold"
        return ""

    def make(self, resale: Resale, deal: Deal, now_ns: int, out: Outcome) -> bool:
        """Make the contracts of a deal that has no obstacle: all of them, or none; return whether they were made."""
        state, made, wishes = self._state, list[tuple[Contract, Contract]](), list[Transfer]()
        for move in deal.moves:
            old = state.contracts[resale.lots[move.order]]
            new = self._contract(resale, old, move, deal.price_uc[move.order], now_ns)
            made.append((old, new))
            if (level := new.principals[-1]).hold is not None:
                owner = account(AccountKind.OWNER, level.owner)
                order = state.orders[move.order]
                wishes.append(
                    Transfer(level.hold, TransferKind.HOLD, owner, escrow_of(order), level.held_uc, reference=order.id)
                )
        if wishes and not state.transfer(wishes, now_ns, out):
            return False
        for old, new in made:
            self._take_away(old, new, out)
        for _, new in made:
            self._award(new, out)
        record = self.report(resale, deal, "", now_ns, out)
        for move in deal.moves:
            state.orders[move.order].keep_trade(record)
        return True

    def report(self, resale: Resale, deal: Deal | None, why: str, now_ns: int, out: Outcome) -> TradeRecord:
        """Publish what has become of a deal, or that there was none."""
        moves, gains = ([], []) if deal is None else (_moves(deal), self._gains(resale, deal))
        surplus = 0 if deal is None else deal.surplus_uc
        told = ", ".join(f"{m.order} from {m.giver} to {m.taker} for {Credits(m.price_uc)}" for m in moves)
        record = TradeRecord(
            call=resale.id,
            kind=resale.kind,
            closed_ns=now_ns,
            orders=tuple(resale.lots),
            moves=tuple(moves) if not why else (),
            gains=tuple(gains),
            surplus_uc=surplus,
            summary=(why or f"{told}: costs fall by {Credits(surplus)}")[:160],
        )
        out.sends.append(Send(topics.view(self._state.zone, "traded"), Traded(record=record)))
        out.changed = True
        return record

    def _contract(self, resale: Resale, old: Contract, move: Move, price_uc: int, now_ns: int) -> Contract:
        state, bid = self._state, resale.sold[move.order]
        terms, order, robot = state.terms, state.orders[move.order], bid.robot
        due_ns = self._due_ns(old, bid)
        name = ContractId(derive("contract", order.id, robot, resale.id, price_uc))
        level = _level(old)
        if held_uc := to_hold_uc(order, level, price_uc, due_ns):
            hold = TransferId(f"hold:{derive('sub', name)}")
            level = Level(old.id, old.robot, old.owner, old.ask_uc, old.price_uc, old.due_ns, hold, held_uc)
        return Contract(
            id=name,
            order=order.id,
            robot=robot,
            owner=self._owner(bid),
            price_uc=price_uc,
            ask_uc=bid.line.ask_uc,
            energy_j=bid.line.energy_j,
            parts_uc=bid.line.parts_uc,
            awarded_ns=now_ns,
            answer_by_ns=now_ns + ns(terms.accept_s),
            limit_ns=due_ns + ns(terms.overdue_s),
            due_ns=due_ns,
            principals=(*old.principals, level),
        )

    def _take_away(self, old: Contract, new: Contract, out: Outcome) -> None:
        """Take a contract from the robot that has let go of it."""
        del self._state.contracts[old.id]
        out.done.append(award_id(old.id))
        sold = Cancel(contract=old.id, reason=f"sold on to {new.robot}")
        out.sends.append(Send(topics.to_robot(old.robot, "cancel"), sold, id=MessageId(f"cancel:{derive(old.id)}")))

    def _award(self, new: Contract, out: Outcome) -> None:
        state, order = self._state, self._state.orders[new.order]
        state.contracts[new.id] = new
        order.state, order.contract, order.robot = OrderState.AWARDED, new.id, new.robot
        order.predicted_energy_j = new.energy_j
        order.levels = _views(new)
        order.note = f"{new.robot} does it for {new.principals[-1].robot}"[:160]
        announce_award(state, order, new, out)

    def _due_ns(self, contract: Contract, bid: Bid) -> int:
        return max(contract.due_ns, bid.line.finish_ns)

    def _owner(self, bid: Bid) -> OwnerId:
        return self._state.robots[bid.robot].announce.owner

    def _gains(self, resale: Resale, deal: Deal) -> list[GainRecord]:
        asked = Counter[str]()
        for bid in resale.sold.values():
            asked[bid.robot] += bid.line.ask_uc
        return [
            GainRecord(robot=robot, saving_uc=resale.saving_uc.get(robot, 0), asks_uc=asked[robot], gain_uc=gain)
            for robot, gain in sorted(deal.gain_uc.items())
        ]


def _moves(deal: Deal) -> list[MoveRecord]:
    return [
        MoveRecord(
            order=move.order, giver=move.giver, taker=move.taker, ask_uc=move.ask_uc, price_uc=deal.price_uc[move.order]
        )
        for move in deal.moves
    ]


def _level(contract: Contract) -> Level:
    return Level(contract.id, contract.robot, contract.owner, contract.ask_uc, contract.price_uc, contract.due_ns)


def _views(contract: Contract) -> tuple[LevelView, ...]:
    held = (0, *(level.held_uc for level in contract.principals))
    levels = [(c.contract, c.robot, c.owner, c.ask_uc, c.price_uc) for c in contract.principals]
    levels.append((contract.id, contract.robot, contract.owner, contract.ask_uc, contract.price_uc))
    return tuple(
        LevelView(contract=name, robot=robot, owner=owner, ask_uc=ask, price_uc=price, held_uc=on_hold)
        for (name, robot, owner, ask, price), on_hold in zip(levels, held, strict=True)
    )
