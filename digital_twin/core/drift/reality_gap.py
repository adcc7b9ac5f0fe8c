"""The reality gap: a model beside what was measured, in kinematics, dynamics, sensors and energy.

The model is set to the synchronized state again and again and left alone for a while with the commands that were given;
what its joints, base, torques and sensors say then is put beside what was measured. Measures are in
core/drift/gap_metrics.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np
from mujoco import rollout

from digital_twin.core.arrays import Array, Index
from digital_twin.core.config import param
from digital_twin.core.drift.gap_metrics import Measure, distributions, errors, over_stretches, responses
from digital_twin.core.drift.holdout import Candidate, Trials
from digital_twin.core.drift.update_config import HoldoutConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_model import ForecastModel
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints
from digital_twin.core.rotation import log_so3
from digital_twin.core.scene import FORCE, INERTIAL

Report = dict[str, object]


@dataclass(frozen=True)
class GapConfig:
    """The report."""

    alone: float = param(0.2, "for which the model is left alone", unit="s", low=0.02, high=2)
    response: float = param(1.0, "the same, for responses to commands", unit="s", low=0.1, high=5)
    stretches: int = param(5, "over which intervals are taken", low=2, high=50)


@dataclass(frozen=True)
class Said:
    """What a model says at samples `at` (K,) of a window: as in Window, each (K, …)."""

    at: Index
    q: Array
    qd: Array
    effort: Array
    position: Array
    rotation: Array
    wrenches: Array
    gyro: Array
    accelerometer: Array


def imagine(w: Window, c: Candidate, alone: float, *, feeds_speed: bool) -> tuple[Window, Said]:
    """The even window, and what a model left alone again and again says of it.

    Raises:
        TwinError: too short, or the model diverges.
    """
    h = HoldoutConfig(horizon=alone, spacing=alone)
    model = RobotModel(c.description, c.config.base_frame)
    joints = Joints(c.config, model)
    trials = Trials(w, h, feeds_speed=feeds_speed, feet=len(c.config.feet), weight=9.81 * model.mass)
    every = max(1, round(trials.dt / 0.002))
    trials.config = h = replace(h, timestep=trials.dt / every)
    f = c.compile(model, h.timestep, sensors=True)
    starts, controls, A = trials.prepare(f, c)
    states, sensed = rollout.rollout(f.mj, f.data, starts, controls)
    if not np.isfinite(states).all() or np.abs(states[..., 1:]).max() > 1e3:
        raise TwinError("the model diverges when it is left alone")
    ahead = states.shape[1] // every
    picked = np.arange(1, ahead + 1) * every - 1
    at = (trials.starts[:, None] + np.arange(1, ahead + 1)).ravel()
    m, first = f.motion(states[:, picked]), f.motion(starts)
    n, w = model.n, trials.window
    u = controls[:, picked].reshape(len(starts), ahead, n, 3)
    effort = joints.kp * (u[..., 0] - (m.q - joints.zero_error)) + joints.kd * (u[..., 1] - m.qd)
    effort = np.clip(effort, -model.max_effort, model.max_effort)
    position = (m.position - first.position[:, None]) @ A + w.position[trials.starts][:, None]
    k = len(at)
    wrenches, gyro, accelerometer = _sensors(f, sensed[:, picked].reshape(k, -1))
    return w, Said(
        at, m.q.reshape(k, n), m.qd.reshape(k, n), effort.reshape(k, n), position.reshape(k, 3),
        (A.transpose(0, 2, 1)[:, None] @ m.rotation).reshape(k, 3, 3), wrenches, gyro, accelerometer,
    )  # fmt: skip


def _sensors(f: ForecastModel, data: Array) -> tuple[Array, Array, Array]:
    """Wrenches (K, f, 6), gyro and accelerometer (K, 3) from MuJoCo's sensor data (K, …)."""

    def of(name: str) -> Array:
        i = mujoco.mj_name2id(f.mj, mujoco.mjtObj.mjOBJ_SENSOR, name)
        if i < 0:
            return np.full((len(data), 3), np.nan)
        start = int(f.mj.sensor_adr[i])
        return data[:, start : start + 3]

    wrenches = [np.concatenate([-of(f"foot/{foot.name}/{kind}") for kind in FORCE], axis=1) for foot in f.robot.feet]
    gyro, accelerometer = (of(f"imu0/{kind}") for kind in INERTIAL)
    return np.array(wrenches).reshape(len(f.robot.feet), len(data), 6).swapaxes(0, 1), gyro, accelerometer


def reality_gap(w: Window, c: Candidate, config: GapConfig | None = None, *, feeds_speed: bool = True) -> Report:
    """The report, ready for JSON: sections of measures, each with value, low, high (95 %) and unit.

    Raises:
        TwinError: the window is too short, or the model cannot be simulated.
    """
    config = config or GapConfig()
    even, said = imagine(w, c, config.alone, feeds_speed=feeds_speed)
    parts = np.array_split(np.arange(len(said.at)), config.stretches)
    if len(said.at) < 20 * config.stretches:
        raise TwinError(f"{w.duration:.1f} s are too short for {config.stretches} stretches of a reality gap report")
    dt = float(np.median(np.diff(even.stamps_ns))) * 1e-9
    sections = {
        "kinematic": _kinematic(even, said, c, parts),
        "dynamic": _dynamic(even, said, parts) | _responses(w, c, config, feeds_speed=feeds_speed),
        "sensors": _fidelity(even, said, c, parts, 1.0 / dt),
        "energy": _energy(even, said, parts, dt),
    }
    plain = {
        section: {name: {k: m.to_plain() for k, m in each.items()} for name, each in measures.items()}
        for section, measures in sections.items()
    }
    about: Report = {
        "from_ns": int(even.stamps_ns[0]), "until_ns": int(even.stamps_ns[-1]), "left_alone_s": config.alone,
        "stretches": config.stretches,
    }  # fmt: skip
    return about | plain


Measures = dict[str, dict[str, Measure]]


def _kinematic(w: Window, s: Said, c: Candidate, parts: list[Index]) -> Measures:
    """Base against the measured one, and whether legs that both stand close the chain."""
    turned = np.array([log_so3(a @ b.T) for a, b in zip(s.rotation, w.rotation[s.at], strict=True)])
    out = {
        "base_position": errors(w.position[s.at], s.position, parts, "m"),
        "base_attitude": errors(np.zeros_like(turned), turned, parts, "rad"),
    }
    out["base_attitude"].pop("r2")  # an angle has no mean to be compared with
    feet = [f.frame for f in c.config.feet]
    if len(feet) >= 2:
        model = RobotModel(c.description, c.config.base_frame)
        soles, zero = model.kinematics(feet[:2]), Joints(c.config, model).zero_error
        apart = []
        for q in w.q[s.at]:
            soles.update(q - zero)
            apart.append(float(np.linalg.norm(soles.position[0] - soles.position[1])))
        length, load = np.array(apart), w.wrenches[s.at, :2, 2]
        both = (load > 0.05 * load.sum(axis=1, keepdims=True)).all(axis=1)
        spread = [length[p][both[p]].std() if both[p].sum() > 10 else np.nan for p in parts]
        out["feet_apart"] = {"deviation": over_stretches(np.array(spread), "m")}
    return out


def _dynamic(w: Window, s: Said, parts: list[Index]) -> Measures:
    return {
        "joint_positions": errors(w.q[s.at], s.q, parts, "rad"),
        "joint_speeds": errors(w.qd[s.at], s.qd, parts, "rad/s"),
        "joint_torques": errors(w.effort[s.at], s.effort, parts, "N·m"),
    }


def _responses(w: Window, c: Candidate, config: GapConfig, *, feeds_speed: bool) -> Measures:
    """Step and frequency response from commands to positions."""
    even, said = imagine(w, c, config.response, feeds_speed=feeds_speed)
    parts = np.array_split(np.arange(len(said.at)), config.stretches)
    rate = 1e9 / float(np.median(np.diff(even.stamps_ns)))
    return {"responses": responses(even.command[said.at], even.q[said.at], said.q, parts, rate)}


def _fidelity(w: Window, s: Said, c: Candidate, parts: list[Index], rate: float) -> Measures:
    """Of each channel: how readings are distributed, and their spectra; biases count."""
    out: Measures = {}
    for name, unit, measured, said in (
        ("gyro", "rad/s", w.gyro[s.at], s.gyro), ("accelerometer", "m/s²", w.accelerometer[s.at], s.accelerometer),
    ):  # fmt: skip
        for k, axis in enumerate("xyz"):
            out[f"{name}_{axis}"] = distributions(measured[:, k], said[:, k], parts, unit, rate)
            out[f"{name}_{axis}"] |= errors(measured[:, k : k + 1], said[:, k : k + 1], parts, unit)
    for i, foot in enumerate(c.config.feet):
        measured, said = w.wrenches[s.at, i, 2], s.wrenches[:, i, 2]
        out[f"{foot.name}_force_z"] = distributions(measured, said, parts, "N", rate)
        out[f"{foot.name}_force_z"] |= errors(measured[:, None], said[:, None], parts, "N")
    return out


def _energy(w: Window, s: Said, parts: list[Index], dt: float) -> Measures:
    """Mechanical power of all motors, and the work of each stretch."""
    measured = np.nansum(w.effort[s.at] * w.qd[s.at], axis=1)
    said = (s.effort * s.qd).sum(axis=1)
    relative = [
        (said[p] - measured[p]).sum() / max(np.abs(measured[p]).sum(), 1e-9) for p in parts
    ]  # fmt: skip
    work = [float(np.abs(measured[p]).sum() * dt) for p in parts]
    return {
        "power": errors(measured[:, None], said[:, None], parts, "W"),
        "work": {
            "relative_difference": over_stretches(np.array(relative)), "measured": over_stretches(np.array(work), "J"),
        },
    }  # fmt: skip
