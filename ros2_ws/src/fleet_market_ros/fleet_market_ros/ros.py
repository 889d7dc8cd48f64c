"""rclpy beside asyncio: asyncio owns the process and its signals, rclpy spins in one thread on a context of its own.

Callbacks of subscriptions are handed over to the event loop; publishing is done from the loop directly. An rclpy future is
never awaited on the loop: it would busy-wait. Several nodes may share one `Host`: one context, one executor, one thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Self, TypeVar, get_args

import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

log = logging.getLogger("ros")

Message = TypeVar("Message")
ExecutorName = Literal["single", "events"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)
JOIN_TIMEOUT_S = 5.0
QUEUE_DEPTH = 10
WAKE_S = 0.1
"""The events executor of rclpy 9.1.2 spins idly in `spin()`, not so in `spin_until_future_complete` with a timeout. Only
a message or this timeout wakes it: a service that a coroutine answers may take this much longer."""


class Host:
    """A context with its executor and its thread, shared by nodes; use as an async context manager.

    Parameters
    ----------
    arguments : sequence of str
        Command line with ``--ros-args``, for all nodes.
    executor : str
        ``single``, rclpy's usual one, or ``events``, which costs less (`docs/ros_nodes.md`) and old rclpy does not have.
    """

    def __init__(self, arguments: Sequence[str] = (), executor: ExecutorName = "single") -> None:
        self._arguments, self._kind = list(arguments), executor
        self.context = Context()

    async def __aenter__(self) -> Self:
        rclpy.init(args=self._arguments, context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.executor = self._new_executor()
        self._ended = Future()
        self._thread = threading.Thread(target=self._spin, name="rclpy", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        rclpy.try_shutdown(context=self.context)

    async def stop(self) -> None:
        """End the thread; nodes are to be destroyed after it and before the context ends."""
        if not self._ended.done():
            self._ended.set_result(None)
        await asyncio.to_thread(self.executor.shutdown)
        await asyncio.to_thread(self._thread.join, JOIN_TIMEOUT_S)

    def wake(self) -> None:
        """Have the executor look at what coroutines of callbacks wait for; by itself it sleeps until a message comes."""
        if self._kind == "single":
            self.executor.wake()

    def _new_executor(self) -> Any:
        if self._kind == "events":
            try:
                from rclpy.experimental import EventsExecutor  # noqa: PLC0415 - older distributions have none

                return EventsExecutor(context=self.context)
            except ImportError:
                self._kind = "single"
        return SingleThreadedExecutor(context=self.context)

    def _spin(self) -> None:
        """Spin to the end, whatever a callback raises: one error must not make all nodes of a process deaf."""
        while self.context.ok() and not self._ended.done():
            try:
                if self._kind == "single":
                    self.executor.spin()
                else:
                    self.executor.spin_until_future_complete(self._ended, timeout_sec=WAKE_S)
            except ExternalShutdownException:
                return
            except InvalidHandle:
                log.debug("something was taken back while the executor looked at it; it looks again")
            except Exception:
                log.exception("an error in rclpy's thread; it goes on")
                time.sleep(WAKE_S)


class Ros:
    """One node; use as an async context manager.

    Parameters
    ----------
    name : str
        Of the node, if ``--ros-args`` do not rename it.
    arguments : sequence of str
        Command line with ``--ros-args``.
    host : Host, optional
        Shared with other nodes; by default the node has one of its own,
    executor : str
        with this executor.
    make : callable, optional
        Makes the node, from its name and the keywords of `rclpy.node.Node`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str] = (),
        *,
        host: Host | None = None,
        executor: ExecutorName = "single",
        make: Callable[..., Node] = Node,
    ) -> None:
        self._name, self._arguments, self._make = name, list(arguments), make
        self._host, self._shares = host or Host(arguments, executor), host is not None
        self._made: list[tuple[Callable[[Any], bool], Any]] = []

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        more: dict[str, Any] = {"cli_args": self._arguments, "use_global_arguments": False} if self._shares else {}
        if not self._shares:
            await self._host.__aenter__()
        try:
            self.node = self._make(self._name, context=self._host.context, **more)
        except BaseException:
            if not self._shares:
                await self._host.__aexit__()
            raise
        self._host.executor.add_node(self.node)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._shares:
            self._host.executor.remove_node(self.node)
            self.node.destroy_node()
            return
        await self._host.stop()
        self.node.destroy_node()
        await self._host.__aexit__()

    def parameter(self, name: str, default: Any) -> Any:
        """Return a parameter of the node, from its parameter file or the command line, else `default`."""
        return self.node.declare_parameter(name, default).value

    def subscribe(
        self, kind: type[Message], topic: str, callback: Callable[[Message], None], depth: int | QoSProfile = QUEUE_DEPTH
    ) -> None:
        """Have `callback` called on the event loop for every message."""

        def hand_over(message: Message) -> None:
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(callback, message)

        made = self.node.create_subscription(kind, topic, hand_over, depth)
        self._made.append((self.node.destroy_subscription, made))

    def publisher(self, kind: type[Any], topic: str, depth: int | QoSProfile = QUEUE_DEPTH) -> Publisher:
        """Return a publisher; its `publish` may be called on the event loop."""
        made = self.node.create_publisher(kind, topic, depth)
        self._made.append((self.node.destroy_publisher, made))
        return made

    def client(self, kind: type[Any], name: str) -> Any:
        """Return a client of a service; what its futures bring, `result` tells."""
        made = self.node.create_client(kind, name)
        self._made.append((self.node.destroy_client, made))
        return made

    def action_client(self, kind: type[Any], name: str) -> Any:
        """Return a client of an action; what its futures bring, `result` tells."""
        made = _ActionClient(self.node, kind, name)
        self._made.append((_destroy, made))
        return made

    async def result(self, future: Future) -> Any:
        """Return what an rclpy future brings, without waiting for it on the loop."""
        ours: asyncio.Future[Any] = self.loop.create_future()

        def bring(done: Future) -> None:
            if ours.done():
                return
            if (error := done.exception()) is not None:
                ours.set_exception(error)
            else:
                ours.set_result(done.result())

        def hand_over(done: Future) -> None:
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(bring, done)

        future.add_done_callback(hand_over)
        return await ours

    def serve(self, kind: type[Any], name: str, answer: Callable[[Any, Any], Coroutine[Any, Any, Any]]) -> None:
        """Offer a service that a coroutine of the event loop answers: request and empty response in, response out."""
        made = self.node.create_service(kind, name, self.on_loop(answer))
        self._made.append((self.node.destroy_service, made))

    def on_loop(self, answer: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a coroutine function for rclpy's thread that has `answer` awaited on the event loop."""

        async def wait(*arguments: Any) -> Any:
            done = Future(executor=self._host.executor)

            async def run() -> None:
                try:
                    done.set_result(await answer(*arguments))
                except Exception as error:  # noqa: BLE001 - belongs to whoever waits
                    done.set_exception(error)
                self._host.wake()

            self.loop.call_soon_threadsafe(lambda: _kept(self.loop.create_task(run())))
            return await done

        return wait

    def wake(self) -> None:
        """Have rclpy's thread look at what was given to it."""
        self._host.wake()

    def part(self) -> Ros:
        """Return the same node, for one who is done with it sooner: `forget` takes back only what was made through it."""
        part = Ros(self._name, host=self._host)
        part.loop, part.node = self.loop, self.node
        return part

    def forget(self) -> None:
        """Take back all subscriptions, publishers and services that were made through this object."""
        made, self._made = self._made, []
        for destroy, entity in made:
            destroy(entity)


class _ActionClient(ActionClient):  # type: ignore[misc]
    """One that may be made while the node spins: rclpy 9.1.2 shows it to the executor before it makes its lock."""

    def __init__(self, node: Node, kind: type[Any], name: str) -> None:
        self._lock = threading.Lock()
        super().__init__(node, kind, name)


def _destroy(client: Any) -> bool:
    client.destroy()
    return True


_running: set[asyncio.Task[None]] = set()


def _kept(task: asyncio.Task[None]) -> None:
    """Keep a task from being collected before it is done."""
    _running.add(task)
    task.add_done_callback(_running.discard)
