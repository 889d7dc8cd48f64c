"""The books of energy: where all that came out of a battery has gone."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class EnergyBooks:
    """Energy since the start, joules; every term is kept by itself, so that the sum can be checked.

    Two independent accounts meet at the wheels. The meter splits what the battery gave into losses and the motors'
    mechanical work, torque times speed. What the contacts with the floor took, and what is stored in the body, are read
    from the physics engine's contact forces, velocities and heights.
    """

    battery_out_j: float = 0.0
    hotel_j: float = 0.0
    copper_j: float = 0.0
    no_load_j: float = 0.0
    gear_j: float = 0.0
    driver_j: float = 0.0
    """Drive electronics, and braking energy that is not fed back."""
    wheel_work_j: float = 0.0
    """Mechanical work of the motors at the wheels."""
    rolling_j: float = 0.0
    scrub_j: float = 0.0
    """Turning of the wheels' contact patches."""
    slip_j: float = 0.0
    """Sliding of the wheels over the floor."""
    kinetic_j: float = 0.0
    """Kinetic energy now, less that at the start."""
    potential_j: float = 0.0
    """Work against gravity."""
    given_j: float = 0.0
    """Put into the body from outside: parcels lifted on or off, the floor tilted."""

    @property
    def spent_j(self) -> float:
        """Sum of everything that the battery's energy became."""
        lost = self.hotel_j + self.copper_j + self.no_load_j + self.gear_j + self.driver_j
        return lost + self.rolling_j + self.scrub_j + self.slip_j + self.kinetic_j + self.potential_j - self.given_j

    @property
    def gap_j(self) -> float:
        """What is missing in the books."""
        return self.battery_out_j - self.spent_j

    def __sub__(self, earlier: EnergyBooks) -> EnergyBooks:
        """Return the books of the time since `earlier`."""
        return EnergyBooks(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(EnergyBooks)))
