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

from digital_twin.core.arrays import Array, Index
from digital_twin.core.command_gate import CommandGate, CommandGateConfig
from digital_twin.core.ensemble import Ensemble
from digital_twin.core.forecast_model import STATE
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.gait.controller import GaitCommand, GaitController
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.gait.gate_senses import Senses, add_sensors
from digital_twin.core.model import RobotModel
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.synchronizer import VirtualState
from digital_twin.core.world import World

NS = 1_000_000_000
FALLEN_TILT = math.cos(math.radians(45.0))
FALLEN_HEIGHT = 0.6  # of the base when it stands


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
        self._forecaster = Forecaster(model, robot, joints, ForecastConfig(slope=config.slope), world)
        per_tick = max(1, math.ceil(1.0 / (config.rate * 0.0025) - 1e-9))
        timestep = 1.0 / (config.rate * per_tick)
        size = 2 ** math.ceil(math.log2(max(config.members, 2)))  # a Sobol sequence is balanced at powers of two
        ensemble = EnsembleConfig(size=size, timestep=timestep, tilt=config.slope, seed=config.seed)
        self._ensemble = Ensemble(self._forecaster, ensemble, world, lambda spec: add_sensors(spec, robot))
        self._tick, self._late = per_tick, round(config.delay / timestep)
        m = self._ensemble.model.mj
        self._data = mujoco.MjData(m)
        self._joints: Index = np.arange(model.n)
        self._base = int(m.site(model.base_frame).id)
        self._soles = [int(m.site(f.frame).id) for f in robot.feet]

    def observe(self, state: VirtualState) -> None:
        """Keep up with the ground under the robot; to be called now and then, as the predictor does."""
        self._forecaster.ground.update(state.base, state.q)

    def stand_on(self, normal: Array) -> None:
        """The ground's normal in odom (3,), from somebody who has kept up with it."""
        self._forecaster.ground.normal = normal

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
        m, d, c = self._ensemble.members[i], self._data, self.config
        mujoco.mj_setState(m, d, start, STATE)
        d.qacc_warmstart[:] = 0.0
        ctrl = d.ctrl.reshape(-1, 3)
        q = state.q - self._ensemble.model.joints.zero_error
        ctrl[:] = np.column_stack([q, state.qd, np.nan_to_num(state.effort)])
        senses = Senses(c, i, self._ensemble.model, self._parts[0], state)
        bridge = CommandGate(self._parts[0], CommandGateConfig())
        bridge.measured(self._joints, q)
        waiting: deque[GaitCommand | None] = deque([None] * self._late)
        for k in range(round(c.horizon * c.rate)):
            mujoco.mj_forward(m, d)
            up, above = self._upright(d)
            low = above < FALLEN_HEIGHT * self._ensemble.model.stand_height and controller.phase != "sit"
            if not math.isfinite(up) or up < FALLEN_TILT or low:
                return k / c.rate, _falls_to(d.site_xmat[self._base].reshape(3, 3))
            command: GaitCommand | None = controller.step(*senses.look(m, d, k))
            for step in range(self._tick):
                waiting.append(command)
                command = None
                now = waiting.popleft()
                if now is not None:
                    self._obey(now, bridge, senses.state.stamp_ns, ctrl)
                if step == 0 and now is None:
                    mujoco.mj_implicit(m, d)  # accelerations are those that the sensors just felt
                else:
                    mujoco.mj_step(m, d)
        return None

    def _obey(self, c: GaitCommand, bridge: CommandGate, stamp_ns: int, ctrl: Array) -> None:
        """Give a command to the servos, within the limits of the bridge."""
        bridge.twin_alive(stamp_ns)
        passed = bridge.accept(self._joints, c.q, c.qd, c.effort, stamp_ns)
        if not isinstance(passed, str) and passed.q is not None:
            ctrl[:] = np.column_stack([passed.q, passed.qd, passed.effort])

    def _upright(self, d: mujoco.MjData) -> tuple[float, float]:
        """Cosine of the base's tilt, and its height above the lower sole [m]."""
        places = d.site_xpos
        return float(d.site_xmat[self._base, 8]), float(places[self._base, 2] - min(places[i, 2] for i in self._soles))


def _falls_to(R: Array) -> str:
    """Whereto a base of attitude R (3, 3) leans, in words."""
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


def _words(velocity: tuple[float, float, float], falls: list[tuple[float, str]], tried: int, horizon: float) -> str:
    first, whereto = min(falls)
    asked = "{:.2f} m/s ahead, {:.2f} m/s to the left, {:.2f} rad/s".format(*velocity)
    return f"{asked}: {len(falls)} of {tried} robots in the twin fall within {horizon:g} s, the first {whereto} after {first:.1f} s"
