"""Metrics for Prometheus, on the loopback interface. Needs the extra ``metrics``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet_market.adapters.control import ZoneStatus
from fleet_market.adapters.measures import Histogram, Measures
from fleet_market.errors import InputError

LOOPBACK = "127.0.0.1"
PREFIX = "fleet_market"

Reading = Sequence[tuple[ZoneStatus, Measures]]

_COUNTERS: dict[str, tuple[str, Callable[[ZoneStatus, Measures], float]]] = {
    "batches": ("Batches opened, since the first start of the market.", lambda s, _: s.batches),
    "inputs": ("Inputs stored, since the first start of the market.", lambda s, _: s.inputs),
    "awards": ("Tasks awarded, since the start of the daemon.", lambda _, m: m.awards),
    "commits": ("Commits of the store, since the start of the daemon.", lambda _, m: m.commit_s.count),
}
_GAUGES: dict[str, tuple[str, Callable[[ZoneStatus], float]]] = {
    "up": (
        "1 if the zone's market is open and connected.",
        lambda s: s.connected and s.phase in ("open", "halted", "paused"),
    ),
    "halted": ("1 if the operator lets nothing be sold.", lambda s: s.phase == "halted"),
    "paused": ("1 if too much waits for a new batch.", lambda s: s.phase == "paused"),
    "open_orders": ("Orders that wait for a robot.", lambda s: s.open_orders),
    "contracts": ("Tasks that robots are on.", lambda s: s.contracts),
    "robots_online": ("Robots that are there.", lambda s: s.robots_online),
    "waiting": ("Messages and effects that wait to be handled.", lambda s: s.waiting),
    "outbox_depth": ("Messages that must arrive and are not confirmed.", lambda s: s.outbox),
}
_HISTOGRAMS: dict[str, tuple[str, Callable[[Measures], Histogram]]] = {
    "batch_lots": ("Lots of a batch.", lambda m: m.lots),
    "commit_records": ("Records in one commit.", lambda m: m.records),
    "commit_seconds": ("Duration of a commit with the disk's sync (fsync).", lambda m: m.commit_s),
}


class _Reader(Collector):
    """Reads everything anew at every scrape."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Return nothing: there is nothing to be read before the daemon runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        reading = self._read()
        for name, (text, count) in _COUNTERS.items():
            counter = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["zone"])
            for status, measures in reading:
                counter.add_metric([status.zone], count(status, measures))
            yield counter
        rejected = CounterMetricFamily(
            f"{PREFIX}_rejected_messages", "Messages refused, by reason.", labels=["zone", "reason"]
        )
        for status, _ in reading:
            for reason, times in status.rejected.items():
                rejected.add_metric([status.zone, reason], times)
        yield rejected
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["zone"])
            for status, _ in reading:
                gauge.add_metric([status.zone], value(status))
            yield gauge
        for name, (text, of) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=["zone"])
            for status, measures in reading:
                family.add_metric([status.zone], *_buckets(of(measures)))
            yield family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True)), histogram.sum


@contextlib.contextmanager
def serve_metrics(port: int, read: Callable[[], Reading]) -> Iterator[None]:
    """Serve ``http://127.0.0.1:port/metrics`` from a thread of its own, which calls `read` at every scrape.

    Raises
    ------
    InputError
        If the port is taken.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(read))
    try:
        server, thread = start_http_server(port, LOOPBACK, registry)
    except OSError as error:
        raise InputError("metrics", "port", port, f"{error.strerror}: name another with --metrics") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
