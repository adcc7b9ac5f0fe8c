"""How the controller sees one robot of the gate: by its instruments, and by the twin's own synchronizer on them.

To add noise to the truth instead would not do: in bold gaits soles roll and slip, and the estimate is wrong by several
times what it is in a calm walk. That is part of why they fail.
"""

from __future__ import annotations

import math
from dataclasses import replace

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.forecast_model import ForecastModel
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.scene import FORCE
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer, VirtualState

NS = 1_000_000_000
GRAVITY = 9.81
GYRO, ACCELEROMETER = "gate/gyro", "gate/accelerometer"


def add_sensors(spec: mujoco.MjSpec, robot: RobotConfig) -> None:
    """Give a model what `Senses` reads: force sensors under the soles, and the first IMU along its frame's axes."""
    for foot in robot.feet:
        for quantity in FORCE:
            spec.add_sensor(
                name=f"foot/{foot.name}/{quantity}", type=getattr(mujoco.mjtSensor, f"mjSENS_{quantity}"),
                objtype=mujoco.mjtObj.mjOBJ_SITE, objname=f"foot/{foot.name}",
            )  # fmt: skip
    for imu in robot.imus[:1]:
        for name, kind in ((GYRO, "GYRO"), (ACCELEROMETER, "ACCELEROMETER")):
            spec.add_sensor(
                name=name, type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"), objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=imu.frame,
            )  # fmt: skip


class Senses:
    """Of one member of the ensemble, from a state of the twin on. Its errors are those of its number."""

    def __init__(self, c: GateConfig, number: int, model: ForecastModel, twin: RobotModel, state: VirtualState) -> None:
        """`twin`: the model that the synchronizer has of the robot. `state`: where it begins, as the twin has it."""
        self._rng = rng = np.random.default_rng([c.seed, 7, number])
        self._c, self._period, self._start, n = c, NS / c.rate, state.stamp_ns, len(state.q)
        offset = c.encoder * rng.standard_normal(n)
        self._zeros = model.joints.zero_error + offset
        self.state = replace(state, q=state.q + offset)  # the member is where the twin has its robot, and reads this
        self._sync = Synchronizer(twin, model.robot, SynchronizerConfig())
        self._sync.continue_from(self.state, c.gyro_bias, c.accel_bias)
        m, r = model.mj, model.model
        self._encoder = model.joints.encoder_noise
        self._q, self._v, self._n = r.qpos_index, r.dof_index, n
        first = [[int(m.sensor(f"foot/{f.name}/{q}").adr[0]) for q in FORCE] for f in model.robot.feet]
        self._forces = (np.array(first)[:, :, None] + np.arange(3)).reshape(len(first), 6)
        self._numb = np.array([not f.wrench_topic for f in model.robot.feet])  # no sensor under that foot
        self._has_imu = bool(model.robot.imus)
        if self._has_imu:
            imu = model.robot.imus[0]
            self._imu = np.array([int(m.sensor(s).adr[0]) for s in (GYRO, ACCELEROMETER)])[:, None] + np.arange(3)
            self._site = int(m.site(imu.frame).id)
            self._bias = np.array([[c.gyro_bias], [c.accel_bias]]) * rng.standard_normal((2, 3))
            self._hiss = math.sqrt(c.rate) * np.array([[imu.gyro_noise], [imu.accel_noise]])

    def _agree(self, m: mujoco.MjModel, d: mujoco.MjData) -> None:
        """Where the twin takes another direction for down than the member, it is because its accelerometer does."""
        up = -d.site_xmat[self._site].reshape(3, 3).T @ m.opt.gravity
        self._bias[1] += GRAVITY * self._sync.up - up

    def look(self, m: mujoco.MjModel, d: mujoco.MjData, tick: int) -> tuple[VirtualState, Array]:
        """What the twin says at a tick of the member, whose sensors are up to date, and the wrenches (feet, 6)."""
        rng, c, n = self._rng, self._c, self._n
        stamp = self._start + round(tick * self._period)
        wrenches = c.force * rng.standard_normal(self._forces.shape) - d.sensordata[self._forces]
        wrenches[self._numb] = np.nan
        if tick == 0:  # which it was given
            if self._has_imu:
                self._agree(m, d)
            return self.state, wrenches
        for i in np.flatnonzero(~self._numb).tolist():
            self._sync.wrench(stamp, i, wrenches[i, :3])
        if self._has_imu:
            read = d.sensordata[self._imu] + self._bias + self._hiss * rng.standard_normal((2, 3))
            self._sync.imu(stamp, read[0], read[1])
        q = d.qpos[self._q] + self._zeros + self._encoder * rng.standard_normal(n)
        qd = d.qvel[self._v] + c.joint_speed * rng.standard_normal(n)
        state = self._sync.joints(stamp, q, qd, d.actuator_force[:n].copy())
        if state is not None:
            self.state = state
        return self.state, wrenches
