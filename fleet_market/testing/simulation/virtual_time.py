"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing else is left to do.

Nothing sleeps, no thread and no socket takes part, and timers of the same instant fire in the order in which they were
set. So a program that asks nobody else for time or chance runs the same way every time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class StalledError(RuntimeError):
    """Everyone waits, and no timer is set that could wake anyone: in real time the program would hang."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop; `run` runs one.

    It takes the place of the two methods of the base class that look at the clock and the selector: `call_at`, and one
    round of the loop, `_run_once`, which every version of Python from 3.4 on calls until it is stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = count()
        self._ready: Any
        self.set_exception_handler(self._keep_trouble)
        self.trouble: list[str] = []
        """Exceptions that nobody has taken."""

    def time(self) -> float:
        """Return the virtual time, seconds from 0."""
        return self._now_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call `callback` when it is `when`."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._number), timer))
        return timer

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: whatever a thread does is not repeated by the same seed."""
        raise RuntimeError("no thread takes part in a simulation")

    def run_in_executor(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        """Refuse, as above."""
        raise RuntimeError("no thread takes part in a simulation")

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that nobody holds any more; the base class takes a thread into account."""
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]
        if not self.is_closed():
            self.call_soon(self.create_task, agen.aclose())

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._jump()
        while timers and timers[0][0] <= self._now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - as the base class does
        handle = None  # a kept handle would keep its callback's objects

    def _jump(self) -> None:
        """Go to the instant of the next timer that is still set."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise StalledError("all tasks wait, and there is no timer")
        self._now_s = max(self._now_s, self._timers[0][0])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap; it is passed over when its time comes."""

    def _keep_trouble(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.trouble.append(f"{context['message']}: {error!r}")


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``main(loop)`` in virtual time and return what it returns; other tasks are cancelled when it ends.

    Raises
    ------
    StalledError
        If `main` waits for something that can never happen.
    """
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
