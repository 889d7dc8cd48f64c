"""Ten robots that ``fleet-market up`` starts, for `ros_nodes`: how long until they trade, and until all is ended again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import psutil

from benchmarks._ros_floor import CUSTOMER, DEADLINE_S, LOAD_KG, PRICE_UC, process_cpu_s, write_files
from benchmarks.report import ROOT, Row
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.requests import Requester
from fleet_market.errors import FleetMarketError
from fleet_market.ids import MAIN_ZONE, OrderId
from fleet_market.protocol.messages import OrderReply, OrderState, PostOrder

ROBOTS = 10
UP_S, FIRST_JOB_S, END_S = 300.0, 60.0, 20.0
LIMIT_S = 400.0
MARKET = re.compile(rb"market at MQTT (\S+),")


async def up_rows(folder: Path) -> list[Row]:
    """Start a fleet in a fresh folder, have one job done, end it by SIGTERM; return the rows."""
    write_files(folder, ROBOTS)
    command = [sys.executable, "-m", "fleet_market", "up", str(folder / "fleet.yaml"), "--out", str(folder / "out")]
    begun_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        async with asyncio.timeout(LIMIT_S):
            where = await _market(process)
            ready_s = time.monotonic() - begun_s
            job_s, state = await _first_job(where)
        children = psutil.Process(process.pid).children(recursive=True)
        cpu_s = sum(process_cpu_s(one) for one in children)
        end_s, left = await _end(process, children)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    what = f"{ROBOTS} robots by `fleet-market up`"
    ready = f"from a fresh folder; setup and build before it are not in it; {cpu_s:.0f} s of CPU time, all processes"
    return [
        Row(f"{what}: until all are active", ready_s, "s", UP_S, note=ready),
        Row(f"{what}: first order to its settlement", job_s, "s", FIRST_JOB_S, note=f"5 m of way; {state}"),
        Row(f"{what}: SIGTERM to its end", end_s, "s", END_S, note=f"exit code {process.returncode}"),
        Row(f"{what}: processes left", left, f"of {len(children)}", 0.0),
    ]


async def _market(process: asyncio.subprocess.Process) -> str:
    """Return where the market is, once all are ready."""
    told = b""
    while process.stdout is not None and (line := await process.stdout.readline()):
        told += line
        if found := MARKET.search(line):
            return found[1].decode()
    raise FleetMarketError(f"`fleet-market up` has ended: {told.decode(errors='replace')[-2000:]}")


async def _first_job(where: str) -> tuple[float, OrderState]:
    host, port = parse_endpoint(where)
    order = PostOrder(
        order=OrderId("first"),
        pickup="p0",
        dropoff="d0",
        payload_kg=LOAD_KG,
        deadline_s=DEADLINE_S,
        max_price_uc=PRICE_UC,
    )
    async with Requester(host, port, CUSTOMER, timeout_s=30.0, zone=MAIN_ZONE) as customer:
        begun_s = time.monotonic()
        await customer.ask("order", order, OrderReply)
        async for view in customer.events():
            if view.order == order.order and view.state.final:
                return time.monotonic() - begun_s, view.state
    raise FleetMarketError("the market's events have ended")


async def _end(process: asyncio.subprocess.Process, children: list[psutil.Process]) -> tuple[float, int]:
    """Return how long the end took, and how many processes are left."""
    begun_s = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    async with asyncio.timeout(LIMIT_S):
        await process.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, children, timeout=1.0)
    return time.monotonic() - begun_s, len(left)
