"""A walk whose truth is known exactly: footsteps, the base above them, the legs between them, and what sensors read.

The base follows a winding path over a plan of footsteps, and shakes; standing feet slide, turn and rock below it, and
inverse kinematics gives the joint angles that connect them. Encoders see that feet move against the base, and cannot tell
that they move against the ground. Everything random comes from one seed. For judging estimators; nothing here is estimated,
and no dynamics are simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from digital_twin.core.arrays import Array, Index
from digital_twin.core.errors import TwinError
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import exp_so3, log_so3, rot_z, rpy_matrix

GRAVITY = 9.81
UP = np.array([0.0, 0.0, GRAVITY])
FINE = 1000  # [Hz] at which truth is sampled before it is differentiated
EXACT = 1e-11  # [m], [rad] to which the feet are met
GIVE = (0.04, 0.01, 0.01)  # [s] time constants of how a foot gives
SHAKING = (4.0, 12.0)  # [Hz] the band in which a body shakes


@dataclass(frozen=True)
class WalkPlan:
    """The motion [m], [s], [rad]."""

    duration: float = 60.0
    stand: float = 5.0
    speed: float = 0.3
    turn: float = 0.15
    step_time: float = 0.6
    double_support: float = 0.25
    step_height: float = 0.05
    sway: float = 0.03
    bob: float = 0.008
    nod: float = 0.02


@dataclass(frozen=True)
class WalkErrors:
    """What is wrong with feet and sensors; the noise of IMU and encoders is in the robot config.

    In single support a foot wanders along the ground, slide [m/√s], and in heading, twist [rad/√s]. In all of a walk each
    gives, for some 40 ms at a time, along the ground and upwards, give and give_up [m], and in roll and pitch, lean and
    tip [rad], standard deviations. slips: sudden ones a minute, of `slip` [m]. shake [m/s²], shake_turn [rad/s]: how the body
    shakes, along and about each axis. Biases [rad/s], [m/s²] start with a standard deviation and wander [1/√s]; offsets
    [rad] are constant.

    How feet give, and how fast they do, was measured on the iCub that docs/estimator.md judges by; its rare large moves
    are left to slips.
    """

    slide: float = 0.001
    twist: float = 0.04
    give: float = 0.0026
    give_up: float = 0.0006
    lean: float = 0.005
    tip: float = 0.0064
    slips: float = 1.0
    slip: float = 0.01
    shake: float = 1.0
    shake_turn: float = 0.05
    gyro_bias: float = 0.01
    gyro_walk: float = 2e-5
    accel_bias: float = 0.1
    accel_walk: float = 1e-3
    encoder_offset: float = 0.0
    force_noise: float = 2.0


@dataclass(frozen=True)
class Walk:
    """Truth and readings, m samples at `rate` [Hz]; in them, arrays have one row a sample.

    Truth of the base frame: position (m, 3), rotation (m, 3, 3), velocity in the base frame (m, 3); q, qd (m, n).
    Readings: gyro, accel (m, 3) along the IMU's frame in the URDF; encoders, speeds (m, n); loads (m, 2). distance [m].
    """

    rate: float
    stamps: Array
    position: Array
    rotation: Array
    velocity: Array
    q: Array
    qd: Array
    gyro: Array
    accel: Array
    encoders: Array
    speeds: Array
    loads: Array
    distance: float


class _Nominal:
    """The walk without slips, at FINE Hz, for a robot with two feet."""

    def __init__(self, model: RobotModel, robot: RobotConfig, plan: WalkPlan) -> None:
        if len(robot.feet) != 2:
            raise TwinError(f"a synthetic walk needs a robot with two feet; this one has {len(robot.feet)}")
        self.model, self.plan = model, plan
        self.joints = Joints(robot, model)
        self.legs = model.kinematics([f.frame for f in robot.feet])
        self.legs.update(self.joints.stand)
        self.stand_feet = self.legs.position.copy(), self.legs.rotation.copy()
        self.t = np.arange(round(plan.duration * FINE) + 1) / FINE
        self._path()
        self._steps()

    def _path(self) -> None:
        """Where the middle between the feet goes: x, y, heading at FINE Hz."""
        p, t = self.plan, self.t
        ramp = np.clip(np.minimum((t - p.stand) / 2.0, (p.duration - 1.5 - t) / 2.0), 0.0, 1.0)
        self.pace = ramp * ramp * (3.0 - 2.0 * ramp)
        turn = p.turn * np.sin(2 * np.pi * (t - p.stand) / 20.0) * self.pace
        self.heading = np.concatenate([[0.0], np.cumsum(0.5 * (turn[1:] + turn[:-1])) / FINE])
        v = p.speed * self.pace[:, None] * np.column_stack([np.cos(self.heading), np.sin(self.heading)])
        self.path = np.vstack([[0.0, 0.0], np.cumsum(0.5 * (v[1:] + v[:-1]), axis=0) / FINE])

    def _steps(self) -> None:
        """Stance and swing of each foot: load share of the left, world poses of both feet, at FINE Hz."""
        p, t = self.plan, self.t
        phase = (t - p.stand) / p.step_time
        steps = int((p.duration - 1.5 - p.stand) / p.step_time)
        end_time = p.stand + steps * p.step_time
        walking = (phase >= 0.0) & (t < end_time)
        k = np.where(walking, np.floor(phase), -1).astype(int)
        within = np.where(walking, phase - np.floor(phase), 0.0)
        shift = np.clip(within / p.double_support, 0.0, 1.0)
        shift = shift * shift * (3.0 - 2.0 * shift)
        # During step k the foot k % 2 swings; before that the load goes over to the other.
        target = np.where(k % 2 == 0, 0.0, 1.0)
        before = np.where(k <= 0, 0.5, 1.0 - target)
        last = int(k.max())
        self.left_share = np.where(k >= 0, before + (target - before) * shift, 0.5)
        after = t >= end_time
        ease = np.clip((t - end_time) / 0.3, 0.0, 1.0)
        ease = ease * ease * (3.0 - 2.0 * ease)
        end = 0.0 if last % 2 == 0 else 1.0
        self.left_share = np.where(after, end + (0.5 - end) * ease, self.left_share)
        self.swing = np.where(k >= 0, np.clip((within - p.double_support) / (1.0 - p.double_support), 0.0, 1.0), 0.0)
        self.step = k
        self._feet(last)

    def _foothold(self, foot: int, at: int) -> tuple[Array, float]:
        """Where a foot stands when the path is at sample `at`."""
        offset = self.stand_feet[0][foot] - self.stand_feet[0].mean(axis=0)
        yaw = float(self.heading[at])
        return np.append(self.path[at], 0.0) + rot_z(yaw) @ (offset * [1.0, 1.0, 0.0]), yaw

    def _feet(self, last: int) -> None:
        p = self.plan
        n = len(self.t)
        self.place = np.zeros((n, 2, 3))
        self.yaw = np.zeros((n, 2))
        for foot in (0, 1):
            here = self._foothold(foot, 0)
            self.place[:, foot], self.yaw[:, foot] = here[0], here[1]
            for step in range(foot, last + 1, 2):
                rows = np.flatnonzero(self.step == step)
                landing = min(n - 1, round((p.stand + (step + 1.5) * p.step_time) * FINE))
                there = self._foothold(foot, landing)
                s = self.swing[rows]
                s = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
                self.place[rows, foot] = here[0] + s[:, None] * (there[0] - here[0])
                self.place[rows, foot, 2] += p.step_height * np.sin(np.pi * s) ** 2
                self.yaw[rows, foot] = here[1] + s * (there[1] - here[1])
                self.place[rows[-1] + 1 :, foot], self.yaw[rows[-1] + 1 :, foot] = there
                here = there

    def base(self) -> tuple[Array, Array]:
        """Pose of the base frame at FINE Hz: (n, 3), (n, 3, 3)."""
        p, t, pace = self.plan, self.t, self.pace
        height = -float(self.stand_feet[0][:, 2].mean())
        middle = -self.stand_feet[0].mean(axis=0)
        beat = np.pi * (t - p.stand) / p.step_time
        position, rotation = np.empty((len(t), 3)), np.empty((len(t), 3, 3))
        side = p.sway * pace * -np.sin(beat)
        for i, yaw in enumerate(self.heading):
            Rz = rot_z(yaw)
            position[i] = np.append(self.path[i], 0.0) + Rz @ [middle[0], middle[1] + side[i], 0.0]
            roll, pitch = p.nod * pace[i] * math.sin(beat[i]), p.nod * pace[i] * math.cos(2.0 * beat[i])
            rotation[i] = rpy_matrix([roll, pitch, yaw])
        position[:, 2] = height - 0.01 * pace + p.bob * pace * np.cos(2.0 * beat)
        return position, rotation

    def attitudes(self, samples: Index) -> Array:
        """Of the feet as planned: (len(samples), 2, 3, 3)."""
        return np.array([[rot_z(yaw) for yaw in self.yaw[i]] for i in samples])

    def joint_angles(
        self, position: Array, rotation: Array, place: Array, attitude: Array, near: Array | None = None
    ) -> Array:
        """Inverse kinematics at m samples: (m, n).

        Poses of the base (m, 3), (m, 3, 3) and of the feet (m, 2, 3), (m, 2, 3, 3). near (m, n): where the search
        begins; at the sample before when None.
        """
        q = self.joints.stand.copy()
        out = np.empty((len(position), self.model.n))
        self.legs.update(q)
        columns = [np.flatnonzero(np.abs(np.vstack(self.legs.jacobian(f))).max(axis=0) > 1e-9) for f in (0, 1)]
        for row, (p, R) in enumerate(zip(position, rotation, strict=True)):
            q = q if near is None else near[row].copy()
            goals, turns = (place[row] - p) @ R, R.T @ attitude[row]
            for _ in range(20):
                self.legs.update(q)
                worst = 0.0
                for f in (0, 1):
                    turn = log_so3(turns[f] @ self.legs.rotation[f].T)
                    error = np.concatenate([goals[f] - self.legs.position[f], turn])
                    off = float(np.abs(error).max())
                    worst = max(worst, off)
                    if off >= EXACT:
                        J = np.vstack(self.legs.jacobian(f))[:, columns[f]]
                        q[columns[f]] += np.linalg.lstsq(J, error, rcond=None)[0]
                if worst < EXACT:
                    break
            else:
                t = self.t[-1] * row / max(len(position) - 1, 1)
                raise TwinError(f"the legs cannot follow the walk at {t:.2f} s: make its steps smaller")
            out[row] = q
        return out


@lru_cache(maxsize=4)
def _nominal(model: RobotModel, robot_key: int, plan: WalkPlan, rate: int) -> tuple[object, ...]:
    nominal = _Nominal(model, _ROBOTS[robot_key], plan)
    position, rotation = nominal.base()
    samples = np.arange(0, len(nominal.t), FINE // rate)
    q = nominal.joint_angles(
        position[samples], rotation[samples], nominal.place[samples], nominal.attitudes(samples)
    )  # fmt: skip
    return nominal, position, rotation, samples, q


_ROBOTS: dict[int, RobotConfig] = {}


def synthetic_walk(
    model: RobotModel, robot: RobotConfig, seed: int, plan: WalkPlan | None = None, errors: WalkErrors | None = None,
    rate: int = 200,
) -> Walk:  # fmt: skip
    """One walk of a robot with two feet.

    Args:
        seed: of all that is random.
        plan, errors: the motion and what is wrong; the defaults when None.
        rate: [Hz] of the samples, a divisor of 1000.

    Raises:
        TwinError: when the robot has not two feet, or its legs cannot follow.
    """
    plan, errors = plan or WalkPlan(), errors or WalkErrors()
    if FINE % rate:
        raise TwinError(f"a rate of {rate} Hz does not divide {FINE}")
    _ROBOTS[id(robot)] = robot
    nominal, position, rotation, samples, q = _nominal(model, id(robot), plan, rate)
    rng = np.random.default_rng(seed)
    return _walk(nominal, robot, position, rotation, samples, q, errors, rate, rng)  # type: ignore[arg-type]


def _walk(
    nominal: _Nominal, robot: RobotConfig, position: Array, rotation: Array, samples: Index, q: Array,
    errors: WalkErrors, rate: int, rng: np.random.Generator,
) -> Walk:  # fmt: skip
    place, attitude = _rocked(nominal, samples, errors, rng)
    position, rotation = _shaken(nominal, position, rotation, errors, rng)
    q = nominal.joint_angles(position[samples], rotation[samples], place, attitude, q)
    return _readings(nominal, robot, position, rotation, samples, q, errors, rate, rng)


def _smooth(x: Array, times: Sequence[float]) -> Array:
    """Through low passes of these time constants [s], at FINE Hz."""
    for tau in times:
        a = math.exp(-1.0 / (FINE * tau))
        x = lfilter([1.0 - a], [1.0, -a], x, axis=0)
    return x


def _rocked(nominal: _Nominal, samples: Index, errors: WalkErrors, rng: np.random.Generator) -> tuple[Array, Array]:
    """Poses of the feet at the samples, as standing ones slide, twist, slip and rock: (m, 2, 3), (m, 2, 3, 3)."""
    n, e, share = len(nominal.t), errors, nominal.left_share
    walked = np.cumsum(_wandering(np.abs(2.0 * share - 1.0) ** 4, errors, rng), axis=0) / FINE
    give = _smooth(rng.standard_normal((n, 2, 5)), GIVE)
    give *= np.array([e.give, e.give, e.give_up, e.lean, e.tip]) / give.std(axis=0) * nominal.pace[:, None, None]
    place, attitude = nominal.place[samples].copy(), nominal.attitudes(samples)
    for foot, alone in enumerate((share >= 0.5, share < 0.5)):
        moved = _while_standing(walked, alone.astype(float), nominal.swing * (nominal.step % 2 == foot))[samples]
        for i, (by, bend) in enumerate(zip(moved, give[samples, foot], strict=True)):
            R = attitude[i, foot] @ rot_z(by[2])
            place[i, foot] += R @ [by[0] + bend[0], by[1] + bend[1], bend[2]]
            attitude[i, foot] = R @ exp_so3(np.array([bend[3], bend[4], 0.0]))
    return place, attitude


def _wandering(single: Array, errors: WalkErrors, rng: np.random.Generator) -> Array:
    """Speeds (n, 3) of a standing foot along the ground [m/s] and in heading [rad/s]: restless ones, and slips.

    single (n,): 1 in single support, 0 while both feet stand.
    """
    n = len(single)
    rates = _smooth(rng.standard_normal((n, 3)), (0.02, 0.02)) * math.sqrt(FINE)
    rates *= single[:, None] * [errors.slide, errors.slide, errors.twist]
    width = 60  # ms
    pulse = np.hanning(width) / (0.5 * width / FINE)
    for at in np.flatnonzero((rng.random(n) < errors.slips / 60.0 / FINE) & (single > 0.5)):
        direction = rng.uniform(0.0, math.tau)
        end = min(n, at + width)
        rates[at:end, :2] += np.outer(
            pulse[: end - at], errors.slip * np.array([math.cos(direction), math.sin(direction)])
        )
    return rates


def _while_standing(walked: Array, stands: Array, swing: Array) -> Array:
    """What a foot has wandered since it landed, of the way that all feet wander one after another; lost in the air."""
    steps = np.diff(walked, axis=0, prepend=walked[:1]) * stands[:, None]
    out = np.cumsum(steps, axis=0)
    lifted = np.flatnonzero((swing[1:] > 0.0) & (swing[:-1] == 0.0)) + 1
    for at in lifted:
        end = at + int(np.argmax(np.append(swing[at:], 0.0) == 0.0))
        s = swing[at:end]
        s = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
        lost = out[at].copy()
        out[at:end] -= s[:, None] * lost
        out[end:] -= lost
    return out


def _shaken(
    nominal: _Nominal, position: Array, rotation: Array, errors: WalkErrors, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The base when the body shakes while it walks."""
    n = len(nominal.t)
    x = sosfilt(butter(4, SHAKING, "bandpass", fs=FINE, output="sos"), rng.standard_normal((n, 6)), axis=0)
    push = np.diff(x[:, :3], n=2, axis=0).std(axis=0) * FINE**2
    turn = np.diff(x[:, 3:], axis=0).std(axis=0) * FINE
    x *= nominal.pace[:, None] * np.concatenate([errors.shake / push, errors.shake_turn / turn])
    return position + x[:, :3], np.array([R @ exp_so3(by) for R, by in zip(rotation, x[:, 3:], strict=True)])


def _readings(
    nominal: _Nominal, robot: RobotConfig, position: Array, rotation: Array, samples: Index, q: Array,
    errors: WalkErrors, rate: int, rng: np.random.Generator,
) -> Walk:  # fmt: skip
    model, imu, n = nominal.model, robot.imus[0], nominal.model.n
    at_rest = model.kinematics([imu.frame])
    at_rest.update(nominal.joints.stand)
    if at_rest.moves(0):
        raise TwinError(f"the IMU {imu.frame} moves against the base; a synthetic walk needs one that is fixed to it")
    sensor_p, R_base_sensor = at_rest.position[0].copy(), at_rest.rotation[0].copy()
    omega = _angular_velocity(rotation)
    path = position + rotation @ sensor_p
    acceleration = np.zeros_like(path)
    acceleration[1:-1] = (path[2:] - 2.0 * path[1:-1] + path[:-2]) * FINE**2
    force = np.einsum("nji,nj->ni", rotation, acceleration + UP)
    velocity = np.einsum("nji,nj->ni", rotation, np.gradient(position, 1.0 / FINE, axis=0))
    wide = math.sqrt(rate)
    m = len(samples)
    gyro = omega[samples] @ R_base_sensor + _bias(errors.gyro_bias, errors.gyro_walk, m, rate, rng)
    gyro = gyro + imu.gyro_noise * wide * rng.standard_normal((m, 3))
    accel = force[samples] @ R_base_sensor + _bias(errors.accel_bias, errors.accel_walk, m, rate, rng)
    accel = accel + imu.accel_noise * wide * rng.standard_normal((m, 3))
    encoders = q + errors.encoder_offset * rng.standard_normal(n)
    encoders = encoders + nominal.joints.encoder_noise * rng.standard_normal((m, n))
    step = np.where(nominal.joints.encoder_resolution > 0.0, nominal.joints.encoder_resolution, 1e-9)
    encoders = np.round(encoders / step) * step
    qd = np.gradient(q, 1.0 / rate, axis=0)
    left = nominal.left_share[samples]
    loads = model.mass * GRAVITY * np.column_stack([left, 1.0 - left])
    loads = loads + errors.force_noise * rng.standard_normal((m, 2))
    distance = float(np.linalg.norm(np.diff(nominal.path, axis=0), axis=1).sum())
    return Walk(
        rate, np.round(nominal.t[samples] * 1e9).astype(np.int64), position[samples], rotation[samples],
        velocity[samples], q, qd, gyro, accel, encoders, qd + 0.01 * rng.standard_normal((m, n)), loads, distance,
    )  # fmt: skip


def _bias(start: float, walk: float, m: int, rate: int, rng: np.random.Generator) -> Array:
    """A bias of a random start that wanders: (m, 3)."""
    steps = walk / math.sqrt(rate) * rng.standard_normal((m, 3))
    steps[0] = start * rng.standard_normal(3)
    return np.asarray(np.cumsum(steps, axis=0))


def _angular_velocity(rotation: Array) -> Array:
    """In the body, by central differences of the rotations: exact to second order."""
    relative = np.einsum("nji,njk->nik", rotation[:-2], rotation[2:])
    # The vector of the antisymmetric part is sin(angle) · axis; over 2 ms sin is the angle to 1e-9.
    v = 0.5 * np.stack(
        [
            relative[:, 2, 1] - relative[:, 1, 2],
            relative[:, 0, 2] - relative[:, 2, 0],
            relative[:, 1, 0] - relative[:, 0, 1],
        ],
        axis=1,
    )
    omega = np.zeros((len(rotation), 3))
    omega[1:-1] = v * (FINE / 2.0)
    return omega
