"""The ordinary differences between a robot and its description, fitted to the calibration: masses, friction, rotors.

Ridge regression about the description, each parameter by how far robots usually are from theirs. It makes residuals
small; what identifies a new model is elsewhere. Samples are averaged first: the noise of accelerations would otherwise
make masses and rotors seem smaller than they are.
"""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.drift.dynamics import SIGN_SPEED, BodyDynamics
from digital_twin.core.drift.sample import Block, finite

MASS, FRICTION, ARMATURE, BIAS = 0.05, 1.0, 0.3, 3.0  # usual deviations: relative; of a constant [N m]
UNSENSED = 10.0  # [N] of the base
AVERAGED = 10  # blocks
MEANS = ("q", "qd", "qdd", "effort", "gyro", "accel", "turn_rate", "wrenches")


class Differences:
    """Collects samples; `apply` solves and sets the dynamics accordingly."""

    def __init__(self, dynamics: BodyDynamics) -> None:
        self._d = dynamics
        self._n, self._b = dynamics.model.n, len(dynamics.bodies)
        self._rows: list[tuple[Array, Array, Array, Array, Array, Array]] = []
        self._open: list[Block] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, block: Block) -> None:
        """A sample of a healthy robot."""
        if not finite(block) or np.isnan(block.wrenches.sum()) or np.isnan(block.effort.sum()):
            return
        self._open.append(block)
        if len(self._open) == AVERAGED:
            means = {name: sum(getattr(b, name) for b in self._open) / AVERAGED for name in MEANS}
            self._open = []
            self._add(**means)

    def _add(
        self,
        q: Array,
        qd: Array,
        qdd: Array,
        effort: Array,
        gyro: Array,
        accel: Array,
        turn_rate: Array,
        wrenches: Array,
    ) -> None:
        d = self._d
        said = d.balance(q, qd, qdd, gyro, accel, turn_rate, wrenches, (True,) * len(wrenches))
        torque, base = d.mass_regressors(q, qd, qdd, gyro, accel, turn_rate)
        self._rows.append((effort - said.needed, said.base, torque, base, qd, qdd))

    def apply(self) -> None:
        """Fit, and change masses, friction, damping, rotors and the accelerometer's bias of the dynamics."""
        if len(self._rows) < 50:
            return
        d = self._d
        columns = [np.array(c) for c in zip(*self._rows, strict=True)]
        y = np.concatenate([columns[0], columns[1]], axis=1)  # (t, n + 6)
        A = np.concatenate([columns[2], columns[3]], axis=1)  # (t, n + 6, b)
        own = np.stack([np.ones_like(columns[4]), np.tanh(columns[4] / SIGN_SPEED), columns[4], columns[5]], axis=-1)
        sigma = np.maximum(1.4826 * np.median(np.abs(y - np.median(y, axis=0)), axis=0), 1e-6)
        for _ in range(3):
            mass, rest = self._solve(y, A, own, sigma)
            left = y - A @ mass - rest
            sigma = np.maximum(1.4826 * np.median(np.abs(left), axis=0), 1e-6)
        d.set_masses(d.masses + mass)
        d.friction = np.maximum(d.friction + self._joint[:, 1], 0.0)
        d.damping = np.maximum(d.damping + self._joint[:, 2], 0.0)
        # Forces that the base lacks at all times are what the accelerometer reads too much.
        d.accel_bias = d.accel_bias - d.in_imu(self._base[:3]) / d.mass
        d.armature = np.maximum(d.armature + self._joint[:, 3], 0.0)

    def _solve(self, y: Array, A: Array, own: Array, sigma: Array) -> tuple[Array, Array]:
        """Mass factors (b,) and what joints and base add of their own (t, n + 6): normal equations, the joints' own
        parameters eliminated."""
        n, b, t = self._n, self._b, len(y)
        d = self._d
        N, rhs = np.eye(b) / MASS**2, np.zeros(b)
        prior = np.stack(
            [np.full(n, 1.0 / BIAS**2), 1.0 / (FRICTION * d.friction + 0.02) ** 2, 1.0 / (FRICTION * d.damping + 0.02) ** 2,
             1.0 / (ARMATURE * d.armature + 1e-3) ** 2], axis=-1,
        )  # fmt: skip
        eliminated = []
        for i in range(n + 6):
            w = 1.0 / sigma[i] ** 2
            P = own[:, i] if i < n else np.ones((t, 1))
            S = w * P.T @ P + (np.diag(prior[i]) if i < n else np.eye(1) / UNSENSED**2)
            C, v = w * P.T @ A[:, i], w * P.T @ y[:, i]
            inverse = np.linalg.inv(S)
            N += w * A[:, i].T @ A[:, i] - C.T @ inverse @ C
            rhs += w * A[:, i].T @ y[:, i] - C.T @ inverse @ v
            eliminated.append((P, inverse, C, v))
        mass = np.linalg.solve(N, rhs)
        rest = np.empty_like(y)
        self._joint, self._base = np.zeros((n, 4)), np.zeros(6)
        for i, (P, inverse, C, v) in enumerate(eliminated):
            each = inverse @ (v - C @ mass)
            rest[:, i] = P @ each
            if i < n:
                self._joint[i] = each
            else:
                self._base[i - n] = each[0]
        return np.asarray(mass), rest
