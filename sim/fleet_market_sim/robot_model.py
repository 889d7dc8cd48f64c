"""The physical model of a robot as URDF: two driven wheels and a caster, or four driven wheels that skid in turns.

What the usual URDF gets wrong about energy is avoided here: wheels collide as spheres (a cylinder on a plane jitters and
doubles the drive torque), a differential drive stands on three points (with four the load splits at random), its caster
has no friction. The origin of the base link is the middle of the drive axle on the floor (REP-105), for a skid-steered
robot the middle between the axles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_market.body import RobotType

CENTRE_OF_MASS_X_M = 0.036
CASTER_X_M = 0.20
"""With the centre of mass 0.036 m ahead of the axle, 82 % of the weight rests on the drive wheels."""
CASTER_RADIUS_M = 0.03
CHASSIS_HEIGHT_M = 0.18
GROUND_CLEARANCE_M = 0.08
WHEEL_MASS_KG = 0.8
CASTER_MASS_KG = 0.2
PAYLOAD_SPAN_M = 0.5
"""Payload is shared by a link on the deck and one this far above, so that its centre of mass is at the right height."""
EMPTY_PAYLOAD_KG = 0.001
"""A link without mass would be fixed to the world; this is light enough not to matter."""
DECK_M = GROUND_CLEARANCE_M + CHASSIS_HEIGHT_M

_URDF = """<?xml version="1.0"?>
<robot name="{name}">
  <link name="base_link">
    <inertial><origin xyz="{com} 0 {mid}"/><mass value="{mass}"/>
      <inertia ixx="{i_side}" ixy="0" ixz="0" iyy="{i_side}" iyz="0" izz="{i_up}"/></inertial>
    <visual><origin xyz="{com} 0 {mid}"/><geometry><cylinder radius="{radius}" length="{height}"/></geometry></visual>
    <collision><origin xyz="{com} 0 {mid}"/><geometry><cylinder radius="{radius}" length="{height}"/></geometry></collision>
  </link>
  {links}
</robot>
"""

_WHEEL = """<link name="{name}">
    <inertial><mass value="{mass}"/><inertia ixx="{i}" ixy="0" ixz="0" iyy="{i}" iyz="0" izz="{i}"/></inertial>
    <visual><origin rpy="1.5708 0 0"/><geometry><cylinder radius="{radius}" length="0.04"/></geometry></visual>
    <collision><geometry><sphere radius="{radius}"/></geometry></collision>
  </link>
  <joint name="{name}" type="continuous"><parent link="base_link"/><child link="{name}"/>
    <origin xyz="{x} {y} {radius}"/><axis xyz="0 1 0"/></joint>
"""

_FIXED = """<link name="{name}">
    <inertial><mass value="{mass}"/><inertia ixx="{i}" ixy="0" ixz="0" iyy="{i}" iyz="0" izz="{i}"/></inertial>
    {shape}</link>
  <joint name="{name}" type="fixed"><parent link="base_link"/><child link="{name}"/>
    <origin xyz="{x} 0 {z}"/></joint>
"""


@dataclass(frozen=True, slots=True)
class RobotModel:
    """A robot's URDF and what its joints (and links) are, by number."""

    urdf: str
    wheels: tuple[int, ...]
    """Left and right by turns, front to back."""
    places: tuple[tuple[float, float], ...]
    """The wheels' places ahead and to the left of the chassis' centre of mass, metres."""
    payload: tuple[int, int]
    """On the deck, and above it."""
    centre_x_m: float
    """Centre of mass of the chassis ahead of the base link's origin."""
    yaw_track_m: float
    """Twice the wheels' speed over the yaw rate when turning in place."""
    on_wheels: float
    """Share of the weight on the driven wheels when level and unloaded."""


def build(robot: RobotType) -> RobotModel:
    """Return the model of a robot of this type; its mass is the type's, spread over chassis, wheels and caster.

    A skid-steered robot turns slower than its wheels say. With four point contacts of equal load and friction, every
    wheel's slip points along its friction force, and the moments balance at ``slip_x / slip_y = wheelbase / track``: the
    wheels must run ``1 + (wheelbase/track)^2`` times as fast (Mandow et al. 2007 measure such factors of 1.3 to 2). That
    much is built into the base's controller.

    Raises
    ------
    ValueError
        If the wheels or the chassis do not fit into the footprint, or a skid-steered robot has no wheelbase.
    """
    half_track, half_base = robot.track_width_m / 2, robot.wheelbase_m / 2
    skid = robot.drive == "skid"
    if skid and half_base <= 0:
        raise ValueError(f"{robot.name}: a skid-steered robot must have a wheelbase above 0")
    centre = 0.0 if skid else CENTRE_OF_MASS_X_M
    radius = robot.footprint_radius_m - centre - 0.01
    reach = math.hypot(half_base + robot.wheel_radius_m, half_track) if skid else half_track + robot.wheel_radius_m
    if reach > robot.footprint_radius_m or radius <= 0:
        raise ValueError(f"{robot.name}: wheels of {robot.wheel_radius_m} m at {half_track} m must fit into the footprint")
    axles = (half_base, -half_base) if skid else (0.0,)
    places = [(x, y) for x in axles for y in (half_track, -half_track)]
    links = [_wheel(f"wheel_{i}", x, y, robot.wheel_radius_m) for i, (x, y) in enumerate(places)]
    if not skid:
        shape = f'<collision><geometry><sphere radius="{CASTER_RADIUS_M}"/></geometry></collision>'
        links.append(_fixed("caster", CASTER_MASS_KG, CASTER_X_M, CASTER_RADIUS_M, shape))
    low = len(links)
    links += [_fixed(f"payload_{i}", EMPTY_PAYLOAD_KG, centre, DECK_M + i * PAYLOAD_SPAN_M) for i in (0, 1)]
    mass = robot.mass_kg - len(places) * WHEEL_MASS_KG - (0.0 if skid else CASTER_MASS_KG)
    urdf = _URDF.format(
        name=robot.name,
        com=centre,
        mid=GROUND_CLEARANCE_M + CHASSIS_HEIGHT_M / 2,
        mass=mass,
        i_side=mass * (3 * radius**2 + CHASSIS_HEIGHT_M**2) / 12,
        i_up=mass * radius**2 / 2,
        radius=radius,
        height=CHASSIS_HEIGHT_M,
        links="".join(links),
    )
    stretch = 1 + (robot.wheelbase_m / robot.track_width_m) ** 2 if skid else 1.0
    return RobotModel(
        urdf,
        wheels=tuple(range(len(places))),
        places=tuple((x - centre, y) for x, y in places),
        payload=(low, low + 1),
        centre_x_m=centre,
        yaw_track_m=robot.track_width_m * stretch,
        on_wheels=1.0 if skid else 1 - CENTRE_OF_MASS_X_M / CASTER_X_M,
    )


def _wheel(name: str, x: float, y: float, radius: float) -> str:
    inertia = 0.5 * WHEEL_MASS_KG * radius**2
    return _WHEEL.format(name=name, mass=WHEEL_MASS_KG, i=inertia, radius=radius, x=x, y=y)


def _fixed(name: str, mass: float, x: float, z: float, shape: str = "") -> str:
    return _FIXED.format(name=name, mass=mass, i=1e-4 if shape else 1e-6, shape=shape, x=x, z=z)
