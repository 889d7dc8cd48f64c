"""N orders in one second on M robots: how soon they are awarded, and what that takes.

Every size is run twice. Through the market core alone its clock counts what the market computes, whatever else the machine
does: messages take no time, and every robot has a computer of its own. Through the running daemon, on a real Mosquitto and
with a database on the disk, the clock is the wall clock, and market, Mosquitto, robots and customers share this machine's
cores: with fewer than four of them, or other work on them, the figure is that of the machine.

The site is one hall of the warehouse of launch/ for every ten robots; the market offers each robot its 20 nearest lots.
The robots' agents are the product's own. They stand where they park, and have simple bidding software
(`benchmarks._appending`), since a thousand robots have a thousand computers; each answers as much later as the product's
bidding software takes for its asks. That time is the robots' pricing CPU below: it is not the market's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import quantiles

from benchmarks._burst_core import Core, CoreRun
from benchmarks._burst_site import Site, Size, ask_cost_s
from benchmarks._burst_wire import WireRun, run_wire
from benchmarks.report import Options, Row, main

SIZES = (Size(100, 10), Size(1000, 100), Size(5000, 1000))
P99_GOAL_S, LAST_GOAL_S = 3.0, 30.0
SMALL, LARGE = SIZES[0], SIZES[-1]


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    for size in SIZES[:1] if options.quick else SIZES:
        for seed in options.seeds:
            site = Site(size, seed)
            cost_s = ask_cost_s(site)
            print(f"{size}, seed {seed}: core")
            yield from _core_rows(size, Core(site, cost_s).run(), cost_s)
            print(f"{size}, seed {seed}: daemon")
            yield from _wire_rows(size, run_wire(site, seed, cost_s), cost_s)


def _core_rows(size: Size, run: CoreRun, cost_s: float) -> Iterator[Row]:
    name = f"{size} core"
    yield from _latency_rows(name, size, run.latencies_s(), run.last_s())
    yield Row(f"{name}, messages to the market", sum(run.inputs.values()), "", note=f"{run.inputs['Ask']} of them asks")
    yield Row(f"{name}, messages of the market", run.sends, "", note=f"up to {run.rounds} rounds in a batch")
    yield Row(f"{name}, CPU of the market", run.cpu_s, "s", note=f"dearest input {run.longest_s:.2f} s")
    yield Row(f"{name}, peak RSS, robots included", run.peak_rss_mb, "MB")
    yield Row(f"{name}, pricing CPU of all robots", run.asks * cost_s, "s", note=_pricing(run.asks, cost_s))


def _wire_rows(size: Size, run: WireRun, cost_s: float) -> Iterator[Row]:
    name, robots = f"{size} daemon", run.robots
    yield from _latency_rows(name, size, run.latencies_s(), run.last_s())
    sent = sum(robots.sent.values()) + len(run.posted_s)
    yield Row(
        f"{name}, messages to the market", sent, "", note=f"{robots.sent['ask']} of them asks; {run.refused} orders refused"
    )
    heard = sum(robots.received.values()) + run.events
    yield Row(
        f"{name}, messages of the market", heard, "", note=f"{robots.late} of {robots.received['call']} calls came late"
    )
    yield Row(f"{name}, CPU of the market", run.market_cpu_s, "s", note=f"{run.inputs} inputs stored, {run.pauses} pauses")
    yield Row(f"{name}, CPU of Mosquitto", run.mosquitto_cpu_s, "s")
    yield Row(f"{name}, peak RSS of the market", run.market_peak_rss_mb, "MB")
    yield Row(f"{name}, pricing CPU of all robots", robots.asks * cost_s, "s", note=_pricing(robots.asks, cost_s))
    yield Row(
        f"{name}, CPU of the robots' process", robots.cpu_s, "s", note="for all that is not pricing, and simple pricing"
    )


def _latency_rows(name: str, size: Size, latencies_s: Sequence[float], last_s: float) -> Iterator[Row]:
    whole = size in (SMALL, LARGE)
    yield Row(f"{name}, orders awarded", len(latencies_s), "", size.orders if whole else None, "higher")
    if len(latencies_s) < 2:
        return
    cut_s = quantiles(latencies_s, n=100, method="inclusive")
    yield Row(f"{name}, award latency p50", cut_s[49], "s")
    yield Row(f"{name}, award latency p99", cut_s[98], "s", P99_GOAL_S if size == SMALL else None)
    yield Row(f"{name}, last award after the first order", last_s, "s", LAST_GOAL_S if size == LARGE else None)


def _pricing(asks: int, cost_s: float) -> str:
    return f"{asks} lots, {1000 * cost_s:.2f} ms each"


if __name__ == "__main__":
    main("burst", measure, about=__doc__, packages=("aiomqtt", "pydantic"))
