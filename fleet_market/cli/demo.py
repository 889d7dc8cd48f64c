"""The demo on the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from fleet_market.daemons.demo import DemoOptions, run_demo
from fleet_market.protocol.messages import OrderState, OrderView, StatusReply
from fleet_market.units import Credits, seconds

console = Console()
LAUNCH = Path("launch")


def demo(
    fleet: Annotated[Path, typer.Option(help="Fleet file.")] = LAUNCH / "fleets/warehouse.yaml",
    orders: Annotated[Path, typer.Option(help="Order file (CSV).")] = LAUNCH / "orders/warehouse.csv",
    map_file: Annotated[Path | None, typer.Option("--map", help="Map; else the one that the fleet file names.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for what comes out.")] = Path("out/demo"),
    speed: Annotated[float, typer.Option(help="How many times real time.", min=1, max=5)] = 3.0,
    seed: Annotated[int, typer.Option(help="Fixes ties and how robots differ from their data sheets.", min=0)] = 0,
    consult: Annotated[bool, typer.Option(help="Buy a quote of the oracle for every order when it comes on sale.")] = True,
) -> None:
    """Run a fleet on real parts: Mosquitto, market, oracle, PyBullet, and one ROS 2 node per robot."""
    options = DemoOptions(fleet=fleet, orders=orders, out=out, map=map_file, speed=speed, seed=seed, consult=consult)
    screen = Screen()
    try:
        summary = asyncio.run(run_demo(options, screen))
    finally:
        screen.close()
    _tell(summary, out)


class Screen:
    """Lines for what happens; on a terminal also a table of the robots that renews itself."""

    def __init__(self) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._orders: dict[str, OrderView] = {}
        if self._live is not None:
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    def order(self, view: OrderView) -> None:
        """Say what has become of an order, if that is news."""
        before = self._orders.get(view.order)
        self._orders[view.order] = view
        if before is not None and before.state is view.state and before.robot == view.robot:
            return
        match view.state:
            case OrderState.AWARDED if before is not None and before.attempts == view.attempts:
                self.say(f"         {view.order}: sold on, {view.note}")
            case OrderState.AWARDED:
                ask, price = Credits(view.ask_uc or 0), Credits(view.price_uc or 0)
                self.say(f"{_at(view.awarded_ns)} {view.order}: {view.robot} asked {ask} and gets {price} credits")
            case OrderState.SETTLED:
                measured = "no meter" if view.measured_energy_j is None else f"{view.measured_energy_j:.0f} J"
                energy = f"{measured} (predicted {view.predicted_energy_j or 0:.0f} J)"
                self.say(f"{_at(view.settled_ns)} {view.order}: {view.robot} has done it with {energy} and is paid")
            case OrderState.OPEN if view.note:
                self.say(f"         {view.order}: on sale again, {view.note}")
            case OrderState.EXPIRED | OrderState.FAILED | OrderState.CANCELLED:
                self.say(f"         {view.order}: {view.state}, {view.note}")

    def look(self, status: StatusReply) -> None:
        """Show the robots in the table."""
        if self._live is None:
            return
        over = sum(view.state.final for view in self._orders.values())
        table = Table("robot", "doing", "orders", "battery", "settled", "earned", title=f"{seconds(status.now_ns):.0f} s")
        for r in status.robots:
            soc = "?" if r.soc is None else f"{r.soc:.0%}"
            doing = r.doing if r.online else "gone"
            table.add_row(r.robot, doing, " ".join(r.contracts), soc, str(r.settled), str(Credits(r.earned_uc)))
        self._live.update(Group(table, f"{over} of {len(self._orders)} known orders are over"))


def _at(now_ns: int | None) -> str:
    return f"{seconds(now_ns or 0):7.1f}s"


def _tell(summary: dict[str, Any], out: Path) -> None:
    orders, ledger, error = summary["orders"], summary["ledger"], summary["energy_error"]
    contacts, oracle = summary["contacts"], summary["oracle"]
    table = Table(show_header=False)
    refused = f", {orders['refused']} refused" if orders["refused"] else ""
    table.add_row("orders", f"{orders['completed']} of {orders['posted']} settled, {orders['expired']} expired, "
                  f"{orders['failed']} failed{refused}")  # fmt: skip
    table.add_row("ledger", f"debits {ledger['sum_debits']:g} = credits {ledger['sum_credits']:g}, "
                  f"{ledger['escrow_left']:g} left in escrow")  # fmt: skip
    if error["orders"]:
        table.add_row("energy", f"off by {error['total']:.1%} in all, {error['median_abs']:.1%} in the median")
    table.add_row("oracle", f"{oracle['inside']} of {oracle['sold']} prices inside its fair band")
    quotes, paid = oracle["quotes"], ", ".join(f"{who} {n}" for who, n in oracle["buyers"].items())
    if quotes["bought"]:
        table.add_row("quotes", f"{quotes['bought']} bought ({paid}) for {quotes['fees']:g} credits, of it "
                      f"{quotes['to_robots']:g} to robots; {quotes['held']} of {quotes['judged']} bands held")  # fmt: skip
        table.add_row("worth", f"budgets at the top of the bands would have saved {oracle['worth']['saved']:g} credits")
    table.add_row("touches", f"robot-robot {contacts['robot_robot']}, robot-wall {contacts['robot_wall']}")
    table.add_row("time", f"{summary['sim_s']:.0f} s simulated in {summary['wall_s']:.0f} s")
    console.print(table)
    for name, what in (("summary.json", "everything in numbers"), ("ledger.csv", "the books"), ("demo.png", "the picture")):
        console.print(f"{out / name}: {what}", highlight=False, soft_wrap=True)
