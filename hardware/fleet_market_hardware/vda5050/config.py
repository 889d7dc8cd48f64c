"""What we know of a vehicle before it has said a word."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fleet_market.body import Act, DriverSpec, Pose
from fleet_market.ids import RobotId
from fleet_market_hardware.vda5050.versions import VERSIONS, major, topic_interface

TopicLevel = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
"""One level of a topic (VDA 5050 2.1.0, section 6.4: never ``/``, ``$``, ``+`` or ``#``)."""
Seconds = Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Frame(_Config):
    """Where the origin of the vehicle's map lies in ours: metres, radians."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    def to_ours(self, x: float, y: float, yaw: float) -> Pose:
        """Return a place of the vehicle's map in ours."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return Pose(self.x + c * x - s * y, self.y + s * x + c * y, math.remainder(yaw + self.yaw, math.tau))

    def to_theirs(self, x: float, y: float, yaw: float) -> Pose:
        """Return a place of our map in the vehicle's."""
        c, s, dx, dy = math.cos(self.yaw), math.sin(self.yaw), x - self.x, y - self.y
        return Pose(c * dx + s * dy, c * dy - s * dx, math.remainder(yaw - self.yaw, math.tau))


class ActionWords(_Config):
    """How a vehicle calls one of our actions; ``{parcel}``, ``{mass_kg}`` and ``{seconds}`` stand for its own."""

    type: Annotated[str, Field(min_length=1)]
    parameters: dict[str, str | int | float | bool | list[Any]] = Field(default_factory=dict)

    def fill(self, act: Act) -> dict[str, Any]:
        """Return the parameters for `act`."""
        values = {"{parcel}": act.parcel, "{mass_kg}": act.mass_kg, "{seconds}": act.seconds}
        return {k: values.get(v, v) if isinstance(v, str) else v for k, v in self.parameters.items()}


Deed = Literal["load", "unload", "charge"]
USUAL_WORDS: dict[Deed, ActionWords] = {
    "load": ActionWords(type="pick"),
    "unload": ActionWords(type="drop"),
    "charge": ActionWords(type="startCharging"),
}
"""Predefined actions of VDA 5050 2.1.0, section 6.8.1."""


class VehicleConfig(_Config):
    """One vehicle, as its master control knows it."""

    robot: RobotId
    manufacturer: TopicLevel
    serial: TopicLevel
    version: str = "2.0.0"
    """In which to speak until the vehicle has said its own; also the major version of its topics."""
    interface: TopicLevel | Literal[""] = ""
    """First level of its topics; empty: what the version suggests."""
    topic: str = "{interface}/v{major}/{manufacturer}/{serial}/{topic}"
    """Form of its topics; only the last level is the standard's."""
    map_id: str = "local"
    frame: Frame = Frame()
    max_speed_mps: Annotated[float, Field(gt=0)]
    max_payload_kg: Annotated[float, Field(ge=0)]
    capacity_wh: Annotated[float, Field(gt=0)] | None = None
    """Of its battery: VDA 5050 2.x gives per cent only, energy is derived from it."""
    actions: dict[Deed, ActionWords] = Field(default_factory=lambda: dict(USUAL_WORDS))
    weighs: bool = False
    """Whether the weights of its loads come from a scale; of most vehicles they are nominal."""
    keeps_speed_limit: bool = True
    """Whether it keeps the maximum speed of an edge."""
    off_path_m: Annotated[float, Field(gt=0)] | None = 1.0
    """A vehicle that leaves the straight way to its next node by more has failed; ``None``: it may find ways of its own."""
    stale_s: Seconds = 35.0
    """Silence from here on is LOST: the standard has a state every 30 s."""
    poll_s: Seconds = 5.0
    """A vehicle that is silent for so long during a job is asked for its state."""
    resend_s: Seconds = 2.0
    """An order or an instant action without effect is sent again after this."""
    accept_s: Seconds = 10.0
    """An order that is not taken within this has failed."""
    stop_s: Seconds = 10.0
    """A cancelled vehicle that does not show standstill within this has not been stopped."""

    @field_validator("version")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in VERSIONS:
            raise ValueError(f"use one of {', '.join(VERSIONS)}")
        return value

    @field_validator("topic")
    @classmethod
    def _ends_in_topic(cls, value: str) -> str:
        if not value.endswith("/{topic}") or set("$+#") & set(value):
            raise ValueError("use levels without $, + and # that end in /{topic}")
        return value

    def topic_of(self, name: str) -> str:
        """Return the full topic of ``order``, ``state`` ..."""
        return self.topic.format(
            interface=self.interface or topic_interface(self.version),
            major=major(self.version),
            manufacturer=self.manufacturer,
            serial=self.serial,
            topic=name,
        )

    def spec(self) -> DriverSpec:
        """Return what its driver can do and what is measured: not its energy, which comes of the state of charge."""
        measures = {"pose", "battery", "payload"} if self.weighs else {"pose", "battery"}
        return DriverSpec(
            robot_id=self.robot,
            max_speed_mps=self.max_speed_mps,
            max_payload_kg=self.max_payload_kg,
            actions=frozenset(self.actions),
            measures=frozenset(measures),
            lacks=frozenset({"dead_man"} if self.keeps_speed_limit else {"dead_man", "speed_limit"}),
        )
