"""Forecasts made again from what they started from (virtual/prediction/start): are they those that were recorded?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from digital_twin.bags import Bag
from digital_twin.core.config import build
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_start import ForecastStart, read_start
from digital_twin.core.forecaster import Forecast, Forecaster
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.recording.typed import deserialize
from digital_twin.robots import Robot
from digital_twin.settings import PredictorSettings

NS = 1_000_000_000
START, JOINTS, BASE = (f"virtual/prediction/{name}" for name in ("start", "joint_trajectory", "path"))


@dataclass
class Remade:
    """How many forecasts came out as recorded, to the last bit; what the first that did not differs in; what was left."""

    same: int = 0
    different: int = 0
    first: str = ""
    without: int = 0


def remake(bag: Bag, prefix: str, robot: Robot, progress: Callable[[float], None] = lambda _: None) -> Remade:
    """Make all forecasts of a recording again. `prefix`: of its topics ("/").

    Raises:
        TwinError: it holds no starts of forecasts, or they were made with another model.
    """
    recorded: dict[str, dict[int, list[object]]] = {JOINTS: {}, BASE: {}}
    starts: list[ForecastStart] = []
    names = [prefix + t for t in (START, JOINTS, BASE)]
    if names[0] not in bag.topics:
        raise TwinError(f"{bag.path}: no {names[0]}: forecasts cannot be made again")
    for name, _, data in bag.messages([n for n in names if n in bag.topics]):
        m = deserialize(data, bag.topics[name].kind)
        topic = name[len(prefix) :]
        if topic == START:
            starts.append(read_start(m.data))
        else:
            stamp = m.header.stamp.sec * NS + m.header.stamp.nanosec
            recorded[topic].setdefault(stamp, []).append(m)
    out, forecaster, made = Remade(), None, None
    for i, start in enumerate(starts):
        if forecaster is None or start.settings != made:
            forecaster, made = forecaster_of(robot, start), start.settings
        progress(i / len(starts))
        stamp = start.state.stamp_ns
        messages = [queue.pop(0) if (queue := recorded[t].get(stamp)) else None for t in (JOINTS, BASE)]
        if None in messages:
            out.without += 1
            continue
        difference = _difference(start.forecast(forecaster), *messages)
        out.same += not difference
        out.different += bool(difference)
        if difference and not out.first:
            out.first = f"forecast from stamp {stamp // NS}.{stamp % NS:09d}: {difference}"
    return out


def forecaster_of(robot: Robot, start: ForecastStart) -> Forecaster:
    """With the settings that the predictor had. Raises TwinError."""
    s = build(PredictorSettings, start.settings, START)
    world = load_world(find(s.world, "worlds")) if s.world else None
    return Forecaster(robot.model, robot.config, robot.joints, s, world)


def _difference(f: Forecast, joints: object, path: object) -> str:
    """The first field in which a forecast is not its two messages; empty when there is none."""
    points, poses = joints.points, path.poses  # type: ignore[attr-defined]
    quats = Rotation.from_matrix(f.motion.rotation).as_quat()
    if len(points) != len(f.times) or len(poses) != len(f.times):
        return f"{len(points)} points instead of {len(f.times)}"
    for i, (point, pose) in enumerate(zip(points, poses, strict=True)):
        p, q = pose.pose.position, pose.pose.orientation
        for what, theirs, ours in (
            ("positions", point.positions, f.motion.q[i]), ("velocities", point.velocities, f.motion.qd[i]),
            ("base position", [p.x, p.y, p.z], f.motion.position[i]), ("base orientation", [q.x, q.y, q.z, q.w], quats[i]),
        ):  # fmt: skip
            if not np.array_equal(np.asarray(theirs), ours):
                worst = float(np.abs(np.asarray(theirs) - ours).max())
                return f"point {i}, {what}, by {worst:.3g}"
    return ""
