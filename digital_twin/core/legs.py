"""What the feet tell the filter: which stand, where they stand, how far they are to be believed.

Feet enter and leave the state as their contacts do; slips and false contacts are seen by their innovations, and the
noise of the legs is fitted to how they behave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri

from digital_twin.core.arrays import Array
from digital_twin.core.base_config import BaseEstimatorConfig
from digital_twin.core.contacts import Contacts, ContactState
from digital_twin.core.invariant_ekf import Correction, EkfState, InvariantEkf
from digital_twin.core.model import Kinematics
from digital_twin.core.rotation import cross

GATE = float(chdtri(6, 1e-5))  # a good foot is taken for a bad one once in a hundred thousand
GROUND_GATE = float(chdtri(1, 1e-4))
CORRELATED = 0.1  # [s] for which errors of legs last
SLIPPING = 0.05  # [s] for which a foot may contradict before it is dropped
MOST_RESTLESS = 10.0  # times as restless as right, beyond which trust is not lost any faster
STILL = 0.01  # of the calmest legs' noise, and of how soles lean, while a robot has not moved since the start
UPSET = 20.0  # times as restless as right
ROCKING = 0.2  # [s] for which feet found to rock on their edges are taken to do so
ROCK = (
    np.array([0.05, 0.05, 0.03, 0.5, 0.5, 0.2]) ** 2
)  # variances that their places [m²/s], attitudes [rad²/s] then gain
TURNED = 0.15  # [s] for which all soles must have turned against the gyro
ROCKED = 3.0  # [s] of rocking after which it is rather the gyro that errs
CONTRADICTED = 0.1  # [s] for which all feet may contradict before the estimate itself is doubted
DOUBT = (0.2, 0.5)  # [rad], [m/s] by which attitude and velocity may then be wrong
QUIET = (0.0,) * 6  # innovations of a foot that has just come to stand


class Rest(NamedTuple):
    """A robot that has not moved since the start: when that was [ns], its joints and accelerometer then; settled: it has
    been found to rest.
    """

    since_ns: int
    joints: Array
    accel: Array
    settled: bool = False


class Trust(NamedTuple):
    """How far the legs are believed.

    noise: the fitted share of their noise variance. sums: 6 recent whitened innovations of each foot. bad: for how long
    a foot has contradicted [s]; distrusted: whether it is not believed. upset: for how long all feet have [s].
    turned: for how long all soles have turned against the gyro [s]. rocking: how long [s] the feet are still taken to
    rock on their edges, as when the robot tips over; rocked: for how long they have.
    dropped, doubts: how often a foot, or the estimate itself, was no longer believed.
    """

    noise: float
    sums: tuple[tuple[float, ...], ...]
    bad: tuple[float, ...]
    distrusted: tuple[bool, ...]
    upset: float
    turned: float
    rocking: float
    rocked: float
    dropped: int
    doubts: int


class FilterState(NamedTuple):
    """All that changes, so that time can be turned back; never changed in place.

    unspread: time [s] by which the covariance is behind the estimate; inertial: variances (6,) of the IMU since then.
    reading: of the IMU (6,), gyro [rad/s] and accelerometer [m/s²]; change: by how much it differed from the one before.
    imu_ns, news_ns: when the IMU spoke last, and when and at which joints it last said something new.
    rest: the start, while the robot has not moved since.
    bends: (6,) second differences of the IMU before the last and at it; rough: (6,) variances that one reading's
    share of an integral has beyond its noise, over dt².
    """

    ekf: EkfState
    stamp_ns: int
    unspread: float
    inertial: Array
    rough: Array
    bends: tuple[Array, Array]
    trust: Trust
    contacts: ContactState
    reading: Array
    change: Array
    imu_ns: int
    news_ns: int
    news_joints: Array
    corrected_ns: int
    rest: Rest | None

    @property
    def gyro(self) -> Array:
        """What it read last [rad/s] (3,), in its own frame."""
        return self.reading[:3]

    @property
    def accel(self) -> Array:
        """What it read last [m/s²] (3,), in its own frame."""
        return self.reading[3:]


class Legs:
    """Corrections by all feet. Holds no estimate: each method takes one and returns the next.

    Attributes:
        ekf: the equations. variance: of the joint readings in use [rad²] (n,).
        corrections: what the last `correct` did, foot by foot: (index of the foot, Correction).
    """

    def __init__(
        self, config: BaseEstimatorConfig, ekf: InvariantEkf, kinematics: Kinematics, weight: float, variance: Array
    ) -> None:
        """`kinematics`: of the feet first, in the filter's frame, kept up to date by the owner. `weight` [N]."""
        c = self.config = config
        self.ekf, self._kinematics, self._k = ekf, kinematics, ekf.k
        self.contacts = Contacts(c.contact, weight)
        self.variance = variance
        self.corrections: list[tuple[int, Correction]] = []
        self._wander = tuple([x * x for x in (c.slip, c.sink, c.twist, c.roll, c.pitch, c.askew)])
        self._flex = np.tile([c.flex**2] * 2 + [c.flex_up**2] + [c.flex_angle**2] * 3, self._k)

    def wander(self, s: FilterState, dt: float) -> Array:
        """Variances (2, k, 3) that places and attitudes of the standing feet gain over dt [s]."""
        ekf = s.ekf
        still = STILL if s.rest is not None and s.rest.settled else 1.0
        noise = max(s.trust.noise, self.config.calmest) * dt * still
        # Legs that are askew, by zeros of joints or by soles that lean, turn what the body does over them.
        slip, sink, twist, roll, pitch, askew = self._wander
        slip, sink, twist = slip * noise, sink * noise, twist * noise
        x, y, z = [askew * dt * v * v for v in ekf.velocity.tolist()]
        # Soles lean with every shift of the weight, too slowly to be seen as noise: calm legs are no reason to doubt it,
        # but a robot that rests shifts no weight.
        roll, pitch = roll * dt * still, pitch * dt * still
        places: list[float] = []
        turns: list[float] = []
        for (forward, left), stands in zip(ekf.feet[:, :2, 0].tolist(), ekf.stands, strict=True):
            ahead = forward * forward / max(forward * forward + left * left, 1e-9)
            places += (slip + y + z, slip + x + z, sink + x + y) if stands else (0.0, 0.0, 0.0)
            lean = ahead * roll + (1.0 - ahead) * pitch, ahead * pitch + (1.0 - ahead) * roll
            turns += (*lean, twist) if stands else (0.0, 0.0, 0.0)
        out = np.array(places + turns).reshape(2, self._k, 3)
        if s.trust.rocking > 0.0:
            out[:, list(ekf.stands)] += ROCK.reshape(2, 1, 3) * dt
        return out

    def update_contacts(self, s: FilterState, stamp_ns: int, qd: Array, dt: float) -> FilterState:
        """Who stands; feet enter and leave the state. `dt` [s] since the last time."""
        k, ekf = self._k, s.ekf
        height = self._kinematics.position[:k] @ ekf.rotation[2]
        speed = np.zeros(k)
        needed = [i for i in range(k) if s.trust.distrusted[i] or self.contacts.blind(s.contacts, i, stamp_ns)]
        rate = s.gyro - ekf.gyro_bias
        for i in needed:
            jp, _ = self._kinematics.jacobian(i)
            v = ekf.rotation.T @ ekf.velocity + cross(rate, self._kinematics.position[i]) + jp @ qd
            speed[i] = float(np.linalg.norm(v))
        contacts = self.contacts.decide(s.contacts, stamp_ns, height, speed)
        bad, distrusted, sums = list(s.trust.bad), list(s.trust.distrusted), list(s.trust.sums)
        for i in range(k):
            if distrusted[i] and (speed[i] < self.config.contact.speed or not contacts.stands[i]):
                # It has come to rest: believed again when it has stayed so.
                bad[i] -= dt
                distrusted[i] = bad[i] > 0.0 and contacts.stands[i]
            stands = contacts.stands[i] and not distrusted[i]
            if stands and not ekf.stands[i]:
                ekf = self._land(ekf, i, s.trust.noise, dt)
                sums[i], bad[i] = QUIET, 0.0
            elif ekf.stands[i] and not stands:
                ekf = self.ekf.lift(ekf, i)
        trust = s.trust._replace(sums=tuple(sums), bad=tuple(bad), distrusted=tuple(distrusted))
        return s._replace(ekf=ekf, contacts=contacts, trust=trust)

    def _noise(self, ekf: EkfState, feet: Sequence[int], leg_noise: float, dt: float) -> Array:
        """Covariance (6 m, 6 m), along odom's axes, of feet seen through the encoders and legs that give."""
        J = self._kinematics.jacobians(feet, ekf.rotation).reshape(6 * len(feet), -1)
        N: Array = (J * self.variance).dot(J.T)
        N.reshape(-1)[:: len(N) + 1] += self._flex[: len(N)] * (leg_noise / dt) + 1e-10
        return N

    def _land(self, ekf: EkfState, i: int, leg_noise: float, dt: float) -> EkfState:
        others = [j for j in range(self._k) if ekf.stands[j]]
        place, attitude = self._kinematics.position[i], self._kinematics.rotation[i]
        ekf = self.ekf.land(ekf, i, place, attitude, self._noise(ekf, (i,), leg_noise, dt))
        if self.config.ground > 0.0 and others:
            ekf, _ = self.ekf.correct_height(ekf, i, others[0], self.config.ground, GROUND_GATE)
        return ekf

    def _unsettled(self, ekf: EkfState) -> EkfState:
        """All standing feet may have turned by as much as a sole that rocks, and be off by what that moves its centre."""
        P: Array = ekf.covariance.copy()
        diagonal = P.reshape(-1)[:: len(P) + 1]
        for i in range(self._k):
            if ekf.stands[i]:
                diagonal[self.ekf.place[i]] += ROCK[:3] * ROCKING
                diagonal[self.ekf.attitude[i]] += ROCK[3:] * ROCKING
        return ekf._replace(covariance=P)

    def correct(self, s: FilterState, dt: float) -> FilterState:
        """By all standing feet."""
        ekf = s.ekf
        standing = tuple([i for i, stands in enumerate(ekf.stands) if stands])
        if not standing:
            return s
        noise = self._noise(ekf, standing, s.trust.noise, dt)
        place, attitude = self._kinematics.position, self._kinematics.rotation
        ekf, results = self.ekf.correct_feet(ekf, standing, place, attitude, noise, GATE)
        self.corrections = list(zip(standing, results, strict=True))
        ekf, trust = self._doubt(ekf, s, dt)
        return FilterState._make((ekf, *s[1:6], trust, *s[7:]))  # `_replace` takes three times as long

    def _doubt(self, ekf: EkfState, s: FilterState, dt: float) -> tuple[EkfState, Trust]:
        """What the corrections say of the legs, of single feet, and of the estimate itself."""
        before, c = s.trust, self.config
        log_noise, calmest_foot, least_turned, dropped, doubts = 0.0, math.inf, math.inf, before.dropped, before.doubts
        sums, bad, distrusted = list(before.sums), list(before.bad), list(before.distrusted)
        keep = math.exp(-dt / CORRELATED)
        fresh = 1.0 - keep * keep
        for i, result in self.corrections:
            if not math.isfinite(result.nis):
                continue
            # Errors of legs last for a tenth of a second: white innovations, summed over that, should be N(0, 1).
            root = math.sqrt(result.weight)
            sums[i] = now = tuple([keep * x + root * y for x, y in zip(sums[i], result.whitened.tolist(), strict=True)])
            squares = [x * x for x in now]
            restless = sum(squares) * fresh / 6.0
            calmest_foot = min(calmest_foot, restless)
            least_turned = min(least_turned, (squares[3] + squares[4]) * fresh / 2.0)
            log_noise += min(restless, MOST_RESTLESS) - 1.0
            bad[i] = max(0.0, bad[i] + dt if result.weight < 0.3 else bad[i] - dt)
            if bad[i] > SLIPPING and sum(ekf.stands) > 1:
                ekf = self.ekf.lift(ekf, i)
                distrusted[i], bad[i] = True, SLIPPING
                dropped += 1
        rocking, rocked = max(0.0, before.rocking - dt), max(0.0, before.rocked + (dt if before.rocking > 0.0 else -dt))
        # Legs are taken to be restless first, but not where the IMU says the same again and again: it is no witness.
        frozen = max(calmest_foot, least_turned) > UPSET and not s.change.any()
        unexplained = before.noise > 0.5 or rocking > 0.0
        turns = least_turned > UPSET and unexplained and not frozen
        contradicts = calmest_foot > UPSET and (unexplained or frozen) and not turns
        turned = max(0.0, before.turned + (dt if turns else -dt))
        upset = max(0.0, before.upset + (dt if contradicts else -dt))
        if turned > TURNED and rocked < ROCKED:
            # All soles turn against the gyro: the robot tips over their edges, and the gyro is the better witness.
            ekf, sums = self._unsettled(ekf), [QUIET] * self._k
            rocking, upset, turned = ROCKING, 0.0, 0.0
        elif upset > CONTRADICTED:
            # All that stands disagrees with the estimate: then it is the estimate that is wrong.
            ekf, upset, sums = self.ekf.widen(ekf, DOUBT[0] ** 2, DOUBT[1] ** 2), 0.0, [QUIET] * self._k
            doubts += 1
        noise = before.noise
        if before.rocking == 0.0:
            calmest = c.calmest * (STILL if s.rest is not None else 1.0)
            noise *= math.exp(dt / c.adaptation * log_noise / len(self.corrections))
            noise = min(1.0, max(calmest, noise))
        return ekf, Trust(
            noise, tuple(sums), tuple(bad), tuple(distrusted), upset, turned, rocking, rocked, dropped, doubts
        )
