"""From the messages of one topic, recorded at rest, to the profile of a sensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.sensors.fit import Estimate, FitError, NoiseFit, fit_noise, fit_ranges, probability

LONGEST_HOLE = 10  # samples that may be missing in a row and are bridged


@dataclass(frozen=True)
class Fitted:
    """A profile's kind and parameters, and each estimate by its dotted name, with what was seen of the recording."""

    kind: str
    parameters: dict[str, Any]
    estimates: dict[str, Estimate]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """A recording without holes: every dt [s] a row of values (n, c); what was lost, and the jitter of stamps [s]."""

    dt: float
    values: Array
    dropout: Estimate
    jitter: float
    notes: tuple[str, ...]


def regular(stamps_ns: Array, values: Array) -> Series:
    """Readings (n, c) at stamps [ns] (n,), put on a regular grid; short holes are bridged, long ones end the series.

    Raises:
        FitError: when the stamps do not rise, or there are too few.
    """
    order = np.argsort(stamps_ns, kind="stable")
    t, x = (stamps_ns[order] - stamps_ns[order[0]]) * 1e-9, values[order]
    if len(t) < 20 or not np.median(np.diff(t)) > 0.0:
        raise FitError(f"{len(t)} messages with rising stamps are too few")
    dt = float(np.median(np.diff(t)))
    k = np.cumsum(np.concatenate([[0], np.rint(np.diff(t) / dt)])).astype(int)
    breaks = np.flatnonzero(np.diff(k) > LONGEST_HOLE) + 1
    pieces = np.split(np.arange(len(k)), breaks)
    piece = max(pieces, key=len)
    notes = (
        []
        if len(pieces) == 1
        else [f"{len(breaks)} long holes; used are the {len(piece)} messages of the longest piece"]
    )
    k, t, x = k[piece] - k[piece[0]], t[piece], x[piece]
    k, first = np.unique(k, return_index=True)
    t, x = t[first], x[first]
    slope, start = np.polyfit(k, t, 1)
    grid = np.arange(k[-1] + 1)
    whole = x[np.searchsorted(k, grid, side="right") - 1]  # held, so that no digits appear that the sensor has not
    return Series(
        float(slope),
        whole,
        probability(len(grid) - len(k), len(grid)),
        float(np.std(t - slope * k - start)),
        tuple(notes),
    )


def fit_imu(stamps_ns: Array, values: Array) -> Fitted:
    """An ImuProfile from angular velocities [rad/s] and specific forces [m/s²] (n, 6)."""
    s = regular(stamps_ns, values)
    gyro, accel = fit_noise(s.values[:, :3], s.dt), fit_noise(s.values[:, 3:], s.dt)
    estimates = {"timing.dropout": s.dropout}
    for name, f in (("gyro", gyro), ("accel", accel)):
        estimates |= {
            f"{name}.white_noise": f.white,
            f"{name}.bias_instability": f.instability,
            f"{name}.random_walk": f.walk,
        }
    parameters = {
        "timing": _timing(s),
        "gyro": _noise(gyro) | {"bias": _round(float(np.sqrt(np.mean(gyro.mean**2))))},
        "accel": _noise(accel),
    }
    return Fitted("imu", parameters, estimates, s.notes)


def _noise(f: NoiseFit) -> dict[str, float]:
    values = {"white_noise": f.white, "bias_instability": f.instability, "random_walk": f.walk}
    return {k: _round(v.value) for k, v in values.items()} | {"resolution": _round(f.step)}


def fit_wrench(stamps_ns: Array, values: Array) -> Fitted:
    """A WrenchProfile from forces [N] and torques [N m] (n, 6)."""
    s = regular(stamps_ns, values)
    parameters: dict[str, Any] = {"timing": _timing(s)}
    estimates = {"timing.dropout": s.dropout}
    root = 1.0 / math.sqrt(s.dt)
    for name, x in (("force", s.values[:, :3]), ("torque", s.values[:, 3:])):
        f = fit_noise(x, s.dt, instability=False)
        noise = Estimate(f.white.value * root, f.white.low * root, f.white.high * root)
        estimates |= {f"{name}_noise": noise, f"{name}_drift": f.walk}
        parameters |= {
            f"{name}_noise": _round(noise.value),
            f"{name}_drift": _round(f.walk.value),
            f"{name}_resolution": _round(f.step),
        }
    return Fitted("wrench", parameters, estimates, s.notes)


def fit_magnetometer(stamps_ns: Array, values: Array) -> Fitted:
    """The noise of a MagnetometerProfile from fields [T] (n, 3)."""
    s = regular(stamps_ns, values)
    f = fit_noise(s.values, s.dt, instability=False)
    parameters = {"timing": _timing(s), "white_noise": _round(f.white.value), "resolution": _round(f.step)}
    return Fitted("magnetometer", parameters, {"white_noise": f.white, "timing.dropout": s.dropout}, s.notes)


def fit_encoders(stamps_ns: Array, position: Array, effort: Array) -> Fitted:
    """An EncoderProfile from joints at rest: positions [rad] and torques [N m] (n, j), NaN where there is none.

    Raises:
        FitError: when neither positions nor torques vary.
    """
    known = np.isfinite(effort).all(axis=0)
    s = regular(stamps_ns, np.column_stack([position, effort[:, known]]))
    n = position.shape[1]
    parameters: dict[str, Any] = {"timing": _timing(s)}
    estimates, notes, root = {"timing.dropout": s.dropout}, list(s.notes), 1.0 / math.sqrt(s.dt)
    for prefix, x in (("", s.values[:, :n]), ("torque_", s.values[:, n:])):
        moving = x[:, np.ptp(x, axis=0) > 0.0]
        if not moving.shape[1]:
            notes.append(f"{'torques' if prefix else 'positions'} do not vary: their noise is below their resolution")
            continue
        f = fit_noise(moving, s.dt, instability=False)
        noise = Estimate(f.white.value * root, f.white.low * root, f.white.high * root)
        estimates[f"{prefix}noise"] = noise
        parameters |= {f"{prefix}noise": _round(noise.value), f"{prefix}resolution": _round(f.step)}
        if prefix:
            estimates["torque_drift"] = f.walk
            parameters["torque_drift"] = _round(f.walk.value)
    if len(estimates) == 1:
        raise FitError("nothing varies in this recording: the noise is below the resolution")
    return Fitted("encoders", parameters, estimates, tuple(notes))


def fit_scan(stamps_ns: Array, ranges: Array, angle_min: float, step: float, limits: tuple[float, float]) -> Fitted:
    """The range statistics of a LidarProfile from scans (n, rays) [m]; `limits`: its nearest and farthest range [m]."""
    return fit_lines(stamps_ns, ranges[:, None, :], angle_min, step, limits, [0.0])


def fit_lines(
    stamps_ns: Array, ranges: Array, angle_min: float, step: float, limits: tuple[float, float],
    elevations: Sequence[float],
) -> Fitted:  # fmt: skip
    """The same from sweeps of several lines (n, lines, rays) [m] at these elevations [rad]."""
    s = regular(stamps_ns, np.zeros((len(stamps_ns), 1)))
    f = fit_ranges(ranges, step)
    estimates = {
        "noise": f.noise,
        "noise_per_metre": f.noise_per_metre,
        "divergence": f.divergence,
        "dropout": f.dropout,
    }
    rays = ranges.shape[2]
    parameters = {
        "timing": _timing(s), "rays": rays, "angle_min": _round(angle_min),
        "angle_max": _round(angle_min + step * (rays - 1)), "elevations": [_round(e) for e in elevations], "range_min": _round(limits[0]), "range_max": _round(limits[1]),
    }  # fmt: skip
    whole = step * rays > 2.0 * math.pi - 0.5 * step
    if whole:
        parameters["angle_max"] = angle_min + 2.0 * math.pi
    parameters |= {k: _round(v.value) for k, v in estimates.items()} | {"resolution": _round(f.resolution)}
    return Fitted("lidar", parameters, estimates | {"timing.dropout": s.dropout}, s.notes)


def _timing(s: Series) -> dict[str, float]:
    rate = 1.0 / s.dt
    near = float(f"{rate:.3g}")
    return {
        "rate": near if abs(near / rate - 1.0) < 1e-3 else _round(rate),
        "jitter": _round(s.jitter),
        "dropout": _round(s.dropout.value),
    }


def _round(value: float) -> float:
    """Four digits: more than is known."""
    return float(f"{value:.4g}")
