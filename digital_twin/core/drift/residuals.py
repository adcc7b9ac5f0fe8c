"""Residuals at full rate: what is measured against what model, commands and the other sensors foretell.

    tracking/JOINT     torque against what the servo should give for its set point [N m]
    torque/JOINT       torque against inverse dynamics with the measured sole wrenches [N m]
    balance/…          sole wrenches against what the body's motion needs, on the base [N], [N m]
    gyro/…             rate of turn against the standing feet [rad/s]
    accelerometer/…    specific force against kinematics and gravity at the standing feet [m/s²]
    encoder/JOINT      reading against its forecast one measurement earlier [rad]

None of them knows what an estimator made of the same reading.
"""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.drift.dynamics import BodyDynamics
from digital_twin.core.drift.sample import Block, finite
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig

AXES = ("x", "y", "z")
FEATURES = 3
JITTER = 1e-3  # [s]


class Residuals:
    """See the module. `compute` gives a row of them, with what their mean and spread may depend on.

    Attributes:
        names, units: of the channels (c,). parts: where each family lies among them.
        dynamics: what torques and balance are computed with.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model, self.joints = model, joints
        self.dynamics = BodyDynamics(model, robot, joints)
        n = model.n
        families = [
            ("tracking", model.joint_names, "N m"), ("torque", model.joint_names, "N m"),
            ("balance", ("fx", "fy", "fz", "tx", "ty", "tz"), "N"), ("gyro", AXES, "rad/s"),
            ("accelerometer", AXES, "m/s²"), ("encoder", model.joint_names, "rad"),
        ]  # fmt: skip
        self.names = [f"{family}/{name}" for family, names, _ in families for name in names]
        self.units = [unit for _, names, unit in families for _ in names]
        ends = np.cumsum([len(names) for _, names, _ in families])
        starts = [0, *ends[:-1].tolist()]
        self.parts = {f[0]: slice(a, int(b)) for f, a, b in zip(families, starts, ends, strict=True)}
        for i in range(self.parts["balance"].start + 3, self.parts["balance"].stop):
            self.units[i] = "N m"
        self._n = n

    def compute(self, b: Block) -> tuple[Array, Array, Array]:
        """Residuals (c,), features of their mean (c, 3), the first of them 1, and what their spread grows with (c,)."""
        c, p = len(self.names), self.parts
        r, F, g = np.full(c, np.nan), np.zeros((c, FEATURES)), np.zeros(c)
        F[:, 0] = 1.0
        law = self.law(b)
        rate = self.joints.kp * b.command_rate
        r[p["tracking"]] = b.effort - law
        F[p["tracking"], 1], F[p["tracking"], 2] = np.nan_to_num(law), 1e-3 * np.nan_to_num(rate)
        g[p["tracking"]] = JITTER * np.nan_to_num(rate)
        r[p["encoder"]] = b.jump
        g[p["encoder"]] = np.nan_to_num(b.qd)
        speed = float(np.sqrt(np.mean(np.nan_to_num(b.qd) ** 2)))
        for family in ("torque", "balance", "gyro", "accelerometer"):
            g[p[family]] = speed
        if finite(b):
            self._dynamic(b, r)
        return r, F, g

    def law(self, b: Block) -> Array:
        """Torques that the servos should give [N m] (n,)."""
        j = self.joints
        asked = j.kp * (b.command - b.q) + j.kd * (b.command_rate - b.qd) + b.feed
        return np.asarray(np.clip(asked, -self.model.max_effort, self.model.max_effort))

    def _dynamic(self, b: Block, r: Array) -> None:
        d, p = self.dynamics, self.parts
        sensed = d.measured and not np.isnan(b.wrenches.sum())
        wrenches = b.wrenches if sensed else np.zeros_like(b.wrenches)
        said = d.balance(b.q, b.qd, b.qdd, b.gyro, b.accel, b.turn_rate, wrenches, b.standing)
        torque = b.effort - said.needed
        if not sensed:
            torque = np.where(d.carries, np.nan, torque)
        else:
            r[p["balance"]] = said.base
        r[p["torque"]] = torque
        r[p["gyro"]], r[p["accelerometer"]] = said.turn, said.feel
