"""Motors as they are in a MuJoCo scene: the pid servos of core/scene.py become dc motors behind a drive and a battery.

MuJoCo simulates winding current, back-EMF, torque-speed limit, gear friction and delay at its own step. What it has not
(two thermal nodes, a drive that sees the resistance rise, a torque limit that falls, the battery) is advanced between
chunks of at most 100 ms by core/power_flow.py and written into the compiled model by `load`.
"""

from __future__ import annotations

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.model import RobotModel
from digital_twin.core.motors import Motors
from digital_twin.core.power_flow import Battery, PowerState, advance
from digital_twin.core.robot_config import Joints, RobotConfig

_POS_VEL_FF = 7
_R, _VMAX = 0, 7  # places in a dcmotor's gainprm
_TIME = 0  # and in its dynprm
# Bristles of the LuGre friction on the rotor's inertia: (natural frequency · step)² and damping ratio. MuJoCo integrates
# bristle and speed each with the other's old value, which is stable while the ratio exceeds half the frequency · step.
_BRISTLE, _BRISTLE_DAMPING = 0.05, 0.2


class Powertrain:
    """The motors and the battery of one robot.

    Use: `fit` the specification of a scene, compile it, `load` a state into the model; after each chunk of simulation
    take `currents` and `speeds` out of the recorded states and `advance` the state with them.

    All functions leave their arguments alone but `fit` and `load`, which say so.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, where: str = "robot config") -> None:
        self.model, self.joints = model, joints
        self.motors = Motors(robot, model, joints, where)
        self.battery = Battery(robot.battery, where)
        self._columns: dict[tuple[int, int, int], tuple[Index, Index]] = {}

    def start(self, temperature: float | Array | None = None, charge: float | None = None) -> PowerState:
        """A state at rest: windings and housings at a temperature [°C] (default: ambient), the battery at a charge."""
        m, config = self.motors, self.battery.config
        heat = np.broadcast_to(m.ambient if temperature is None else temperature, (self.model.n,)).astype(float)
        full = np.asarray(config.charge if charge is None else charge, float)
        voltage, current = self.battery.under_load(full, np.asarray(config.idle_power))
        return PowerState(heat, heat, np.zeros(self.model.n), full, np.zeros(()), voltage, current)

    # The MuJoCo side

    def fit(self, spec: mujoco.MjSpec) -> None:
        """Turn the servos of a scene (SceneBuilder.build) into motors, in place. The controls stay what they are."""
        m = self.motors
        step = spec.option.timestep
        for i, name in enumerate(self.model.joint_names):
            drive = spec.actuator(name)
            drive.set_to_dcmotor(
                motorconst=[m.K[i], 0.0],
                resistance=m.R[i],
                saturation=[m.peak[i], 0.0, 0.0],
                inductance=[0.0, m.L[i] / m.R[i]],
                controller=[self.joints.kp[i], 0.0, self.joints.kd[i], 0.0, 0.0, self.battery.config.nominal_voltage],
                lugre=self._rub(spec.joint(name), i, step),
                ctrlspec=_POS_VEL_FF,
            )
            if m.delay[i] >= 0.0:
                drive.nsample = round(m.delay[i] / step)
                drive.delay = drive.nsample * step

    def _rub(self, joint: mujoco.MjsJoint, i: int, step: float) -> list[float]:
        """Give a joint its gear's friction; returns the parameters of the LuGre part, zeros where there is none."""
        m = self.motors
        joint.damping[0] = m.viscous[i]
        # The URDF's limit of the joint would hold friction and motor together; the motor's own limit is the drive's.
        joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        stiffness = _BRISTLE * self.joints.armature[i] / step**2
        if stiffness == 0.0 or m.static[i] == 0.0:
            # Nothing for a bristle to swing: MuJoCo's own dry friction, which knows no Stribeck curve.
            joint.frictionloss = m.coulomb[i]
            return [0.0] * 5
        joint.frictionloss = 0.0
        damping = 2.0 * _BRISTLE_DAMPING * float(np.sqrt(stiffness * self.joints.armature[i]))
        # MuJoCo's implicit step takes this damping for one of the sliding joint too, where it has no force: there it
        # acts as an inertia of step · damping, which is taken from the rotor's.
        joint.armature = self.joints.armature[i] - step * damping
        return [stiffness, damping, m.coulomb[i], m.static[i], m.stribeck[i]]

    def load(self, mj: mujoco.MjModel, state: PowerState) -> None:
        """Write what depends on the state into a compiled model: resistances, time constants, torque limits, bus voltage.

        Args:
            mj: a scene that was fitted. state: of one robot, no ensemble.
        """
        rows = slice(0, self.model.n)
        R = self.motors.resistance(state.winding)
        limit = self.motors.torque_limit(state.winding)
        mj.actuator_gainprm[rows, _R] = R
        mj.actuator_gainprm[rows, _VMAX] = state.voltage
        mj.actuator_dynprm[rows, _TIME] = self.motors.L / R
        mj.actuator_forcerange[rows, 0] = -limit
        mj.actuator_forcerange[rows, 1] = limit

    def currents(self, mj: mujoco.MjModel, states: Array) -> Array:
        """Winding currents [A] (…, k, n) from full physics states (…, k, nstate), as mujoco.rollout returns them.

        MuJoCo limits a motor's torque and not its current; the drive's current limit is applied here.
        """
        drawn = states[..., self._in_state(mj)[0]]
        limit = mj.actuator_forcerange[: self.model.n, 1] / self.motors.K
        return np.asarray(np.minimum(np.maximum(drawn, -limit), limit))

    def speeds(self, mj: mujoco.MjModel, states: Array) -> Array:
        """Joint speeds [rad/s] (…, k, n) from full physics states (…, k, nstate)."""
        return np.asarray(states[..., self._in_state(mj)[1]])

    def activations(self, mj: mujoco.MjModel, efforts: Array, speeds: Array) -> Array:
        """Activations (na,) to start a simulation with: currents of the motors' torques [N m] (n,), friction at its speed.

        Below the Stribeck speed the bristles' deflection is not known; it is taken in proportion to the speed.
        """
        m = self.motors
        act = np.zeros(mj.na)
        last = self._last_activation(mj)
        limit = mj.actuator_forcerange[: self.model.n, 1]
        act[last] = np.clip(efforts, -limit, limit) / m.K
        stiffness = mj.actuator_dynprm[: self.model.n, 5]
        rubs = stiffness > 0.0
        dry = m.friction(speeds) - m.viscous * speeds
        deflection = dry * np.minimum(np.abs(speeds) / m.stribeck, 1.0)
        act[last[rubs] - 1] = deflection[rubs] / stiffness[rubs]
        return act

    def _in_state(self, mj: mujoco.MjModel) -> tuple[Index, Index]:
        """Where in a full physics state the currents and the joint speeds are; looked up once for each kind of model."""
        kind = (mj.nq, mj.nv, mj.na)
        if kind not in self._columns:
            dofs = mj.jnt_dofadr[mj.actuator_trnid[: self.model.n, 0]]
            self._columns[kind] = (1 + mj.nq + mj.nv + self._last_activation(mj), 1 + mj.nq + dofs.astype(np.intp))
        return self._columns[kind]

    def _last_activation(self, mj: mujoco.MjModel) -> Index:
        # The current is the last of an actuator's activations, the bristle the one before.
        return np.asarray(mj.actuator_actadr[: self.model.n] + mj.actuator_actnum[: self.model.n] - 1, dtype=np.intp)

    # The state

    def advance(self, state: PowerState, currents: Array, speeds: Array, dt: float) -> PowerState:
        """The state after the steps of a chunk: winding currents [A], joint speeds [rad/s] (…, k, n), dt [s] a step."""
        return advance(self.motors, self.battery, state, currents, speeds, dt)

    def observe(self, state: PowerState, efforts: Array, speeds: Array, dt: float) -> PowerState:
        """The state dt [s] later on a live robot, from its motors' torques [N m] (n,) and joint speeds [rad/s] (n,).

        A torque that is no number is taken to be the last one, a speed that is none to be zero.
        """
        limit = self.motors.torque_limit(state.winding)
        currents = np.clip(efforts, -limit, limit) / self.motors.K
        currents = np.where(np.isfinite(currents), currents, state.motor_current)
        return self.advance(state, currents[None], np.where(np.isfinite(speeds), speeds, 0.0)[None], dt)

    def headroom(self, state: PowerState, speeds: Array) -> Array:
        """Torque [N m] (…, n) that each motor can still give in the direction in which its joint moves.

        The lesser of the (hot) torque limit and of what the bus voltage leaves at this speed.
        """
        m = self.motors
        R = m.resistance(state.winding)
        line = m.K * (np.asarray(state.voltage)[..., None] - m.K * np.abs(speeds)) / R
        return np.asarray(np.minimum(m.torque_limit(state.winding), np.maximum(line, 0.0)))
