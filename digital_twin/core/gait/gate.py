"""Try before you do: a command is rolled out in the twin first, and refused when the robot would probably fall.

The members of the predictor's ensemble (core/ensemble.py) start from the synchronized state and stand for what is not
known of robot and ground; each has the gait controller in its loop, in mid-step as the real one is, which sees it as
wrongly as the estimate is wrong.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.signal import lfilter

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.ensemble import Ensemble
from digital_twin.core.forecast_model import STATE, ForecastModel
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.gait.controller import GaitCommand, GaitController
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.model import RobotModel
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.scene import FORCE
from digital_twin.core.synchronizer import VirtualState
from digital_twin.core.world import World

NS = 1_000_000_000
FALLEN_TILT = math.cos(math.radians(45.0))
FALLEN_HEIGHT = 0.6  # of the base when it stands
STANDS = 30.0  # [N] on a sole that counts as contact


@dataclass(frozen=True)
class Verdict:
    """Whether a command may pass. chance: share of the members tried that fell; first: when the first did [s], or inf.

    words: why not, or "" when it passes.
    """

    passes: bool
    chance: float
    tried: int
    first: float
    words: str


class TwinGate:
    """Tries commands of one robot. Not thread-safe."""

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, gait: Gait, config: GateConfig,
        world: World | None = None,
    ) -> None:  # fmt: skip
        """Raises: DescriptionError, ConfigError, TwinError: a robot that cannot be simulated, or that cannot walk."""
        self.config, self._robot = config, robot
        self._parts = (model, robot, joints)
        self._gait, self._controller = gait, GaitController(model, robot, joints, gait)
        self._standing = self._controller.snapshot()  # before it has done anything
        self._forecaster = Forecaster(model, robot, joints, ForecastConfig(), world)
        per_tick = max(1, math.ceil(1.0 / (config.rate * 0.0025) - 1e-9))
        timestep = 1.0 / (config.rate * per_tick)
        size = 2 ** math.ceil(math.log2(max(config.members, 2)))  # a Sobol sequence is balanced at powers of two
        ensemble = EnsembleConfig(size=size, timestep=timestep, seed=config.seed)
        self._ensemble = Ensemble(self._forecaster, ensemble, world, self._feel)
        self._tick, self._late = per_tick, round(config.delay / timestep)
        self._data = mujoco.MjData(self._ensemble.model.mj)

    def _feel(self, spec: mujoco.MjSpec) -> None:
        """Give the soles back their force sensors, which forecasts do without."""
        for foot in self._robot.feet:
            for quantity in FORCE:
                spec.add_sensor(
                    name=f"foot/{foot.name}/{quantity}", type=getattr(mujoco.mjtSensor, f"mjSENS_{quantity}"),
                    objtype=mujoco.mjtObj.mjOBJ_SITE, objname=f"foot/{foot.name}",
                )  # fmt: skip

    def observe(self, state: VirtualState) -> None:
        """Keep up with the ground under the robot; to be called now and then, as the predictor does."""
        self._forecaster.ground.update(state.base, state.q)

    def try_velocity(
        self,
        state: VirtualState,
        velocity: tuple[float, float, float],
        snapshot: object = None,
        gait: Gait | None = None,
    ) -> Verdict:
        """Try a velocity, (m/s ahead, m/s to the left, rad/s to the left), from a state of the twin.

        Args:
            snapshot: of the controller, when it has the gait that this gate was made for; None: it stands.
            gait: to be tried instead of that one.

        Raises:
            TwinError: the state is not finite.
        """
        controller = self._controller
        if gait is not None and gait != self._gait:
            controller = GaitController(*self._parts, gait)
            fresh = controller.snapshot()
        else:
            fresh = self._standing if snapshot is None else snapshot
        starts = self._ensemble.starts(state.q, state.qd, state.base)
        c, falls, tried = self.config, [], 0
        evidence, enough = 0.0, math.log(1.0 / c.doubt - 1.0)
        for i in range(c.members):
            controller.restore(fresh)
            controller.request(*velocity)
            fell = self._fall(controller, i, starts[i], state)
            tried += 1
            if fell is not None:
                falls.append(fell)
            evidence += _evidence(fell is not None, c.limit)
            if abs(evidence) >= enough:
                break
        chance = len(falls) / tried
        first = min((t for t, _ in falls), default=math.inf)
        if chance < c.limit:
            return Verdict(True, chance, tried, first, "")
        return Verdict(False, chance, tried, first, _words(velocity, falls, tried, c.horizon))

    def _fall(self, controller: GaitController, i: int, start: Array, state: VirtualState) -> tuple[float, str] | None:
        """When [s] and whereto member i falls; None: it does not."""
        m, d, model = self._ensemble.members[i], self._data, self._ensemble.model
        mujoco.mj_setState(m, d, start, STATE)
        d.qacc_warmstart[:] = 0.0
        robot = model.model
        ctrl = d.ctrl.reshape(-1, 3)
        ctrl[:] = np.column_stack([state.q, state.qd, np.nan_to_num(state.effort)])
        mujoco.mj_forward(m, d)
        eye = _Eye(self.config, i, model, self._forecaster.ground.frame(), d, state)
        waiting: deque[GaitCommand | None] = deque([None] * self._late)
        ticks = round(self.config.horizon * self.config.rate)
        height = FALLEN_HEIGHT * model.stand_height
        for k in range(ticks):
            command: GaitCommand | None = controller.step(*eye.see(d, k))
            for _ in range(self._tick):
                waiting.append(command)
                command = None
                now = waiting.popleft()
                if now is not None:
                    ctrl[:, 0] = np.clip(now.q, robot.lower, robot.upper)
                    ctrl[:, 1], ctrl[:, 2] = now.qd, now.effort
                mujoco.mj_step(m, d)
            up, above = eye.upright(d)
            if not math.isfinite(up) or up < FALLEN_TILT or (above < height and controller.phase != "sit"):
                return (k + 1) / self.config.rate, eye.falls_to(d)
        return None


class _Eye:
    """How the controller sees one member: as the twin would, with errors of its own, in odom."""

    def __init__(
        self, c: GateConfig, i: int, model: ForecastModel, frame: Array, d: mujoco.MjData, s: VirtualState
    ) -> None:
        rng = np.random.default_rng([c.seed, 7, i])
        turn = exp_so3(np.array([*(c.tilt * rng.standard_normal(2)), 0.0]))
        self._zeros = model.joints.zero_error + c.encoder * rng.standard_normal(len(s.q))
        ticks = round(c.horizon * c.rate)
        self._drift = c.velocity * _lasting(
            rng.standard_normal((ticks, 3)), math.exp(-1.0 / (c.rate * c.velocity_time))
        )
        self._hiss = c.joint_speed * rng.standard_normal((ticks, len(s.q)))
        self._model, self._back, self._state = model, frame.T, s
        self._turn = turn @ self._back
        self._first = model.base(d)[0]
        self._period = NS / c.rate
        m, r = model.mj, model.model
        self._q, self._v, self._n = r.qpos_index, r.dof_index, r.n
        self._base = int(m.site(r.base_frame).id)
        self._soles = [int(m.site(f.frame).id) for f in model.robot.feet]
        first = [[int(m.sensor(f"foot/{f.name}/{q}").adr[0]) for q in FORCE] for f in model.robot.feet]
        self._sensors = (np.array(first)[:, :, None] + np.arange(3)).reshape(len(first), 6)
        self._unknown = np.zeros(r.n)

    def see(self, d: mujoco.MjData, k: int) -> tuple[VirtualState, Array]:
        """The state that the twin would give at tick k, and the wrenches on the soles (feet, 6)."""
        position, rotation, velocity, turning = self._model.base(d)
        s = self._state
        wrenches = -d.sensordata[self._sensors]
        base = BaseState(
            s.stamp_ns + round((k + 1) * self._period), s.base.position + self._back @ (position - self._first),
            self._turn @ rotation, velocity @ rotation + self._drift[k], turning, s.base.covariance,
            s.base.twist_covariance, tuple((wrenches[:, 2] > STANDS).tolist()), True,
        )  # fmt: skip
        q, qd, effort = (
            d.qpos[self._q] + self._zeros,
            d.qvel[self._v] + self._hiss[k],
            d.actuator_force[: self._n].copy(),
        )
        return VirtualState(base.stamp_ns, q, qd, self._unknown, effort, base), wrenches

    def upright(self, d: mujoco.MjData) -> tuple[float, float]:
        """Cosine of the base's tilt, and its height above the lower sole [m]."""
        places = d.site_xpos
        return float(d.site_xmat[self._base, 8]), float(places[self._base, 2] - min(places[i, 2] for i in self._soles))

    def falls_to(self, d: mujoco.MjData) -> str:
        """Whereto the base leans, in words."""
        R = d.site_xmat[self._base].reshape(3, 3)
        if not np.isfinite(R).all():
            return "to pieces"
        ahead, left = R[2, 0], R[2, 1]  # of the vertical, in the base
        if abs(ahead) > abs(left):
            return "forwards" if ahead < 0 else "backwards"
        return "to the right" if left > 0 else "to the left"


def _evidence(fell: bool, limit: float) -> float:
    """What one more robot tells for a chance well above the limit against one well below it: a logarithm of likelihoods.

    So a clear case is decided by few robots, and a doubtful one is tried by more (Wald 1945).
    """
    low, high = 0.5 * limit, 0.5 * (1.0 + limit)
    return math.log(high / low) if fell else math.log((1.0 - high) / (1.0 - low))


def _lasting(noise: Array, memory: float) -> Array:
    """White noise (k, m) made a first-order Gauss-Markov process of the same variance, from its steady state."""
    share = math.sqrt(1.0 - memory**2)
    noise = noise * np.concatenate([[1.0], np.full(len(noise) - 1, share)])[:, None]
    return np.asarray(lfilter([1.0], [1.0, -memory], noise, axis=0))


def _words(velocity: tuple[float, float, float], falls: list[tuple[float, str]], tried: int, horizon: float) -> str:
    first, whereto = min(falls)
    asked = "{:.2f} m/s ahead, {:.2f} m/s to the left, {:.2f} rad/s".format(*velocity)
    return f"{asked}: {len(falls)} of {tried} robots in the twin fall within {horizon:g} s, the first {whereto} after {first:.1f} s"
