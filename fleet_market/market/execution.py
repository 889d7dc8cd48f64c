"""Contracts under way: acceptance, signs of life, evidence, settlement, and what happens when a robot fails."""

from __future__ import annotations

from dataclasses import replace

from fleet_market.contracts import Contract, Level, Promise, find_faults
from fleet_market.ids import MessageId, RobotId, derive
from fleet_market.market.commands import Command
from fleet_market.market.judging import score_quotes
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.state import State, award_id
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Abort,
    Accept,
    Body,
    Complete,
    Decline,
    OrderState,
    Phase,
    Place,
    Progress,
    Receipt,
    Settle,
)
from fleet_market.units import ns, seconds

OK = "ok"
NOT_YOURS = "no_such_contract"
"""Result in a receipt: the contract is over or belongs to another robot."""


class Execution:
    """Follows every contract from its award to its end."""

    def __init__(self, state: State) -> None:
        self._state = state

    def tick(self, now_ns: int, out: Outcome) -> None:
        """Take back contracts whose robots have not answered, fallen silent, or overrun every limit."""
        for contract in self._state.contracts.overdue(now_ns):
            if not contract.accepted:
                reason = f"{contract.robot} did not answer the award in time"
            elif now_ns >= contract.limit_ns:
                reason = f"{contract.robot} was not done {self._state.terms.overdue_s:g} s after the deadline"
            else:
                reason = f"{contract.robot} gave no sign of life for {self._state.terms.lease_s:g} s"
            self._fail(contract, reason, now_ns, out)

    def handle(self, command: Command, out: Outcome) -> None:
        """Handle a robot's message about a contract and confirm it."""
        robot, body = RobotId(command.source), command.body
        match body:
            case Accept():
                result = self._accept(robot, body, command.now_ns, out)
            case Progress():
                self._progress(robot, body, command.now_ns, out)
                return
            case Decline():
                result = self._give_up(robot, body, body.reason, command.now_ns, out)
            case Abort():
                result = self._give_up(robot, body, body.reason, command.now_ns, out)
            case Complete():
                result = self._complete(robot, body, command.now_ns, out)
            case _:
                return
        if command.message_id is not None:
            receipt = Receipt(of=command.message_id, result=result)
            out.sends.append(Send(topics.to_robot(robot, "receipt"), receipt, corr=command.message_id, reply=True))
            out.changed = True

    def _own(self, robot: RobotId, body: Accept | Progress | Decline | Abort | Complete) -> Contract | None:
        contract = self._state.contracts.get(body.contract)
        return contract if contract is not None and contract.robot == robot else None

    def _accept(self, robot: RobotId, body: Accept, now_ns: int, out: Outcome) -> str:
        contract = self._own(robot, body)
        if contract is None:
            return NOT_YOURS
        if not contract.accepted:
            contract.accepted = True
            contract.lease_until_ns = now_ns + ns(self._state.terms.lease_s)
            self._state.contracts.watch(contract)
            order = self._state.orders[contract.order]
            order.state, order.phase = OrderState.EXECUTING, contract.phase
            out.done.append(award_id(contract.id))
            self._state.announce(order, out)
        return OK

    def _progress(self, robot: RobotId, body: Progress, now_ns: int, out: Outcome) -> None:
        contract = self._own(robot, body)
        if contract is None or not contract.accepted:
            return
        contract.lease_until_ns = now_ns + ns(self._state.terms.lease_s)
        contract.phase, contract.aboard, contract.pose = body.phase, body.aboard, body.pose
        order = self._state.orders[contract.order]
        order.energy_so_far_j, out.changed = body.energy_j, True
        if order.phase != body.phase:
            order.phase = body.phase
            self._state.announce(order, out)

    def _give_up(self, robot: RobotId, body: Decline | Abort, reason: str, now_ns: int, out: Outcome) -> str:
        contract = self._own(robot, body)
        if contract is None:
            return NOT_YOURS
        if isinstance(body, Abort):
            contract.pose, contract.aboard = body.pose, body.aboard
        self._fail(contract, f"{robot} gave it up: {reason}", now_ns, out, tell=False)
        return OK

    def _complete(self, robot: RobotId, body: Complete, now_ns: int, out: Outcome) -> str:
        contract = self._own(robot, body)
        if contract is None:
            return NOT_YOURS
        state, order = self._state, self._state.orders[contract.order]
        brought_back = order.brought_back_from is not None
        faults = find_faults(body, contract, order, state.terms, now_ns)
        if faults and order.brought_back_from is not None:
            there = replace(order, dropoff=order.brought_back_from)  # the robot was quicker than its recall
            if not find_faults(body, contract, there, state.terms, now_ns):
                faults, brought_back, order.dropoff = [], False, there.dropoff
        if faults:
            self._fail(contract, f"no payment without evidence: {'; '.join(faults)}", now_ns, out)
            return "refused"
        dues = state.pay(order, contract, now_ns, out)
        order.price_uc = dues[0]
        del state.contracts[contract.id]
        late_s = seconds(now_ns - order.deadline_ns)
        state.end_order(order, OrderState.CANCELLED if brought_back else OrderState.SETTLED)
        order.contract = contract.id
        order.measured_energy_j, order.evidence, order.settled_ns = body.energy_j, body.steps, now_ns
        order.note = "brought back" if brought_back else f"{late_s:.0f} s late" if late_s > 0 else ""
        order.levels = tuple(
            view.model_copy(update={"paid_uc": paid}) for view, paid in zip(order.levels, dues, strict=False)
        )
        state.robots[robot].settled += 1
        levels: tuple[Level | Contract, ...] = (*contract.principals, contract)
        for level, due, passed_on in zip(levels, dues, (*dues[1:], 0), strict=True):
            state.robots[level.robot].earned_uc += due - passed_on
        settle = Settle(contract=contract.id, order=order.id, price_uc=dues[-1])
        message = MessageId(f"settle:{derive(contract.id)}")
        out.sends.append(Send(topics.to_robot(robot, "settle"), settle, id=message))
        out.done.append(award_id(contract.id))
        state.announce(order, out)
        score_quotes(state, order, out)
        return OK

    def _fail(self, contract: Contract, reason: str, now_ns: int, out: Outcome, *, tell: bool = True) -> None:
        state = self._state
        order = state.revoke(contract, reason, now_ns, out, tell=tell)
        first, *below = (*contract.principals, contract)
        order.broken.append(Promise(first.owner, first.price_uc, tuple((c.owner, c.price_uc) for c in below)))
        state.robots[contract.robot].failed += 1
        silent_while_loading = tell and contract.phase is Phase.LOADING
        if (contract.aboard or silent_while_loading) and contract.pose is not None:
            order.pickup = self._handover(contract)
            order.unfit.clear()
        if order.attempts >= state.terms.max_attempts:
            note = f"failed after {order.attempts} awards; {reason}"
            state.close_order(order, OrderState.FAILED, note[:160], now_ns, out)
        else:
            order.reopen(reason[:160])
            state.put_on_sale(order, now_ns)
            state.announce(order, out)

    def _handover(self, contract: Contract) -> Place:
        """Return where another robot takes the parcel over: beside the robot that has it, or that stands where it lies."""
        if contract.pose is None:
            raise ValueError(f"contract {contract.id} has a parcel aboard but no pose")
        terms = self._state.terms
        return Place(
            x=contract.pose.x,
            y=contract.pose.y,
            radius_m=terms.handover_far_m,
            keep_off_m=terms.handover_near_m,
            name=f"beside {contract.robot}"[:64],
        )


def is_execution(body: Body) -> bool:
    """Return whether a robot's message belongs here."""
    return isinstance(body, Accept | Progress | Decline | Abort | Complete)
