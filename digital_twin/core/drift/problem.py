"""Bodies, friction, rotors and a payload from the rows of inverse dynamics: Gauss and Newton with priors."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.drift.estimate import (
    Estimate,
    Excitation,
    correlation_time,
    excitation,
    label,
    robust_deviation,
    solve,
)
from digital_twin.core.drift.inertia import SIZE, derivative, from_theta, mass_com_inertia, phi_of_body, reference
from digital_twin.core.drift.parameters import Payload, payload_on_body
from digital_twin.core.drift.regressor import JOINT_PARAMETERS, Regressor, Row
from digital_twin.core.drift.signals import Signals
from digital_twin.core.errors import TwinError
from digital_twin.core.robot_config import Joints

MASS, SHAPE = 0.05, 0.07  # of θ before the data: α, which is half the relative change of mass; and all others
JOINT_PRIOR = {"damping": (0.6, 0.05), "friction": (0.6, 0.05), "armature": (0.4, 0.005)}  # relative, and at least
NUISANCE = 0.3  # how much narrower these are for what nobody suspects
WIDE = 5.0  # how much wider for what somebody does
BIAS = 0.1  # [m/s²] of the accelerometer
PAYLOAD, AWAY = 10.0, 0.06  # [kg], and [m] from the frame
ROUNDS, STEPS = 3, 12  # of reweighting, and of Gauss and Newton in each
LEAST_NOISE = (0.3, 0.02, 0.02)  # of forces [N], of torques of the base and of joints [N m]
_UNITS = {"damping": "N·m·s/rad", "friction": "N·m", "armature": "kg·m²"}


class Problem:
    """Gauss and Newton over bodies, joints and a payload.

    Coordinates: θ of each body, then the changes of damping, friction and armature of each joint, the accelerometer's
    bias, then of a payload its mass and the three mass-weighted distances from where it is taken to be.
    """

    def __init__(
        self, regressor: Regressor, joints: Joints, suspicion: dict[str, str], hung: Payload | None = None
    ) -> None:
        """`hung`: what the model has at the frame suspected of a payload already; it is sought as a whole."""
        r = self.regressor = regressor
        m, n = r.model, r.robot.n
        self.suspicion, self._hung = suspicion, hung or Payload(0.0)
        phis = {b: phi_of_body(m, b) for b in r.bodies}
        if hung is not None:
            body, phi = payload_on_body(r.robot, suspicion["payload"], hung)
            if body in phis:  # else it cannot be told, which is said later
                phis[body] = phis[body] - phi
        self._known = [reference(phis[b]) if m.body_mass[b] > 0.0 else None for b in r.bodies]
        dof = r.robot.dof_index
        self._joint_values = np.concatenate([m.dof_damping[dof], m.dof_frictionloss[dof], joints.armature])
        self._base = np.concatenate([*phis.values(), self._joint_values, np.zeros(2)])
        self._friction = m.dof_frictionloss[dof]
        self._payload = suspicion.get("payload", "")
        self.size = r.size + (4 if self._payload else 0)
        self._prior = self._priors(n)
        self._least = np.full(self.size, -np.inf)
        self._least[r.joints] = -self._joint_values
        self.x = np.zeros(self.size)
        self.covariance = np.zeros((self.size, self.size))
        self.information = np.zeros((self.size, self.size))

    def _priors(self, n: int) -> Array:
        r = self.regressor
        each = [np.full(SIZE, SHAPE) if known is not None else np.zeros(SIZE) for known in self._known]
        for theta in each:
            theta[0] = min(MASS, theta[0])
        kinds = np.repeat(np.arange(len(JOINT_PARAMETERS)), n)
        relative, least = np.array([JOINT_PRIOR[k] for k in JOINT_PARAMETERS]).T
        joints = relative[kinds] * self._joint_values + least[kinds] * (self._joint_values <= 0.0)
        prior = np.concatenate([*each, joints])
        if self.suspicion:
            prior *= NUISANCE
        prior = np.concatenate([prior, [BIAS] * 2])
        for kind, name in self.suspicion.items():
            for parameter in {"friction": ("damping", "friction"), "armature": ("armature",)}.get(kind, ()):
                prior[r.joint_column(parameter, r.robot.joint_index[name])] *= WIDE / NUISANCE
        if self._payload:
            prior = np.concatenate([prior, [PAYLOAD, *[AWAY * 0.5] * 3]])
        return prior

    # The equations

    def rows(self, signals: Signals) -> list[Row]:
        """What `fit` takes."""
        return self.regressor.biased_rows(signals, self._base)

    def _values(self, x: Array) -> tuple[Array, Array]:
        """All φ and joint parameters (size of the regressor,) at x, and their derivative by x."""
        r = self.regressor
        values, D = self._base.copy(), np.zeros((r.size, self.size))
        for i, known in enumerate(self._known):
            c = slice(SIZE * i, SIZE * (i + 1))
            if known is not None:
                values[c], D[c, c] = from_theta(known, x[c]), derivative(known, x[c])
        direct = slice(r.n_inertial, r.size)
        values[direct] += x[direct]
        D[direct, direct] = np.eye(direct.stop - direct.start)
        if self._payload:
            body, columns = self._payload_columns()
            c = r.column(body)
            D[c, r.size :] = columns
            values[c] += columns @ x[r.size :]
        return values, D

    def _payload_columns(self) -> tuple[int, Array]:
        """φ of 1 kg at the frame, and its derivatives by where that is (10, 4)."""
        model, h = self.regressor.robot, 1e-3
        body, unit = payload_on_body(model, self._payload, Payload(1.0))
        if body not in self.regressor.bodies:
            raise TwinError(f"what hangs at '{self._payload}' is beyond a force sensor and cannot be told by it")
        moves = [
            [payload_on_body(model, self._payload, Payload(1.0, tuple(s * h * e)))[1] for s in (1, -1)]
            for e in np.eye(3)
        ]
        return body, np.stack([unit, *((a - b) / (2 * h) for a, b in moves)], axis=1)

    def fit(self, qd: Array, rows: list[Row]) -> None:
        """Find x. Raises TwinError when it does not converge, or nothing can be used."""
        values, _ = self._values(self.x)
        usable = [np.isfinite(row.target) for row in rows]
        if not any(u.any() for u in usable):
            raise TwinError("no measured joint torque: masses and friction cannot be told")
        for _ in range(ROUNDS):
            weights = [self._weight(i, row, u, values, qd) for i, (row, u) in enumerate(zip(rows, usable, strict=True))]
            A, b = self._gather(rows, usable, weights)
            self._descend(A, b)
            values, _ = self._values(self.x)

    def _weight(self, i: int, row: Row, usable: Array, values: Array, qd: Array) -> Array:
        """Of each sample of a row: one over its variance, and over how many say the same."""
        residual = np.where(usable, row.target, 0.0) - row.factors @ values[row.columns]
        least = LEAST_NOISE[0 if i < 3 else 1 if i < 6 else 2]
        level = max(robust_deviation(residual[usable]), least) if usable.any() else least
        variance = np.full(len(residual), level**2)
        if i >= 6:  # a joint that stands still may hold any friction up to Coulomb's, and the same all the time
            slow = 1.0 - np.tanh(np.abs(qd[:, i - 6]) / 0.05)
            variance += (self._friction[i - 6] * slow) ** 2 * max(1.0, float(slow.sum()))
        return np.asarray(1.0 / (variance * correlation_time(residual[usable])))

    def _gather(self, rows: list[Row], usable: list[Array], weights: list[Array]) -> tuple[Array, Array]:
        """Normal equations of all rows."""
        n = self.regressor.size
        A, b = np.zeros((n, n)), np.zeros(n)
        for row, u, w in zip(rows, usable, weights, strict=True):
            Y, W = row.factors[u], w[u, None]
            A[np.ix_(row.columns, row.columns)] += Y.T @ (W * Y)
            b[row.columns] += Y.T @ (w[u] * row.target[u])
        return A, b

    def _descend(self, A: Array, b: Array) -> None:
        for _ in range(STEPS):
            values, D = self._values(self.x)
            H = D.T @ A @ D
            gradient = D.T @ (b - A @ values)
            x, covariance = solve(H, gradient + H @ self.x, self._prior, self._least)
            if not np.isfinite(x).all():
                break
            step = np.clip(x - self.x, -1.0, 1.0) if not self._payload else x - self.x
            self.x, self.covariance, self.information = self.x + step, covariance, H
            if np.abs(step / np.where(self._prior > 0.0, self._prior, 1.0)).max() < 1e-3:
                return
        raise TwinError("identification did not converge: the data contradict the model")

    def hold(self, told: Collection[str]) -> None:
        """Leave at the model in service what is not among `told`, names as of `summary`, of bodies as a whole."""
        r = self.regressor
        for i, body in enumerate(r.bodies):
            if not any(
                name.endswith(f" of {r.model.body(body).name}")
                for name in told
                if not name.startswith(JOINT_PARAMETERS)
            ):
                self._prior[SIZE * i : SIZE * (i + 1)] = 0.0
        for kind in JOINT_PARAMETERS:
            for j, name in enumerate(r.robot.joint_names):
                if label(kind, name) not in told:
                    self._prior[r.joint_column(kind, j)] = 0.0
        self.x = np.where(self._prior > 0.0, self.x, 0.0)

    # What was found

    def leftover(self, rows: list[Row]) -> Array:
        """Torques of the joints that x does not explain (K, n) [N m]."""
        values, _ = self._values(self.x)
        return np.stack([row.target - row.factors @ values[row.columns] for row in rows[6:]], axis=1)

    def summary(self) -> tuple[dict[str, Estimate], Excitation]:
        """All parameters by name, and what the data told."""
        values, D = self._values(self.x)
        before, D0 = self._values(np.zeros(self.size))
        out: dict[str, Estimate] = {}
        r = self.regressor
        for i, body in enumerate(r.bodies):
            if self._known[i] is not None:
                c = slice(SIZE * i, SIZE * (i + 1))
                out |= self._of_body(r.model.body(body).name, c, values[c], before[c], D[c, c], D0[c, c])
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        for kind in JOINT_PARAMETERS:
            for j, name in enumerate(r.robot.joint_names):
                k = r.joint_column(kind, j)
                out[label(kind, name)] = Estimate(values[k], errors[k], before[k], self._prior[k], _UNITS[kind])
        if self._payload:
            out[label("payload", self._payload)] = Estimate(
                float(self.x[r.size]), float(errors[r.size]), self._hung.mass, PAYLOAD, "kg"
            )
        free = self._prior > 0.0
        return out, excitation(self.information[np.ix_(free, free)], self._prior[free], out)

    def _of_body(self, name: str, c: slice, now: Array, before: Array, D: Array, D0: Array) -> dict[str, Estimate]:
        """Mass, centre of mass and the inertia about it of one body."""
        P = self.covariance[c, c]
        named = (
            {"mass": "kg"} | {f"com {a}": "m" for a in "xyz"} | {f"inertia {a}": "kg·m²" for a in ("xx", "yy", "zz")}
        )
        values, G = _physical(now)
        first, G0 = _physical(before)
        after = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", G @ D, P, G @ D), 0.0))
        prior = np.sqrt(((G0 @ D0) ** 2) @ (self._prior[c] ** 2))
        return {
            label(kind, name): Estimate(float(values[k]), float(after[k]), float(first[k]), float(prior[k]), unit)
            for k, (kind, unit) in enumerate(named.items())
        }

    def body(self, i: int) -> Array:
        """φ (10,) of body i of the regressor, without the payload."""
        known = self._known[i]
        assert known is not None  # noqa: S101
        return from_theta(known, self.x[SIZE * i : SIZE * (i + 1)])

    def payload(self) -> tuple[float, Array]:
        """Mass [kg], and mass times where it is in the frame [kg m] (3,)."""
        mass, *moment = self.x[self.regressor.size :]
        return float(mass), np.array(moment)


def _physical(p: Array) -> tuple[Array, Array]:
    """Mass, centre of mass and the diagonal of the inertia about it (7,), and their derivatives by φ (7, 10)."""

    def of(p: Array) -> Array:
        mass, com, inertia = mass_com_inertia(p)
        return np.array([mass, *com, *np.diag(inertia)])

    steps = np.maximum(1e-6 * np.abs(p), 1e-9)
    return of(p), np.stack(
        [(of(p + s) - of(p - s)) / (2 * h) for s, h in zip(np.diag(steps), steps, strict=True)], axis=1
    )
