"""The picture of a round: driven paths on the map, and what orders cost."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleet_market.body import Pose
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.protocol.messages import OrderState, OrderView
from fleet_market.units import MICROCREDITS_PER_CREDIT

SIZE_IN = (15.0, 13.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen."""

    grid: OccupancyGrid
    trace: Path
    homes: Mapping[RobotId, Pose]
    chargers: Sequence[Pose]
    orders: Sequence[OrderView]


def draw(picture: Picture, target: Path) -> None:
    """Write the picture as PNG: the map above, asks, prices and energies below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - a large library for one picture
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=SIZE_IN, layout="constrained")
    FigureCanvasAgg(figure)
    floor, prices, energies = (figure.add_subplot(place) for place in _places(figure))
    colours = _draw_floor(floor, picture)
    settled = [view for view in picture.orders if view.state is OrderState.SETTLED]
    _draw_prices(prices, settled)
    _draw_energies(energies, settled, colours)
    figure.savefig(target, dpi=90)


def _places(figure: Any) -> list[Any]:
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    return [grid[0, :], grid[1, 0], grid[1, 1]]


def _draw_floor(axes: Any, picture: Picture) -> dict[str, str]:
    grid = picture.grid
    (x, y), (width, height) = grid.origin, grid.size_m
    shade = np.where(grid.occupied, 0.2, np.where(grid.free, 1.0, 0.8))
    axes.imshow(shade, origin="lower", extent=(x, x + width, y, y + height), cmap="gray", vmin=0, vmax=1)
    colours = {robot: f"C{i % 10}" for i, robot in enumerate(picture.homes)}
    for robot, points in _read_trace(picture.trace).items():
        axes.plot(points[:, 0], points[:, 1], color=colours[robot], linewidth=1.1, alpha=0.75, label=robot)
    for robot, home in picture.homes.items():
        axes.plot(home.x, home.y, "s", color=colours[robot], markersize=9, markeredgecolor="black")
    for charger in picture.chargers:
        axes.plot(charger.x, charger.y, "P", color="gold", markersize=13, markeredgecolor="black")
    for view in picture.orders:
        axes.plot(view.pickup.x, view.pickup.y, "^", color="black", markersize=5)
        axes.plot(view.dropoff.x, view.dropoff.y, "v", color="black", markersize=5)
    axes.set_title("Driven paths (squares: parking, plus: chargers, triangles: pick-up up, drop-off down)")
    axes.set_xlabel("x [m]")
    axes.set_ylabel("y [m]")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return {str(robot): colour for robot, colour in colours.items()}


def _read_trace(trace: Path) -> dict[RobotId, Any]:
    points: defaultdict[RobotId, list[tuple[float, float]]] = defaultdict(list)
    with trace.open(newline="") as file:
        for row in csv.DictReader(file):
            points[RobotId(row["robot"])].append((float(row["x"]), float(row["y"])))
    return {robot: np.array(xy) for robot, xy in points.items()}


def _draw_prices(axes: Any, settled: Sequence[OrderView]) -> None:
    places = range(len(settled))
    for values, mark, label in (
        ([v.max_price_uc for v in settled], "k_", "budget"),
        ([v.price_uc or 0 for v in settled], "bo", "price paid"),
        ([v.ask_uc or 0 for v in settled], "g^", "winner's ask"),
    ):
        axes.plot(places, [value / MICROCREDITS_PER_CREDIT for value in values], mark, label=label)
    axes.set_xticks(list(places), [v.order for v in settled], rotation=90, fontsize=7)
    axes.set_ylabel("credits")
    axes.set_ylim(bottom=0)
    axes.set_title("Settled orders: ask, price, budget")
    axes.legend()


def _draw_energies(axes: Any, settled: Sequence[OrderView], colours: Mapping[str, str]) -> None:
    pairs = [(v.predicted_energy_j, v.measured_energy_j, str(v.robot)) for v in settled]
    known = [(p, m, robot) for p, m, robot in pairs if p is not None and m is not None]
    most = max((max(p, m) for p, m, _ in known), default=1.0) * 1.1
    axes.plot((0, most), (0, most), color="grey", linewidth=0.8)
    for predicted, measured, robot in known:
        axes.plot(predicted, measured, "o", color=colours.get(robot, "black"))
    axes.set_xlabel("predicted [J]")
    axes.set_ylabel("measured [J]")
    axes.set_title("Energy of settled orders (line: as predicted)")
