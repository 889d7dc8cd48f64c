"""What a robot's node says about its trade in ROS, and what it can be asked: the robot's side of `fleet_market_msgs`.

====================  ===========================================  ===============================================
``market/state``      MarketState, latched                         when it changes, and once a second
``market/ask``        Ask                                          every answer to a lot, with what it is made of
``market/contract``   Contract                                     when it is won, and when its phase changes
``market/settled``    Settlement                                   when a contract is paid
``market/price_task``   service PriceTask                          price a task without bidding
``market/set_bidding``  service SetBidding                         stop bidding, or bid again
====================  ===========================================  ===============================================
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rclpy.parameter import Parameter

from fleet_market.daemons.robot import RobotDaemon
from fleet_market.errors import InputError
from fleet_market.ids import CallId, ContractId, OrderId
from fleet_market.maps.places import Places
from fleet_market.ports import Clock
from fleet_market.protocol.messages import (
    AnyBody,
    Ask,
    AskLine,
    Auctioneer,
    Award,
    Call,
    Complete,
    DeclineLine,
    PostOrder,
    Settle,
)
from fleet_market.robot.agent import Agent
from fleet_market.robot.queue import Errand
from fleet_market.units import ns
from fleet_market_ros import interfaces, qos
from fleet_market_ros.interfaces import Interfaces, InterfacesMissingError
from fleet_market_ros.ros import Ros

if TYPE_CHECKING:
    from fleet_market_ros.robot_agent import RobotNode

log = logging.getLogger("market_side")

LOOK_S, STATE_S = 0.2, 1.0
MAX_KEPT = 20
"""Rounds and contracts that are remembered; the oldest are forgotten."""


class MarketSide:
    """The robot's side of `fleet_market_msgs`; does nothing where that is not built.

    Parameters
    ----------
    ros : Ros
    robot : RobotNode
    """

    def __init__(self, ros: Ros, robot: RobotNode) -> None:
        self._ros, self._robot = ros, robot
        self._interfaces: Interfaces | None = None
        self._clock: Clock | None = None
        self._offered: dict[tuple[CallId, int], dict[int, tuple[OrderId, ...]]] = {}
        """What each page of a round that is not answered offers."""
        self._expected_j: dict[ContractId, float] = {}
        self._measured_j: dict[ContractId, float] = {}
        self._phases: dict[ContractId, tuple[str, bool]] = {}
        self._market, self._settled, self._earned_uc = "", 0, 0
        self.trouble: InputError | None = None
        """Why messages that are there cannot be used."""
        try:
            self._interfaces = interfaces.load()
        except InterfacesMissingError as error:
            log.warning("no messages about the trade in ROS: %s", error)
            return
        except InputError as error:
            self.trouble = error
            return
        msg, srv = self._interfaces.msg, self._interfaces.srv
        self._state = ros.publisher(msg.MarketState, "market/state", qos.STATE)
        self._ask = ros.publisher(msg.Ask, "market/ask", qos.EVENT)
        self._contract = ros.publisher(msg.Contract, "market/contract", qos.EVENT)
        self._settlement = ros.publisher(msg.Settlement, "market/settled", qos.EVENT)
        ros.serve(srv.PriceTask, "market/price_task", self._price_task)
        ros.serve(srv.SetBidding, "market/set_bidding", self._set_bidding)

    def watch(self, daemon: RobotDaemon, clock: Clock) -> None:
        """Tell what a daemon hears and says from now on."""
        self._clock, self._phases = clock, {}
        if self._interfaces is not None:
            daemon.on_hear, daemon.on_say = self._on_hear, self._on_say

    async def run(self) -> None:
        """Publish the state and the contracts until cancelled."""
        if self._interfaces is None:
            return
        told: Any = None
        due = 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                state = self._state_now(self._interfaces)
                if state is not None:
                    self._tell_contracts(self._interfaces)
                    if told is None or _without_time(state) != _without_time(told) or loop.time() >= due:
                        told, due = state, loop.time() + STATE_S
                        self._state.publish(state)
                elif told is not None:
                    self._state.publish(_gone(told))
                    told = None
                await asyncio.sleep(LOOK_S)
        finally:
            if told is not None:
                self._state.publish(_gone(told))

    # --- topics -----------------------------------------------------------------------------------------------------------

    def _now(self) -> Any:
        return interfaces.time_of(0 if self._clock is None else self._clock.now_ns())

    def _state_now(self, ros: Interfaces) -> Any:
        daemon = self._robot.daemon
        if daemon is None:
            return None
        now, config = daemon.agent.situation, daemon.config
        soc = None if now.telemetry is None else now.telemetry.battery.soc
        return ros.msg.MarketState(
            stamp=self._now(),
            robot=config.agent.robot,
            owner=config.owner,
            zone=config.zone,
            market=interfaces.MARKETS.index(self._market),
            epoch=daemon.agent.epoch or 0,
            connected=daemon.online,
            bidding=now.bidding and self._robot.node.label == "active",
            doing=interfaces.DOINGS.index(now.doing),
            soc=math.nan if soc is None else float(soc),
            contracts=[interfaces.contract_of(ros, task, daemon.agent.energy_so_far_j(task)) for task in now.tasks],
            settled=self._settled,
            earned_uc=self._earned_uc,
        )

    def _tell_contracts(self, ros: Interfaces) -> None:
        daemon = self._robot.daemon
        if daemon is None:
            return
        for task in daemon.agent.tasks:
            phase = (str(task.phase), task.aboard)
            if self._phases.get(task.award.contract) != phase:
                _keep(self._phases, task.award.contract, phase)
                self._contract.publish(interfaces.contract_of(ros, task, daemon.agent.energy_so_far_j(task)))

    def _on_hear(self, body: AnyBody) -> None:
        ros = self._interfaces
        if isinstance(body, Auctioneer):
            self._market = body.status
        elif isinstance(body, Call):
            pages = self._offered.get((body.call, body.round), {})
            orders = tuple(lot.order for lot in body.lots)
            _keep(self._offered, (body.call, body.round), pages | {body.page: orders})
        elif isinstance(body, Award):
            _keep(self._expected_j, body.contract, body.energy_j)
        elif isinstance(body, Settle) and ros is not None and (expected := self._expected_j.pop(body.contract, None)):
            self._settled, self._earned_uc = self._settled + 1, self._earned_uc + body.price_uc
            settlement = ros.msg.Settlement(
                stamp=self._now(),
                robot=self._robot_id,
                contract=body.contract,
                task=body.order,
                price_uc=body.price_uc,
                expected_j=expected,
                measured_j=self._measured_j.pop(body.contract, math.nan),
            )
            self._settlement.publish(settlement)

    def _on_say(self, body: AnyBody) -> None:
        daemon = self._robot.daemon
        if isinstance(body, Ask):
            self._tell_asks(body)
        elif isinstance(body, Complete) and daemon is not None:
            done = daemon.agent.situation.done.get(body.contract)
            if done is not None and done.measured_j is not None:
                _keep(self._measured_j, body.contract, done.measured_j)

    def _tell_asks(self, ask: Ask) -> None:
        ros, pages = self._interfaces, self._offered.pop((ask.call, ask.round), {})
        orders = [order for page in sorted(pages) for order in pages[page]]
        if ros is None:
            return
        lines: list[AskLine | DeclineLine] = [*ask.asks, *ask.declines]
        for line in (one for one in lines if one.lot < len(orders)):
            about = {
                "stamp": self._now(),
                "robot": self._robot_id,
                "call": ask.call,
                "round": ask.round,
                "task": orders[line.lot],
            }
            if isinstance(line, AskLine):
                numbers = (line.ask_uc, line.parts_uc, line.energy_j, line.energy_sd_j, line.finish_ns)
                self._ask.publish(interfaces.asked(ros, *numbers, **about))
            else:
                self._ask.publish(interfaces.declined(ros, line.reason, line.detail, **about))

    @property
    def _robot_id(self) -> str:
        return "" if self._robot.daemon is None else str(self._robot.daemon.config.agent.robot)

    # --- services ---------------------------------------------------------------------------------------------------------

    async def _price_task(self, request: Any, response: Any) -> Any:
        ros = self._interfaces
        if ros is None:
            return response
        try:
            agent, places, now_ns = self._at_work()
            errand = _errand(interfaces.order_of(_named(request.task)), places, now_ns)
        except ValidationError as error:
            response.errors = interfaces.errors_of(ros, error)
            return response
        except InputError as error:
            response.errors = interfaces.errors_of(ros, [error])
            return response
        response.ok = True
        answer = agent.price(errand, now_ns)
        response.ask = interfaces.ask_of(ros, answer, stamp=self._now(), robot=self._robot_id, task=errand.order)
        return response

    def _at_work(self) -> tuple[Agent, Places, int]:
        robot, daemon = self._robot, self._robot.daemon
        if daemon is None or robot.node.label != "active" or robot.places is None or self._clock is None:
            raise InputError("node", "state", robot.node.label, "activate the node first")
        return daemon.agent, robot.places, self._clock.now_ns()

    async def _set_bidding(self, request: Any, response: Any) -> Any:
        """Set the parameter `bidding`, so that both ways say the same."""
        daemon = self._robot.daemon
        wanted = Parameter("bidding", Parameter.Type.BOOL, bool(request.bidding))
        result = self._robot.node.set_parameters([wanted])[0]
        response.success, response.message = result.successful, result.reason
        response.contracts = 0 if daemon is None else len(daemon.agent.tasks)
        return response


def _named(task: Any) -> Any:
    """Return a task with the fields filled in that do not matter for its price."""
    task.id = task.id or "price"
    task.max_price_uc = max(1, task.max_price_uc)
    return task


def _errand(order: PostOrder, places: Places, now_ns: int) -> Errand:
    pickup = places.resolve(order.pickup, source="task", field="pickup")
    dropoff = places.resolve(order.dropoff, source="task", field="dropoff")
    due_ns = now_ns + ns(order.deadline_s)
    return Errand(order.order, pickup, dropoff, order.payload_kg, due_ns, order.lateness_uc_per_h)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    while len(kept) > MAX_KEPT:
        kept.pop(next(iter(kept)))


def _gone(state: Any) -> Any:
    """Return the last state of a robot that has left the market: who comes late must not hear that it trades."""
    state.connected, state.bidding, state.doing, state.contracts, state.soc = False, False, state.DOING_IDLE, [], math.nan
    return state


def _without_time(state: Any) -> tuple[Any, ...]:
    """Return what is worth telling at once when it changes."""
    contracts = tuple((one.id, one.phase, one.aboard) for one in state.contracts)
    return (state.market, state.epoch, state.connected, state.bidding, state.doing, contracts, state.settled)
