"""Gains of the joints' servos, tuned in the twin: the softest that answer fast enough, without overshoot, on any robot
of the series.

The robot hangs by its base. One joint after another gets a step, its servo computing torque = kp (q* − q) − kd q̇ from
readings that are late, as a motor board's are; all others are held. Judged is the worst of several robots that differ from
the description (core/plant_model.py), and that twice the gains with half as much delay again do not yet oscillate: a
gain margin of 6 dB (Åström, Murray 2008, section 10.3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import minimize

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.errors import TwinError
from digital_twin.core.model import RobotModel, compile_spec
from digital_twin.core.plant_model import PlantConfig, differ
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.scene import SceneBuilder

GRAVITY = 9.81
TIMESTEP = 0.001
SETTLE, LAST = 0.15, 0.1  # [s] before the step, and at the end of the run, which is taken for the final value
RINGING = 0.1  # of the step, peak to peak, that twice the gains may still swing at the end
UNSTABLE = 10.0  # what a run counts that never comes to rest
_IMMOVABLE = 1e8  # [kg] and [kg m²] added to what shall stay where it is
_SIDE = re.compile(r"(^|_)(l|r|left|right)(?=_|$)")


@dataclass(frozen=True)
class GainsConfig:
    """What the servos shall be like, and for which robots."""

    response: float = param(0.05, "within which a joint shall have made 90 % of a step", unit="s", low=0.005, high=1)
    strain: float = param(0.6, "most of a motor's torque that the step may ask for at once", low=0.05, high=10)
    overshoot: float = param(0.05, "most that it may overshoot, as a share of the step", low=0, high=0.5)
    step: float = param(0.08, "size of the step", unit="rad", low=0.005, high=0.5)
    delay: float = param(0.002, "of a servo's loop, from reading to torque", unit="s", low=0, high=0.05)
    seconds: float = param(0.5, "that a step is watched", unit="s", low=0.2, high=5)
    models: int = param(6, "robots of the series to judge by", low=1, high=100)
    spread: float = param(0.1, "relative, of their masses and of the strength of their motors", low=0, high=0.5)
    tries: int = param(40, "gains to try for a joint", low=4, high=1000)
    seed: int = param(1, "of the robots", low=0, high=2**31)


@dataclass(frozen=True)
class Response:
    """To a step: time to 90 % of the final value [s], overshoot and final error as shares of the step; the worst."""

    rise: float
    overshoot: float
    error: float


@dataclass(frozen=True)
class Tuned:
    """New gains of joints that share them, and how they answer before and after. `ringing`: of twice the gains."""

    joints: tuple[str, ...]
    before: tuple[float, float]
    after: tuple[float, float]
    was: Response
    now: Response
    ringing: float


@dataclass(frozen=True)
class _Member:
    mj: mujoco.MjModel
    delay: int
    strength: Array


class JointBench:
    """Robots of a series that hang by their base, and steps of their joints."""

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, config: GainsConfig) -> None:
        """Raises: DescriptionError when the model does not compile."""
        self.model, self.joints, self.config = model, joints, config
        spec = SceneBuilder(model, robot, joints).build(None, TIMESTEP, 0.0)
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        c = config
        rng = np.random.default_rng([c.seed, 5])
        delay = round(c.delay / TIMESTEP)
        self._nominal = _Member(compile_spec(spec, model.description.source), math.ceil(1.5 * delay), np.ones(model.n))
        self._members = []
        for k in range(c.models):
            mj = compile_spec(spec, model.description.source)
            differ(mj, model, PlantConfig(seed=c.seed + k, mass_spread=c.spread, strength_spread=0.0))
            strength = np.exp(c.spread * rng.standard_normal(model.n))
            self._members.append(_Member(mj, round(rng.uniform(0.5, 1.5) * delay), strength))
        self._q = [int(self._nominal.mj.joint(name).qposadr[0]) for name in model.joint_names]
        self._v = [int(self._nominal.mj.joint(name).dofadr[0]) for name in model.joint_names]
        self._data = mujoco.MjData(self._nominal.mj)

    def worst(self, i: int, kp: float, kd: float) -> Response:
        """Of joint i's responses, over all robots."""
        each = [_measure(self._run(m, i, kp, kd, -1.0 if k % 2 else 1.0)) for k, m in enumerate(self._members)]
        return Response(*(max(getattr(r, key) for r in each) for key in ("rise", "overshoot", "error")))

    def ringing(self, i: int, kp: float, kd: float) -> float:
        """How far joint i of the nominal robot still swings at the end, with twice the gains and more delay."""
        y = self._run(self._nominal, i, 2.0 * kp, 2.0 * kd, 1.0)
        return float(min(np.ptp(y[-round(LAST / TIMESTEP) :]), UNSTABLE))

    def _run(self, member: _Member, i: int, kp: float, kd: float, sign: float) -> Array:
        """Joint i's way after the step, in steps, from where it was before (k,)."""
        m, d, c = member.mj, self._data, self.config
        stand, low, high = self.joints.stand, self.model.lower[i], self.model.upper[i]
        step = sign * min(c.step, 0.4 * (high - low))
        if not low < stand[i] + step < high:
            step = -step
        mujoco.mj_resetData(m, d)
        self.model.write_joints(d.qpos, stand)
        ctrl = d.ctrl.reshape(-1, 3)
        ctrl[:, 0] = stand
        servo, armature = m.actuator_biasprm[i, 1:3].copy(), m.dof_armature.copy()
        m.actuator_biasprm[i, 1:3] = 0.0
        m.dof_armature[:] = _IMMOVABLE
        m.dof_armature[self._v[i]] = armature[self._v[i]]
        q, v, k = self._q[i], self._v[i], float(member.strength[i])
        before, after = round(SETTLE / TIMESTEP), round(c.seconds / TIMESTEP)
        late = [(float(stand[i]), 0.0)] * (member.delay + 1)
        way, target = np.empty(before + after), float(stand[i])
        for t in range(before + after):
            if t == before:
                target += step
            late.append((float(d.qpos[q]), float(d.qvel[v])))
            seen, speed = late[-1 - member.delay]
            ctrl[i, 2] = k * (kp * (target - seen) - kd * speed)
            mujoco.mj_step(m, d)
            way[t] = d.qpos[q]
        m.actuator_biasprm[i, 1:3], m.dof_armature[:] = servo, armature
        return np.asarray((way[before:] - way[before - 1]) / step)


def _measure(y: Array) -> Response:
    """What a step response (k,) was like."""
    last = y[-round(LAST / TIMESTEP) :]
    final = float(last.mean())
    if not np.isfinite(y).all() or np.ptp(last) > 0.5 or final < 0.2:
        return Response(UNSTABLE, UNSTABLE, UNSTABLE)
    there = int(np.argmax(y >= 0.9 * final))
    y0, y1 = (float(y[there - 1]) if there else 0.0), float(y[there])
    rise = TIMESTEP * (there + (0.9 * final - y0) / max(y1 - y0, 1e-9))
    return Response(rise, max(0.0, float(y.max()) / final - 1.0), abs(1.0 - final))


def mates(names: Sequence[str]) -> list[list[int]]:
    """Joints that shall have the same gains: those of the left and the right side."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(_SIDE.sub(r"\1", name.lower()), []).append(i)
    return list(groups.values())


def least_stiffness(model: RobotModel, robot: RobotConfig, stand: Array) -> Array:
    """What each joint's stiffness must be at least [N m/rad] (n,): joints between base and feet hold up the weight.

    An inverted pendulum of the whole mass stands only if all ankles together are stiffer than m g h; with 15 % to spare.
    """
    least = np.zeros(model.n)
    if not robot.feet:
        return least
    feet = [f.frame for f in robot.feet]
    k = model.kinematics(feet)
    k.update(stand)
    d = mujoco.MjData(model.mj)
    model.write_joints(d.qpos, stand)
    mujoco.mj_kinematics(model.mj, d)
    mujoco.mj_comPos(model.mj, d)
    base = model.mj.site(model.base_frame).id
    height = float(d.subtree_com[0][2] - d.site_xpos[base][2]) - float(k.position[:, 2].min())
    for i in range(len(feet)):
        moved = np.abs(k.jacobian(i)[1]).max(axis=0) > 1e-9
        least[moved] = 1.15 * GRAVITY * model.mass * height / len(feet)
    return least


def tune(bench: JointBench, group: Sequence[int], least: float = 0.0) -> Tuned:
    """Gains for joints that share them, found by Nelder and Mead's method on the first of them.

    Args:
        least: stiffness [N m/rad] that they must have.

    Raises:
        TwinError: no gains that were tried make the joint come to rest.
    """
    c, i = bench.config, group[0]
    names = tuple(bench.model.joint_names[k] for k in group)
    before = (float(bench.joints.kp[i]), float(bench.joints.kd[i]))
    floor = math.log(max(least, 1e-3))
    most = c.strain * float(bench.model.max_effort[i]) / c.step
    ceiling = max(math.log(most), floor) if math.isfinite(most) else math.inf

    def cost(x: Array) -> float:
        log_kp = min(max(float(x[0]), floor), ceiling)
        kp, kd = math.exp(log_kp), math.exp(float(x[1]))
        r = bench.worst(i, kp, kd)
        slow = max(r.rise / c.response - 1.0, 0.0)
        beyond = max(r.overshoot - c.overshoot, 0.0)
        loose = max(r.error - 0.1, 0.0)
        rings = max(bench.ringing(i, kp, kd) - RINGING, 0.0)
        return slow + 20.0 * beyond + 5.0 * loose + 5.0 * rings + 0.03 * log_kp + abs(float(x[0]) - log_kp)

    start = np.log(np.maximum(before, [max(least, 1.0), 0.01]))
    start[0] = min(start[0], ceiling)
    simplex = start + np.array([[0.0, 0.0], [0.7, 0.4], [0.0, 0.7]])
    found = minimize(
        cost, start, method="Nelder-Mead",
        options={"maxfev": c.tries, "initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-3},
    )  # fmt: skip
    kp = _rounded(math.exp(min(max(float(found.x[0]), floor), ceiling)), up=True)
    kd = _rounded(math.exp(float(found.x[1])))
    now = bench.worst(i, kp, kd)
    if now.rise >= UNSTABLE:
        raise TwinError(f"{', '.join(names)}: no gains make it come to rest; check masses, limits and the loop's delay")
    return Tuned(names, before, (kp, kd), bench.worst(i, *before), now, bench.ringing(i, kp, kd))


def _rounded(x: float, up: bool = False) -> float:
    """To three digits, for people."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 2)
    return float(f"{(math.ceil(x / unit - 1e-9) if up else round(x / unit)) * unit:.4g}")
