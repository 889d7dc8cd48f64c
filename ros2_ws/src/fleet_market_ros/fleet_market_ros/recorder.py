"""Records topics to an MCAP file, until SIGINT or SIGTERM.

``ros2 run fleet_market_ros recorder --ros-args -r __ns:=/carrier_1 -p out:=run.mcap``

Parameters: `out`, the new file; `topics`, comma-separated patterns in which ``*`` stands for anything, relative ones below
the node's namespace. Topics that appear later are recorded as well; hidden ones (names that begin with ``_``) are not. Log
times are of the node's clock (`use_sim_time`), publish times of the publisher's middleware.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile

from fleet_market_ros import qos
from fleet_market_ros.mcap_file import McapFile, RecordingError, message_class
from fleet_market_ros.parameters import NEW_START, Declared, Parameters
from fleet_market_ros.ros import Ros
from fleet_market_ros.running import run_node

log = logging.getLogger("recorder")

LOOK_S = 0.5
"""Between two looks for new topics; what is published on one before it was seen is lost, unless it is transient local."""
QUIET_S, DRAIN_S = 0.1, 1.0
"""At the end, what has arrived is still written: until nothing comes any more, at most so long."""
PARAMETERS = (
    Declared("out", "run.mcap", "File to make.", needed=True),
    Declared("topics", "*", "Patterns, separated by commas; relative ones are below the node's namespace.", needed=True),
)


class Recorder:
    """Records what is published on topics of a node's choice.

    Parameters
    ----------
    ros : Ros
    out : Path
        File to make.
    patterns : sequence of str
        As `fnmatch` has them; relative ones are below the node's namespace.

    Raises
    ------
    RecordingError
        If the file cannot be made.
    """

    def __init__(self, ros: Ros, out: Path, patterns: Sequence[str] = ("*",)) -> None:
        self._ros = ros
        namespace = ros.node.get_namespace().rstrip("/")
        self._patterns = [pattern if pattern.startswith("/") else f"{namespace}/{pattern}" for pattern in patterns]
        self._file = McapFile(out)
        self._subscriptions: dict[str, tuple[Any, QoSProfile]] = {}
        self._channels: dict[str, int] = {}
        self._passed_over: set[str] = set()
        self._failed: asyncio.Future[None] = ros.loop.create_future()
        self.lost: Counter[str] = Counter()
        """Messages by topic that were published and never came here, by gaps in their publishers' numbers after the first.

        The middleware's own event of lost messages does not tell those that a full queue drops. Where rclpy does not
        name a message's publisher, none are counted.
        """
        self._numbers: dict[tuple[str, bytes], int] = {}
        """The last number of each publisher."""

    @property
    def counts(self) -> Counter[str]:
        """Messages recorded, by topic."""
        return self._file.counts

    async def run(self) -> None:
        """Record until cancelled; what has arrived by then is still written.

        Raises
        ------
        RecordingError
            If the file cannot be written any more.
        """
        try:
            while not self._failed.done():
                self.look()
                self._file.flush()
                await asyncio.wait([self._failed], timeout=LOOK_S)
            self._failed.result()
        except OSError as error:
            raise RecordingError(f"recording ended: {error.strerror}: free the disk and start again") from None
        finally:
            await self._drain()

    def look(self) -> None:
        """Subscribe to the chosen topics that are published by now."""
        for topic, types in self._ros.node.get_topic_names_and_types():
            if not self._chosen(topic) or topic in self._passed_over:
                continue
            publishers = self._ros.node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            try:
                self._follow(topic, types, publishers)
            except RecordingError as error:
                self._passed_over.add(topic)
                log.warning("%s is not recorded: %s", topic, error)

    def close(self) -> None:
        """Write the file's end; afterwards nothing is recorded."""
        self._file.close()

    def _chosen(self, topic: str) -> bool:
        hidden = any(part.startswith("_") for part in topic.split("/"))
        return not hidden and any(fnmatch.fnmatchcase(topic, pattern) for pattern in self._patterns)

    def _follow(self, topic: str, types: Sequence[str], publishers: Sequence[Any]) -> None:
        known = self._subscriptions.get(topic)
        offered = [publisher.qos_profile for publisher in publishers]
        profile = qos.to_hear_all(offered if known is None else [*offered, known[1]])  # stronger would repeat the last
        if known is not None and known[1] == profile:
            return
        if len(types) != 1:
            raise RecordingError(f"it has several types: {', '.join(types)}")
        kind = message_class(types[0])
        if topic not in self._channels:
            type_hash = str(getattr(publishers[0], "topic_type_hash", ""))
            self._channels[topic] = self._file.add_channel(topic, types[0], type_hash)
        if known is not None:
            self._ros.node.destroy_subscription(known[0])
        self._subscriptions[topic] = self._subscribe(kind, topic, profile), profile
        log.info("recording %s (%s)", topic, types[0])

    def _subscribe(self, kind: type[Any], topic: str, profile: QoSProfile) -> Any:
        channel, clock = self._channels[topic], self._ros.node.get_clock()

        def write(data: bytes, about: Any) -> None:
            now_ns = clock.now().nanoseconds
            self._count_lost(topic, about)
            try:
                self._file.add(channel, topic, data, now_ns, about.get("source_timestamp") or now_ns)
            except OSError as error:
                self._ros.loop.call_soon_threadsafe(self._fail, error)

        events = SubscriptionEventCallbacks(use_default_callbacks=False)  # a publisher that offers less is seen by `look`
        return self._ros.node.create_subscription(kind, topic, write, profile, raw=True, event_callbacks=events)

    def _count_lost(self, topic: str, about: Any) -> None:
        number, publisher = about.get("publication_sequence_number"), about.get("publisher_gid")
        if number is None or publisher is None:
            return
        key = (topic, bytes(publisher["data"]))
        self.lost[topic] += max(0, number - self._numbers.get(key, number - 1) - 1)
        self._numbers[key] = number

    def _fail(self, error: OSError) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                before = -1
                while before != (before := self.counts.total()):  # noqa: ASYNC110 - the middleware tells nothing of it
                    await asyncio.sleep(QUIET_S)


async def serve(arguments: Sequence[str]) -> None:
    """Run the node until it is cancelled."""
    with contextlib.ExitStack() as at_end:
        async with Ros("recorder", arguments) as ros:
            values = Parameters(ros.node, PARAMETERS, fixed=lambda: NEW_START).read()
            patterns = [pattern.strip() for pattern in values["topics"].split(",")]
            recorder = Recorder(ros, Path(values["out"]), patterns)
            at_end.callback(_close, recorder, values["out"])
            log.info("READY")
            await recorder.run()


def _close(recorder: Recorder, out: str) -> None:
    try:
        recorder.close()
    except OSError as error:
        log.error("%s ends without its index (%s): mend it with `mcap recover`", out, error.strerror)  # noqa: TRY400
    for topic, count in sorted(recorder.counts.items()):
        log.info("%s: %d messages, %d lost", topic, count, recorder.lost[topic])
    log.info("wrote %s: %d messages", out, recorder.counts.total())


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    run_node(lambda: serve(sys.argv))


if __name__ == "__main__":
    main()
