"""What the robot will do next: forecasts of several fidelities from one synchronized state.

`kinematic` goes on with speeds; `rigid_body` simulates the joints with the feet held where they stand; `contact` is the
whole of MuJoCo; `multiphysics` has the motors, their heat and the battery as well. docs/prediction.md has the equations and what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import mujoco
import numpy as np
from mujoco import rollout

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan, Controller, SetPoints
from digital_twin.core.contact_laws import apply_contacts
from digital_twin.core.drift.residual_gp import ResidualConfig, ResidualTorque
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.fluid import apply_fluid
from digital_twin.core.forecast_model import STATE, ForecastModel, Motion
from digital_twin.core.friction_law import FrictionLaw
from digital_twin.core.ground import Ground
from digital_twin.core.model import RobotModel
from digital_twin.core.multiphysics import FRICTION_CHUNK, begin, simulate
from digital_twin.core.power_flow import PowerState
from digital_twin.core.powertrain import Powertrain
from digital_twin.core.prediction_config import FIDELITIES, ForecastConfig
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.world import World

GRAVITY = 9.81
FASTEST = 1000.0  # [rad/s] and [m/s]; what moves faster is no robot


@dataclass(frozen=True)
class Forecast:
    """One forecast, in odom.

    stamp_ns: of the state that it starts from. times [s] (k,) from there, motion: of shape (k, …). set_points: (k, n)
    each, those assumed. fidelity, assumed, version: what it was made with. start: MuJoCo's full physics state and
    controls: the steps' controls (s, nu), in order to make it again; empty for `kinematic`. power: of motors and battery
    as time goes on (chunks, …), of `multiphysics`.
    """

    stamp_ns: int
    times: Array
    motion: Motion
    set_points: SetPoints
    fidelity: str
    assumed: str
    version: str
    start: Array = field(repr=False)
    controls: Array = field(repr=False)
    power: PowerState | None = field(default=None, repr=False)


class DivergedError(TwinError):
    """A simulation that went astray. `state`, `controls`: what it began with, to make it again."""

    def __init__(self, text: str, state: Array, controls: Array) -> None:
        super().__init__(text)
        self.state, self.controls = state, controls


class Forecaster:
    """Makes forecasts of one robot with one model. Not thread-safe: one per thread.

    Attributes:
        models: the compiled model of each fidelity that simulates.
        power, power_state: motors and battery, and how warm and how charged they are now; see `observe`.
        ground: what is known of the ground; the caller feeds it with states, `forecast` with forecasts.
    """

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, config: ForecastConfig, world: World | None = None,
        residual: ResidualConfig | None = None, fidelities: Collection[str] = FIDELITIES,
    ) -> None:  # fmt: skip
        """`residual`: torques that no parameter explains. `fidelities`: those that will be asked for, besides "contact".
        Raises: DescriptionError when the model does not compile."""
        self.model, self.robot, self.config = model, robot, config
        self.power = Powertrain(model, robot, joints)
        self.power_state = self.power.start()
        # Delays are part of the plan of commands; motors that have one of their own are that much later or earlier.
        own = self.power.motors.delay
        self._lags = np.where(own >= 0.0, np.round((own - config.command_delay) / config.timestep), 0.0).astype(int)
        self.models, self._friction = {}, {}
        alterations = {"rigid_body": self._hold_feet, "contact": None, "multiphysics": self._fit_motors}
        for fidelity, alter in alterations.items():
            if fidelity == "contact" or fidelity in fidelities:
                self.models[fidelity] = ForecastModel(
                    model, robot, joints, world, config.timestep, partial(self.prepare, alter=alter)
                )
                self._friction[fidelity] = FrictionLaw(self.models[fidelity].mj, self._touches)
        self.version = self.models["contact"].version
        self.residual = ResidualTorque(residual or ResidualConfig(), model.joint_names)
        self.ground = Ground(model, robot, joints.zero_error)

    def prepare(self, spec: mujoco.MjSpec, alter: Callable[[mujoco.MjSpec], None] | None = None) -> None:
        """Give a scene the contacts of the robot config and the fluid, in place; then what else `alter` does."""
        if alter is not None:
            alter(spec)
        self._touches = apply_contacts(spec, self.robot.contacts)
        apply_fluid(spec, self.config.fluid)

    def _fit_motors(self, spec: mujoco.MjSpec) -> None:
        self.power.fit(spec)
        for drive in spec.actuators:
            drive.nsample, drive.delay = 0, 0.0

    def _hold_feet(self, spec: mujoco.MjSpec) -> None:
        """Weld what stands to the world, without contacts; `_weld` says where."""
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        for foot in self.robot.feet:
            weld = spec.add_equality(name=f"hold/{foot.name}", type=mujoco.mjtEq.mjEQ_WELD)
            weld.objtype = mujoco.mjtObj.mjOBJ_SITE
            # Compiled anywhere but at the origin, where MuJoCo would take it for one with the world's frame for good.
            place = spec.worldbody.add_site(name=f"stand/{foot.name}", pos=[1.0, 2.0, 3.0], quat=[0.5, 0.5, 0.5, 0.5])
            weld.name1, weld.name2 = place.name, foot.frame
            weld.active = False
            weld.solref = [4.0 * self.config.timestep, 1.0]

    # Forecasts

    def forecast(
        self, stamp_ns: int, q: Array, qd: Array, base: BaseState, plan: CommandPlan, fidelity: str = "",
        horizon: float = 0.0, controller: Controller | None = None,
    ) -> Forecast:  # fmt: skip
        """What will happen within the horizon.

        Args:
            stamp_ns, q, qd, base: the synchronized state: joints [rad], [rad/s] (n,), the base in odom.
            plan: the commands. controller: makes the commands instead, called at each step.
            fidelity, horizon [s]: other than the config's.

        Raises:
            TwinError: an unknown fidelity, a horizon outside 0.02 … 60 s, a state that is not finite.
            DivergedError: the simulation went astray.
        """
        work = self.forecasting(stamp_ns, q, qd, base, plan, fidelity, horizon, controller)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return cast("Forecast", done.value)

    def forecasting(
        self, stamp_ns: int, q: Array, qd: Array, base: BaseState, plan: CommandPlan, fidelity: str = "",
        horizon: float = 0.0, controller: Controller | None = None, piece: float = math.inf,
    ) -> Generator[None, None, Forecast]:  # fmt: skip
        """As `forecast`, for who has little time: first all is made ready, and the commands are those of that moment, then a
        `piece` [s] is simulated at a time (of fidelities `rigid_body` and `contact`)."""
        fidelity, horizon = fidelity or self.config.fidelity, horizon or self.config.horizon
        if fidelity not in FIDELITIES:
            raise TwinError(unknown("fidelity", fidelity, FIDELITIES))
        if not 0.02 <= horizon <= 60.0:
            raise TwinError(f"a forecast reaches 0.02 to 60 s ahead, not {horizon:g}")
        steps = round(horizon / self.config.timestep)
        every = max(1, round(self.config.resolution / self.config.timestep))
        at = np.arange(every, steps + 1, every)
        times = np.asarray(at * self.config.timestep, dtype=np.float64)
        set_points, assumed = plan.sample(stamp_ns, times, q)
        power = None
        if fidelity == "kinematic":
            motion, start, controls = self._go_on(q, qd, base, times), np.empty(0), np.empty((0, 0))
        else:
            model, start = self.begin(q, qd, base, fidelity)
            if controller is None:
                each, assumed = plan.sample(stamp_ns, self._step_times(steps), q)
                controls = self._late(interleave(each))
                start, states, power = yield from self._simulate(fidelity, start, controls, q, qd, piece)
            else:
                states, controls, assumed = *self._controlled(model, start, controller, steps), "a controller"
                set_points = SetPoints(*np.moveaxis(controls.reshape(steps, -1, 3)[at - 1], -1, 0))
            motion = self.in_odom(model, start, states[at - 1], base)
            if controller is None and fidelity != "rigid_body":
                self.ground.expect(stamp_ns, times, motion.q, motion.rotation)
        return Forecast(stamp_ns, times, motion, set_points, fidelity, assumed, self.version, start, controls, power)

    def _step_times(self, steps: int) -> Array:
        return np.asarray(np.arange(steps) * self.config.timestep, dtype=np.float64)

    def begin(self, q: Array, qd: Array, base: BaseState, fidelity: str) -> tuple[ForecastModel, Array]:
        """The model of a fidelity, made ready for the ground and the feet of now, and the state to start from."""
        model = self.models[fidelity]
        A = self.ground.frame()
        contacts = base.contacts if fidelity != "rigid_body" else ()
        start = model.start(q, qd, A @ base.position, A @ base.rotation, base.velocity, base.angular_velocity, contacts)
        model.mj.opt.gravity[:] = GRAVITY * self.ground.gravity(base, self.config.slope)
        if fidelity == "rigid_body":
            self._weld(model, base.contacts)
        return model, start

    def observe(self, efforts: Array, qd: Array, dt: float) -> None:
        """The motors gave these torques [N m] at these speeds [rad/s] (n,) for dt [s]: they warm, the battery drains."""
        self.power_state = self.power.observe(self.power_state, efforts, qd, dt)

    def _late(self, controls: Array) -> Array:
        """Controls (s, nu) with each motor's own delay."""
        if not self._lags.any():
            return controls
        each = controls.reshape(len(controls), -1, 3)
        row = np.arange(len(controls))[:, None] - self._lags
        return np.asarray(each[np.clip(row, 0, len(controls) - 1), np.arange(each.shape[1])].reshape(controls.shape))

    def _simulate(
        self, fidelity: str, start: Array, controls: Array, q: Array, qd: Array, piece: float
    ) -> Generator[None, None, tuple[Array, Array, PowerState | None]]:
        """The start as it is used, states (s, size), and the motors' and battery's where they are simulated."""
        model, friction = self.models[fidelity], self._friction[fidelity]
        if fidelity == "multiphysics":
            first = controls[0].reshape(-1, 3)
            joints = model.joints
            torque = joints.kp * (first[:, 0] - q) + joints.kd * (first[:, 1] - qd) + first[:, 2]
            start = begin(model.mj, self.power, self.power_state, start, torque)
            states, power = simulate(model.mj, model.data, self.power, self.power_state, start, controls, friction)
            check(states, start, controls)
            return start, states, power
        changes = friction.varies or self.residual
        seconds = min(piece, FRICTION_CHUNK if changes else math.inf, len(controls) * self.config.timestep)
        every = max(1, round(seconds / self.config.timestep))
        parts, now = [], start
        for i in range(0, len(controls), every):
            yield
            parts.append(roll(model, now, self._corrected(model, now, controls[i : i + every])))
            now = parts[-1][-1]
            if changes:
                friction.update(model.mj, model.data)
        return start, np.concatenate(parts), None

    def _corrected(self, model: ForecastModel, state: Array, controls: Array) -> Array:
        """Controls (s, nu) with what is known of the torques that the model lacks in this state."""
        if not self.residual:
            return controls
        m = model.motion(state)
        each = controls.reshape(len(controls), -1, 3).copy()
        each[:, :, 2] += self.residual.correction(m.q, m.qd)
        return np.asarray(each.reshape(controls.shape))

    def _weld(self, model: ForecastModel, contacts: tuple[bool, ...]) -> None:
        m, d = model.mj, model.data
        mujoco.mj_kinematics(m, d)
        for foot, stands in zip(self.robot.feet, contacts, strict=True):
            m.eq_active0[m.eq(f"hold/{foot.name}").id] = stands
            place = m.site(f"stand/{foot.name}")
            place.pos[:] = d.site(foot.frame).xpos
            mujoco.mju_mat2Quat(place.quat, d.site(foot.frame).xmat)

    def in_odom(self, model: ForecastModel, start: Array, states: Array, base: BaseState) -> Motion:
        """States (…, size) as motion that begins exactly at the base's synchronized pose."""
        m, first = model.motion(states), model.motion(start)
        back = self.ground.frame().T
        return Motion(
            m.q, m.qd, base.position + (m.position - first.position) @ back.T, back @ m.rotation, m.velocity @ back.T,
            m.angular_velocity,
        )  # fmt: skip

    def _controlled(
        self, model: ForecastModel, start: Array, controller: Controller, steps: int
    ) -> tuple[Array, Array]:
        """Step by step, with a controller that sees the simulated joints."""
        m, d, h = model.mj, model.data, self.config.timestep
        states, controls = np.empty((steps, model.size)), np.empty((steps, m.nu))
        mujoco.mj_setState(m, d, start, STATE)
        d.qacc_warmstart[:] = 0.0
        q, qd = d.qpos[self.model.qpos_index], d.qvel[self.model.dof_index]
        if not isinstance(self.model.qpos_index, slice):  # a copy, not a view
            raise TwinError("a controller needs joints that follow one another in the model")
        for i in range(steps):
            d.ctrl[:] = controls[i] = np.column_stack(controller(i * h, q, qd)).ravel()
            mujoco.mj_step(m, d)
            mujoco.mj_getState(m, d, states[i], STATE)
        check(states, start, controls)
        return states, controls

    def _go_on(self, q: Array, qd: Array, base: BaseState, times: Array) -> Motion:
        """Joints go on at their speeds until they meet a limit; so does the base, as a rigid body, falling if no foot
        stands."""
        t = times[:, None]
        joints = np.clip(q + qd * t, self.model.lower, self.model.upper)
        speeds = np.where((joints > self.model.lower) & (joints < self.model.upper), qd, 0.0)
        velocity = np.tile(base.rotation @ base.velocity, (len(times), 1))
        fall = np.zeros((len(times), 3))
        if not any(base.contacts):
            fall[:, 2] = -0.5 * GRAVITY * times**2
            velocity[:, 2] -= GRAVITY * times
        turned = np.array([base.rotation @ exp_so3(base.angular_velocity * s) for s in times])
        position = base.position + base.rotation @ base.velocity * t + fall
        return Motion(joints, speeds, position, turned, velocity, np.tile(base.angular_velocity, (len(times), 1)))


def interleave(s: SetPoints) -> Array:
    """Set points as MuJoCo's controls (k, 3 n)."""
    return np.stack([s.position, s.velocity, s.effort], axis=-1).reshape(len(s.position), -1)


def roll(model: ForecastModel, start: Array, controls: Array, warmstart: Array | None = None) -> Array:
    """States (s, size) after each step from `start` (size,) under controls (s, nu).

    With the warm start (nv,) of a simulation's own full integration state, its own steps come out bit for bit.

    Raises:
        DivergedError: a state is not finite, or faster than any robot.
    """
    given = None if warmstart is None else warmstart[None]
    states, _ = rollout.rollout(model.mj, model.data, start[None], controls[None], initial_warmstart=given)
    check(states[0], start, controls)
    return np.asarray(states[0])


def check(states: Array, start: Array, controls: Array) -> None:
    """Raises DivergedError when states (s, size) are those of no robot."""
    largest = float(np.abs(states[-1, 1:]).max())
    if not math.isfinite(largest) or largest > FASTEST:
        raise DivergedError(
            "the simulation diverged: check masses, gains and the state that it started from", start, controls
        )
