"""Whole-body inverse kinematics: how all joints move so that feet, centre of mass and trunk move as asked.

One matrix serves both levels: accelerations from wanted accelerations (the online loop), and postures from wanted poses
(a few damped Gauss-Newton steps, Nakamura, Hanafusa 1986). Joints that are in no leg keep a posture of their own.
"""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.body import GRAVITY, Body
from digital_twin.core.rotation import exp_so3, log_so3

# How much a task counts where not all can be had, as when a leg is stretched: what stands, then the trunk and the centre
# of mass in the plane, then its height and what swings. Rows are in m/s² and rad/s².
STANDS, SWINGS = 10.0, 0.3
_REST = np.array([3.0, 3.0, 0.3, 3.0, 3.0, 3.0])
DAMPING = 1e-6
MOST_STEP = 0.3  # [rad] that a joint moves in one step of a posture's search


class WholeBody:
    """For one robot. The unknowns are the six of the root and the joints of the legs."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._legs = np.concatenate(body.legs)
        self._free = np.concatenate([np.arange(6), 6 + self._legs])
        self._upper = 6 + body.upper
        self._rows = np.zeros((18, body.m))

    def _tasks(self) -> Array:
        """Rows of the tasks (18, m): left sole, right sole, centre of mass along odom's axes, the root's turning."""
        b, A = self.body, self._rows
        A[0:6], A[6:12] = b.J[0], b.J[1]
        A[12:15] = b.M[:3] / b.mass
        A[15:18] = 0.0
        A[15:18, 3:6] = np.eye(3)
        return A

    def _solve(self, A: Array, wanted: Array, upper: Array, stands: tuple[bool, bool] = (True, True)) -> Array:
        """What moves all (m,), when the upper joints move by `upper`."""
        weight = np.concatenate([np.repeat([STANDS if s else SWINGS for s in stands], 6), _REST])
        rest = weight * (wanted - A[:, self._upper] @ upper)
        W = weight[:, None] * A[:, self._free]
        N = W.T @ W
        N[np.diag_indices_from(N)] += DAMPING
        out = np.zeros(self.body.m)
        out[self._free] = np.linalg.solve(N, W.T @ rest)
        out[self._upper] = upper
        return out

    def accelerations(self, soles: Array, com: Array, turn: Array, upper: Array, stands: tuple[bool, bool]) -> Array:
        """v̇ (m,) that gives the soles (2, 6) and the centre of mass (3,) these accelerations along odom's axes.

        turn: angular acceleration of the root in its own axes (3,). upper: of the upper joints (k,).
        """
        b = self.body
        com_drift = b.h[:3] / b.mass - [0.0, 0.0, GRAVITY]
        wanted = np.concatenate([(soles - b.drift).ravel(), com - com_drift, turn])
        return self._solve(self._tasks(), wanted, upper, stands)

    def posture(self, base: BaseState, q: Array, com: Array, R: Array, soles: Array, sole_R: Array) -> Array:
        """Joints (n,) that put the soles' middles (2, 3), (2, 3, 3), the centre of mass (3,) and the root's attitude there.

        base, q: where the search starts; the upper joints stay as in q. Limits are kept.

        Raises:
            TwinError: no posture within the limits comes within 5 mm; says how near it came.
        """
        b = self.body
        still = np.zeros(b.model.n)
        q, miss = q.copy(), np.inf
        for _ in range(60):
            b.update(_at_rest(base), q, still)
            error = np.concatenate(
                [np.concatenate([soles[i] - b.sole[i], log_so3(sole_R[i] @ b.sole_R[i].T)]) for i in (0, 1)]
                + [com - b.com, log_so3(b.R.T @ R)]
            )
            miss = float(np.abs(error).max())
            if miss < 1e-6:
                break
            step = self._solve(self._tasks(), error, np.zeros(len(b.upper)))
            step *= min(1.0, MOST_STEP / max(float(np.abs(step).max()), 1e-9))
            root = b.root + step[:3]
            attitude = b.R @ exp_so3(step[3:6])
            base = _moved(base, b, root, attitude)
            q = np.clip(q + step[6:], b.model.lower, b.model.upper)
        if miss > 0.005:
            raise TwinError(f"no posture reaches this: the nearest misses by {miss:.3f} m or rad")
        return q


def _at_rest(base: BaseState) -> BaseState:
    zero = np.zeros(3)
    return BaseState(
        base.stamp_ns, base.position, base.rotation, zero, zero, base.covariance, base.twist_covariance, base.contacts,
        base.initialised,
    )  # fmt: skip


def _moved(base: BaseState, b: Body, root: Array, attitude: Array) -> BaseState:
    """The base frame after the root has gone to a new pose; between the two the joints are as they are now."""
    offset, turn = b.R.T @ (base.position - b.root), b.R.T @ base.rotation
    return BaseState(
        base.stamp_ns, root + attitude @ offset, attitude @ turn, base.velocity, base.angular_velocity, base.covariance,
        base.twist_covariance, base.contacts, base.initialised,
    )  # fmt: skip
