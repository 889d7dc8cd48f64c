"""The market for ROS users who are customers: services to post, quote and cancel a task, and an action to have one done.

    post_task      PostTask       relative names, in the node's namespace
    quote_task     QuoteTask
    cancel_task    CancelTask
    execute_task   ExecuteTask    an action: ends when the task is settled, or is over otherwise

Parameters: `mqtt`, `customer`, `zone`, `keys`, `timeout_s`. The node needs `fleet_market_msgs`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rclpy.action import ActionServer, CancelResponse, GoalResponse

from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.ids import CustomerId, OrderId, ZoneId
from fleet_market.protocol.messages import (
    CancelOrder,
    OrderReply,
    OrderState,
    OrderView,
    Phase,
    PostOrder,
    QuoteReply,
    QuoteRequest,
)
from fleet_market_ros import interfaces
from fleet_market_ros.customers import Customer
from fleet_market_ros.parameters import NEW_START, Declared, Parameters
from fleet_market_ros.ros import Ros
from fleet_market_ros.running import run_node

log = logging.getLogger("market_gateway")

LOOK_S, AGAIN_S = 2.0, 0.5
"""A running action asks how its order stands after so long without news of it; an answer that it missed, after so long."""
PARAMETERS = (
    Declared("mqtt", "127.0.0.1:1883", "MQTT broker of the market, HOST:PORT.", needed=True),
    Declared("customer", "demo", "Customer in whose name tasks are posted.", kind=CustomerId, needed=True),
    Declared("zone", "main", "Zone whose market is asked.", kind=ZoneId, needed=True),
    Declared("keys", os.environ.get(KEYS_VARIABLE, ""), "Folder of keys; empty: only a broker on this machine."),
    Declared("timeout_s", 10.0, "How long to wait for an answer of the market, seconds.", 0.5, 600.0),
)
POSTED = {"accepted": "ACCEPTED", "exists": "EXISTS"}
QUOTED = {"quoted": "QUOTED", "no_ask": "NO_ASK"}
STEPS = {
    OrderState.SCHEDULED: "SCHEDULED",
    OrderState.OPEN: "OPEN",
    OrderState.AWARDED: "AWARDED",
}
"""Of an order that no robot is at work on; else the robot's phase is the step."""
ENDS = {
    OrderState.SETTLED: "SETTLED",
    OrderState.EXPIRED: "EXPIRED",
    OrderState.FAILED: "FAILED",
    OrderState.CANCELLED: "CANCELLED",
}


class Gateway:
    """The node; use `serve`.

    Parameters
    ----------
    ros : Ros
    """

    def __init__(self, ros: Ros) -> None:
        values = Parameters(ros.node, PARAMETERS, fixed=lambda: NEW_START).read()
        self._ros, self._kinds = ros, interfaces.load()
        keys = Path(values["keys"]) if values["keys"] else None
        who, zone = CustomerId(values["customer"]), ZoneId(values["zone"])
        self.customer = Customer(values["mqtt"], who, zone, keys, values["timeout_s"])
        self._cancelled: dict[bytes, asyncio.Event] = {}
        srv = self._kinds.srv
        ros.serve(srv.PostTask, "post_task", self._post)
        ros.serve(srv.QuoteTask, "quote_task", self._quote)
        ros.serve(srv.CancelTask, "cancel_task", self._cancel)
        self._server = ActionServer(
            ros.node,
            self._kinds.action.ExecuteTask,
            "execute_task",
            execute_callback=lambda _goal: None,
            goal_callback=lambda _goal: GoalResponse.ACCEPT,
            handle_accepted_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )

    async def serve(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self.customer.run(), name="customer")
        finally:
            self._server.destroy()

    # --- services ---------------------------------------------------------------------------------------------------------

    async def _post(self, request: Any, response: Any) -> Any:
        kind = self._kinds.srv.PostTask.Response
        try:
            order = interfaces.order_of(request.task)
        except ValidationError as error:
            response.result, response.errors = kind.REFUSED, interfaces.errors_of(self._kinds, error)
            return response
        reply = await self.customer.ask("order", order, OrderReply)
        if reply is None:
            response.result = kind.NO_ANSWER
            return response
        response.result = getattr(kind, POSTED.get(reply.result, "REFUSED"))
        response.errors = interfaces.errors_of(self._kinds, reply.errors)
        return response

    async def _quote(self, request: Any, response: Any) -> Any:
        kind, task = self._kinds.srv.QuoteTask.Response, request.task
        try:
            wanted = QuoteRequest(
                pickup=task.pickup,
                dropoff=task.dropoff,
                payload_kg=float(task.payload_kg),
                deadline_s=interfaces.seconds(task.deadline),
            )
        except ValidationError as error:
            response.result, response.errors = kind.REFUSED, interfaces.errors_of(self._kinds, error)
            return response
        reply = await self.customer.ask("quote", wanted, QuoteReply)
        if reply is None:
            response.result = kind.NO_ANSWER
            return response
        response.result = getattr(kind, QUOTED.get(reply.result, "REFUSED"))
        response.robots, response.best_ask_uc = reply.robots, reply.best_ask_uc or 0
        response.has_second, response.second_ask_uc = reply.second_ask_uc is not None, reply.second_ask_uc or 0
        response.best_finish = interfaces.time_of(reply.best_finish_ns or 0)
        response.declines = [f"{robot}: {reason}, {detail}" for robot, reason, detail in reply.declines]
        response.errors = interfaces.errors_of(self._kinds, reply.errors)
        return response

    async def _cancel(self, request: Any, response: Any) -> Any:
        kind = self._kinds.srv.CancelTask.Response
        try:
            body = CancelOrder(order=OrderId(request.task))
        except ValueError as error:
            wrong = self._kinds.msg.FieldError(field="task", value=request.task, mend=str(error))
            response.result, response.errors = kind.REFUSED, [wrong]
            return response
        reply = await self.customer.ask("cancel", body, OrderReply)
        if reply is None:
            response.result = kind.NO_ANSWER
            return response
        response.result = kind.CANCELLED if reply.result == "cancelled" else kind.REFUSED
        response.errors = interfaces.errors_of(self._kinds, reply.errors)
        return response

    # --- action -----------------------------------------------------------------------------------------------------------

    def _on_goal(self, goal: Any) -> None:
        """Have the goal carried out on the event loop; called in rclpy's thread."""
        self._ros.loop.call_soon_threadsafe(self._start, goal)

    def _on_cancel(self, goal: Any) -> CancelResponse:
        self._ros.loop.call_soon_threadsafe(self._want_cancelled, bytes(goal.goal_id.uuid))
        return CancelResponse.ACCEPT

    def _want_cancelled(self, name: bytes) -> None:
        if name in self._cancelled:
            self._cancelled[name].set()

    def _start(self, goal: Any) -> None:
        self._cancelled[bytes(goal.goal_id.uuid)] = asyncio.Event()
        self._tasks.create_task(self._execute(goal), name="execute")

    async def _execute(self, goal: Any) -> None:
        name = bytes(goal.goal_id.uuid)
        try:
            result = await self._carry_out(goal, self._cancelled[name])
        finally:
            del self._cancelled[name]
        kind = self._kinds.action.ExecuteTask.Result

        def finish(handle: Any) -> Any:
            if result.result == kind.SETTLED:
                handle.succeed()
            elif result.result == kind.CANCELLED and handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            return result

        goal.execute(finish)
        self._ros.wake()

    async def _carry_out(self, goal: Any, cancelled: asyncio.Event) -> Any:
        kind = self._kinds.action.ExecuteTask.Result
        try:
            order = interfaces.order_of(goal.request.task)
        except ValidationError as error:
            return kind(result=kind.REFUSED, errors=interfaces.errors_of(self._kinds, error), measured_j=math.nan)
        news = self.customer.listen(order.order)
        try:
            reply = await self._answered(order, cancelled)
            if reply is None:
                return kind(result=kind.CANCELLED, note="taken back before the market took it", measured_j=math.nan)
            if reply.view is None:
                errors = interfaces.errors_of(self._kinds, reply.errors)
                return kind(result=kind.REFUSED, errors=errors, measured_j=math.nan)
            return self._result(await self._follow(goal, reply.view, news, cancelled))
        finally:
            self.customer.leave(order.order, news)

    async def _answered(self, order: PostOrder, cancelled: asyncio.Event) -> OrderReply | None:
        """Post an order until the market answers: what it has not answered it may have heard all the same.

        Wanted back meanwhile, the order is cancelled: only the market's word says that nobody does it.

        Returns
        -------
        OrderReply or None
            None if it is taken back, and the market knows nothing of it.
        """
        said = False
        while True:
            said = said or self.customer.online
            if not cancelled.is_set():
                reply = await self.customer.ask("order", order, OrderReply)
            elif said:
                reply = await self.customer.ask("cancel", CancelOrder(order=order.order), OrderReply)
            else:
                return None
            if reply is not None:
                return None if cancelled.is_set() and reply.view is None else reply
            await asyncio.sleep(AGAIN_S)

    async def _follow(
        self, goal: Any, view: OrderView, news: asyncio.Queue[OrderView], cancelled: asyncio.Event
    ) -> OrderView:
        """Tell how the order gets on until it is over, and take it back if that is wanted."""
        told = False
        while not view.state.final:
            goal.publish_feedback(self._feedback(view))
            if cancelled.is_set() and not told:
                told = await self.customer.ask("cancel", CancelOrder(order=view.order), OrderReply) is not None
            try:
                async with asyncio.timeout(LOOK_S):
                    view = await self._next(news, None if told else cancelled) or view
            except TimeoutError:
                asked = await self.customer.view(view.order)
                view = asked if asked is not None and news.empty() else view  # what came meanwhile is told in its order
        return view

    @staticmethod
    async def _next(news: asyncio.Queue[OrderView], cancelled: asyncio.Event | None) -> OrderView | None:
        """Return what is heard next of the order; None when it is to be taken back."""
        waiting = [asyncio.ensure_future(news.get())]
        stopping = None if cancelled is None else asyncio.ensure_future(cancelled.wait())
        try:
            await asyncio.wait([w for w in (*waiting, stopping) if w], return_when=asyncio.FIRST_COMPLETED)
            return waiting[0].result() if waiting[0].done() else None
        finally:
            for one in (*waiting, stopping):
                if one is not None:
                    one.cancel()

    def _feedback(self, view: OrderView) -> Any:
        kind = self._kinds.action.ExecuteTask.Feedback
        return kind(
            step=getattr(kind, STEPS.get(view.state) or (view.phase or Phase.QUEUED).name),
            robot=view.robot or "",
            price_uc=view.price_uc or 0,
            energy_so_far_j=interfaces.known(view.energy_so_far_j),
            predicted_rest_j=interfaces.known(_rest_j(view)),
            attempts=view.attempts,
        )

    def _result(self, view: OrderView) -> Any:
        kind = self._kinds.action.ExecuteTask.Result
        return kind(
            result=getattr(kind, ENDS[view.state]),
            robot=view.robot or "",
            price_uc=view.price_uc or 0,
            measured_j=interfaces.known(view.measured_energy_j),
            finished=interfaces.time_of(view.settled_ns or 0),
            evidence=[interfaces.evidence_of(self._kinds, step) for step in view.evidence],
            note=view.note,
        )


def _rest_j(view: OrderView) -> float | None:
    """Return what the rest will take: what the robot expected when it asked, less what it has measured since."""
    if view.predicted_energy_j is None or view.state is not OrderState.EXECUTING:
        return view.predicted_energy_j
    return None if view.energy_so_far_j is None else max(0.0, view.predicted_energy_j - view.energy_so_far_j)


async def serve(arguments: Sequence[str]) -> None:
    """Run the node until it is cancelled."""
    async with Ros("market_gateway", arguments) as ros:
        await Gateway(ros).serve()


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    run_node(lambda: serve(sys.argv))


if __name__ == "__main__":
    main()
