"""What a flooding robot costs others.

A market daemon in a process of its own, on a real Mosquitto. Twenty honest robots answer every call, four times a second.
Behind each ask goes a message that is answered when it is stored: that answer bounds the ask's latency from above. Then one
robot, announced like the others, sends 30,000 messages as fast as the broker takes them, in packets made beforehand, on a
bare socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, quantiles

import psutil
import yaml

from benchmarks.report import Options, Row, main
from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.keyring import SigningKey, Verifier
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.adapters.requests import Requester
from fleet_market.errors import FleetMarketError, ProtocolError
from fleet_market.ids import CallId, ContractId, CustomerId, Identifier, MessageId, OrderId, OwnerId, PartyName, ZoneId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.messages import (
    Accept,
    Announce,
    AnyBody,
    Ask,
    AskLine,
    Call,
    Cleared,
    OrderReply,
    PostOrder,
    Presence,
    Receipt,
)
from fleet_market.protocol.registry import Directory, Entry, Register, Role
from fleet_market.protocol.seal import Seal, to_sign, write_rest, write_signature

ROOT = Path(__file__).parents[1]
HOST, ZONE, FLOODER = "127.0.0.1", ZoneId("main"), "flooder"
ROBOTS, BATCH_S, FLOOD = 20, 0.25, 30_000
CALM_S, PATIENCE_S = 5.0, 30.0
AFTERMATH_S = 5.0
"""Asks up to this long after the broker has taken the whole flood count as asks during it: what it left waits there."""
P99_GOAL_MS, IN_TIME_GOAL = 100.0, 100.0
WINDOW = 900
"""Unanswered messages of the flooder: Mosquitto ends a connection with more than 1,000."""
BURST, SILENCE_S = 100, 20.0
START_TIMEOUT_S, FLOOD_TIMEOUT_S = 60.0, 120.0
GATE_ROUNDS = 3000


@dataclass(slots=True)
class Seen:
    """What the honest robots sent and heard."""

    asked: dict[tuple[str, str], float] = field(default_factory=dict)
    """When an ask was sent, by call and robot (monotonic)."""
    latency_s: dict[tuple[str, str], float] = field(default_factory=dict)
    taken: set[tuple[str, str]] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Run:
    """What one flood showed; latencies in seconds, shares of a core that the market needed."""

    calm_s: list[float]
    stormy_s: list[float]
    in_time: list[bool]
    duration_s: float
    calm_cpu: float
    stormy_cpu: float


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    runs = [asyncio.run(_run()) for _ in options.seeds]
    calm, stormy = [s for run in runs for s in run.calm_s], [s for run in runs for s in run.stormy_s]
    in_time = [taken for run in runs for taken in run.in_time]
    yield Row("honest asks during the flood", len(in_time), "", note=f"{ROBOTS} robots, a batch every {BATCH_S} s")
    share = 100 * sum(in_time) / max(1, len(in_time))
    yield Row("of them in time for their batch", share, "%", IN_TIME_GOAL, "higher")
    yield Row("latency without the flood, median", 1000 * _quantile(calm, 50), "ms", note="until it is stored and answered")
    yield Row("latency without the flood, 99 % quantile", 1000 * _quantile(calm, 99), "ms")
    yield Row("latency during the flood, median", 1000 * _quantile(stormy, 50), "ms")
    yield Row("latency during the flood, 99 % quantile", 1000 * _quantile(stormy, 99), "ms", P99_GOAL_MS)
    yield Row("latency during the flood, worst", 1000 * max(stormy), "ms")
    yield Row("market's processor time without the flood", 100 * mean(run.calm_cpu for run in runs), "% of a core")
    yield Row("market's processor time during the flood", 100 * mean(run.stormy_cpu for run in runs), "% of a core")
    duration = mean(run.duration_s for run in runs)
    yield Row("flood, messages", FLOOD, "", note="of one robot, on a bare socket")
    yield Row("flood, taken by the broker at", FLOOD / duration, "messages/s", better="higher")
    yield from _gate_costs()


def _quantile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


async def _run() -> Run:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, market = await stack.enter_async_context(_services(folder))
        seen = Seen()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        names = [f"honest-{n}" for n in range(ROBOTS)]
        honest = [tasks.create_task(_robot(name, port, seen), name=name) for name in names]
        honest.append(tasks.create_task(_watch(port, seen), name="watch"))
        stack.callback(lambda: [task.cancel() for task in honest])
        await _post_orders(port)
        async with asyncio.timeout(START_TIMEOUT_S):
            while len(seen.latency_s) < ROBOTS:  # noqa: ASYNC110 - counts what others do
                await asyncio.sleep(0.05)
        async with MqttTransport(MqttConfig(HOST, port, f"{FLOODER}-hello")) as hello:
            await hello.connected.wait()
            await _announce(hello, FLOODER)
        calm_from, cpu_from = time.monotonic(), _cpu_s(market)
        await asyncio.sleep(CALM_S)
        calm_cpu = (_cpu_s(market) - cpu_from) / CALM_S
        begun, ended = await asyncio.to_thread(_flood_process, port)
        cpu_from = _cpu_s(market)
        await asyncio.sleep(AFTERMATH_S)
        stormy_cpu = (_cpu_s(market) - cpu_from) / AFTERMATH_S
        await _until_answered(seen, ended)
        calm = [seen.latency_s[k] for k, t in seen.asked.items() if calm_from <= t < begun and k in seen.latency_s]
        during = [k for k, t in seen.asked.items() if begun - BATCH_S <= t < ended + AFTERMATH_S]
        stormy = [seen.latency_s.get(key, time.monotonic() - seen.asked[key]) for key in during]
        in_time = [key in seen.taken for key in during]
        return Run(calm, stormy, in_time, ended - begun, calm_cpu, stormy_cpu)


def _cpu_s(market: psutil.Process) -> float:
    times = market.cpu_times()
    return float(times.user + times.system)


async def _until_answered(seen: Seen, ended: float) -> None:
    """Wait until all that was asked up to `AFTERMATH_S` after the flood is answered, or `PATIENCE_S` have passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.sleep(2 * BATCH_S)
            while any(  # noqa: ASYNC110 - counts what others do
                asked < ended + AFTERMATH_S and (key not in seen.latency_s or key[0] not in seen.cleared)
                for key, asked in seen.asked.items()
            ):
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _services(folder: Path) -> AsyncIterator[tuple[int, psutil.Process]]:
    """Run Mosquitto and a market; yield the port of the one, and the other."""
    mosquitto, port = mosquitto_adapter.install(ROOT / ".cache/mosquitto", say=print), mosquitto_adapter.free_port()
    config = mosquitto_adapter.write_config(folder / "mosquitto", port)
    fleet = yaml.safe_load((ROOT / "launch/fleets/warehouse.yaml").read_text())
    fleet |= {"market": {"batch_s": BATCH_S}, "map": str(ROOT / "launch/maps/warehouse.yaml")}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    command = [sys.executable, "-m", "fleet_market", "broker", "--fleet", str(folder / "fleet.yaml"), "--mqtt",
               f"{HOST}:{port}", "--database", str(folder / "market.db")]  # fmt: skip
    with (
        _process([mosquitto.path, "-c", config], mosquitto.environment()) as broker,
        _process(command, {**os.environ, KEYS_VARIABLE: ""}) as market,
    ):
        try:
            yield port, psutil.Process(market.pid)
        finally:
            market.terminate()
            await asyncio.to_thread(market.wait)
            broker.terminate()


def _process(command: Sequence[str | Path], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)


def _message(name: str, body: AnyBody, message: str) -> bytes:
    return encode(Envelope(id=MessageId(message), ts=0, src=Identifier(name), body=body))


async def _robot(name: str, port: int, seen: Seen) -> None:
    """Ask for the lot of every call, above its budget, so that it stays on sale; until cancelled."""
    sent: dict[str, tuple[CallId, str]] = {}
    filters = [(topics.zone(ZONE, "call"), 1), (topics.to_robot(name, "receipt"), 1)]
    async with MqttTransport(MqttConfig(HOST, port, name), filters) as transport:
        await transport.connected.wait()
        await _announce(transport, name)
        async for delivery in transport.deliveries():
            delivery.ack()
            message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            match message.body:
                case Call() as call:
                    line = AskLine(lot=0, ask_uc=10**9, parts_uc=(10**9, *(0,) * 8), energy_j=1.0, finish_ns=1)
                    key, probe = (call.call, name), f"{name}:{call.call}"
                    seen.asked[key], sent[probe] = time.monotonic(), key
                    ask = _message(name, Ask(call=call.call, asks=(line,)), f"ask:{probe}")
                    await transport.publish(topics.from_robot(name, ZONE, "ask"), ask)
                    accept = _message(name, Accept(contract=ContractId("probe")), probe)
                    await transport.publish(topics.from_robot(name, ZONE, "accept"), accept)
                case Receipt() as receipt if receipt.of in sent:
                    key = sent.pop(receipt.of)
                    seen.latency_s[key] = time.monotonic() - seen.asked[key]
                case _:
                    pass


async def _announce(transport: MqttTransport, name: str) -> None:
    what = Announce(
        zone=ZONE, owner=OwnerId(name), robot_type="bench", max_payload_kg=50.0, max_speed_mps=1.0, battery_wh=480.0
    )  # fmt: skip
    for kind, body in (("announce", what), ("presence", Presence(status="online", zone=ZONE))):
        await transport.publish(topics.state(name, kind), _message(name, body, f"{kind}:{name}"), retain=True)


async def _watch(port: int, seen: Seen) -> None:
    async with MqttTransport(MqttConfig(HOST, port, "watch"), [(topics.view(ZONE, "cleared"), 1)]) as transport:
        async for delivery in transport.deliveries():
            delivery.ack()
            body = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body
            if isinstance(body, Cleared):
                seen.cleared.add(body.call)
                seen.taken |= {(body.call, ask.robot) for lot in body.lots for ask in lot.asks}


async def _post_orders(port: int) -> None:
    async with Requester(HOST, port, CustomerId("demo"), timeout_s=START_TIMEOUT_S) as requester:
        order = PostOrder(
            order=OrderId("o0"), pickup="shelf-a1", dropoff="shipping-1", payload_kg=1.0, deadline_s=3600.0,
            max_price_uc=10**6,
        )  # fmt: skip
        reply = await requester.ask("order", order, OrderReply)
        if reply.result != "accepted":
            raise FleetMarketError(f"the order was refused: {reply.errors}")


# --- the flooder -------------------------------------------------------------------------------------------------------


def _flood_process(port: int) -> tuple[float, float]:
    """Return when the flood began and when the broker had taken it all (monotonic, the same for all processes)."""
    command = [sys.executable, "-m", "benchmarks.flood", "--flooder", str(port)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=FLOOD_TIMEOUT_S)
    begun, ended = map(float, done.stdout.split())
    return begun, ended


def flood(port: int, count: int = FLOOD) -> None:
    """Send `count` messages of QoS 1 as fast as they are taken (OASIS MQTT 5.0, sections 3.1 and 3.3)."""
    client = FLOODER.encode()
    connect = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(client).to_bytes(2) + client
    line = AskLine(lot=0, ask_uc=10**9, parts_uc=(10**9, *(0,) * 8), energy_j=1.0, finish_ns=1)
    topic = topics.from_robot(FLOODER, ZONE, "ask").encode()
    packets = []
    for n in range(count):
        body = _message(FLOODER, Ask(call=CallId(f"main:1:{n}"), asks=(line,)), f"flood-{n}")
        packet_id = n % 65_000 + 1
        rest = len(topic).to_bytes(2) + topic + packet_id.to_bytes(2) + b"\x00" + body
        packets.append(b"\x32" + _length(len(rest)) + rest)
    window = threading.Semaphore(WINDOW)
    with socket.create_connection((HOST, port), timeout=SILENCE_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(b"\x10" + _length(len(connect)) + connect)
        reader = threading.Thread(target=_read_acks, args=(wire, window, count))
        reader.start()
        begun = time.monotonic()
        for burst in _bursts(packets):
            for _ in burst:
                if not window.acquire(timeout=SILENCE_S):
                    raise FleetMarketError(f"the MQTT broker has confirmed nothing for {SILENCE_S:g} s")
            wire.sendall(b"".join(burst))
        reader.join()
    print(begun, time.monotonic())


def _bursts(packets: list[bytes]) -> Iterable[list[bytes]]:
    return (packets[i : i + BURST] for i in range(0, len(packets), BURST))


def _read_acks(wire: socket.socket, window: threading.Semaphore, count: int) -> None:
    buffer, acknowledged = b"", 0
    while acknowledged < count and (data := wire.recv(65536)):
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            if buffer[0] == 0x40:
                acknowledged += 1
                window.release()
            buffer = buffer[2 + buffer[1] :]


def _length(value: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    digits = []
    while True:
        value, digit = divmod(value, 128)
        digits.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(digits)


# --- what a message costs at the gate ----------------------------------------------------------------------------------


def _gate_costs() -> Iterable[Row]:
    """Return what the gate costs for each kind of message, in one thread without a network."""
    now, key = 1_800_000_000, SigningKey.generate()
    entry = Entry(role=Role.ROBOT, name=PartyName("r1"), key=key.did, from_s=0)
    directory, topic = Directory(Register(serial=1, entries=(entry,))), topics.from_robot("r1", ZONE, "ask")
    body = b"x" * 300

    def sealed(seq: int) -> bytes:
        rest = write_rest(Seal(kid=key.did, conn=1000 * now, seq=seq, exp=now + 60), body)
        return write_signature(key.sign(to_sign(topic, rest))) + rest

    begun = time.perf_counter()
    payloads = [sealed(n) for n in range(1, GATE_ROUNDS)]
    yield Row("to seal a message of 300 bytes", _micros(begun), "us")
    for what, limits, again in (
        ("to open a sealed message", Limits(1e9, 1e9), False),
        ("to refuse a repeated one", Limits(1e9, 1e9, 0.0), True),
        ("to refuse one of a flood", Limits(0.0, 0.0), False),
    ):
        gate = Gate(limits, directory, Verifier())
        begun = time.perf_counter()
        for payload in payloads:
            with contextlib.suppress(ProtocolError):
                gate.open(topic, payloads[-1] if again else payload, unix_s=now, now_s=0.0)
        yield Row(what, _micros(begun), "us")


def _micros(begun: float) -> float:
    return 1e6 * (time.perf_counter() - begun) / GATE_ROUNDS


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flooder"]:
        flood(int(sys.argv[2]))
    else:
        main("flood", measure, about=__doc__ or "", seeds=3, packages=("aiomqtt", "cryptography", "pydantic"))
