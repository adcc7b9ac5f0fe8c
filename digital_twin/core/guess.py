"""What the twin makes of a robot that nobody has described to it: base, feet, IMUs, gains, guessed from its URDF.

Guesses go by the names that people give (REP-120's first), and are told apart from facts: `notes` says what was
guessed and what is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import FootConfig, ImuConfig, RobotConfig

_SOLE = re.compile(r"(^|_)sole($|_(link|frame))")
_FOOT = re.compile(r"(^|_)(foot|ankle)(_|$)")
_IMU = re.compile(r"(^|_)imu(_|$)")
_SCANNER = re.compile(r"(^|_)(lidar|laser)(_|$)")
_LEFT = re.compile(r"^l_|^left|_l$|_left")
_RIGHT = re.compile(r"^r_|^right|_r$|_right")


@dataclass(frozen=True)
class Guess:
    """A robot config and what to know about it: `notes` are sentences, `missing` names what could not be found."""

    config: RobotConfig
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def guess_robot_config(description: Description, model: RobotModel) -> Guess:
    """Guess a robot config from names, shapes and limits in the URDF."""
    notes: list[str] = []
    missing: list[str] = []
    feet = _feet(description, model, notes)
    if not feet:
        missing.append("feet: no link is called sole, foot or ankle on a left and a right side")
    imus = _imus(model, notes)
    if not imus:
        missing.append("imu: no link is called imu; without one attitude comes from the standing foot")
    unlimited = [n for n, high in zip(model.joint_names, model.upper, strict=True) if not np.isfinite(high)]
    if unlimited:
        missing.append(f"position limits of {len(unlimited)} joints: {', '.join(unlimited[:6])}")
    weak = [n for n, e in zip(model.joint_names, model.max_effort, strict=True) if not np.isfinite(e)]
    if weak:
        missing.append(f"torque limits of {len(weak)} joints: {', '.join(weak[:6])}")
    if description.missing_meshes:
        missing.append(
            f"{len(description.missing_meshes)} meshes ({description.missing_meshes[0]} …): their shapes are left out"
        )
    joints = {"*": _gains(model, notes)}
    scanner = next((name for name in model.frames if _SCANNER.search(name.lower())), "")
    return Guess(RobotConfig("", feet, imus, scanner, joints), tuple(notes), tuple(missing))


def _side(name: str) -> str:
    low = name.lower()
    if _LEFT.search(low):
        return "left"
    return "right" if _RIGHT.search(low) else ""


def _feet(description: Description, model: RobotModel, notes: list[str]) -> list[FootConfig]:
    frames = model.frames
    for pattern, what in ((_SOLE, "sole frames"), (_FOOT, "foot links")):
        found = {}
        for name in frames:
            if pattern.search(name.lower()) and _side(name):
                # The last one down a leg: children come after their parents.
                found[_side(name)] = name
        if len(found) == 2:
            notes.append(f"feet by their names: {what} {found['left']} and {found['right']}")
            return [
                FootConfig(side, found[side], f"feet/{side}/wrench", polygon=_polygon(model, found[side]))
                for side in ("left", "right")
            ]
    return []


def _polygon(model: RobotModel, frame: str) -> list[tuple[float, float]]:
    """Outline of the collision shapes of a foot in its frame; a usual sole where there are none."""
    from digital_twin.core.model import build_spec, compile_spec

    m = compile_spec(build_spec(model.description), model.description.source)
    d = mujoco.MjData(m)
    mujoco.mj_kinematics(m, d)
    site = m.site(frame).id
    geoms = [g for g in range(m.ngeom) if m.geom_bodyid[g] == m.site_bodyid[site] and m.geom_contype[g] != 0]
    if not geoms:
        return FootConfig("", "").polygon
    R, p = d.site_xmat[site].reshape(3, 3), d.site_xpos[site]
    corners: list[Array] = []
    for g in geoms:
        centre, half = m.geom_aabb[g, :3], m.geom_aabb[g, 3:]
        for signs in np.ndindex(2, 2, 2):
            at = d.geom_xpos[g] + d.geom_xmat[g].reshape(3, 3) @ (centre + (2 * np.array(signs) - 1) * half)
            corners.append(R.T @ (at - p))
    points = np.array(corners)
    low, high = points.min(axis=0).round(4).tolist(), points.max(axis=0).round(4).tolist()
    return [(high[0], high[1]), (high[0], low[1]), (low[0], low[1]), (low[0], high[1])]


def _imus(model: RobotModel, notes: list[str]) -> list[ImuConfig]:
    frames = [name for name in model.frames if _IMU.search(name.lower())]
    if not frames:
        return []
    root = model.mj.site_bodyid[model.frame_id(model.description.root)]
    # The best IMU for the base is one that moves with it.
    frames.sort(key=lambda name: model.mj.site_bodyid[model.frame_id(name)] != root)
    notes.append(f"imu by its name: {frames[0]}" + (f" (others: {', '.join(frames[1:])})" if frames[1:] else ""))
    return [ImuConfig(frames[0])]


def _gains(model: RobotModel, notes: list[str]) -> dict[str, float]:
    strength = model.max_effort[np.isfinite(model.max_effort)]
    # A quarter of a radian off asks for all the torque there is; without torque limits, by the weight to be borne.
    kp = 4 * np.median(strength) if len(strength) else 10 * model.mass
    kp = float(np.round(np.clip(kp, 10.0, 2000.0)))
    notes.append(f"servo gains for simulation: kp {kp:g} N·m/rad")
    return {"kp": kp, "kd": round(kp * 0.02, 2)}
