"""The place where simulated fleets work: one small hall, the same for all seeds."""

from __future__ import annotations

from functools import cache

import numpy as np

from fleet_market.body import BatterySpec, MotorSpec, Pose, RobotType, WearSpec
from fleet_market.commons.traffic import Messages, TrafficControl
from fleet_market.ids import RobotId, RouteId, derive
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.places import Places
from fleet_market.maps.roadmap import Roadmap
from fleet_market.protocol.messages import Place, Position, Route, RouteRequest

WIDTH_M, HEIGHT_M, CELL_M, PITCH_M = 8.8, 6.8, 0.2, 0.4
CLEARANCE_M = 0.38
MAX_ROBOTS = 6
PLACES = {
    f"{row}{column}": Place(x=x, y=y, name=f"{row}{column}")
    for row, y in (("a", 2.8), ("b", 4.4))
    for column, x in enumerate((1.2, 2.8, 4.4, 6.0, 7.6), start=1)
}
CHARGERS = (Pose(2.8, 6.0), Pose(6.0, 6.0))

PORTER = RobotType(
    name="porter",
    mass_kg=35.0,
    footprint_radius_m=0.30,
    wheel_radius_m=0.10,
    track_width_m=0.36,
    max_speed_mps=1.0,
    max_accel_mps2=0.5,
    max_yaw_rate_radps=1.2,
    max_payload_kg=20.0,
    rolling_resistance=0.015,
    hotel_w=30.0,
    max_tasks=3,
    handling_s=4.0,
    motor=MotorSpec(
        torque_constant_nm_a=0.044,
        resistance_ohm=0.46,
        gear_ratio=30.0,
        gear_efficiency=0.75,
        no_load_current_a=0.9,
        driver_efficiency=0.92,
        peak_wheel_torque_nm=15.0,
    ),
    battery=BatterySpec(
        voltage_v=24.0,
        capacity_wh=480.0,
        max_charge_w=480.0,
        charge_efficiency=0.9,
        reserve_soc=0.2,
        resume_soc=0.25,
        target_soc=0.8,
        replacement_uc=21_600_000_000,
    ),
    wear=WearSpec(tread_set_uc=8_000_000_000, tread_life_m=1.5e7, drive_set_uc=25_000_000_000, drive_life_h=10_500.0),
    time_rent_uc_per_h=210_000_000,
)
"""A robot with the figures of the shipped types; what it costs does not matter here."""


@cache
def _grid() -> OccupancyGrid:
    free = np.ones((round(HEIGHT_M / CELL_M), round(WIDTH_M / CELL_M)), dtype=np.bool_)
    return OccupancyGrid(~free, free, CELL_M, (0.0, 0.0), "hall")


@cache
def roadmap() -> Roadmap:
    """Return the ways through the hall, which is empty: nobody's way is the only one."""
    return Roadmap.build(_grid(), clearance_m=CLEARANCE_M, pitch_m=PITCH_M)


def homes(robots: int) -> dict[RobotId, Pose]:
    """Return the parking places of the first robots, along one wall."""
    return {RobotId(f"r{i + 1}"): Pose(1.2 + 1.2 * i, 0.8) for i in range(robots)}


def places() -> Places:
    """Return the place book."""
    return Places(_grid(), roadmap(), PLACES)


class OpenFloor(TrafficControl):
    """Grants every way at once, straight through whatever is there: a stand-in that costs a hundredth of the search."""

    def request(self, robot: RobotId, body: RouteRequest, now_ns: int) -> Messages:  # noqa: ARG002 - as the real one
        """Grant the way."""
        home = self._homes[robot]
        stops = [CHARGERS[0] if stop.place is None else stop.place for stop in body.stops]
        points = [(body.pose.x, body.pose.y), *((stop.x, stop.y) for stop in stops), self._roadmap.xy[home]]
        route = Route(
            request=body.request,
            route=RouteId(f"{robot}-{derive(body.request)}"),
            served=True,
            points=tuple(points),
            stops=tuple(range(1, len(stops) + 1)),
            released=len(points),
        )
        return [(robot, route)]

    def position(self, robot: RobotId, body: Position, now_ns: int) -> Messages:  # noqa: ARG002 - as above
        """Say nothing."""
        return []

    def lost(self, robot: RobotId, now_ns: int) -> Messages:  # noqa: ARG002 - as above
        """Say nothing."""
        return []


def traffic(robots: int, *, real: bool) -> TrafficControl:
    """Return a traffic control that knows the robots at home."""
    kind = TrafficControl if real else OpenFloor
    return kind(roadmap(), homes(robots), CHARGERS, footprint_radius_m=PORTER.footprint_radius_m)
