"""How far a track is from the truth, and whether it knew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from benchmark.estimation_runs import Track
from digital_twin.core.arrays import Array
from digital_twin.core.rotation import log_so3

Z = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Scores:
    """Lengths [m], angles [rad]. RMS over the track, but `end`; rpe: of motions over one second."""

    ate: float
    end: float
    attitude: float
    tilt: float
    rpe: float
    rpe_angle: float


def attitude_errors(track: Track) -> Array:
    """Fixed-axis rotation from truth to estimate at every sample (k, 3) [rad]."""
    return np.array([log_so3(R @ T.T) for R, T in zip(track.rotation, track.true_rotation, strict=True)])


def tilt_errors(track: Track) -> Array:
    """Angle between the true and the estimated vertical, seen from the body (k,) [rad]."""
    cosine = np.einsum("ni,ni->n", track.rotation[:, 2], track.true_rotation[:, 2])
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)))


def score(track: Track) -> Scores:
    """All scores of a track."""
    off = np.linalg.norm(track.position - track.true_position, axis=1)
    moved, turned = _relative(track)
    angle = np.linalg.norm(attitude_errors(track), axis=1)
    return Scores(rms(off), float(off[-1]), rms(angle), rms(tilt_errors(track)), rms(moved), rms(turned))


def rms(x: Array) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def _relative(k: Track) -> tuple[Array, Array]:
    """Errors of the motions over a second, from every sample: [m], [rad]."""
    end = np.searchsorted(k.t, k.t + 1.0)
    start = np.flatnonzero(end < len(k.t))
    moved, turned = np.empty(len(start)), np.empty(len(start))
    for row, (i, j) in enumerate(zip(start, end[start], strict=True)):
        R, T = k.rotation, k.true_rotation
        by = R[i].T @ (k.position[j] - k.position[i]) - T[i].T @ (k.true_position[j] - k.true_position[i])
        moved[row] = np.linalg.norm(by)
        turned[row] = np.linalg.norm(log_so3((R[i].T @ R[j]).T @ (T[i].T @ T[j])))
    return moved, turned


def nees(track: Track) -> dict[str, Array]:
    """Errors squared over their covariances at every sample (k,): of velocity, attitude, and the latter's parts."""
    turn, P = attitude_errors(track), track.covariance[:, 3:, 3:] + 1e-12 * np.eye(3)
    velocity = track.velocity - track.true_velocity
    return {
        "velocity": _squared(velocity, track.twist_covariance[:, :3, :3]),
        "attitude": _squared(turn, P),
        "tilt": _squared(turn[:, :2], P[:, :2, :2]),
        "yaw": _squared(turn[:, 2:], P[:, 2:, 2:]),
    }


def _squared(error: Array, covariance: Array) -> Array:
    return np.asarray(np.einsum("ni,ni->n", error, np.linalg.solve(covariance, error[..., None])[..., 0]))


def band(degrees: int, seeds: int) -> tuple[float, float]:
    """The 95 % band of a NEES of so many degrees of freedom averaged over so many seeds."""
    low, high = chi2.ppf([0.025, 0.975], degrees * seeds) / seeds
    return float(low), float(high)


def average(runs: list[Array]) -> Array:
    """Over seeds, sample by sample; runs are aligned by their ends."""
    k = min(map(len, runs))
    return np.asarray(np.mean([r[-k:] for r in runs], axis=0))


def within(averaged: Array, degrees: int, seeds: int) -> float:
    """Share of the time [%] that an averaged NEES is inside its band."""
    low, high = band(degrees, seeds)
    return float(100.0 * np.mean((averaged > low) & (averaged < high)))
