"""Where the base is: the invariant filter fed with what a robot's sensors say, in the order of their stamps.

The filter's frame is the IMU's; the base frame is carried along by kinematics. What the feet say is in legs.py.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import chdtri

from digital_twin.core.arrays import Array
from digital_twin.core.base_config import BaseEstimatorConfig
from digital_twin.core.base_state import BaseState
from digital_twin.core.contacts import ContactState
from digital_twin.core.invariant_ekf import Correction, EkfState, InvariantEkf
from digital_twin.core.legs import QUIET, STILL, FilterState, Legs, Rest, Trust
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import ImuConfig, RobotConfig
from digital_twin.core.rotation import cross, gravity_tilt, log_so3, rot_z, yaw_of

NS = 1_000_000_000
GRAVITY = 9.81


class BaseEstimator:
    """Feed it `imu`, `wrench` and `joints` in the order of their stamps; `joints` returns the base.

    Attributes:
        turn: angular velocity by the gyro and its stamp, by the standing leg and its stamp [rad/s] (3,); None at times.
    """

    def __init__(
        self, model: RobotModel, robot: RobotConfig, config: BaseEstimatorConfig, encoder_variance: Array
    ) -> None:
        """`encoder_variance` [rad²] (n,) of a joint reading; it may be changed in place as it becomes known."""
        self.model, self.robot, self.config = model, robot, config
        self.feet = robot.feet
        self._k = k = len(robot.feet)
        # A robot without an IMU is carried by its feet alone; the base frame stands for the sensor's.
        self._has_imu = bool(robot.imus)
        self._imu = imu = robot.imus[0] if robot.imus else ImuConfig(model.base_frame)
        self._ekf = InvariantEkf(k)
        self._kinematics = model.kinematics([f.frame for f in robot.feet] + [model.base_frame], imu.frame)
        self._legs = Legs(config, self._ekf, self._kinematics, model.mass * GRAVITY, encoder_variance)
        self.encoder_variance = encoder_variance
        self._q = self._qd = np.zeros(model.n)
        self._base_moves = self._kinematics.moves(k)
        self._covariances: tuple[Array | None, Array, Array] = (None, _NOTHING, _NOTHING)  # those of the last output
        self._elsewhere = False  # the kinematics are not those of _q
        c = config
        self._inertial = np.array([imu.gyro_noise**2] * 3 + [imu.accel_noise**2] * 3)
        self._free = np.array([c.gap_turn**2] * 3 + [c.gap_push**2] * 3)
        self._walk = np.array([c.gyro_walk**2] * 3 + [c.accel_walk**2] * 3)
        self._least_pause = 0.9 / c.correct_rate
        self._counted = (0, 0)  # dropped and doubts before the last reset
        self.turn: tuple[Array, int, Array, int] | None = None
        self._pending = ContactState.unknown(k)
        self.state: FilterState | None = None
        self._pose: tuple[Array, float] | None = None
        self._first: tuple[int, Array, Array] | None = None  # IMU reading before any joints
        self._located_ns = -1  # since when joints are known
        self._last_feet: tuple[int, Array] | None = None
        self._turn_by_leg: Array | None = None

    # Life

    def snapshot(self) -> object:
        """All that changes; `restore` takes it back."""
        return (
            self.state, self._pending, self._pose, self._first, self._located_ns, self._q, self._qd, self._counted,
            self._covariances, self._turn_by_leg,
        )  # fmt: skip

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot."""
        (
            self.state, self._pending, self._pose, self._first, self._located_ns, self._q, self._qd, self._counted,
            self._covariances, self._turn_by_leg,
        ) = snapshot  # type: ignore[misc]  # fmt: skip
        self._elsewhere = True

    def _locate(self) -> None:
        """Kinematics of the last joints, after time was turned back."""
        if self._elsewhere and self._located_ns >= 0:
            self._kinematics.update(self._q)
        self._elsewhere = False

    def take_over(self, other: BaseEstimator, moved: bool) -> None:
        """Go on where another one stopped, that had another model of the robot. `moved`: by this one, joints are
        elsewhere than they were taken to be: the feet stand where it has them.
        """
        self.restore(other.snapshot())
        if self.state is None or not moved:
            return
        ekf = self.state.ekf
        for i in range(self._k):
            if ekf.stands[i]:
                ekf = self._ekf.lift(ekf, i)
        self.state = self.state._replace(ekf=ekf)

    def reset(self, position: Array | None = None, yaw: float | None = None) -> None:
        """Start anew from what the sensors say next; the base frame's pose stays (or is the given one)."""
        if position is not None:
            self._pose = np.array(position, dtype=float), float(yaw or 0.0)
        elif self.state is not None:
            self._locate()
            ekf = self.state.ekf
            R = ekf.rotation @ self._kinematics.rotation[self._k]
            self._pose = ekf.position + ekf.rotation @ self._kinematics.position[self._k], yaw_of(R)
        self._pending = self.state.contacts if self.state else self._pending
        self._pending = self._pending._replace(stands=(False,) * self._k, since=(-1,) * self._k)
        self._counted = self.dropped, self.doubts
        self.state, self._first, self._located_ns = None, None, -1

    @property
    def gyro_bias(self) -> Array:
        """In the IMU's frame [rad/s] (3,)."""
        return np.zeros(3) if self.state is None else self.state.ekf.gyro_bias

    @property
    def accel_bias(self) -> Array:
        """In the IMU's frame [m/s²] (3,)."""
        return np.zeros(3) if self.state is None else self.state.ekf.accel_bias

    @property
    def up(self) -> Array:
        """In the IMU's frame (3,)."""
        return np.array([0.0, 0.0, 1.0]) if self.state is None else self.state.ekf.rotation[2]

    @property
    def imu_stamp(self) -> int:
        """Of the last IMU reading [ns]."""
        return 0 if self.state is None else self.state.imu_ns

    @property
    def corrections(self) -> list[tuple[int, Correction]]:
        """What the last joints did, foot by foot: (index of the foot, Correction)."""
        return self._legs.corrections

    @property
    def dropped(self) -> int:
        """How often a foot was found to slip or not to stand at all."""
        return self._counted[0] if self.state is None else self.state.trust.dropped

    @property
    def doubts(self) -> int:
        """How often all feet contradicted the estimate."""
        return self._counted[1] if self.state is None else self.state.trust.doubts

    @property
    def doubted(self) -> list[str]:
        """Feet that are not believed at the moment."""
        if self.state is None:
            return []
        return [f.name for f, bad in zip(self.feet, self.state.trust.distrusted, strict=True) if bad]

    def loads(self) -> Array:
        """What the feet carry [N] (k,), as far as it is measured."""
        return np.array(self._pending.load if self.state is None else self.state.contacts.load)

    def acceleration(self) -> Array:
        """Of the IMU in odom, without gravity [m/s²] (3,)."""
        if self.state is None:
            return np.zeros(3)
        s = self.state
        return np.asarray(s.ekf.rotation @ (s.accel - s.ekf.accel_bias) - [0.0, 0.0, GRAVITY])

    def footprint(self, base: BaseState) -> tuple[Array, float]:
        """base_footprint in odom: between the soles, at the height of the lower one (REP-120); position (3,), yaw."""
        self._locate()
        k = self._k
        to_base = self._kinematics.rotation[k].T
        soles = (
            base.position + (self._kinematics.position[:k] - self._kinematics.position[k]) @ (base.rotation @ to_base).T
        )
        if not k:
            return np.array([base.position[0], base.position[1], 0.0]), yaw_of(base.rotation)
        return np.array([*soles[:, :2].mean(axis=0), soles[:, 2].min()]), yaw_of(base.rotation)

    @property
    def leg_noise(self) -> float:
        """How restless the legs are: the fitted share of their noise variance, `calmest` … 1."""
        return 1.0 if self.state is None else self.state.trust.noise

    # Inputs

    def wrench(self, stamp_ns: int, foot: int, load: float) -> None:
        """Load [N] on a foot, positive when it bears weight."""
        if self.state is None:
            self._pending = self._legs.contacts.load(self._pending, stamp_ns, foot, load)
        else:
            self.state = self.state._replace(
                contacts=self._legs.contacts.load(self.state.contacts, stamp_ns, foot, load)
            )

    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None:
        """One reading along the axes of the IMU's frame in the URDF: [rad/s] (3,), [m/s²] (3,)."""
        s = self.state
        if self._saturated(gyro, accel):
            return  # it tells no more than that it turns or shakes very much
        if s is None:
            self._first = stamp_ns, gyro, accel
            if self._located_ns >= 0:
                self._start_from_gravity()
            return
        reading = np.concatenate([gyro, accel])
        change = reading - s.reading
        s = self._advance(s, stamp_ns, reading)
        if change.any():
            s = s._replace(news_ns=stamp_ns, news_joints=self._q)
        self.state = s._replace(reading=reading, change=change, imu_ns=stamp_ns)

    def joints(self, stamp_ns: int, q: Array, qd: Array, variance: Array | None = None) -> BaseState | None:
        """Joint positions [rad] and speeds [rad/s] (n,): corrects the base and returns it at this stamp.

        None until it has started: from gravity with the first IMU reading, or without one, after a while, from the
        feet, which are taken to stand flat on level ground. `variance` [rad²] (n,) of q, where it is not that of the
        encoders.
        """
        self._elsewhere = True
        self._q, self._qd = q, qd
        self._legs.variance = self.encoder_variance if variance is None else variance
        if self._located_ns < 0:
            self._located_ns = stamp_ns
        if self.state is None:
            if self._first is not None:
                self._start_from_gravity()
            elif not self._has_imu or stamp_ns - self._located_ns > WAIT_FOR_IMU:
                self._start_from_feet(stamp_ns)
        s = self.state
        if s is None:
            return None
        s = self._advance(s, stamp_ns, s.reading)
        self._legs.corrections = []
        dt = min(max(stamp_ns - s.corrected_ns, 1) / NS, 0.1) if s.corrected_ns >= 0 else 0.1
        calm = s.trust.noise < CALM and not self._legs.contacts.changing(s.contacts)
        if dt >= self._least_pause * (2.0 if calm else 1.0):
            self._locate()
            s = self._legs.update_contacts(self._spread(s), stamp_ns, qd, dt)
            s = self._legs.correct(s, dt)._replace(corrected_ns=stamp_ns)
            s = self._settle(s, q)
            self._compare_turns(s, stamp_ns)
        self.state = s
        return self._base(s, qd)

    def body_velocity(self, stamp_ns: int, velocity: Array, covariance: Array) -> Correction | None:
        """Velocity of the base frame in itself [m/s] (3,), (3, 3), as the robot's own odometry has it."""
        if self.state is None:
            return None
        self._locate()
        k = self._k
        s = self._spread(self._advance(self.state, stamp_ns, self.state.reading))
        R = self._kinematics.rotation[k]
        at_imu = R @ velocity - cross(s.gyro - s.ekf.gyro_bias, self._kinematics.position[k])
        if self._base_moves:
            at_imu = at_imu - self._kinematics.jacobian(k)[0] @ self._qd
        ekf, result = self._ekf.correct_velocity(s.ekf, at_imu, R @ covariance @ R.T, float(chdtri(3, 1e-4)))
        self.state = s._replace(ekf=ekf)
        return result

    # Time

    def _start_from_gravity(self) -> None:
        """What moves is found out by the feet."""
        if self._first is None or not float(np.linalg.norm(self._first[2])) > 0.2 * GRAVITY:
            return  # in free fall, or dead: no direction to be had
        stamp_ns, gyro, accel = self._first
        self._start(stamp_ns, gravity_tilt(accel), gyro, accel, stamp_ns)

    def _start_from_feet(self, stamp_ns: int) -> None:
        load = self._pending.load
        R = self._kinematics.rotation[load.index(max(load))].T if self._k else np.eye(3)
        self._start(stamp_ns, R, np.zeros(3), np.array([0.0, 0.0, GRAVITY]), NEVER)

    def _start(self, stamp_ns: int, R: Array, gyro: Array, accel: Array, imu_ns: int) -> None:
        """Begin with attitude R up to its heading, at the pose kept, or with odom's floor under the lowest foot."""
        self._locate()
        c, base, k = self.config, self._k, self._k
        position, yaw = self._pose or (None, 0.0)
        R = rot_z(yaw - yaw_of(R @ self._kinematics.rotation[base])) @ R
        at = R @ self._kinematics.position[base]
        if position is None:
            feet = self._kinematics.position[:k] @ R.T
            position = np.array([0.0, 0.0, at[2] - (float(feet[:, 2].min()) if k else 0.0)])
        ekf = self._ekf.start(R, np.zeros(3), position - at, c.tilt0, c.speed0, c.gyro_bias0, c.accel_bias0)
        self.state = self._new_state(ekf, stamp_ns, gyro, accel, imu_ns)._replace(rest=Rest(stamp_ns, self._q, accel))

    def _new_state(self, ekf: EkfState, stamp_ns: int, gyro: Array, accel: Array, imu_ns: int) -> FilterState:
        self._first, k = None, self._k
        trust = Trust(1.0, (QUIET,) * k, (0.0,) * k, (False,) * k, 0.0, 0.0, 0.0, 0.0, *self._counted)
        return FilterState(
            ekf, stamp_ns, 0.0, _NOTHING, _NOTHING, (_NOTHING, _NOTHING), trust, self._pending,
            np.concatenate([gyro, accel]), _NOTHING, imu_ns, imu_ns, self._q, -1, None,
        )  # fmt: skip

    def continue_from(self, base: BaseState, q: Array, qd: Array, gyro_bias: float, accel_bias: float) -> None:
        """Begin in motion, with the base and the feet that stand as somebody knows them, and as surely.

        q, qd: joints [rad], [rad/s] (n,). gyro_bias, accel_bias: standard deviations of the IMU's biases [rad/s], [m/s²].
        """
        k, t = self._k, base.stamp_ns
        self._q, self._qd, self._located_ns, self._elsewhere = q, qd, t, True
        self._locate()
        to_imu, lever = self._kinematics.rotation[k], self._kinematics.position[k]
        R, turn, moving = base.rotation @ to_imu.T, to_imu @ base.angular_velocity, to_imu @ base.velocity
        if self._base_moves:
            jp, jr = self._kinematics.jacobian(k)
            turn, moving = turn - jr @ qd, moving - jp @ qd
        velocity = R @ (moving - cross(turn, lever))
        tilt = math.sqrt(max(base.covariance[3, 3], base.covariance[4, 4], LEAST_TILT**2))
        speed = math.sqrt(max(*np.diag(base.twist_covariance)[:3], LEAST_SPEED**2))
        ekf = self._ekf.start(R, velocity, base.position - R @ lever, tilt, speed, gyro_bias, accel_bias)
        ekf = self._ekf.agree(ekf)
        since = tuple(t if stands else -1 for stands in base.contacts)
        self._pending = ContactState((0.0,) * k, (-1,) * k, base.contacts, since)
        heard = t if self._has_imu else NEVER
        s = self._new_state(ekf, t, turn, GRAVITY * R[2], heard)
        self.state = s._replace(trust=s.trust._replace(noise=WALKING))

    def _settle(self, s: FilterState, q: Array) -> FilterState:
        """A robot that has not moved since the start rests, and its legs do not give: to be told at once, not found out."""
        if s.rest is None:
            return s
        moved, pushed = np.abs(q - s.rest.joints).max(initial=0.0), np.abs(s.accel - s.rest.accel).max()
        if moved > REST_JOINT or pushed > REST_PUSH or np.abs(s.gyro).max() > REST_TURN:
            return s._replace(rest=None, trust=s.trust._replace(noise=max(s.trust.noise, self.config.calmest)))
        if s.rest.settled or s.stamp_ns - s.rest.since_ns < REST:
            return s
        ekf, _ = self._ekf.correct_velocity(s.ekf, np.zeros(3), np.eye(3) * REST_SPEED**2, math.inf)
        trust = s.trust._replace(noise=STILL * self.config.calmest)
        return s._replace(ekf=ekf, trust=trust, rest=s.rest._replace(settled=True))

    def _advance(self, s: FilterState, stamp_ns: int, reading: Array) -> FilterState:
        """Propagate to a stamp, at which the IMU reads this; between two readings a straight line is assumed."""
        if stamp_ns <= s.stamp_ns:
            return s
        dt, ekf, c = (stamp_ns - s.stamp_ns) / NS, s.ekf, self.config
        held, rough, bends = reading is s.reading, s.rough, s.bends
        if dt > c.gap or (held and (stamp_ns - s.imu_ns) / NS > c.gap) or self._frozen(s, stamp_ns):
            reading = np.concatenate([ekf.gyro_bias, ekf.accel_bias + GRAVITY * ekf.rotation[2]])
            inertial = self._free * dt
        else:
            inertial = self._inertial * dt
            if not held:
                change = reading - s.reading
                rough, bends = self._roughness(s, dt, change)
                inertial += np.maximum(rough, 0.0) * (dt * dt)
                reading = s.reading + 0.5 * change
            elif s.imu_ns == s.stamp_ns:
                # The next reading is not here yet: the line through the last two goes on.
                reading = reading + 0.5 * s.change
        ekf = self._ekf.move(ekf, dt, reading)
        s = FilterState._make((ekf, stamp_ns, s.unspread + dt, s.inertial + inertial, rough, bends, *s[6:]))
        return s if s.unspread < c.gap else self._spread(s)

    def _roughness(self, s: FilterState, dt: float, change: Array) -> tuple[Array, tuple[Array, Array]]:
        """What the IMU's signals do between two readings is unknown; how they bend tells how much it may be.

        A signal that wanders between readings bends in the middle of the band (up to half the rate), where motion does
        not, nor chatter from reading to reading, which integrates to nothing; motion that is resolved bends a little.
        """
        bend = change - s.change
        middle = bend - s.bends[0]
        rough = middle * middle + bend * bend * (WANDERING / RESOLVED) - self._inertial * (ALL_HISS / dt)
        lately = min(1.0, dt / ROUGH_FOR)
        return s.rough * (1.0 - lately) + rough * (lately / WANDERING), (s.bends[1], bend)

    def _frozen(self, s: FilterState, stamp_ns: int) -> bool:
        """Whether the IMU says the same again and again while joints move: then it is as good as silent."""
        return bool(
            stamp_ns - s.news_ns > self.config.gap * NS
            and np.abs(self._q - s.news_joints).max(initial=0.0) > REST_JOINT
        )

    def _spread(self, s: FilterState) -> FilterState:
        """Bring the covariance up to the estimate, which is not worth its cost at every IMU reading."""
        dt = s.unspread
        if dt <= 0.0:
            return s
        ekf = self._ekf.spread(s.ekf, dt, s.inertial, self._walk * dt, self._legs.wander(s, dt))
        return FilterState._make((ekf, s.stamp_ns, 0.0, _NOTHING, *s[4:]))

    def _saturated(self, gyro: Array, accel: Array) -> bool:
        """Whether a sensor is at the end of its range."""
        imu = self._imu
        turn, push = max(map(abs, gyro.tolist())), max(map(abs, accel.tolist()))
        return bool(turn > 0.98 * imu.gyro_range or push > 0.98 * imu.accel_range)

    def _compare_turns(self, s: FilterState, stamp_ns: int) -> None:
        """How fast the body turns by the gyro, and by the most loaded foot taken as still, for their lag."""
        feet, self.turn = self._kinematics.rotation[: self._k].copy(), None
        if self._last_feet is not None and any(s.ekf.stands):
            then, before = self._last_feet
            load = [x if stands else -1.0 for x, stands in zip(s.contacts.load, s.ekf.stands, strict=True)]
            i = load.index(max(load))
            if then < stamp_ns <= then + 50_000_000:
                rate = log_so3(before[i] @ feet[i].T) / ((stamp_ns - then) / NS)
                self.turn, self._turn_by_leg = (s.gyro, s.imu_ns, rate, (then + stamp_ns) // 2), rate
        self._last_feet = stamp_ns, feet

    # Outputs

    def _base(self, s: FilterState, qd: Array) -> BaseState:
        """The base frame. Between two corrections its covariances stay those of the earlier one."""
        ekf, k = s.ekf, self._k
        if self._base_moves:
            self._locate()
        lever, R_imu_base = self._kinematics.position[k], self._kinematics.rotation[k]
        arm = ekf.rotation @ lever
        rate, noise = s.gyro - ekf.gyro_bias, self._imu.gyro_noise
        if s.stamp_ns - s.imu_ns > self.config.gap * NS:
            rate, noise = np.zeros(3) if self._turn_by_leg is None else self._turn_by_leg, self.config.gap_turn
        point = ekf.position + arm
        velocity, angular = ekf.rotation.T @ ekf.velocity + cross(rate, lever), rate
        if self._base_moves:
            jp, jr = self._kinematics.jacobian(k)
            velocity, angular = velocity + jp @ qd, angular + jr @ qd
        if self._covariances[0] is not ekf.covariance:
            turn = np.zeros((6, 6))
            turn[:3, :3] = turn[3:, 3:] = R_imu_base.T
            twist = self._ekf.twist_covariance(ekf, lever, noise**2 * RATE)
            self._covariances = ekf.covariance, self._ekf.pose_covariance(ekf, point), turn @ twist @ turn.T
        return BaseState(
            s.stamp_ns, point, ekf.rotation @ R_imu_base, R_imu_base.T @ velocity, R_imu_base.T @ angular,
            *self._covariances[1:], ekf.stands, self._sure(ekf),
        )  # fmt: skip

    def _sure(self, ekf: EkfState) -> bool:
        P = ekf.covariance
        tilt = math.sqrt(max(P[0, 0], P[1, 1]))
        speed = math.sqrt(max(P[3, 3], P[4, 4], P[5, 5]))
        return tilt < self.config.sure_tilt and speed < self.config.sure_speed

    def ahead(self, stamp_ns: int, qd: Array) -> BaseState | None:
        """The base at a later stamp, the last IMU reading held; the covariance grows by what that leaves open."""
        self._locate()
        s = self.state
        return None if s is None else self._base(self._spread(self._advance(s, stamp_ns, s.reading)), qd)


REST = 200_000_000  # [ns] after the start, for which a robot that rests
REST_JOINT, REST_TURN, REST_PUSH = 0.005, 0.05, 0.5  # [rad], [rad/s], [m/s²] does not move, turn or accelerate by more
REST_SPEED = 0.02  # [m/s] how fast it may be all the same
LEAST_TILT, LEAST_SPEED = 0.001, 0.005  # [rad], [m/s]: nobody knows better
WALKING = 0.1  # how restless the legs of a robot in motion usually are
WAIT_FOR_IMU = 300_000_000  # [ns] after the first joints
_NOTHING = np.zeros(6)
NEVER = -(10**18)
HISS = 6.0  # variances of a sensor's white noise that the square of its second difference is on average
MIDDLE_HISS = 10.0  # and that of the change of the second difference over two readings
RESOLVED = 144.0  # the trapezoidal rule errs by a twelfth of the second difference
WANDERING = 108.0  # 48 for a random walk; more, since motion reaches into the middle of the band as well
ALL_HISS = MIDDLE_HISS + HISS * WANDERING / RESOLVED
ROUGH_FOR = 0.1  # [s] over which roughness is averaged
CALM = 0.01  # of the legs' noise: then they have little new to tell, and are asked half as often
RATE = 100.0  # [Hz], at which the noise of a reported angular velocity is stated
