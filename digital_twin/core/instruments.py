"""The simulated robot's sensors: what its plant does, as imperfect instruments report it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.plant import Plant
from digital_twin.core.robot_config import ImuConfig, imu_rotation
from digital_twin.core.rotation import exp_so3


@dataclass(frozen=True)
class InstrumentConfig:
    """Errors of the simulated sensors. The noise of IMUs and encoders comes from the robot config."""

    gyro_bias: float = param(0.01, "standard deviation of the gyro's constant bias", unit="rad/s", low=0, high=0.1)
    accel_bias: float = param(0.1, "the same of the accelerometer's", unit="m/s²", low=0, high=2)
    encoder_offset: float = param(0.001, "standard deviation of a joint's zero", unit="rad", low=0, high=0.1)
    velocity_noise: float = param(0.01, "standard deviation of a reported joint speed", unit="rad/s", low=0, high=1)
    effort_noise: float = param(0.1, "standard deviation of a reported torque", unit="N·m", low=0, high=10)
    wrench_noise: float = param(1.0, "standard deviation of a sole force", unit="N", low=0, high=50)
    pose_noise: float = param(0.002, "standard deviation of the tracker's position", unit="m", low=0, high=0.5)
    pose_angle_noise: float = param(0.003, "standard deviation of the tracker's attitude", unit="rad", low=0, high=0.5)
    range_noise: float = param(0.01, "standard deviation of a scan's range", unit="m", low=0, high=0.5)


class Instruments:
    """Readings of a plant with seeded errors. Each kind of sensor draws from a generator of its own."""

    def __init__(self, plant: Plant, config: InstrumentConfig, rate: float) -> None:
        """`rate` [Hz] is that of the IMUs, by which a noise density becomes a standard deviation."""
        self.plant, self.config = plant, config
        n = plant.model.n
        constant = self._draw(plant.config.seed, 1)
        self.encoder_offset = config.encoder_offset * constant.standard_normal(n)
        imus = plant.robot.imus
        self.gyro_bias = config.gyro_bias * constant.standard_normal((len(imus), 3))
        self.accel_bias = config.accel_bias * constant.standard_normal((len(imus), 3))
        self._bandwidth = math.sqrt(rate)
        self._mounting = [imu_rotation(imu) for imu in imus]

    def _draw(self, *seed: int) -> np.random.Generator:
        """Make the generators of all noise; returns the one of what is constant."""
        seeds = np.random.SeedSequence(seed).spawn(6)
        constant, self._encoders, self._inertial, self._forces, self._poses, self._ranges = (
            np.random.default_rng(s) for s in seeds
        )
        return constant

    def new_noise(self, number: int) -> None:
        """From here on the noise is another one for each `number`; offsets and biases stay."""
        self._draw(self.plant.config.seed, 1, number)

    def joint_states(self) -> tuple[Array, Array, Array]:
        """Reported positions [rad], speeds [rad/s] and torques [N m], each (n,), before the robot's own naming."""
        rng, c, j = self._encoders, self.config, self.plant.joints
        n = self.plant.model.n
        q = self.plant.joint_positions + self.encoder_offset + j.encoder_noise * rng.standard_normal(n)
        step = np.where(j.encoder_resolution > 0.0, j.encoder_resolution, 1.0)
        q = np.where(j.encoder_resolution > 0.0, np.round(q / step) * step, q)
        qd = self.plant.joint_velocities + c.velocity_noise * rng.standard_normal(n)
        effort = self.plant.joint_efforts + c.effort_noise * rng.standard_normal(n)
        return q, qd, effort

    def imu(self, i: int) -> tuple[Array, Array]:
        """Angular velocity [rad/s] and specific force [m/s²] of IMU i as it reads them, (3,), (3,)."""
        imu: ImuConfig = self.plant.robot.imus[i]
        rng, to_sensor = self._inertial, self._mounting[i].T
        gyro, accel = self.plant.imu(i)
        gyro = to_sensor @ gyro + self.gyro_bias[i] + imu.gyro_noise * self._bandwidth * rng.standard_normal(3)
        accel = to_sensor @ accel + self.accel_bias[i] + imu.accel_noise * self._bandwidth * rng.standard_normal(3)
        return gyro, accel

    def wrench(self, foot: str) -> tuple[Array, Array]:
        """Force [N] and torque [N m] of a foot's sensor, (3,), (3,)."""
        force, torque = self.plant.wrench(foot)
        noise = self.config.wrench_noise * self._forces.standard_normal(6)
        return force + noise[:3], torque + 0.05 * noise[3:]

    def external_pose(self) -> tuple[Array, Array, Array]:
        """Pose of the base frame as a tracker sees it: position (3,), rotation (3, 3), covariance (6, 6)."""
        c, rng = self.config, self._poses
        position, rotation = self.plant.frame_pose(self.plant.model.base_frame)
        position = position + c.pose_noise * rng.standard_normal(3)
        rotation = rotation @ exp_so3(c.pose_angle_noise * rng.standard_normal(3))
        covariance = np.diag([c.pose_noise**2] * 3 + [c.pose_angle_noise**2] * 3)
        return position, rotation, covariance

    def scan(self, frame: str, angles: Array, min_range: float, max_range: float) -> Array:
        """Ranges [m] of a planar scan (k,): inf beyond the reach, -inf nearer than the least (REP-117)."""
        r = self.plant.scan(frame, angles, max_range)
        r = r + self.config.range_noise * self._ranges.standard_normal(len(r))
        return np.where(r > max_range, np.inf, np.where(r < min_range, -np.inf, r))
