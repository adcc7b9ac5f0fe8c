"""Heat and battery: ten minutes of squats against solve_ivp, and what a forecast with motors costs beside one without."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import mujoco
import numpy as np
from mujoco import rollout
from rich.progress import track
from scipy.integrate import solve_ivp

from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.model import compile_spec
from digital_twin.core.multiphysics import CHUNK, simulate
from digital_twin.core.power_flow import PowerState
from digital_twin.core.powertrain import Powertrain
from digital_twin.core.scene import SceneBuilder
from digital_twin.core.script import Script, load_script
from digital_twin.paths import share
from digital_twin.robots import Robot, load_robot

STEP = 0.002
EVERY = round(CHUNK / STEP)  # steps between renewals of the motors' state
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
SQUAT = 4.0  # [s] down and up
ROUNDS = 40
OVERLOAD = 4.0  # the squats once more with so much more current: 16 times the heat


class Simulation:
    """A humanoid that stands, with or without motors; steps are rolled out by chunks."""

    def __init__(self, robot: Robot, motors: bool) -> None:
        self.robot = robot
        spec = SceneBuilder(robot.model, robot.config, robot.joints).build(None, STEP, 0.0)
        for sensor in list(spec.sensors):
            spec.delete(sensor)
        self.power = Powertrain(robot.model, robot.config, robot.joints, robot.where)
        if motors:
            self.power.fit(spec)
        self.mj = compile_spec(spec, robot.where)
        self.data = d = mujoco.MjData(self.mj)
        robot.model.write_joints(d.qpos, robot.joints.stand)
        mujoco.mj_kinematics(self.mj, d)
        d.qpos[2] -= min(d.site(f.frame).xpos[2] for f in robot.config.feet) - 0.001
        d.ctrl.reshape(-1, 3)[:, 0] = robot.joints.stand
        mujoco.mj_step(self.mj, d, nstep=1000)
        self.start = np.empty(mujoco.mj_stateSize(self.mj, FULL))
        mujoco.mj_getState(self.mj, d, self.start, FULL)
        self.warm = d.qacc_warmstart.copy()
        self.hold = np.tile(d.ctrl, (500, 1))

    def plain(self) -> None:
        """A second ahead in one piece: a forecast of the contact kind."""
        rollout.rollout(self.mj, self.data, self.start[None], self.hold[None], initial_warmstart=self.warm[None])

    def with_motors(self) -> None:
        """A second ahead with heat and battery: a forecast of the multiphysics kind."""
        power = self.power
        simulate(self.mj, self.data, power, power.start(), self.start, self.hold, warmstart=self.warm)


def squats(s: Simulation, minutes: float) -> tuple[list[PowerState], Array, Array]:
    """The motors' states after each chunk, and currents and speeds at every step (steps, n)."""
    script = load_script(share("config/scripts/humanoid.yaml"))
    squat = type(script)(steps=[type(script.steps[0])(seconds=SQUAT, cycle="crouch", period=SQUAT)], poses=script.poses)
    plan = Script(squat, s.robot.model, s.robot.joints.stand)
    period = round(SQUAT / STEP)
    controls = np.zeros((period, s.robot.model.n, 3))
    for k in range(period):
        controls[k, :, 0], controls[k, :, 1] = plan.sample(k * STEP)
    controls = controls.reshape(period, -1)
    m, state, power, warm = s.mj, s.start, s.power.start(), s.warm
    history, currents, speeds = [], [], []
    for _ in track(range(round(minutes * 60 / SQUAT)), description="squats"):
        states, powers = simulate(m, s.data, s.power, power, state, controls, warmstart=warm)
        state, warm = states[-1], s.data.qacc_warmstart.copy()
        currents.append(s.power.currents(m, states))
        speeds.append(s.power.speeds(m, states))
        history += [powers.member(i) for i in range(len(powers.charge))]
        power = history[-1]
    if state[3] < 0.5:
        raise RuntimeError("the robot fell")
    return history, np.concatenate(currents), np.concatenate(speeds)


def equations(power: Powertrain, currents: Array, speeds: Array) -> Callable[[float, Array], Array]:
    """d/dt of winding, housing, charge and energy under recorded currents and speeds, a straight line between samples."""
    m, b = power.motors, power.battery.config
    n, last = len(m.K), len(currents) - 2
    charge, voltage = np.array(b.open_circuit).T

    def rates(t: float, y: Array) -> Array:
        x = t / STEP - 0.5
        k = min(max(int(x), 0), last)
        i = currents[k] + (x - k) * (currents[k + 1] - currents[k])
        w = speeds[k] + (x - k) * (speeds[k + 1] - speeds[k])
        loss = i * i * m.R * (1.0 + m.alpha * (y[:n] - 25.0))
        across = (y[:n] - y[n : 2 * n]) / m.R_winding
        field = m.L * i * (currents[k + 1] - currents[k]) / STEP
        draw = float(np.sum(loss + m.K * i * w + field))
        draw = (draw if draw > 0.0 else b.regeneration * draw) + b.idle_power
        u = np.interp(y[2 * n], charge, voltage)
        amps = (u - np.sqrt(u * u - 4.0 * b.resistance * draw)) / (2.0 * b.resistance)
        out = np.empty_like(y)
        out[:n] = (loss - across) / m.C_winding
        out[n : 2 * n] = (across - (y[n : 2 * n] - m.ambient) / m.R_housing) / m.C_housing
        out[2 * n :] = -amps / (3600.0 * b.capacity), amps * (u - amps * b.resistance)
        return out

    return rates


def replay(power: Powertrain, currents: Array, speeds: Array) -> list[PowerState]:
    """The motors' states after each chunk of given currents and speeds (steps, n)."""
    state, history = power.start(), []
    for a in range(0, len(currents), EVERY):
        state = power.advance(state, currents[a : a + EVERY], speeds[a : a + EVERY], STEP)
        history.append(state)
    return history


def against_solve_ivp(
    power: Powertrain, history: list[PowerState], currents: Array, speeds: Array, what: str
) -> list[Row]:
    """Largest differences at the end of every chunk."""
    first, end, n = power.start(), history[-1], len(power.motors.K)
    y = np.concatenate([first.winding, first.housing, [float(first.charge), 0.0]])
    scale = np.concatenate([np.ones(2 * n), [1e-2, 1e3]])
    ends = np.arange(1, len(history) + 1) * CHUNK
    truth = solve_ivp(
        equations(power, currents, speeds), (0.0, ends[-1]), y, method="LSODA", t_eval=ends, rtol=1e-10,
        atol=1e-10 * scale, max_step=4 * STEP,
    ).y  # fmt: skip
    winding, housing = (np.array([getattr(p, k) for p in history]).T for k in ("winding", "housing"))
    used = np.array([float(first.charge - p.charge) for p in history])
    return [
        Row(f"{what}: winding temperatures, worst difference", float(np.abs(winding - truth[:n]).max()), "K", 2.0),
        Row(f"{what}: housing temperatures, worst difference", float(np.abs(housing - truth[n : 2 * n]).max()), "K", 2.0),
        Row(f"{what}: charge used, worst relative difference", float(np.abs(first.charge - used - truth[-2]).max() / used[-1]), ""),
        Row(f"{what}: energy drawn, relative difference", float(abs(end.energy / truth[-1, -1] - 1.0)), ""),
        Row(f"{what}: hottest winding at the end", float(end.winding.max()), "°C"),
        Row(f"{what}: mean power", float(end.energy) / ends[-1], "W"),
        Row(f"{what}: charge left", 100.0 * float(end.charge), "%"),
    ]  # fmt: skip


def costs(plain: Simulation, motors: Simulation) -> list[Row]:
    """Both kinds in turn, so that both meet the same disturbances; medians of this thread's processor time."""
    took = np.empty((ROUNDS, 3))
    for row in took:
        for j, forecast in enumerate((plain.plain, motors.with_motors, motors.plain)):
            begin = time.thread_time()
            forecast()
            row[j] = time.thread_time() - begin
    contact, multiphysics, steps = (1e3 * float(x) for x in np.median(took, axis=0))
    power, torque, speed = motors.power.start(), np.full(motors.robot.model.n, 10.0), np.ones(motors.robot.model.n)
    begin = time.thread_time()
    for _ in range(200):
        power = motors.power.observe(power, torque, speed, 0.01)
    observe = (time.thread_time() - begin) / 200 * 1e6
    return [
        Row("1 s ahead at 2 ms with motors, heat and battery", multiphysics, "ms", 1.5, contact, "contact kind"),
        Row("of that, MuJoCo's own motors (one rollout)", steps, "ms", None, contact, "contact kind"),
        Row("the live state, once (observe)", observe, "us"),
    ]


def measure(a: argparse.Namespace) -> list[Row]:
    """All figures."""
    robot = load_robot()
    plain, motors = Simulation(robot, False), Simulation(robot, True)
    rows = costs(plain, motors)
    power, minutes = motors.power, f"{a.minutes:g} min of squats"
    history, currents, speeds = squats(motors, a.minutes)
    rows += against_solve_ivp(power, history, currents, speeds, minutes)
    currents = OVERLOAD * currents
    return rows + against_solve_ivp(
        power, replay(power, currents, speeds), currents, speeds, f"{OVERLOAD:g} times the current"
    )


if __name__ == "__main__":
    main("thermal", measure, ("minutes", 10.0, "of squats"))
