"""What physics_predictor publishes: forecasts, how wide they spread, how good they were, and what they warn of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from scipy.spatial.transform import Rotation
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.core.arrays import Array
from digital_twin.core.forecast_start import ForecastStart
from digital_twin.core.forecaster import Forecast
from digital_twin.core.foresight import Warning
from digital_twin.core.skill import GROUPS, HORIZONS
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL
from digital_twin.settings import PredictorSettings

NS = 1_000_000_000
BASE = ("x", "y", "z", "roll", "pitch", "yaw")
SCORES = ("rmse", "coverage", "skill_persistence", "skill_velocity")


class PredictionTopics:
    """Publishes under virtual/prediction."""

    def __init__(self, node: TwinNode[PredictorSettings], joint_names: Sequence[str]) -> None:
        self._names = list(joint_names)
        self._odom = node.frame("odom")
        self._trajectory = node.talk(JointTrajectory, "virtual/prediction/joint_trajectory", INTERNAL)
        self._path = node.talk(Path, "virtual/prediction/path", INTERNAL)
        self._about = node.talk(String, "virtual/prediction/about", INTERNAL)
        self._start = node.create_publisher(String, "virtual/prediction/start", INTERNAL)
        self._warnings = node.talk(DiagnosticArray, "virtual/prediction/warnings", INTERNAL)
        at = [f"@{round(1000 * h)}ms" for h in HORIZONS]
        self._spread = node.talk_labelled(
            "virtual/prediction/spread", [f"{name}{h}" for h in at for name in (*self._names, *BASE)]
        )
        self.score_names = [f"{group}_{score}{h}" for h in at for group in GROUPS for score in SCORES]
        self._skill = node.talk_labelled("virtual/prediction/skill", self.score_names)
        self._name = node.get_fully_qualified_name().strip("/")

    def forecast(self, f: Forecast) -> None:
        """Joints and base of one forecast; the points' times are from the stamp of the state that it starts from."""
        message = JointTrajectory(joint_names=self._names)
        message.header.stamp = _time(f.stamp_ns)
        message.header.frame_id = self._odom
        path = Path()
        path.header = message.header
        quats = Rotation.from_matrix(f.motion.rotation).as_quat()
        for i, t in enumerate(f.times):
            seconds, rest = divmod(round(t * NS), NS)
            point = JointTrajectoryPoint(time_from_start=Duration(sec=seconds, nanosec=rest))
            point.positions, point.velocities = f.motion.q[i].tolist(), f.motion.qd[i].tolist()
            message.points.append(point)
            pose = PoseStamped()
            pose.header.stamp, pose.header.frame_id = _time(f.stamp_ns + round(t * NS)), self._odom
            p, q = pose.pose.position, pose.pose.orientation
            p.x, p.y, p.z = f.motion.position[i].tolist()
            q.x, q.y, q.z, q.w = quats[i].tolist()
            path.poses.append(pose)
        self._trajectory(message)
        self._path(path)
        self._about(String(data=f"fidelity: {f.fidelity}; commands: {f.assumed}; model: {f.version}"))

    def start(self, make: Callable[[], ForecastStart]) -> None:
        """All that the next forecast starts from, for whoever wants to make it again; while nobody does, nothing."""
        if self._start.get_subscription_count() > 0:
            self._start.publish(String(data=make().text()))

    def spread(self, stamp_ns: int, half_widths: Array) -> None:
        """Half widths of the 90 % intervals (6, n + 6) at HORIZONS: joints [rad], base [m], [rad] in odom."""
        self._spread(stamp_ns, half_widths.ravel)

    def skill(self, stamp_ns: int, values: dict[str, float]) -> None:
        """All scores, NaN where there is none."""
        self._skill(stamp_ns, lambda: np.array([values.get(name, np.nan) for name in self.score_names]))

    def warnings(self, stamp_ns: int, warnings: Sequence[Warning]) -> None:
        """What is about to happen: one status each, the soonest first; one that is OK when there is nothing."""
        message = DiagnosticArray()
        message.header.stamp = _time(stamp_ns)
        for w in sorted(warnings, key=lambda w: w.lead):
            level = DiagnosticStatus.ERROR if w.kind == "fall" else DiagnosticStatus.WARN
            values = [
                ("kind", w.kind),
                ("subject", w.subject),
                ("lead_s", f"{w.lead:.3f}"),
                ("chance", f"{w.chance:.3f}"),
            ]
            message.status.append(
                DiagnosticStatus(
                    level=level, name=f"{self._name}: {w.kind}", message=w.text,
                    values=[KeyValue(key=k, value=v) for k, v in values],
                )
            )  # fmt: skip
        if not warnings:
            message.status = [DiagnosticStatus(level=DiagnosticStatus.OK, name=self._name, message="nothing ahead")]
        self._warnings(message)


def _time(stamp_ns: int) -> Time:
    seconds, rest = divmod(stamp_ns, NS)
    return Time(sec=seconds, nanosec=rest)
