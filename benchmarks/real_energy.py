"""Energy model and calibration on a real robot: Clearpath Husky A200 on five kinds of ground (BorealTC, CC0).

Ground truth is the motors' energy over windows of 30 s from the measured currents with the motor constants of Reina et al.
2016: torque constant 0.044 Nm/A, 0.46 ohm, gear 78.71, no-load 1.35 A, gear efficiency 0.70. The features come from the
wheel speeds alone and never from a current. Traction only: what the computer draws was not logged.

Every sample is a short phase of constant force for each side of wheels (`fleet_market.pricing.drivetrain`): half the
rolling resistance, plus or minus half the drag of skidding, which grows with the slip angle of the wheels up to Coulomb
friction. The inner side may brake; braking returns nothing. Windows are taken in the order of the files, none left out.

* one step ahead: the calibration predicts each window before it learns from it, the first windows included;
* 5-fold: least squares of the relative error on four fifths of the windows, tested on the fifth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.report import Options, Row, main, need_data
from fleet_market.body import BatterySpec, MotorSpec, RobotType, WearSpec
from fleet_market.pricing.calibration import COMPONENTS, MEASURE_SD
from fleet_market.pricing.drivetrain import ARRAYS, G_MPS2, Drivetrain
from fleet_market.pricing.energy import FEATURES, NO_LOAD, TRACTION, TURNING
from fleet_market.pricing.kalman import FactorFilter
from fleet_market.pricing.plan import FloatArray

HZ, WINDOW_S = 6.5, 30
SURFACES = ("FLOORING", "ICE", "ASPHALT", "SANDY_LOAM", "SNOW")
GOALS = {"FLOORING": 9.0, "ICE": 6.5}
CALIBRATED_ON = "ASPHALT"
ELSEWHERE_GOAL = 20.0
FOLDS, SHUFFLES = 5, 10
WARM_UP = 10
STANDING_MPS = 1e-3
SLIP_ANGLE_RAD = np.radians(5.0)
"""Scale of the slip angle over which sideways friction builds up: friction 0.6 over a cornering coefficient of 0.12 per
degree (Gillespie 1992, Fundamentals of Vehicle Dynamics, section 6.3, gives about 0.1 to 0.2)."""

_UNUSED_BATTERY = BatterySpec(
    voltage_v=24.0,
    capacity_wh=480.0,
    max_charge_w=240.0,
    charge_efficiency=0.9,
    reserve_soc=0.2,
    resume_soc=0.3,
    target_soc=0.8,
    replacement_uc=0,
    cycle_life_efc=1000.0,
)
HUSKY = RobotType(
    name="husky",
    mass_kg=70.0,
    footprint_radius_m=0.55,
    wheel_radius_m=0.165,
    track_width_m=0.5708,
    drive="skid",
    wheelbase_m=0.512,
    max_speed_mps=1.0,
    max_accel_mps2=1.0,
    max_yaw_rate_radps=2.0,
    max_payload_kg=75.0,
    rolling_resistance=0.03,
    sliding_friction=0.6,
    hotel_w=0.0,
    handling_s=0.0,
    motor=MotorSpec(
        torque_constant_nm_a=0.044,
        resistance_ohm=0.46,
        gear_ratio=78.71,
        gear_efficiency=0.70,
        no_load_current_a=1.35,
        driver_efficiency=1.0,
        peak_wheel_torque_nm=60.0,
    ),
    battery=_UNUSED_BATTERY,
    wear=WearSpec(tread_set_uc=0, tread_life_m=1.0, drive_set_uc=0, drive_life_h=1.0),
    time_rent_uc_per_h=0,
)
"""Dimensions of the maker's data sheet; rolling resistance and friction of soft tyres on firm ground [assumption]."""


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    folder = need_data(options, "borealtc")
    windows = {surface: _windows(folder / surface) for surface in SURFACES}
    features = {s: np.array([window_features(w[:, 3], w[:, 4]) for w in ws]) for s, ws in windows.items()}
    energies = {s: np.array([measured_j(w) for w in ws]) for s, ws in windows.items()}
    steps = {s: _step_errors(FactorFilter(COMPONENTS, MEASURE_SD), s, features[s], energies[s]) for s in SURFACES}
    for s in SURFACES:
        name, count = s.lower().replace("_", " "), f"{len(energies[s])} windows"
        fold = _fold_errors(features[s], energies[s])
        yield Row(f"{name}: 5-fold", _mape(fold), "%", GOALS.get(s), note=f"{count}, P90 {_p90(fold):.1f} %")
        yield Row(f"{name}: one step ahead", _mape(steps[s]), "%", GOALS.get(s), note=f"P90 {_p90(steps[s]):.1f} %")
        late = steps[s][WARM_UP:]
        yield Row(f"{name}: one step ahead after {WARM_UP} windows", _mape(late), "%", note=f"P90 {_p90(late):.1f} %")
        yield Row(f"{name}: spec sheet", _mape(features[s].sum(1) / energies[s] - 1), "%", note="nothing learned")
        yield Row(f"{name}: way alone, 5-fold", _mape(_fold_errors(_ways(windows[s]), energies[s])), "%", note="baseline")
    yield from _pooled(features, energies)
    yield from _elsewhere(features, energies)
    _picture(options.out / "real_energy.png", features, energies)


def measured_j(window: FloatArray) -> float:
    """Return the motors' energy over a window from their currents, joules."""
    m, total = HUSKY.motor, 0.0
    for current, speed in ((window[:, 1], window[:, 3]), (window[:, 2], window[:, 4])):
        back_emf = m.torque_constant_nm_a * m.gear_ratio / HUSKY.wheel_radius_m * np.abs(speed)
        total += float((current * (current * m.resistance_ohm + back_emf)).sum() / HZ)
    return total


def window_features(left_mps: FloatArray, right_mps: FloatArray) -> FloatArray:
    """Return the energy of a window in parts as in `FEATURES`, joules, from the speeds of the wheels' rims."""
    train = replace(Drivetrain.of(HUSKY), ops=ARRAYS)
    weight_n, dt = HUSKY.mass_kg * G_MPS2, np.full(len(left_mps), 1 / HZ)
    ahead, apart = (left_mps + right_mps) / 2, np.abs(right_mps - left_mps) / 2
    sideways = apart / train.turn_travel_m_per_rad * HUSKY.wheelbase_m / 2
    grip = np.tanh(np.arctan2(sideways, np.abs(ahead)) / SLIP_ANGLE_RAD)
    drag_n = weight_n * HUSKY.sliding_friction * train.turn_drag_n_per_n * grip
    rolling_n = np.full(len(dt), weight_n * HUSKY.rolling_resistance)
    parts = np.zeros(len(FEATURES))
    for rim in (left_mps, right_mps):
        speed, moving_s = np.abs(rim), dt * (np.abs(rim) > STANDING_MPS)
        forces = (0 * rolling_n, rolling_n, rolling_n + drag_n * np.sign(rim - ahead) * np.sign(rim))
        idle, rolling, turning = (float(train.cruise_j(f, speed, moving_s).sum()) / 2 for f in forces)
        parts[[NO_LOAD, TRACTION, TURNING]] += (idle, rolling - idle, turning - rolling)
    return parts


def _windows(folder: Path) -> list[FloatArray]:
    size, found = round(WINDOW_S * HZ), []
    for path in sorted(folder.glob("*.csv")):
        table = np.genfromtxt(path, delimiter=",", skip_header=1)[:, :5]
        found += [table[i : i + size] for i in range(0, len(table) - size + 1, size)]
    return found


def _ways(windows: Sequence[FloatArray]) -> FloatArray:
    return np.array([[np.abs(w[:, 3] + w[:, 4]).sum() / 2 / HZ] for w in windows])


def _step_errors(learner: FactorFilter, surface: str, features: FloatArray, energies: FloatArray) -> FloatArray:
    errors = []
    for phi, joules in zip(features, energies, strict=True):
        lesson = learner.learn([surface], phi[None], float(joules))
        errors.append(lesson.relative_error)
    return np.array(errors)


def _fold_errors(features: FloatArray, energies: FloatArray) -> FloatArray:
    """Return the errors of all windows over `SHUFFLES` random cuts into `FOLDS`."""
    from scipy.optimize import nnls  # noqa: PLC0415 - a heavy import for this alone

    relative, errors = features / energies[:, None], []
    for shuffle in range(SHUFFLES):
        order = np.random.default_rng(shuffle).permutation(len(energies))
        for k in range(FOLDS):
            test = np.isin(np.arange(len(order)), order[k::FOLDS])
            factors, _ = nnls(relative[~test], np.ones(int((~test).sum())))
            errors.append(relative[test] @ factors - 1)
    return np.concatenate(errors)


def _pooled(features: Mapping[str, FloatArray], energies: Mapping[str, FloatArray]) -> Iterable[Row]:
    phi, joules = np.concatenate(list(features.values())), np.concatenate(list(energies.values()))
    yield Row("all ground pooled, kind unknown: 5-fold", _mape(_fold_errors(phi, joules)), "%")
    one = _step_errors(FactorFilter(COMPONENTS, MEASURE_SD), "ground", phi, joules)
    yield Row("all ground pooled, kind unknown: one step ahead", _mape(one), "%", note="one surface after the other")
    learner = FactorFilter(COMPONENTS, MEASURE_SD)
    known = np.concatenate([_step_errors(learner, s, features[s], energies[s]) for s in features])
    yield Row("all ground pooled, kind known: one step ahead", _mape(known), "%")


def _elsewhere(features: Mapping[str, FloatArray], energies: Mapping[str, FloatArray]) -> Iterable[Row]:
    """Calibrate on one kind of ground, then go to another with the calibration at hand."""
    others = [s for s in features if s != CALIBRATED_ON]
    kinds = {"no label in the map": dict.fromkeys(others, CALIBRATED_ON), "labelled": {s: s for s in others}}
    for label, labels in kinds.items():
        errors = {}
        for s in others:
            learner = FactorFilter(COMPONENTS, MEASURE_SD)
            _step_errors(learner, CALIBRATED_ON, features[CALIBRATED_ON], energies[CALIBRATED_ON])
            errors[s] = _step_errors(learner, labels[s], features[s], energies[s])
        note = ", ".join(f"{s.lower().replace('_', ' ')} {_mape(e):.1f}" for s, e in errors.items())
        pooled = _mape(np.concatenate(list(errors.values())))
        what = f"calibrated on {CALIBRATED_ON.lower()}, then elsewhere, {label}: one step ahead"
        yield Row(what, pooled, "%", ELSEWHERE_GOAL, note=note)


def _mape(errors: FloatArray) -> float:
    return float(100 * np.mean(np.abs(errors)))


def _p90(errors: FloatArray) -> float:
    return float(100 * np.quantile(np.abs(errors), 0.9))


def _picture(path: Path, features: Mapping[str, FloatArray], energies: Mapping[str, FloatArray]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is drawn

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(features), figsize=(4 * len(features), 4))
    for axis, (surface, phi) in zip(axes, features.items(), strict=True):
        learner = FactorFilter(COMPONENTS, MEASURE_SD)
        predicted = energies[surface] * (1 + _step_errors(learner, surface, phi, energies[surface]))
        axis.plot(energies[surface], energies[surface], color="0.7")
        axis.plot(energies[surface], predicted, ".")
        axis.set(title=surface.lower().replace("_", " "), xlabel="measured, J", ylabel="predicted one step ahead, J")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main("real_energy", measure, about=__doc__ or "", packages=("matplotlib",))
