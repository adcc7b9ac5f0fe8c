"""Contact-aided right-invariant extended Kalman filter of the floating base.

Hartley, Ghaffari, Eustice, Grizzle: "Contact-aided invariant extended Kalman filtering for robot state estimation",
IJRR 2020; the orientation of each foot as in Ramadoss et al., "DILIGENT-KIO", ICRA 2021. docs/estimator.md derives it.

State: X = (R, v, p, d_1 … d_k) in SE_{2+k}(3), attitude, velocity and position of the base frame and the places where
the feet stand, all in odom; the gyro's and accelerometer's biases; and the attitude F_i in SO(3) of each foot. The
error is right-invariant, X̂ X⁻¹ = exp(ξ), F̂_i F_iᵀ = exp(φ_i), so that the corrections by leg kinematics are linear in
it whatever the attitude. Its order is ξ = (R, v, p, d_1 … d_k), gyro bias, accelerometer bias, (φ_1 … φ_k).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from digital_twin.core.arrays import Array, Index
from digital_twin.core.rotation import exp_so3, exp_so3_each, log_so3_each, skew

G = 9.81
GRAVITY = np.array([0.0, 0.0, -G])
_GRAVITY_CROSS = skew(GRAVITY)
_LEVI_CIVITA = np.stack([skew(e) for e in np.eye(3)], axis=2).reshape(9, 3)  # skew(x) = (this @ x).reshape(3, 3)
_LEVI_CIVITA_T = np.ascontiguousarray(_LEVI_CIVITA.T)
R_, V_, P_ = slice(0, 3), slice(3, 6), slice(6, 9)

_POSE = np.zeros((6, 9))
_POSE[:3, P_], _POSE[3:, R_] = np.eye(3), np.eye(3)


class EkfState(NamedTuple):
    """An estimate. Never changed in place: whoever keeps a reference keeps the estimate of that moment.

    rotation: R_odom_base (3, 3). vectors: (2 + k, 3), rows v [m/s], p [m], d_1 … d_k [m], in odom. bias: (6,) of gyro
    [rad/s] and accelerometer [m/s²], in the base frame. feet: F_i = R_odom_foot (k, 3, 3). covariance: of the error (n, n).
    stands: whether foot i is part of the state.
    """

    rotation: Array
    vectors: Array
    bias: Array
    feet: Array
    covariance: Array
    stands: tuple[bool, ...]

    @property
    def gyro_bias(self) -> Array:
        """In the base frame [rad/s] (3,)."""
        return self.bias[:3]

    @property
    def accel_bias(self) -> Array:
        """In the base frame [m/s²] (3,)."""
        return self.bias[3:]

    @property
    def velocity(self) -> Array:
        """Of the base in odom [m/s] (3,)."""
        return np.asarray(self.vectors[0])

    @property
    def position(self) -> Array:
        """Of the base in odom [m] (3,)."""
        return np.asarray(self.vectors[1])


class Correction(NamedTuple):
    """What a measurement did: whitened innovations (m,) as N(0, 1) each if the filter is right, and their square sum.

    weight: 1, or less when the innovation was beyond the gate and the measurement counted for less; 0: not at all.
    """

    whitened: Array
    nis: float
    weight: float


class InvariantEkf:
    """The equations, for k feet. Holds no estimate: each method takes one and returns the next."""

    def __init__(self, feet: int) -> None:
        self.k = feet
        self.group = 9 + 3 * feet
        self.n = self.group + 6 + 3 * feet
        self.gyro_bias = slice(self.group, self.group + 3)
        self.accel_bias = slice(self.group + 3, self.group + 6)
        self.place = [slice(9 + 3 * i, 12 + 3 * i) for i in range(feet)]
        attitude0 = self.group + 6
        self.attitude = [slice(attitude0 + 3 * i, attitude0 + 3 * i + 3) for i in range(feet)]
        self._turning: Index = np.r_[0, 5 + feet : 5 + 2 * feet]  # which three numbers of an error are rotations
        self._foot_h = [self._foot_jacobian(i) for i in range(feet)]
        self._feet_h: dict[tuple[int, ...], Array] = {}
        self._identity = np.eye(self.n)
        rows = np.r_[V_, self.gyro_bias]
        self._twist_rows = np.ix_(rows, rows)

    def _foot_jacobian(self, i: int) -> Array:
        """Of (R̂ y + p̂ − d̂, log(R̂ Y F̂ᵀ)) by the error: (p − d_i, R − φ_i), the same at every state."""
        H = np.zeros((6, self.n))
        H[:3, P_], H[:3, self.place[i]] = np.eye(3), -np.eye(3)
        H[3:, R_], H[3:, self.attitude[i]] = np.eye(3), -np.eye(3)
        return H

    def start(
        self, rotation: Array, velocity: Array, position: Array, tilt: float, speed: float, gyro_bias: float,
        accel_bias: float,
    ) -> EkfState:  # fmt: skip
        """A first estimate with no foot in it.

        Args:
            rotation, velocity, position: R_odom_base (3, 3), in odom [m/s], [m] (3,).
            tilt: standard deviation of roll and pitch [rad]; heading and position define odom and are certain.
            speed, gyro_bias, accel_bias: standard deviations [m/s], [rad/s], [m/s²].
        """
        P = np.zeros((self.n, self.n))
        P[0, 0] = P[1, 1] = tilt**2
        # ξ_p = δp + p × … : the position is certain, so its invariant error follows from that of the attitude.
        turn = skew(position)
        P[P_, R_] = turn @ P[R_, R_]
        P[R_, P_] = P[P_, R_].T
        P[P_, P_] = turn @ P[R_, R_] @ turn.T
        P[V_, V_] = np.eye(3) * speed**2
        P[self.gyro_bias, self.gyro_bias] = np.eye(3) * gyro_bias**2
        P[self.accel_bias, self.accel_bias] = np.eye(3) * accel_bias**2
        vectors = np.vstack([velocity, position, np.zeros((self.k, 3))])
        feet = np.tile(np.eye(3), (self.k, 1, 1))
        return EkfState(np.array(rotation), vectors, np.zeros(6), feet, P, (False,) * self.k)

    def agree(self, s: EkfState) -> EkfState:
        """What a filter knows that has been at work for a while: the accelerometer's bias makes good what is wrong with the
        attitude, so that velocity does not drift.
        """
        P, n, b = s.covariance.copy(), self.group, self.accel_bias
        J = s.rotation.T @ _GRAVITY_CROSS
        P[b, :n] += J @ P[R_, :n]
        P[:n, b] = P[b, :n].T
        P[b, b] += J @ P[R_, R_] @ J.T
        return s._replace(covariance=P)

    # Propagation

    def propagate(
        self, s: EkfState, dt: float, gyro: Array, accel: Array, inertial: Array, bias_walk: Array,
        contact: Array | None = None,
    ) -> EkfState:  # fmt: skip
        """Move on by dt [s]: `spread` and `move` at once."""
        return self.move(self.spread(s, dt, inertial, bias_walk, contact), dt, np.concatenate([gyro, accel]))

    def move(self, s: EkfState, dt: float, reading: Array) -> EkfState:
        """The estimate dt [s] later, its covariance left as it is.

        Args:
            reading: (6,) the mean angular rate [rad/s] and specific force [m/s²] of that time, base frame.
        """
        true = reading - s.bias
        half_turn = exp_so3(true[:3] * (0.5 * dt))
        # On arrays this small `dot` takes half as long as `@`.
        middle = s.rotation.dot(half_turn)
        gained = (middle.dot(true[3:]) + GRAVITY) * dt
        vectors = s.vectors.copy()
        vectors[1] += dt * (vectors[0] + 0.5 * gained)
        vectors[0] += gained
        return EkfState(middle.dot(half_turn), vectors, *s[2:])

    def spread(
        self, s: EkfState, dt: float, inertial: Array, bias_walk: Array, contact: Array | None = None
    ) -> EkfState:
        """The covariance dt [s] later. It may follow several `move`s: within milliseconds the transition hardly changes.

        Args:
            inertial: variances (6,) of the integrals of gyro [rad²] and accelerometer [(m/s)²] over dt.
            bias_walk: variances (6,) that the biases gain over dt.
            contact: variances (2, k, 3) that the feet's places and attitudes gain over dt, along odom's axes.
        """
        R, n = s.rotation, self.group
        phi = self._identity.copy()
        # How an error of the gyro enters each part: the adjoint of X applied to the rotation.
        B = phi[:n, n : n + 6]
        B[:3, :3] = R
        B[3:, :3] = s.vectors.dot(_LEVI_CIVITA_T).reshape(-1, 3).dot(R)
        B[V_, 3:], B[P_, 3:] = R, R * (0.5 * dt)
        B *= -dt
        # An attitude error turns gravity: that is _GRAVITY_CROSS, which has but two entries.
        phi[3, 1], phi[4, 0] = G * dt, -G * dt
        phi[6, 1], phi[7, 0] = 0.5 * G * dt * dt, -0.5 * G * dt * dt
        phi[6, 3] = phi[7, 4] = phi[8, 5] = dt
        P = phi.dot(s.covariance).dot(phi.T)
        P[:n, :n] += (B * (inertial / (dt * dt))).dot(B.T)
        diagonal = P.reshape(-1)[:: self.n + 1]
        diagonal[n : n + 6] += bias_walk
        if contact is not None:
            diagonal[9:n] += contact[0].reshape(-1)
            diagonal[n + 6 :] += contact[1].reshape(-1)
        return EkfState(*s[:4], P, s.stands)

    def widen(self, s: EkfState, attitude: float, velocity: float) -> EkfState:
        """Grow the covariance by variances of attitude [rad²] and velocity [(m/s)²]; places stay where they are."""
        # A turned attitude moves the invariant errors of all vectors, as in `propagate`.
        G = np.vstack([np.eye(3), (s.vectors @ _LEVI_CIVITA_T).reshape(-1, 3)])
        P = s.covariance.copy()
        P[: self.group, : self.group] += attitude * (G @ G.T)
        P[V_, V_] += velocity * np.eye(3)
        return s._replace(covariance=P)

    # Feet

    def land(self, s: EkfState, i: int, place: Array, attitude: Array, noise: Array) -> EkfState:
        """Foot i enters the state where kinematics put it.

        Args:
            place, attitude: of the sole in the base frame (3,), (3, 3).
            noise: covariance (6, 6) of the measured place and attitude, along odom's axes.
        """
        d, phi = self.place[i], self.attitude[i]
        P = self.lift(s, i).covariance.copy()
        P[d, :], P[phi, :] = P[P_, :], P[R_, :]
        P[:, d], P[:, phi] = P[:, P_], P[:, R_]
        rows = np.r_[d, phi]
        P[np.ix_(rows, rows)] += noise
        vectors, feet = s.vectors.copy(), s.feet.copy()
        vectors[2 + i] = s.position + s.rotation @ place
        feet[i] = s.rotation @ attitude
        return s._replace(vectors=vectors, feet=feet, covariance=P, stands=_with(s.stands, i, True))

    def lift(self, s: EkfState, i: int) -> EkfState:
        """Foot i leaves the state."""
        P = s.covariance.copy()
        for part in (self.place[i], self.attitude[i]):
            P[part, :] = 0.0
            P[:, part] = 0.0
        return s._replace(covariance=P, stands=_with(s.stands, i, False))

    def correct_feet(
        self, s: EkfState, feet: tuple[int, ...], place: Array, attitude: Array, noise: Array, gate: float
    ) -> tuple[EkfState, list[Correction]]:
        """Standing feet seen by kinematics, all at once. A foot beyond `gate` (NIS) counts for less.

        Args:
            feet: which, in ascending order. place (k, 3), attitude (k, 3, 3): of all feet in the base frame.
            noise: covariance (6 m, 6 m) of `feet`, as of `land`.
        """
        m = len(feet)
        z, H, noise = self._feet_seen(s, feet, place, attitude, noise)
        after, result = self.correct(s, H, z, noise)
        whitened = list(result.whitened.reshape(m, 6))
        nis = [float(y.dot(y)) for y in whitened]
        if result.weight == 0.0:
            return s, [Correction(y, np.inf, 0.0) for y in whitened]
        weights = [1.0] * m
        if max(nis) > gate:
            S = H @ s.covariance @ H.T + noise
            weights = _weights(S, z, gate)
            noise = noise.copy()
            for row, w in enumerate(weights):
                block = slice(6 * row, 6 * row + 6)
                noise[block, block] += (1.0 / w - 1.0) * S[block, block]
            after, _ = self.correct(s, H, z, noise)
        return after, [Correction(*each) for each in zip(whitened, nis, weights, strict=True)]

    def _feet_seen(
        self, s: EkfState, feet: tuple[int, ...], place: Array, attitude: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """What kinematics see of `feet` less what was forecast (6 m,), its Jacobian (6 m, n), its covariance."""
        z = np.empty((self.k, 6))
        z[:, :3] = place[: self.k].dot(s.rotation.T) + (s.vectors[1] - s.vectors[2:])
        z[:, 3:] = log_so3_each(s.rotation @ attitude[: self.k] @ s.feet.transpose(0, 2, 1))
        if len(feet) < self.k:
            z = z[list(feet)]
        H = self._feet_h.get(feet)
        if H is None:
            H = self._feet_h[feet] = np.concatenate([self._foot_h[i] for i in feet])
        return z.reshape(-1), H, noise

    def correct_height(self, s: EkfState, i: int, j: int, noise: float, gate: float) -> tuple[EkfState, Correction]:
        """Feet i and j stand on ground of one height, give or take `noise` [m]. Beyond `gate` nothing is changed."""
        H = np.zeros((1, self.n))
        H[0, self.place[i].start + 2], H[0, self.place[j].start + 2] = 1.0, -1.0
        apart = s.vectors[2 + i] - s.vectors[2 + j]
        H[0, 0], H[0, 1] = apart[1], -apart[0]  # the last row of −skew(apart)
        after, result = self.correct(s, H, apart[2:], np.array([[noise**2]]))
        return (after, result) if result.nis <= gate else (s, result._replace(weight=0.0))

    def correct_velocity(
        self, s: EkfState, velocity: Array, covariance: Array, gate: float
    ) -> tuple[EkfState, Correction]:
        """The base's velocity in the base frame [m/s] (3,) with covariance (3, 3). Beyond `gate` nothing is changed."""
        H = np.zeros((3, self.n))
        H[:, V_] = -np.eye(3)
        z = s.rotation @ velocity - s.velocity
        after, result = self.correct(s, H, z, s.rotation @ covariance @ s.rotation.T)
        return (after, result) if result.nis <= gate else (s, result._replace(weight=0.0))

    def correct(self, s: EkfState, H: Array, z: Array, noise: Array) -> tuple[EkfState, Correction]:
        """The Kalman update for z = H ξ + noise: z (m,), H (m, n), noise (m, m)."""
        HP = H.dot(s.covariance)
        L, failed = dpotrf(HP.dot(H.T) + noise, lower=1)
        if failed:
            return s, Correction(np.full(len(z), np.nan), np.inf, 0.0)
        root = dtrtri(L, lower=1, overwrite_c=1)[0]
        whitened, W = root.dot(z), root.dot(HP)
        nis = float(whitened.dot(whitened))
        if not math.isfinite(nis):  # LAPACK does not stop at NaN
            return s, Correction(np.full(len(z), np.nan), np.inf, 0.0)
        P = s.covariance - W.T.dot(W)
        # What is not symmetric no update takes away, and propagation makes it grow with time's sixth power.
        P = P + P.T
        P *= 0.5
        if min(P.diagonal().tolist()) < 0.0:  # digits are lost where a covariance is huge; what is refused raises doubt
            return s, Correction(np.full(len(z), np.nan), np.inf, 0.0)
        return self._retract(s, -whitened.dot(W), P), Correction(whitened, nis, 1.0)

    def _retract(self, s: EkfState, x: Array, P: Array) -> EkfState:
        """exp(x) applied from the left, to first order in the translations (which it moves by a small angle only)."""
        each = x.reshape(-1, 3)
        turns = exp_so3_each(each.take(self._turning, axis=0))
        vectors = s.vectors.dot(turns[0].T) + each[1 : 3 + self.k]
        return EkfState(
            turns[0].dot(s.rotation), vectors, s.bias + x[self.group : self.group + 6], turns[1:] @ s.feet, P, s.stands
        )  # fmt: skip

    # What comes out

    def pose_covariance(self, s: EkfState, point: Array) -> Array:
        """Of the position of a point fixed to the body, now at `point` in odom [m²], and of fixed-axis rotation [rad²].

        (6, 6): δpoint = ξ_p − point × ξ_R.
        """
        J = _POSE.copy()
        J[:3, R_] = -skew(point)
        return np.asarray(J @ s.covariance[:9, :9] @ J.T)

    def twist_covariance(self, s: EkfState, lever: Array, gyro_variance: float) -> Array:
        """Of the velocity [(m/s)²] of a point at `lever` in the body, and of the angular velocity [(rad/s)²], in body.

        (6, 6): δ(Rᵀ v + ω × lever) = Rᵀ ξ_v − lever × δω, and δω = −δb plus the gyro's noise of `gyro_variance`.
        """
        J = np.zeros((6, 6))
        J[:3, :3], J[:3, 3:] = s.rotation.T, skew(lever)
        J[3, 3] = J[4, 4] = J[5, 5] = -1.0
        noise = J[:, 3:]
        return np.asarray(J @ s.covariance[self._twist_rows] @ J.T + gyro_variance * (noise @ noise.T))


def _weights(S: Array, z: Array, gate: float) -> list[float]:
    """How much each foot counts: one that is too far off is taken as that much noisier (Huber), gate over distance.

    Each is judged by itself; where none stands out so, but they contradict each other, by what the others foretell.
    """
    blocks = [slice(i, i + 6) for i in range(0, len(z), 6)]
    far = [float(z[b] @ np.linalg.solve(S[b, b], z[b])) for b in blocks]
    if max(far) <= gate:
        inverse = np.linalg.inv(S)
        u = inverse @ z
        far = [float(u[b] @ np.linalg.solve(inverse[b, b], u[b])) for b in blocks]
    return [1.0 if x <= gate else gate / x for x in far]


def _with(flags: tuple[bool, ...], i: int, value: bool) -> tuple[bool, ...]:
    return (*flags[:i], value, *flags[i + 1 :])
