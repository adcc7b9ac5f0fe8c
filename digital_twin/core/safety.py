"""What no command may do to the robot, whoever gives it: the last look at each before it goes down.

The gate (core/command_gate.py) limits what commands ask for; the monitor knows how the robot is, and refuses a command
that would make bad worse: a motor overloaded for long, a joint too fast or out of its range and not led back, no ground
under the feet, limbs about to meet. A command that relieves what is wrong passes.
"""

from __future__ import annotations

import math

import numpy as np

from digital_twin.core.arrays import Array, Index, Mask
from digital_twin.core.command_gate import Command
from digital_twin.core.model import RobotModel, compile_spec
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.safety_config import SafetyConfig
from digital_twin.core.scene import SceneBuilder
from digital_twin.core.self_collision import SelfCollision

NS = 1_000_000_000
GRAVITY = 9.81
TILT_TIME = 1.0  # [s] over which the accelerometer corrects what the gyro says of the tilt
FRESH = 0.3  # [s] after which a foot's load is no longer known
KINDS = ("torque", "speed", "range", "support", "self_collision")


class SafetyMonitor:
    """Watches one robot. Times are nanoseconds of one clock that never goes back.

    Attributes:
        words: why the last command was refused; empty when it passed.
        refused: by kind (KINDS), how many commands were.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, config: SafetyConfig) -> None:
        """Raises: DescriptionError when the model does not compile with its shapes."""
        self._model, self._joints, self.config = model, joints, config
        self.words = ""
        self.refused = dict.fromkeys(KINDS, 0)
        self._q, self._qd = np.full(model.n, np.nan), np.zeros(model.n)
        self._strained = np.full(model.n, -1, dtype=np.int64)  # since when; -1: not
        self._most_torque = config.torque * model.max_effort if config.torque else np.full(model.n, np.inf)
        self._top_speed = config.speed * model.max_velocity if config.speed else np.full(model.n, np.inf)
        margin = config.position or math.inf
        self._low, self._high = model.lower - margin, model.upper + margin
        self._up = np.array([0.0, 0.0, 1.0])  # in the base, by the IMU
        self._imu_ns = 0
        self._R_base_imu = _in_base(model, robot)
        self._loads: dict[int, tuple[int, float]] = {}
        self._feet = sum(bool(f.wrench_topic) for f in robot.feet)
        self._least_load = config.load * model.mass * GRAVITY
        self._unloaded_ns = -1
        self._touching: SelfCollision | None = None
        if config.active and config.collision_rate:
            scene = SceneBuilder(model, robot, joints).build(None, 0.002, 0.0)
            self._touching = SelfCollision(model, compile_spec(scene, model.description.source), joints.stand)
        self._looked_ns, self._meeting = -NS, ""

    # What is measured

    def measured(self, index: Index, q: Array, qd: Array | None) -> None:
        """Positions [rad] and speeds [rad/s] (k,) of some joints."""
        self._q[index] = q
        if qd is not None:
            self._qd[index] = qd

    def imu(self, now_ns: int, gyro: Array, accel: Array) -> None:
        """The first IMU: [rad/s], [m/s²] (3,), in its frame. A complementary filter follows the vertical."""
        dt = min((now_ns - self._imu_ns) / NS, 0.1) if self._imu_ns else 0.0
        first, self._imu_ns = not self._imu_ns, now_ns
        wx, wy, wz = (self._R_base_imu @ gyro).tolist()
        ax, ay, az = (self._R_base_imu @ accel).tolist()
        size = math.sqrt(ax * ax + ay * ay + az * az) or 1.0
        k = 1.0 if first else dt / (dt + TILT_TIME)
        x, y, z = self._up.tolist()
        x, y, z = x + dt * (wz * y - wy * z), y + dt * (wx * z - wz * x), z + dt * (wy * x - wx * y)
        x, y, z = x + k * (ax / size - x), y + k * (ay / size - y), z + k * (az / size - z)
        size = math.sqrt(x * x + y * y + z * z) or 1.0
        self._up[:] = x / size, y / size, z / size

    def foot(self, i: int, now_ns: int, load: float) -> None:
        """The force [N] that a foot bears."""
        self._loads[i] = (now_ns, load)

    @property
    def tilt(self) -> float:
        """Of the base against the vertical [deg], as the IMU has it; 0 while there is none."""
        return math.degrees(math.acos(min(1.0, max(-1.0, float(self._up[2])))))

    # What is commanded

    def check(self, command: Command, now_ns: int) -> str:
        """Look at a command that is within limits: one of KINDS to refuse it, "" to let it pass."""
        if not self.config.active or command.q is None:
            return ""
        kind = (
            self._standing(now_ns)
            or self._joint(command.index, command.q, command.qd, command.effort, now_ns)
            or self._meets(command.index, command.q, now_ns)
        )
        if kind:
            self.refused[kind] += 1
        else:
            self.words = ""
        return kind

    def _standing(self, now_ns: int) -> str:
        c = self.config
        if c.tilt and self._imu_ns and self.tilt > c.tilt:
            return self._say("support", f"the base is tilted by more than {c.tilt:.0f}°: the robot is down")
        known = [load for at, load in self._loads.values() if now_ns - at < FRESH * NS]
        if not c.load or not self._feet or len(known) < self._feet or sum(known) >= self._least_load:
            self._unloaded_ns = -1
            return ""
        self._unloaded_ns = now_ns if self._unloaded_ns < 0 else self._unloaded_ns
        if now_ns - self._unloaded_ns <= c.load_time * NS:
            return ""
        return self._say("support", f"the feet bear less than {self._least_load:.0f} N: the robot does not stand")

    def _joint(self, index: Index, q: Array, qd: Array, effort: Array, now_ns: int) -> str:
        j, at, speed = self._joints, self._q[index], self._qd[index]
        torque = j.kp[index] * (q - at) + j.kd[index] * (qd - speed) + effort
        # Comparisons with NaN, of joints that were never measured, are false: of them nothing is known.
        strained = np.abs(torque) > self._most_torque[index]
        since = np.where(strained, np.where(self._strained[index] >= 0, self._strained[index], now_ns), -1)
        self._strained[index] = since
        too_long = strained & (now_ns - since > self.config.torque_time * NS)
        if too_long.any():
            return self._name("torque", index, too_long, "was asked for more torque than it has for too long")
        driven = (np.abs(speed) > self._top_speed[index]) & (torque * speed > 0.0)
        if driven.any():
            return self._name("speed", index, driven, "is too fast and would be driven on")
        out = ((at > self._high[index]) & (torque > 0.0)) | ((at < self._low[index]) & (torque < 0.0))
        if out.any():
            return self._name("range", index, out, "is out of its range and would be driven further")
        return ""

    def _meets(self, index: Index, q: Array, now_ns: int) -> str:
        if self._touching is None:
            return ""
        if now_ns - self._looked_ns >= NS / self.config.collision_rate:
            self._looked_ns = now_ns
            now = np.where(np.isfinite(self._q), self._q, self._joints.stand)
            asked = now.copy()
            asked[index] = q
            pairs = self._touching.touching(asked)
            if pairs:  # those that touch already must be let apart
                already = self._touching.touching(now)
                pairs = [pair for pair in pairs if pair not in already]
            self._meeting = f"{pairs[0]} would meet" if pairs else ""
        return self._say("self_collision", self._meeting) if self._meeting else ""

    def _name(self, kind: str, index: Index, which: Mask, what: str) -> str:
        names = [self._model.joint_names[i] for i in index[which]]
        return self._say(kind, f"{', '.join(names[:3])} {what}")

    def _say(self, kind: str, words: str) -> str:
        self.words = words
        return kind


def _in_base(model: RobotModel, robot: RobotConfig) -> Array:
    """Rotation (3, 3) from the first IMU's frame to the base, at rest."""
    if not robot.imus:
        return np.eye(3)
    k = model.kinematics([robot.imus[0].frame])
    k.update(np.zeros(model.n))
    return np.array(k.rotation[0])
