"""The obvious alternative to the invariant filter: an error-state quaternion EKF, to be compared with.

Bloesch, Hutter, Hoepflinger, Leutenegger, Gehring, Remy, Siegwart: "State estimation for legged robots: consistent
fusion of leg kinematics and IMU", RSS 2012; the attitudes of the feet as in Rotella, Bloesch, Righetti, Schaal, "State
estimation for a humanoid robot", IROS 2014.

It is the plain one: Jacobians are taken at the latest estimate, without constraints that keep what cannot be observed
unobservable. The attitude's error is local, R = R̂ exp(θ), F_i = F̂_i exp(φ_i); all other errors are differences.
Measurements are compared in the body's frame. Its order is (θ, v, p, d_1 … d_k), gyro bias, accelerometer bias,
(φ_1 … φ_k). A quaternion and its matrix say the same: the state is the one that the invariant filter keeps.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtrs

from digital_twin.core.arrays import Array
from digital_twin.core.invariant_ekf import P_, R_, V_, Correction, EkfState, InvariantEkf
from digital_twin.core.rotation import exp_so3, log_so3, skew

_EYE = np.eye(3)


class QuaternionEkf(InvariantEkf):
    """The same inputs and outputs as InvariantEkf: a BaseEstimator works with either."""

    def start(
        self, rotation: Array, velocity: Array, position: Array, tilt: float, speed: float, gyro_bias: float,
        accel_bias: float,
    ) -> EkfState:  # fmt: skip
        """As of the invariant filter: tilt [rad], speed [m/s], biases [rad/s], [m/s²] are standard deviations."""
        s = super().start(rotation, velocity, position, tilt, speed, gyro_bias, accel_bias)
        P = s.covariance.copy()
        P[P_, :], P[:, P_] = 0.0, 0.0  # an additive error of the position does not depend on the attitude's
        P[R_, R_] = rotation.T @ np.diag([tilt**2, tilt**2, 0.0]) @ rotation
        return s._replace(covariance=P)

    def move(self, s: EkfState, dt: float, reading: Array) -> EkfState:
        """The same motion as the invariant filter's, dt in [s]; the error's transition depends on the estimate."""
        R, half = s.rotation, 0.5 * dt
        middle = exp_so3((reading[:3] - s.gyro_bias) * half)
        force = middle @ (reading[3:] - s.accel_bias)
        phi = np.eye(self.n)
        lever = R @ skew(force)
        phi[R_, R_] = (middle @ middle).T
        phi[R_, self.gyro_bias] = -dt * middle.T
        phi[V_, R_], phi[P_, R_] = -dt * lever, -dt * half * lever
        phi[V_, self.gyro_bias], phi[P_, self.gyro_bias] = dt * half * lever, 0.5 * dt * half * dt * lever
        phi[V_, self.accel_bias], phi[P_, self.accel_bias] = -dt * R @ middle, -dt * half * R @ middle
        phi[P_, V_] = dt * _EYE
        return super().move(s, dt, reading)._replace(covariance=phi @ s.covariance @ phi.T)

    def spread(
        self, s: EkfState, dt: float, inertial: Array, bias_walk: Array, contact: Array | None = None
    ) -> EkfState:
        """What sensors, biases and feet add to the covariance over dt [s]."""
        P = s.covariance.copy()
        self._add_noise(P, s, dt, s.rotation, inertial, bias_walk, contact)
        return s._replace(covariance=P)

    def _add_noise(
        self, P: Array, s: EkfState, dt: float, turn: Array, inertial: Array, bias_walk: Array, contact: Array | None
    ) -> None:  # fmt: skip
        """Add to P what sensors, biases and feet gain in uncertainty over dt [s]."""
        push = (turn * inertial[3:]) @ turn.T
        P[R_, R_] += np.diag(inertial[:3])
        P[V_, V_] += push
        P[V_, P_] += 0.5 * dt * push
        P[P_, V_] += 0.5 * dt * push
        P[P_, P_] += 0.25 * dt * dt * push
        diagonal = P.reshape(-1)[:: self.n + 1]
        diagonal[self.group : self.group + 6] += bias_walk
        if contact is not None:
            diagonal[9 : self.group] += contact[0].reshape(-1)
            for i, part in enumerate(self.attitude):
                F = s.feet[i]
                P[part, part] += (F.T * contact[1, i]) @ F

    def widen(self, s: EkfState, attitude: float, velocity: float) -> EkfState:
        """Grow the covariance by variances of attitude [rad²] and velocity [(m/s)²]; places stay where they are."""
        P = s.covariance.copy()
        P[R_, R_] += attitude * _EYE
        P[V_, V_] += velocity * _EYE
        return s._replace(covariance=P)

    def land(self, s: EkfState, i: int, place: Array, attitude: Array, noise: Array) -> EkfState:
        """Foot i enters where kinematics put it: place [m] (3,), attitude (3, 3) in the body; noise along odom's axes."""
        d, phi = self.place[i], self.attitude[i]
        s = self.lift(s, i)
        foot = s.rotation @ attitude
        G = np.eye(self.n)
        G[d, d], G[phi, phi] = 0.0, 0.0
        G[d, P_], G[d, R_] = _EYE, -s.rotation @ skew(place)
        G[phi, R_] = attitude.T
        P = G @ s.covariance @ G.T
        into = np.zeros((6, 6))
        into[:3, :3], into[3:, 3:] = _EYE, foot.T
        rows = np.r_[d, phi]
        P[np.ix_(rows, rows)] += into @ noise @ into.T
        vectors, feet = s.vectors.copy(), s.feet.copy()
        vectors[2 + i], feet[i] = s.position + s.rotation @ place, foot
        stands = (*s.stands[:i], True, *s.stands[i + 1 :])
        return s._replace(vectors=vectors, feet=feet, covariance=P, stands=stands)

    def _feet_seen(
        self, s: EkfState, feet: tuple[int, ...], place: Array, attitude: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """What kinematics see of `feet` less what was forecast, in the body; noise comes along odom's axes."""
        Rt, m = s.rotation.T, len(feet)
        z, H = np.empty(6 * m), np.zeros((6 * m, self.n))
        for row, i in enumerate(feet):
            at, turn = Rt @ (s.vectors[2 + i] - s.position), Rt @ s.feet[i]
            x, phi = slice(6 * row, 6 * row + 3), slice(6 * row + 3, 6 * row + 6)
            z[x], z[phi] = place[i] - at, log_so3(attitude[i] @ turn.T)
            H[x, R_], H[x, P_], H[x, self.place[i]] = skew(at), -Rt, Rt
            H[phi, R_], H[phi, self.attitude[i]] = -_EYE, turn
        into = np.kron(np.eye(2 * m), Rt)
        return z, H, into @ noise @ into.T

    def correct_height(self, s: EkfState, i: int, j: int, noise: float, gate: float) -> tuple[EkfState, Correction]:
        """Feet i and j stand on ground of one height, give or take `noise` [m]. Beyond `gate` nothing is changed."""
        H = np.zeros((1, self.n))
        H[0, self.place[i].start + 2], H[0, self.place[j].start + 2] = 1.0, -1.0
        apart = s.vectors[2 + j] - s.vectors[2 + i]
        after, result = self.correct(s, H, apart[2:], np.array([[noise**2]]))
        return (after if result.nis <= gate else s), result

    def correct_velocity(
        self, s: EkfState, velocity: Array, covariance: Array, gate: float
    ) -> tuple[EkfState, Correction]:
        """The base's velocity in the base frame [m/s] (3,) with covariance (3, 3). Beyond `gate` nothing is changed."""
        forecast = s.rotation.T @ s.velocity
        H = np.zeros((3, self.n))
        H[:, R_], H[:, V_] = skew(forecast), s.rotation.T
        after, result = self.correct(s, H, velocity - forecast, covariance)
        return (after, result) if result.nis <= gate else (s, result._replace(weight=0.0))

    def correct(self, s: EkfState, H: Array, z: Array, noise: Array) -> tuple[EkfState, Correction]:
        """The Kalman update for z = H · (truth less estimate) + noise: z (m,), H (m, n), noise (m, m)."""
        HP = H @ s.covariance
        L, failed = dpotrf(HP @ H.T + noise, lower=1)
        if failed:
            return s, Correction(np.full(len(z), np.nan), np.inf, 0.0)
        solved = dtrtrs(L, np.column_stack([HP, z]), lower=1)[0]
        W, whitened = solved[:, :-1], solved[:, -1]
        after = self.moved(s, W.T @ whitened)._replace(covariance=s.covariance - W.T @ W)
        return after, Correction(whitened, float(whitened @ whitened), 1.0)

    def moved(self, s: EkfState, x: Array) -> EkfState:
        """The state that differs from s by an error x (n,)."""
        feet = s.feet.copy()
        for i, stands in enumerate(s.stands):
            if stands:
                feet[i] = feet[i] @ exp_so3(x[self.attitude[i]])
        return s._replace(
            rotation=s.rotation @ exp_so3(x[R_]), vectors=s.vectors + x[3 : self.group].reshape(-1, 3), feet=feet,
            bias=s.bias + x[self.group : self.group + 6],
        )  # fmt: skip

    def pose_covariance(self, s: EkfState, point: Array) -> Array:
        """Of a point fixed to the body, now at `point` in odom, and of fixed-axis rotation: (6, 6) [m²], [rad²]."""
        J = np.zeros((6, 9))
        J[:3, R_], J[:3, P_] = -skew(point - s.position) @ s.rotation, _EYE
        J[3:, R_] = s.rotation
        return np.asarray(J @ s.covariance[:9, :9] @ J.T)

    def twist_covariance(self, s: EkfState, lever: Array, gyro_variance: float) -> Array:
        """Of the velocity of a point at `lever` in the body, and of the angular velocity, in the body: (6, 6)."""
        J = np.zeros((6, 9))
        J[:3, :3], J[:3, 3:6], J[:3, 6:] = skew(s.rotation.T @ s.velocity), s.rotation.T, skew(lever)
        J[3:, 6:] = -_EYE
        rows = np.r_[R_, V_, self.gyro_bias]
        noise = J[:, 6:]
        return np.asarray(J @ s.covariance[np.ix_(rows, rows)] @ J.T + gyro_variance * (noise @ noise.T))
