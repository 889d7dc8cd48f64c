"""What the market sees of a vehicle: one `Telemetry` out of its states, visualizations and silences."""

from __future__ import annotations

from dataclasses import replace

from fleet_market.body import Battery, Fault, Level, Link, Pose, Telemetry
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.gauges import EnergyGauge, Odometer
from fleet_market_hardware.vda5050.proofs import AUTOMATIC_MODES
from fleet_market_hardware.vda5050.seen import SeenPlace, SeenPosition, SeenState


class BodyView:
    """Keeps the newest that is known of a vehicle, all at times of arrival: a vehicle's clock says nothing."""

    def __init__(self, config: VehicleConfig) -> None:
        self._config = config
        self._energy, self._odometer = EnergyGauge(config.capacity_wh), Odometer(config.max_speed_mps)
        self._telemetry = Telemetry(seq=0, stamp_ns=0, link=Link.LOST)
        self.state: SeenState | None = None
        self.state_ns = 0
        self.heard_ns: int | None = None
        """Of the last sign of life."""
        self.broken = False
        """Whether the broker, or the vehicle itself, has said that it is gone, and nothing came since."""
        self.doubts: tuple[str, ...] = ()
        """Why values are None that the vehicle did send."""

    def pose_of(self, position: SeenPosition | None) -> Pose | None:
        """Return a place in our map; None where the vehicle does not know it, or means another map."""
        if position is None or not position.initialized or position.map_id not in {self._config.map_id, ""}:
            return None
        return self._config.frame.to_ours(position.x, position.y, position.theta)

    def pose(self) -> Pose | None:
        """Return where the vehicle is, in our map; None where that is not known."""
        return self._telemetry.pose

    def take_state(self, state: SeenState, now_ns: int) -> None:
        """Take note of a state."""
        self.state, self.state_ns = state, now_ns
        pose = self.pose_of(state.position)
        doubts = list(state.doubts)
        if state.position is not None and pose is None:
            doubts.append(
                f"agvPosition was on map {state.position.map_id!r}, or not initialized: use {self._config.map_id!r}"
            )
        self.doubts = tuple(doubts)
        self._energy.read(state.soc, state.charging, now_ns, state.health)
        battery = Battery(
            soc=state.soc,
            voltage_v=state.voltage_v,
            current_a=state.current_a,
            energy_out_j=self._energy.energy_out_j,
            charging=state.charging,
            health=state.health,
        )
        silent = [name for name, value in (("battery_state", state.soc), ("agv_position", pose)) if value is None]
        self._advance(pose, now_ns)
        self._telemetry = replace(
            self._telemetry,
            vx=state.speed_mps,
            wz=state.yaw_rate_radps,
            battery=battery,
            payload_kg=state.load_kg if self._config.weighs else None,
            moving=state.driving is not False,
            silent=tuple(silent),
            faults=_faults(state),
        )

    def take_place(self, place: SeenPlace, now_ns: int) -> None:
        """Take note of a visualization: where the vehicle is between two states."""
        if self.state is None:
            return
        if (pose := self.pose_of(place.position)) is not None:
            self._advance(pose, now_ns)
            self._telemetry = replace(self._telemetry, vx=place.speed_mps, wz=place.yaw_rate_radps)
        self.heard_ns = now_ns

    def _advance(self, pose: Pose | None, now_ns: int) -> None:
        self._odometer.read(pose, now_ns)
        self.heard_ns, self.broken = now_ns, False
        self._telemetry = replace(
            self._telemetry, seq=self._telemetry.seq + 1, stamp_ns=now_ns, pose=pose, odometer_m=self._odometer.metres
        )

    def link(self, now_ns: int) -> Link:
        """Return how fresh what is known is."""
        if self.broken or self.heard_ns is None:
            return Link.LOST
        return Link.UP if now_ns - self.heard_ns < self._config.stale_s * 1e9 else Link.STALE

    def telemetry(self, now_ns: int) -> Telemetry:
        """Return the newest snapshot."""
        return replace(self._telemetry, link=self.link(now_ns))


LEVELS: dict[str, Level] = {"URGENT": "URGENT", "CRITICAL": "CRITICAL", "FATAL": "FATAL"}


def _faults(state: SeenState) -> tuple[Fault, ...]:
    """Return what a vehicle complains about, and why no order may be given to it: its emergency stop, its mode."""
    faults = [Fault(error.type or "error", LEVELS.get(error.level, "WARNING"), str(error)) for error in state.errors]
    if state.emergency_stop not in {"NONE", None}:
        faults.append(Fault("emergency_stop", "CRITICAL", f"{state.emergency_stop} is active"))
    if state.mode is not None and state.mode not in AUTOMATIC_MODES:
        faults.append(Fault("operating_mode", "CRITICAL", f"{state.mode}: set it to AUTOMATIC"))
    return tuple(faults)
