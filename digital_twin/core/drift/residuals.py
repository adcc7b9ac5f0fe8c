"""Residuals at full rate: what is measured against what model, commands and the other sensors foretell.

    tracking/JOINT     torque against what the servo should give for its set point [N m]
    torque/JOINT       torque against inverse dynamics with the measured sole wrenches [N m]
    balance/…          sole wrenches against what the body's motion needs, on the base [N], [N m]
    gyro/…             rate of turn against the standing feet [rad/s]
    accelerometer/…    specific force against kinematics and gravity at the standing feet [m/s²]
    encoder/JOINT      reading against its forecast one measurement earlier [rad]
    timing/commands    how much later than they should commands act, by the median of the joints that move [s]

None of them knows what an estimator made of the same reading.
"""

from __future__ import annotations

import math

import numpy as np

from digital_twin.core.arrays import Array, Mask, or_zero
from digital_twin.core.drift.dynamics import GRAVITY, BodyDynamics
from digital_twin.core.drift.sample import Block, finite
from digital_twin.core.drift.soles import Soles
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig

AXES = ("x", "y", "z")
FEATURES = 3
JITTER = 1e-3  # [s]
TICK = 5e-3  # [s] by which commands may come to act later or sooner: two clocks that tick side by side wander past each other
STICK = 0.05  # [rad/s]; slower joints may stick
MOVING, STILL, LATEST = 40.0, 4.0, 0.03  # [N m/s] of a servo whose set point moves, or does not; [s]
USUAL_LATE = 2e-3  # [s] by which commands are late or early as a rule
QUIETEST = 1e-6  # [N² m²]; no drive is taken to be less noisy
FOLLOW = 0.05  # share of a sample in what is missing while it does not
SMOOTH, LASTS = 0.02, 0.03  # [s] over which changes of sole torques are smoothed; for which soles roll after them
USUAL_STRENGTH, USUAL_DELAY, USUAL_FRICTION = 0.05, 5.0, 0.3  # deviations of robots: relative, [ms], relative
FRICTION, STRENGTH = 0.8, 0.1  # changes that are looked for: times the friction, share of the motor's strength


class Residuals:
    """See the module. `compute` gives a row of them, with what their mean and spread may depend on.

    Attributes:
        names, units: of the channels (c,). parts: where each family lies among them. sizes, usual: see Bank.
        dynamics: what torques and balance are computed with.
        forgiven: by how much the last residuals may be off (c,), for commands that came to act a tick later or sooner.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        self.model, self.joints = model, joints
        self.dynamics = BodyDynamics(model, robot, joints)
        n = model.n
        families = [
            ("tracking", model.joint_names, "N m"), ("torque", model.joint_names, "N m"),
            ("balance", ("fx", "fy", "fz", "tx", "ty", "tz"), "N"), ("gyro", AXES, "rad/s"),
            ("accelerometer", AXES, "m/s²"), ("encoder", model.joint_names, "rad"),
            ("timing", ("commands",), "s"),
        ]  # fmt: skip
        self.names = [f"{family}/{name}" for family, names, _ in families for name in names]
        self.units = [unit for _, names, unit in families for _ in names]
        ends = np.cumsum([len(names) for _, names, _ in families])
        starts = [0, *ends[:-1].tolist()]
        self.parts = {f[0]: slice(a, int(b)) for f, a, b in zip(families, starts, ends, strict=True)}
        for i in range(self.parts["balance"].start + 3, self.parts["balance"].stop):
            self.units[i] = "N m"
        self._n = n
        self.sizes = np.zeros(len(self.names))
        self.sizes[self.parts["torque"]], self.sizes[self.parts["tracking"]] = FRICTION, -STRENGTH
        self.slack = np.zeros(len(self.names))
        self.slack[self.parts["timing"]] = TICK
        self.usual = np.full((len(self.names), FEATURES), 1e6)
        self.usual[self.parts["tracking"], 1:] = USUAL_STRENGTH, USUAL_DELAY
        self.usual[self.parts["torque"], 1] = USUAL_FRICTION
        self.forgiven = np.zeros(len(self.names))
        self._sole: tuple[int, Array] | None = None
        self._soles = Soles(robot.feet, model.mass * GRAVITY)
        self._rolling = np.zeros(3)  # how fast soles change that are pushed near their edges [N m/s]
        self._missing = np.full(n, np.nan)  # torque [N m] beside the servos' law while their set points stand still
        self._noise = np.ones(n)  # its variance then [N² m²]

    def inherit(self, before: Residuals, drives: Mask, passive: Mask) -> None:
        """Go on where another model's residuals of the same robot were; what was learned of drives, and of friction, that
        differ now (n,) is forgotten."""
        self.dynamics.inherit(before.dynamics, passive)
        self._sole, self._rolling = before._sole, before._rolling
        self._missing, self._noise = np.where(drives, np.nan, before._missing), before._noise

    def compute(self, b: Block) -> tuple[Array, Array, Array]:
        """Residuals (c,), features of their mean (c, 3), and what their spread grows with (c,); blocks in order.

        The first feature is 1. The second, of drives and torques, is what they give more or less of when a motor weakens
        or friction grows. Of the gyro they are how fast the sole torques change: feet tilt on the ground.
        """
        c, p = len(self.names), self.parts
        r, F, g = np.full(c, np.nan), np.zeros((c, FEATURES)), np.zeros(c)
        F[:, 0] = 1.0
        law = self.law(b)
        rate, speeds = or_zero(self.joints.kp * b.command_rate), or_zero(b.qd)
        late, unsure = self._lateness(b.effort - law, rate)
        r[p["timing"]] = late
        # A command that misses a tick moves all drives at once; that is timing, and no fault of theirs.
        mended = 0.0 if np.isnan(late) else late * USUAL_LATE**2 / (USUAL_LATE**2 + unsure**2)
        # Where too few move to tell, it may be a tick: one joint that waves is not to be blamed for it.
        left = TICK if np.isnan(late) else abs(late - mended)
        self.forgiven[p["tracking"]] = left * np.abs(rate)
        r[p["tracking"]] = b.effort - law + rate * mended
        F[p["tracking"], 1], F[p["tracking"], 2] = or_zero(law), 1e-3 * rate
        g[p["tracking"]] = math.hypot(JITTER, min(unsure, USUAL_LATE)) * rate
        r[p["encoder"]] = b.jump
        g[p["encoder"]] = speeds
        speed = math.sqrt(float(speeds.dot(speeds)) / len(speeds))
        for family in ("balance", "gyro", "accelerometer"):
            g[p[family]] = speed
        # A joint that sticks takes any torque up to its friction.
        g[p["torque"]] = np.exp(-((speeds / STICK) ** 2))
        F[p["torque"], 1] = or_zero(self.dynamics.passive(b.qd))
        rates = self._sole_rates(b)
        if len(rates):
            F[p["gyro"], 1], F[p["gyro"], 2] = rates[0], rates[1:].sum(axis=0)
            g[p["gyro"]] = self._rolling
        if finite(b):
            self._dynamic(b, r)
        return r, F, g

    def _sole_rates(self, b: Block) -> Array:
        """How fast the torques on the soles change, smoothed [N m/s] (f, 3)."""
        torques = or_zero(b.wrenches[:, 3:])
        last, self._sole = self._sole, (b.stamp_ns, torques)
        if last is None or not 0 < b.stamp_ns - last[0] < 100_000_000:
            self._rolling = np.zeros(3)
            return np.zeros_like(torques)
        dt = (b.stamp_ns - last[0]) * 1e-9
        change = dt / (dt + SMOOTH) * (torques - last[1])
        self._sole = b.stamp_ns, last[1] + change
        # The nearer to its edge a sole is pushed, the softer it stands.
        x, y = np.minimum(self._soles.pushed(b.wrenches), 1.0).T
        edge = np.stack([y, x, np.maximum(x, y)], axis=1)  # what lets it roll about its x, y and z axis
        rolling = (np.abs(change / dt) * edge**2).sum(axis=0)
        self._rolling = self._rolling + dt / (dt + LASTS) * (rolling - self._rolling)
        return np.asarray(change / dt)

    def _lateness(self, error: Array, rate: Array) -> tuple[float, float]:
        """How late commands seem to be [s], from torques (n,) that are missing while set points move; NaN when too few
        do. One drive that is at fault does not change a median, and what was missing before it moved is not counted.
        And its standard deviation: few joints that move gently tell little."""
        still = (np.abs(rate) < STILL) & np.isfinite(error)
        known = np.isfinite(self._missing)
        follow = np.where(known, self._missing + FOLLOW * (error - self._missing), error)
        moving = (np.abs(rate) > MOVING) & known & np.isfinite(error)
        late, unsure = float("nan"), USUAL_LATE
        if moving.sum() >= 3:
            unsure = float(np.sum((rate**2 / np.maximum(self._noise, QUIETEST))[moving])) ** -0.5
            late = float(np.clip(np.median((self._missing - error)[moving] / rate[moving]), -LATEST, LATEST))
        off = np.where(still & known, (error - self._missing) ** 2, self._noise)
        self._noise = self._noise + FOLLOW * (off - self._noise)
        self._missing = np.where(still, follow, self._missing)
        return late, unsure

    def law(self, b: Block) -> Array:
        """Torques that the servos should give [N m] (n,)."""
        j = self.joints
        asked = j.kp * (b.command - b.q + j.zero_error) + j.kd * (b.command_rate - b.qd) + b.feed
        return np.asarray(np.clip(asked, -self.model.max_effort, self.model.max_effort))

    def _dynamic(self, b: Block, r: Array) -> None:
        d, p = self.dynamics, self.parts
        sensed = d.measured and not np.isnan(b.wrenches.sum())
        wrenches = b.wrenches if sensed else np.zeros_like(b.wrenches)
        said = d.balance(b.q, b.qd, b.qdd, b.gyro, b.accel, b.turn_rate, wrenches, b.standing)
        torque = b.effort - said.needed
        if not sensed:
            torque = np.where(d.carries, np.nan, torque)
        else:
            r[p["balance"]] = said.base
        r[p["torque"]] = torque
        r[p["gyro"]], r[p["accelerometer"]] = said.turn, said.feel
