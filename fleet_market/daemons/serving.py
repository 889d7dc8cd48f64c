"""Run a service as a process: log to standard error, end on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fleet_market.adapters.logs import TEXT


async def _at_once() -> None:
    """Have nothing to bring to an end."""


def run_until_signal(service: Coroutine[Any, Any, None], drain: Callable[[], Awaitable[None]] = _at_once) -> None:
    """Run until the service ends, or until SIGINT or SIGTERM, which both are an orderly end.

    Parameters
    ----------
    service : coroutine
        Is cancelled in the end.
    drain : coroutine function
        What is done upon the first signal before that; a second signal does not wait for it.
    """
    logging.basicConfig(level=logging.INFO, format=TEXT)

    async def run() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        serving = asyncio.ensure_future(service)

        def end() -> None:
            if told.is_set():
                serving.cancel()
            told.set()

        async def end_in_order() -> None:
            await told.wait()
            try:
                await drain()
            finally:
                serving.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        ending = asyncio.create_task(end_in_order(), name="end")
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        ending.cancel()

    asyncio.run(run())
