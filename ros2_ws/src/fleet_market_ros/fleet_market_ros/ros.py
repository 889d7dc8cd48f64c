"""rclpy beside asyncio: asyncio owns the process and its signals, rclpy spins in one thread on a context of its own.

Callbacks of subscriptions are handed over to the event loop; publishing is done from the loop directly. An rclpy future is
never awaited on the loop: it would busy-wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

Message = TypeVar("Message")
JOIN_TIMEOUT_S = 5.0
QUEUE_DEPTH = 10


class Ros:
    """One node; use as an async context manager.

    Parameters
    ----------
    name : str
        Of the node, if ``--ros-args`` do not rename it.
    arguments : sequence of str
        Command line with ``--ros-args``.
    """

    def __init__(self, name: str, arguments: Sequence[str] = ()) -> None:
        self._name, self._arguments = name, list(arguments)
        self._context = Context()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        rclpy.init(args=self._arguments, context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(self._name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="rclpy", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        await asyncio.to_thread(self._thread.join, JOIN_TIMEOUT_S)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def parameter(self, name: str, default: Any) -> Any:
        """Return a parameter of the node, from its parameter file or the command line, else `default`."""
        return self.node.declare_parameter(name, default).value

    def subscribe(
        self, kind: type[Message], topic: str, callback: Callable[[Message], None], depth: int | QoSProfile = QUEUE_DEPTH
    ) -> None:
        """Have `callback` called on the event loop for every message."""

        def hand_over(message: Message) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(callback, message)

        self.node.create_subscription(kind, topic, hand_over, depth)

    def publisher(self, kind: type[Any], topic: str, depth: int = QUEUE_DEPTH) -> Publisher:
        """Return a publisher; its `publish` may be called on the event loop."""
        return self.node.create_publisher(kind, topic, depth)

    async def result(self, future: Future) -> Any:
        """Return what an rclpy future brings, without waiting for it on the loop."""
        ours: asyncio.Future[Any] = self._loop.create_future()

        def bring(done: Future) -> None:
            if ours.done():
                return
            if (error := done.exception()) is not None:
                ours.set_exception(error)
            else:
                ours.set_result(done.result())

        def hand_over(done: Future) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(bring, done)

        future.add_done_callback(hand_over)
        return await ours

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
