"""Which quality of service each topic has, and why. The only place of this package where profiles are made.

===================  ==========================  ===============================================================
profile              reliability, durability     for
===================  ==========================  ===============================================================
`SENSOR_IN`          best effort, volatile, 5    odometry, joints, battery, scale: heard from drivers of any kind,
                                                 since a best-effort subscription also matches a reliable publisher;
                                                 a lost sample is made good by the next
`SENSOR_OUT`         reliable, volatile, 5       the same topics as the simulator publishes them: matches both kinds
                                                 of subscriptions
`COMMAND`            reliable, volatile, 1       cmd_vel, in and out: only the newest command counts
`EVENT`              reliable, volatile, 50      asks, contracts, settlements, bands, actions of stations: each of them
                                                 counts
`STATE`              reliable, transient, 1      market state, AMCL's pose: who comes late gets the newest at once
`DIAGNOSTICS`        reliable, volatile, 10      ``/diagnostics``, as ROS's own tools subscribe to it
===================  ==========================  ===============================================================

A recorder asks for what all publishers of a topic offer (`to_hear_all`).

``/clock`` is subscribed to by rclpy itself where `use_sim_time` is set (best effort, depth 1). Source of the matching
rules: REP 2003 and the ROS 2 documentation, "Quality of Service settings", table of compatibilities.
"""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

__all__ = ["COMMAND", "DIAGNOSTICS", "EVENT", "SENSOR_IN", "SENSOR_OUT", "STATE", "to_hear_all"]


def _profile(depth: int, *, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


SENSOR_IN = _profile(5, reliable=False)
SENSOR_OUT = _profile(5)
COMMAND = _profile(1)
EVENT = _profile(50)
STATE = _profile(1, latched=True)
DIAGNOSTICS = _profile(10)
RECORDER_DEPTH = 1000
"""A second of the fastest topic; what the recorder may fall behind by."""


def to_hear_all(offered: Iterable[QoSProfile]) -> QoSProfile:
    """Return the strongest profile that matches every publisher of a topic, with a queue for bursts."""
    profiles = list(offered)
    return _profile(
        RECORDER_DEPTH,
        reliable=all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles),
        latched=all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles),
    )
