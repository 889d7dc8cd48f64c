"""The physical model of a small differential-drive robot, as URDF.

What the usual URDF gets wrong about energy is avoided here: wheels collide as spheres (a cylinder on a plane jitters and
doubles the drive torque), the robot stands on three points (with four the load splits at random), the caster has no
friction. The origin of the base link is the middle of the drive axle on the floor (REP-105).
"""

from __future__ import annotations

from fleet_market.body import RobotType

CENTRE_OF_MASS_X_M = 0.036
CASTER_X_M = 0.20
"""With the centre of mass 0.036 m ahead of the axle, 82 % of the weight rests on the drive wheels."""
CASTER_RADIUS_M = 0.03
CHASSIS_HEIGHT_M = 0.18
GROUND_CLEARANCE_M = 0.08
WHEEL_MASS_KG = 0.8
CASTER_MASS_KG = 0.2
EMPTY_PAYLOAD_KG = 0.001
"""A link without mass would be fixed to the world; this is light enough not to matter."""

LEFT, RIGHT, CASTER, PAYLOAD = range(4)
"""Joint (and link) numbers, in the order of the URDF."""

_URDF = """<?xml version="1.0"?>
<robot name="{name}">
  <link name="base_link">
    <inertial><origin xyz="{com} 0 {mid}"/><mass value="{mass}"/>
      <inertia ixx="{i_side}" ixy="0" ixz="0" iyy="{i_side}" iyz="0" izz="{i_up}"/></inertial>
    <visual><origin xyz="{com} 0 {mid}"/><geometry><cylinder radius="{radius}" length="{height}"/></geometry></visual>
    <collision><origin xyz="{com} 0 {mid}"/><geometry><cylinder radius="{radius}" length="{height}"/></geometry></collision>
  </link>
  {wheels}
  <link name="caster">
    <inertial><mass value="{caster_mass}"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>
    <collision><geometry><sphere radius="{caster_radius}"/></geometry></collision>
  </link>
  <joint name="caster" type="fixed"><parent link="base_link"/><child link="caster"/>
    <origin xyz="{caster_x} 0 {caster_radius}"/></joint>
  <link name="payload">
    <inertial><mass value="{payload}"/><inertia ixx="1e-6" ixy="0" ixz="0" iyy="1e-6" iyz="0" izz="1e-6"/></inertial>
  </link>
  <joint name="payload" type="fixed"><parent link="base_link"/><child link="payload"/>
    <origin xyz="{com} 0 {top}"/></joint>
</robot>
"""

_WHEEL = """<link name="{name}">
    <inertial><mass value="{mass}"/><inertia ixx="{i}" ixy="0" ixz="0" iyy="{i}" iyz="0" izz="{i}"/></inertial>
    <visual><origin rpy="1.5708 0 0"/><geometry><cylinder radius="{radius}" length="0.04"/></geometry></visual>
    <collision><geometry><sphere radius="{radius}"/></geometry></collision>
  </link>
  <joint name="{name}" type="continuous"><parent link="base_link"/><child link="{name}"/>
    <origin xyz="0 {y} {radius}"/><axis xyz="0 1 0"/></joint>
"""


def urdf(robot: RobotType) -> str:
    """Return the URDF of a robot of this type; its mass is the type's, spread over chassis, wheels and caster.

    Raises
    ------
    ValueError
        If the wheels or the chassis do not fit into the footprint.
    """
    wheel_r, half_track = robot.wheel_radius_m, robot.track_width_m / 2
    radius = robot.footprint_radius_m - CENTRE_OF_MASS_X_M - 0.01
    if half_track + wheel_r > robot.footprint_radius_m or radius <= 0:
        raise ValueError(f"{robot.name}: wheels of {wheel_r} m at {half_track} m must fit into the footprint")
    mass = robot.mass_kg - 2 * WHEEL_MASS_KG - CASTER_MASS_KG
    side = mass * (3 * radius**2 + CHASSIS_HEIGHT_M**2) / 12
    wheel = {"mass": WHEEL_MASS_KG, "i": 0.5 * WHEEL_MASS_KG * wheel_r**2, "radius": wheel_r}
    return _URDF.format(
        name=robot.name,
        com=CENTRE_OF_MASS_X_M,
        mid=GROUND_CLEARANCE_M + CHASSIS_HEIGHT_M / 2,
        mass=mass,
        i_side=side,
        i_up=mass * radius**2 / 2,
        radius=radius,
        height=CHASSIS_HEIGHT_M,
        wheels="".join(_WHEEL.format(name=n, y=y, **wheel) for n, y in (("left", half_track), ("right", -half_track))),
        caster_mass=CASTER_MASS_KG,
        caster_radius=CASTER_RADIUS_M,
        caster_x=CASTER_X_M,
        payload=EMPTY_PAYLOAD_KG,
        top=GROUND_CLEARANCE_M + CHASSIS_HEIGHT_M,
    )
