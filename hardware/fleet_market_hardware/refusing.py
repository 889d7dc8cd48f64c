"""Jobs that a robot cannot do by its own data sheet, whatever its driver."""

from __future__ import annotations

from fleet_market.body import Act, DriverSpec, Job


def refusal(spec: DriverSpec, job: Job) -> str:
    """Return why a robot of this spec does not begin `job`; empty if nothing is against it."""
    for step in job.steps:
        if isinstance(step, Act):
            if step.kind not in spec.actions:
                return f"no {step.kind}: the robot does {', '.join(sorted(spec.actions)) or 'no actions'}"
        elif step.max_speed is not None and "speed_limit" in spec.lacks:
            return f"no limit of {step.max_speed:g} m/s: the robot takes none with a goal"
    return ""
