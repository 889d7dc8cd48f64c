"""Oracles: run one, buy a quote, read again what it rests on, see how good they are."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.requests import Requester
from fleet_market.adapters.service_config import DEFAULT_MQTT
from fleet_market.cli.advice import KINDS, advice_lines, kind_of_advice, wishes
from fleet_market.cli.asking import (
    EXIT_REFUSED,
    Access,
    AsOption,
    JsonOption,
    TimeoutOption,
    console,
    credits_in,
    id_of,
    place_text,
    print_json,
    request,
    show_errors,
)
from fleet_market.cli.services import KeysOption, MqttOption, ZoneOption
from fleet_market.cli.settings import zone_id
from fleet_market.daemons.oracle import FEE_UC, NAME, OracleConfig, run_oracle
from fleet_market.daemons.serving import run_until_signal
from fleet_market.errors import InputError
from fleet_market.ids import OrderId, PartyName, QuoteId
from fleet_market.oracle.scoring import Standing, choose
from fleet_market.protocol.messages import (
    MAX_OPENED,
    FairReply,
    FairRequest,
    OpenReply,
    OpenRequest,
    OracleView,
    StatusReply,
    What,
    WireBand,
)
from fleet_market.units import MICROCREDITS_PER_CREDIT, Credits, seconds

oracle = typer.Typer(help="Run an oracle; buy, explain and score quotes.")

BEST = "best"
DRAWS = 10**9
EXIT_BREACH = 1
USUAL_FEE = str(Credits(FEE_UC))
OracleOption = Annotated[
    str, typer.Option("--oracle", help="Whose quote; best: drawn, the likelier the better an oracle has done for its fee.")
]
NameOption = Annotated[str, typer.Option("--name", help="Name under which it sells; also of its account and keys.")]
FeeOption = Annotated[
    str, typer.Option("--fee", help="Fee of a band, credits; what else it sells costs half to three times as much.")
]

EvidenceOption = Annotated[
    Path | None, typer.Option("--evidence", help="File that keeps what quotes rest on; without, a crash can cost the bond.")
]

ChargersOption = Annotated[int, typer.Option("--chargers", help="Chargers of the zone; 0: their load is not told.", min=0)]

RoadsOption = Annotated[Path | None, typer.Option("--map", help="Map of the zone, by which robots' ways are judged.")]
ClearanceOption = Annotated[
    float | None, typer.Option(help="How far robots keep from walls, m; default: as the smallest type.", min=0)
]


@oracle.callback(invoke_without_command=True)
def serve(
    ctx: typer.Context,
    mqtt: MqttOption = DEFAULT_MQTT,
    zone: ZoneOption = "main",
    keys: KeysOption = None,
    name: NameOption = NAME,
    fee: FeeOption = USUAL_FEE,
    evidence: EvidenceOption = None,
    chargers: ChargersOption = 0,
    map_file: RoadsOption = None,
    clearance: ClearanceOption = None,
) -> None:
    """Without a command: run the oracle."""
    if ctx.invoked_subcommand is None:
        run(mqtt, zone, keys, name, fee, evidence, chargers, map_file, clearance)


@oracle.command()
def run(
    mqtt: MqttOption = DEFAULT_MQTT,
    zone: ZoneOption = "main",
    keys: KeysOption = None,
    name: NameOption = NAME,
    fee: FeeOption = USUAL_FEE,
    evidence: EvidenceOption = None,
    chargers: ChargersOption = 0,
    map_file: RoadsOption = None,
    clearance: ClearanceOption = None,
) -> None:
    """Run an oracle: it watches the market, publishes a fair band for every lot sold, and sells quotes."""
    host, port = parse_endpoint(mqtt)
    fee_uc = credits_in(fee, "--fee", least=0)
    config = OracleConfig(
        host, port, zone_id(zone), keys, id_of(PartyName, name, "--name"), fee_uc, map_file, clearance, chargers, evidence
    )
    run_until_signal(run_oracle(config))


@oracle.command()
def quote(
    order: Annotated[str | None, typer.Option(help="Id of an order that is not over.")] = None,
    pickup: Annotated[str | None, typer.Option(help="Without an order: a name, x;y or x;y;yaw.")] = None,
    dropoff: Annotated[str | None, typer.Option(help="Without an order: a name, x;y or x;y;yaw.")] = None,
    payload: Annotated[float, typer.Option(help="Weight, kg.", min=0)] = 0.0,
    deadline: Annotated[float, typer.Option(help="Seconds from then.", min=1)] = 600.0,
    advice: Annotated[
        str, typer.Option(help="band, budget, best-time, make-or-buy, judge or congestion.", metavar="KIND")
    ] = "band",
    by: Annotated[float | None, typer.Option(help="budget, without an order: done in so many seconds.")] = None,
    probability: Annotated[float | None, typer.Option(help="budget: done in time with this probability.")] = None,
    cost: Annotated[str | None, typer.Option(help="make-or-buy: what doing it costs you, credits.")] = None,
    price: Annotated[
        str | None, typer.Option(help="judge: the price, credits; of a settled order usually what was paid.")
    ] = None,
    later: Annotated[
        float,
        typer.Option(
            help="For how many seconds from now; best-time: until when; make-or-buy: when you could still resell.",
            min=0,
            max=86_400,
        ),
    ] = 0.0,
    confidence: Annotated[float, typer.Option(help="Share of bands that are to hold.", min=0.5, max=0.95)] = 0.8,
    preview: Annotated[bool, typer.Option(help="Only the coarse band, which is free.")] = False,
    max_fee: Annotated[str, typer.Option(help="Most that you pay for it, credits.")] = "1",
    name: Annotated[str | None, typer.Option("--id", help="Your name for the quote; the same again costs nothing.")] = None,
    seller: OracleOption = NAME,
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 15.0,
    as_json: JsonOption = False,
) -> None:
    """Buy an oracle's fair band or other advice on an order, on a task that nobody has posted, or on the zone."""
    what = kind_of_advice(advice)
    if what != "congestion" and (order is None) == (pickup is None or dropoff is None):
        raise InputError("command line", "--order", order, "name an order, or both --pickup and --dropoff")
    if order is not None and (pickup is not None or dropoff is not None):
        raise InputError("command line", "--order", order, "leave out --pickup and --dropoff: the order has its own")
    max_fee_uc = credits_in(max_fee, "--max-fee", least=0)
    wanted = wishes(
        what, on_order=order is not None, by_s=by, probability=probability, cost=cost, price=price, later_s=later
    )

    async def buy(requester: Requester) -> FairReply:
        chosen = seller if seller != BEST else _best((await requester.status("oracles")).oracles, what, later=later > 0)
        fields = {
            "quote": id_of(QuoteId, name or f"q-{secrets.token_hex(6)}", "--id"),
            "oracle": id_of(PartyName, chosen, "--oracle"),
            "order": None if order is None else id_of(OrderId, order, "--order"),
            "pickup": None if pickup is None else place_text(pickup, "--pickup"),
            "dropoff": None if dropoff is None else place_text(dropoff, "--dropoff"),
            "payload_kg": payload,
            "deadline_s": deadline,
            "later_s": later,
            "confidence": confidence,
            "preview": preview,
            "max_fee_uc": max_fee_uc,
        }
        body = FairRequest(**(fields | wanted))
        return await requester.ask("fair", body, FairReply)

    _show(request(Access(mqtt, keys, customer, zone), timeout, buy), as_json, explained=False)


@oracle.command()
def explain(
    quote_id: Annotated[str, typer.Argument(metavar="QUOTE", help="Id of a quote that you have bought.")],
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Tell what a quote rests on, in numbers, and what it cannot know; nothing is paid again."""
    body = FairRequest(quote=id_of(QuoteId, quote_id, "QUOTE"), oracle=NAME)
    reply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.ask("fair", body, FairReply))
    if reply.result == "refused":
        raise InputError("command line", "QUOTE", quote_id, "no such quote of yours: use the id of one that was bought")
    _show(reply, as_json, explained=True)


@oracle.command()
def verify(
    quote_id: Annotated[str, typer.Argument(metavar="QUOTE", help="Id of a quote that you have bought.")],
    leaves: Annotated[int, typer.Option(help="Records to be opened; 59 find 5 % false ones in 95 of 100 cases.")] = 59,
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Have records drawn at random opened that a quote rests on; where one is false the oracle loses its bond."""
    if not 1 <= leaves <= MAX_OPENED:
        raise InputError("command line", "--leaves", leaves, f"use a number from 1 to {MAX_OPENED}")
    body = OpenRequest(quote=id_of(QuoteId, quote_id, "QUOTE"), seed=secrets.token_hex(32), count=leaves)
    reply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.ask("open", body, OpenReply))
    if as_json:
        print_json(reply)
    elif reply.result == "sound":
        console.print(f"{reply.quote} is sound: {reply.leaves} records of {reply.oracle} are as its root says")
    elif reply.result == "breach":
        console.print(
            f"{reply.quote} is not sound: record {reply.leaf} of {reply.oracle}, {reply.breach}; its bond of"
            f" {Credits(reply.forfeit_uc)} credits is lost, {Credits(reply.refund_uc)} of it come back to you"
        )
    else:
        show_errors(reply.errors)
    raise typer.Exit({"sound": 0, "breach": EXIT_BREACH}.get(reply.result, EXIT_REFUSED))


@oracle.command()
def score(
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """List the oracles: fees, what they have sold, and how their bands have done against the settlements."""
    reply: StatusReply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.status("oracles"))
    if as_json:
        print_json(reply)
        return
    table = Table("", *(str(o.oracle) for o in reply.oracles))
    for what, told in _SCORES.items():
        table.add_row(what, *map(told, reply.oracles))
    for kind in KINDS[1:]:
        fees = (_advice_fee_uc(o, kind) for o in reply.oracles)
        table.add_row(f"fee: {kind}", *("not sold" if uc is None else str(Credits(uc)) for uc in fees))
    console.print(table)


_SCORES: dict[str, Callable[[OracleView], str]] = {
    "sells": lambda o: "yes" if o.open else "no",
    "sold": lambda o: str(o.sold),
    "earned": lambda o: str(Credits(o.earned_uc)),
    "of it to robots": lambda o: str(Credits(o.robots_uc)),
    "judged": lambda o: str(o.scored),
    "held": lambda o: "" if o.inside is None else f"{o.inside:.0%}",
    "score": lambda o: "" if o.score is None else f"{o.score:.3f}",
    "excess": lambda o: f"{o.excess:+.2f}" if o.scored else "",
    "breaches": lambda o: str(o.breaches),
    "fee: band, now": lambda o: str(Credits(o.now_uc)),
    "fee: band, later": lambda o: str(Credits(o.later_uc)),
    "fee: what is thin": lambda o: str(Credits(o.thin_uc)),
}
"""What `score` says of an oracle, a row each: as columns they would not fit a terminal."""


def _advice_fee_uc(view: OracleView, what: What) -> int | None:
    fee_uc: int | None = getattr(view, f"{what}_uc")
    return fee_uc


def _best(oracles: tuple[OracleView, ...], what: What, *, later: bool) -> str:
    """Return an oracle, drawn by fee and by how its bands have done, on a task of one credit."""
    band_uc = {o.oracle: o.later_uc if later else o.now_uc for o in oracles}
    asked = {o.oracle: band_uc[o.oracle] if what == "band" else _advice_fee_uc(o, what) for o in oracles if o.open}
    fees = {str(name): uc for name, uc in asked.items() if uc is not None}
    known = {str(o.oracle): Standing(excess=o.excess) for o in oracles}
    chosen = choose(fees, known, MICROCREDITS_PER_CREDIT, draw=secrets.randbelow(DRAWS) / DRAWS, explored=0.0)
    if chosen is None:
        raise InputError("command line", "--oracle", BEST, "no oracle sells it here: start one with `fleet-market oracle`")
    return chosen


def _show(reply: FairReply, as_json: bool, *, explained: bool) -> None:
    if as_json:
        print_json(reply)
    elif reply.result in {"quoted", "preview"}:
        band = reply.band
        for line in () if reply.advice is None else advice_lines(reply.advice):
            console.print(line, highlight=False, soft_wrap=True)
        if band is not None:
            console.print(
                f"{reply.oracle}: {Credits(band.low_uc)} to {Credits(band.high_uc)} credits, {band.confidence:.0%} of such"
                f" bands hold{' (thin: rests on too little)' if band.thin else ''}"
            )
        if reply.result == "quoted":
            until = "" if reply.valid_until_ns is None else f", counts until {seconds(reply.valid_until_ns):.0f} s"
            console.print(
                f"quote {reply.quote}: fee {Credits(reply.fee_uc)}, of it {Credits(reply.robots_uc)} to robots{until}"
            )
        if explained and band is not None:
            console.print(_parts(band))
            for text in (*band.reasons, *(f"not known: {u}" for u in band.unknown)):
                console.print(text, highlight=False, soft_wrap=True)
    else:
        show_errors(reply.errors)
        console.print(f"{reply.quote} {reply.result}: {reply.note or 'nothing was paid'}")
    raise typer.Exit(0 if reply.result in {"quoted", "preview"} else EXIT_REFUSED)


def _parts(band: WireBand) -> Table:
    table = Table("what", "from", "to", title=f"{band.samples} samples")
    for what, low_uc, high_uc in (
        ("band", band.low_uc, band.high_uc),
        ("expected", band.expected_uc, band.expected_uc),
        ("competitive prices", band.shadow_low_uc, band.shadow_high_uc),
        ("second-best robot", band.second_best_uc, band.second_best_uc),
        ("cost model of the robots", band.model_low_uc, band.model_high_uc),
        ("settlements like it", band.settled_low_uc, band.settled_high_uc),
    ):
        table.add_row(what, *("not known" if uc is None else str(Credits(uc)) for uc in (low_uc, high_uc)))
    for what, number in (
        ("age of the newest batch, s", band.age_s),
        ("share of bands that held", band.coverage),
        ("records of telemetry", band.evidence_records),
        ("Merkle root", band.root),
    ):
        table.add_row(what, "not known" if number is None else str(number), "")
    return table
