"""A window made fit for identification: one even time axis, speeds and accelerations without delay, all smoothed alike.

What is causal lags; here the future is known, so every signal goes through the same zero-phase filter (Savitzky, Golay
1964), which leaves the linear equations between them true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d
from scipy.signal import savgol_filter

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.core.model import RobotModel
from digital_twin.core.rotation import matrix_from_quat, xyzw_from_wxyz

NS = 1_000_000_000
SPAN = 0.1  # [s] over which a cubic is fitted
SHORT = 0.035  # [s], where what is quick matters: a parabola
ORDER = 3
RATE = 25.0  # [Hz] of the samples that are kept: the filter passes no more
GRAVITY = np.array([0.0, 0.0, -9.81])
LEAST = 25  # samples below which nothing is identified


@dataclass(frozen=True)
class Signals:
    """K samples of a robot in motion. World axes are odom's.

    t: (K,) [s] from the window's start. q, qd, qdd: joints (K, n). effort: (K, n), NaN where not measured.
    rotation: R_world_root (K, 3, 3). position: of the root link's frame (K, 3). turn, turn_rate: its angular velocity and
    acceleration, in the world (K, 3). acceleration: of its origin, less gravity, in the world (K, 3) [m/s²].
    wrenches: (K, f, 6) as in Window.
    """

    t: Array
    q: Array
    qd: Array
    qdd: Array
    effort: Array
    rotation: Array
    position: Array
    turn: Array
    turn_rate: Array
    acceleration: Array
    wrenches: Array

    def __len__(self) -> int:
        return len(self.t)


def even(w: Window) -> tuple[float, Window, Mask]:
    """The window at its usual period [s], straight lines between samples; and where that is no invention (T,).

    Raises:
        TwinError: fewer than two samples.
    """
    if len(w) < 2:
        raise TwinError("a window needs at least two samples")
    t = (w.stamps_ns - w.stamps_ns[0]) / NS
    steps = np.diff(t)
    dt = float(np.median(steps))
    if np.abs(steps - dt).max() < 0.05 * dt:
        return dt, w, np.ones(len(w), dtype=bool)
    grid = np.arange(0.0, t[-1] + 1e-9, dt)
    before = np.clip(np.searchsorted(t, grid, side="right") - 1, 0, len(t) - 2)
    # What is beside a hole is left out too: speeds there are made of what is in it.
    whole = minimum_filter1d((steps[before] < 2.5 * dt).astype(np.uint8), 2 * round(SHORT / dt) + 1) > 0
    near = np.where(grid - t[before] < t[before + 1] - grid, before, before + 1)

    def at(x: Array) -> Array:
        flat = x.reshape(len(x), -1)
        share = ((grid - t[before]) / steps[before])[:, None]
        return np.asarray((flat[before] + share * (flat[before + 1] - flat[before])).reshape(len(grid), *x.shape[1:]))

    stamps = w.stamps_ns[0] + np.round(grid * NS).astype(np.int64)
    return (
        dt,
        Window(
            stamps, at(w.q), at(w.qd), at(w.qdd), at(w.effort), w.command[before], at(w.position), at(w.velocity),
            w.rotation[near], at(w.angular_velocity), at(w.wrenches), at(w.gyro), at(w.accelerometer),
        ),
        whole,
    )  # fmt: skip


def smooth(x: Array, dt: float, span: float = SPAN, derivative: int = 0) -> Array:
    """Value or derivative of a cubic (a parabola where `span` is short) fitted around each sample; first axis time.

    NaN where a sample that it needs is not finite.
    """
    length = max(5, 2 * round(span / dt / 2) + 1)
    if len(x) < length:
        raise TwinError(f"{len(x)} samples are too few: {length} are the least")
    order = ORDER if length > 7 else 2
    bad = ~np.isfinite(x)
    if not bad.any():
        return np.asarray(savgol_filter(x, length, order, deriv=derivative, delta=dt, axis=0))
    out = savgol_filter(np.where(bad, 0.0, x), length, order, deriv=derivative, delta=dt, axis=0)
    near = maximum_filter1d(bad.astype(np.uint8), length, axis=0) > 0
    return np.asarray(np.where(near, np.nan, out))


def condition(w: Window, model: RobotModel, zero_error: Array, imu: str = "") -> Signals:
    """Smooth a window and keep what is whole.

    Args:
        w: the window.
        model: of the robot, for where its base frame sits on the root link.
        zero_error: by which readings of the joints are too large [rad] (n,).
        imu: frame of the accelerometer. One that is fixed to the root link tells the acceleration less gravity with a
            constant bias, of which the vertical part is taken off, for odometry does not fall. Without one odometry tells
            it, with an attitude that errs, now by more and now by less.

    Raises:
        TwinError: too little is left.
    """
    dt, w, whole = even(w)
    speeds = [np.einsum("tij,tj->ti", w.rotation, w.angular_velocity), w.velocity]
    moving = [w.q, *speeds, w.position, w.rotation.reshape(len(w), -1)]
    whole &= np.all([np.isfinite(x).all(axis=1) for x in moving], axis=0)
    turn, velocity = (np.where(whole[:, None], x, 0.0) for x in speeds)
    q = np.where(whole[:, None], w.q - zero_error, 0.0)
    omega, alpha = smooth(turn, dt), smooth(turn, dt, derivative=1)
    back, offset = _root_in_base(model)
    R = w.rotation @ back
    r = np.einsum("tij,j->ti", R, offset)  # from the base frame to the root, in the world
    kept = _kept(whole, dt)
    if kept.sum() < LEAST:
        raise TwinError(f"{kept.sum() / RATE:.1f} s of whole data are too little; {LEAST / RATE:g} s are the least")
    acceleration = smooth(velocity, dt, derivative=1) - GRAVITY + _swung(r, omega, alpha)
    felt = _felt(w, model, imu, whole)
    if felt is not None:
        f = np.einsum("tij,tj->ti", R, smooth(felt[0], dt)) + _swung(-(R @ felt[1]), omega, alpha)
        acceleration = f - [0.0, 0.0, float(np.mean((f - acceleration)[kept, 2]))]
    each: tuple[Array, ...] = (
        dt * np.arange(len(w), dtype=np.float64), smooth(q, dt), smooth(q, dt, derivative=1), smooth(q, dt, derivative=2),
        smooth(w.effort, dt), R, w.position + r, omega, alpha, acceleration,
        smooth(w.wrenches, dt),
    )  # fmt: skip
    return Signals(*(x[kept] for x in each))


def _swung(r: Array, omega: Array, alpha: Array) -> Array:
    """How much more a point at r (T, 3) is accelerated than where r begins, world axes."""
    return np.asarray(np.cross(alpha, r) + np.cross(omega, np.cross(omega, r)))


def _felt(w: Window, model: RobotModel, imu: str, whole: Mask) -> tuple[Array, Array] | None:
    """Readings of the accelerometer along the root link's axes (T, 3), and where it sits there (3,); None: not known."""
    if not imu or not np.isfinite(w.accelerometer[whole]).all():
        return None
    site = model.frame_id(imu)
    if model.mj.site_bodyid[site] != model.mj.site_bodyid[model.frame_id(model.base_frame)]:
        return None
    turn = matrix_from_quat(xyzw_from_wxyz(model.mj.site_quat[site]))
    return np.where(whole[:, None], w.accelerometer, 0.0) @ turn.T, np.asarray(model.mj.site_pos[site])


def _kept(whole: Mask, dt: float) -> Mask:
    """Samples at RATE whose whole neighbourhood is there."""
    half = round(SPAN / dt / 2) + 1
    gaps = np.convolve(~whole, np.ones(2 * half + 1), mode="same") > 0.5
    gaps[:half] = gaps[-half:] = True
    chosen = np.zeros(len(whole), dtype=bool)
    chosen[:: max(1, round(1.0 / (RATE * dt)))] = True
    return np.asarray(chosen & ~gaps)


def _root_in_base(model: RobotModel) -> tuple[Array, Array]:
    """R_base_root (3, 3), and the root's origin in the base frame, where it then has to be turned by R_world_root (3,)."""
    site = model.frame_id(model.base_frame)
    turn = matrix_from_quat(xyzw_from_wxyz(model.mj.site_quat[site]))
    return turn.T, -np.asarray(model.mj.site_pos[site])
