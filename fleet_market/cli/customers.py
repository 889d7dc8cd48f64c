"""Commands of customers and of everyone who looks on."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import typer
from rich.table import Table

from fleet_market.adapters.requests import Requester
from fleet_market.adapters.service_config import DEFAULT_MQTT
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
from fleet_market.cli.consulting import PROBABILITY, consultation, consulted
from fleet_market.cli.services import KeysOption, MqttOption, ZoneOption
from fleet_market.errors import InputError
from fleet_market.ids import OrderId
from fleet_market.protocol.messages import (
    ASK_PARTS,
    MAX_GROUP,
    MAX_PRIORITY,
    CancelOrder,
    LotRecord,
    OrderReply,
    OrderState,
    OrderView,
    PostOrder,
    QuoteReply,
    QuoteRequest,
    TradeRecord,
    WhyReply,
    WhyRequest,
)
from fleet_market.units import Credits

EXIT_NO_SUCCESS = 5

order = typer.Typer(help="Post, quote, cancel and watch orders.", no_args_is_help=True)


@order.command()
def post(
    order_id: Annotated[str, typer.Argument(metavar="ID", help="Your name for the order.")],
    pickup: Annotated[str, typer.Option(help="Place: a name, x;y or x;y;yaw.")],
    dropoff: Annotated[str, typer.Option(help="Place: a name, x;y or x;y;yaw.")],
    max_price: Annotated[str, typer.Option(help="Most that you pay, credits.")],
    payload: Annotated[float, typer.Option(help="Weight, kg.", min=0)] = 0.0,
    deadline: Annotated[float, typer.Option(help="Seconds from now.", min=1)] = 600.0,
    release: Annotated[float, typer.Option(help="Seconds from now until it is on sale.", min=0)] = 0.0,
    priority: Annotated[int, typer.Option(help="Sold in earlier rounds than lower ones.", min=0, max=MAX_PRIORITY)] = 0,
    lateness_per_h: Annotated[
        str, typer.Option(help="What an hour after the deadline costs you, credits; 0: nobody may be late.")
    ] = "0",
    value: Annotated[str, typer.Option(help="Value of the goods, credits: counts against robots that fail.")] = "0",
    after: Annotated[str | None, typer.Option(metavar="ID", help="Your order that must be settled first.")] = None,
    group: Annotated[str | None, typer.Option(metavar="WORD", help="Awarded in one batch with all of its group.")] = None,
    group_size: Annotated[int, typer.Option(help="Orders of the group.", min=1, max=MAX_GROUP)] = 1,
    consult: Annotated[
        str | None,
        typer.Option(metavar="ORACLE", help="Buy its quote first: offer no more than the top of its band, or do not post."),
    ] = None,
    by: Annotated[
        float | None,
        typer.Option(help="With --consult, buy a budget: to be done in so many seconds; usually the deadline."),
    ] = None,
    probability: Annotated[
        float | None, typer.Option(help=f"With --consult, buy a budget: done in time with this; usually {PROBABILITY}.")
    ] = None,
    max_fee: Annotated[str, typer.Option(help="Most that you pay for that quote, credits.")] = "1",
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Post an order; its maximum price is put on hold."""
    body = PostOrder(
        order=id_of(OrderId, order_id, "ID"),
        pickup=place_text(pickup, "--pickup"),
        dropoff=place_text(dropoff, "--dropoff"),
        payload_kg=payload,
        release_s=release,
        deadline_s=deadline,
        max_price_uc=credits_in(max_price, "--max-price"),
        priority=priority,
        lateness_uc_per_h=credits_in(lateness_per_h, "--lateness-per-h", least=0),
        value_uc=credits_in(value, "--value", least=0),
        after=None if after is None else id_of(OrderId, after, "--after"),
        group=None if group is None else id_of(OrderId, group, "--group"),
        group_size=group_size,
    )
    question = consultation(body, consult, max_fee, by, probability)

    async def buy(requester: Requester) -> OrderReply:
        asked = body if question is None else await consulted(requester, body, question)
        return await requester.ask("order", asked, OrderReply)

    _show_reply(request(Access(mqtt, keys, customer, zone), timeout, buy), as_json)


@order.command()
def cancel(
    order_id: Annotated[str, typer.Argument(metavar="ID")],
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Take an order back; a parcel that is on its way is brought back to its pickup at the agreed price."""
    body = CancelOrder(order=id_of(OrderId, order_id, "ID"))
    _show_reply(request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.ask("cancel", body, OrderReply)), as_json)


@order.command()
def quote(
    pickup: Annotated[str, typer.Option(help="Place: a name, x;y or x;y;yaw.")],
    dropoff: Annotated[str, typer.Option(help="Place: a name, x;y or x;y;yaw.")],
    payload: Annotated[float, typer.Option(help="Weight, kg.", min=0)] = 0.0,
    deadline: Annotated[float, typer.Option(help="Seconds from now.", min=1)] = 600.0,
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    timeout: TimeoutOption = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Ask the robots what an order would cost now; nothing is bought."""
    body = QuoteRequest(
        pickup=place_text(pickup, "--pickup"),
        dropoff=place_text(dropoff, "--dropoff"),
        payload_kg=payload,
        deadline_s=deadline,
    )
    reply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.ask("quote", body, QuoteReply))
    if as_json:
        print_json(reply)
    elif reply.best_ask_uc is not None:
        second = "none" if reply.second_ask_uc is None else str(Credits(reply.second_ask_uc))
        console.print(f"{reply.robots} robots ask; best {Credits(reply.best_ask_uc)} cr, best of another owner {second} cr")
    else:
        for robot, reason, detail in reply.declines:
            console.print(f"{robot} declines: {reason} {detail}")
        show_errors(reply.errors)
        console.print("no robot asks for it" if reply.result == "no_ask" else "refused")
    raise typer.Exit(0 if reply.result == "quoted" else EXIT_REFUSED)


@order.command()
def watch(
    order_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Until it is over; without: all, for ever.")
    ] = None,
    customer: AsOption = "demo",
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show orders as they change."""
    wanted = None if order_id is None else id_of(OrderId, order_id, "ID")

    def show(view: OrderView) -> None:
        if as_json:
            typer.echo(view.model_dump_json())
        else:
            price = "" if view.price_uc is None else f" {Credits(view.price_uc)} cr"
            console.print(f"{view.order} {view.state}{f' {view.robot}' if view.robot else ''}{price} {view.note}".rstrip())

    async def follow(requester: Requester) -> OrderState | None:
        status = await requester.status("orders", wanted)
        for view in status.orders:
            show(view)
        if wanted is not None and not status.orders:
            return None
        if wanted is not None and status.orders[0].state.final:
            return status.orders[0].state
        async for view in requester.events():
            if wanted in (None, view.order):
                show(view)
                if wanted is not None and view.state.final:
                    return view.state
        return None

    state = request(Access(mqtt, keys, customer, zone), 10.0, follow)
    if state is None:
        raise InputError("command line", "ID", order_id, "no such order: use the id of one that was posted")
    raise typer.Exit(0 if state is OrderState.SETTLED else EXIT_NO_SUCCESS)


def robots(
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    customer: AsOption = "demo",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """List the robots that the market knows."""
    reply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.status("robots"))
    if as_json:
        print_json(reply)
        return
    table = Table("robot", "owner", "type", "online", "doing", "orders", "settled", "earned")
    for r in reply.robots:
        earned, online = str(Credits(r.earned_uc)), "yes" if r.online else "no"
        table.add_row(r.robot, r.owner, r.robot_type, online, r.doing, " ".join(r.contracts), str(r.settled), earned)
    console.print(table)


def why(
    order_id: Annotated[str, typer.Argument(metavar="ORDER")],
    mqtt: MqttOption = DEFAULT_MQTT,
    keys: KeysOption = None,
    zone: ZoneOption = "main",
    customer: AsOption = "demo",
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Tell who asked what for an order, and why it went where it went or why nobody took it."""
    body = WhyRequest(order=id_of(OrderId, order_id, "ORDER"))
    reply = request(Access(mqtt, keys, customer, zone), timeout, lambda r: r.ask("why", body, WhyReply))
    if as_json:
        print_json(reply)
    elif reply.view is None:
        console.print(f"no order {order_id}")
    else:
        console.print(f"{reply.view.order} is {reply.view.state}. {reply.view.note}".rstrip())
        for record in reply.records:
            console.print(_asks_table(record))
            if record.not_asked:
                console.print(f"{record.not_asked} more robots were not asked: other lots were nearer to them")
        for trade in reply.trades:
            console.print(_gains_table(trade))
        for upper, lower in pairwise(reply.levels):
            paid = "pays" if lower.paid_uc is None else f"has paid {Credits(lower.paid_uc)} of"
            console.print(f"{upper.robot} {paid} {Credits(lower.price_uc)} to {lower.robot}, which does it for it")
    raise typer.Exit(0 if reply.found else EXIT_REFUSED)


def _asks_table(record: LotRecord) -> Table:
    """Return who asked what, made of what; parts that nobody has are left out."""
    used = [i for i in range(len(ASK_PARTS)) if any(ask.parts_uc is not None and ask.parts_uc[i] for ask in record.asks)]
    table = Table(
        "robot",
        "owner",
        "ask",
        *(ASK_PARTS[i] for i in used),
        "handicap",
        "outcome",
        title=f"{record.call}: {record.summary}",
    )
    for ask in record.asks:
        parts = [ask.ask_uc, *(None if ask.parts_uc is None else ask.parts_uc[i] for i in used), ask.handicap_uc or None]
        table.add_row(ask.robot, ask.owner, *("" if p is None else f"{Credits(p)}" for p in parts), ask.outcome)
    return table


def _gains_table(trade: TradeRecord) -> Table:
    """Return what each robot gains by a trade."""
    table = Table("robot", "saves", "asks", "gains", title=f"{trade.call}: {trade.summary}")
    for gain in trade.gains:
        table.add_row(gain.robot, f"{Credits(gain.saving_uc)}", f"{Credits(gain.asks_uc)}", f"{Credits(gain.gain_uc)}")
    return table


def _show_reply(reply: OrderReply, as_json: bool) -> None:
    if as_json:
        print_json(reply)
    else:
        show_errors(reply.errors)
        console.print(f"{reply.order} {reply.result}")
    if reply.result == "refused":
        raise typer.Exit(EXIT_REFUSED)
