"""What the tests of VDA 5050 share."""

import asyncio
import time

FLOOR = {"stationType": "floor", "loadType": "EPAL", "duration": "{seconds}"}
WORDS = {
    "load": {"type": "pick", "parameters": FLOOR},
    "unload": {"type": "drop", "parameters": FLOOR},
    "charge": {"type": "startCharging"},
}


async def until(condition, within_s=60.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {condition}"
        await asyncio.sleep(0.02)
