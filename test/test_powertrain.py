"""Motors in MuJoCo against their closed forms: torque and speed, current, friction, delay, heat's grip on the torque."""

import mujoco
import numpy as np
import pytest
from mujoco import rollout
from scipy.integrate import solve_ivp

from digital_twin.core.config import build
from digital_twin.core.description import parse_description
from digital_twin.core.errors import ConfigError
from digital_twin.core.model import RobotModel, compile_spec
from digital_twin.core.powertrain import Powertrain
from digital_twin.core.robot_config import Joints, RobotConfig, check_names
from digital_twin.core.scene import SceneBuilder

# A joint between a body that hardly moves and a rotor of which only the armature counts.
URDF = """<robot name="bench">
  <link name="base"><inertial><mass value="1e6"/><inertia ixx="1e6" iyy="1e6" izz="1e6" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="arm"><inertial><mass value="1e-6"/><inertia ixx="1e-8" iyy="1e-8" izz="1e-8" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="j" type="continuous"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/>
    <limit effort="40" velocity="8"/><dynamics damping="0.0" friction="0.0"/></joint></robot>"""
MOTOR = {
    "torque_constant": 4.0,
    "resistance": 1.6,
    "peak_torque": 500.0,
    "electrical_time": 0.001,
    "command_delay": 0.0,
}
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
V = 48.0
HUGE = 1e6


class Bench:
    """One motor on a bench, its bus at 48 V: `voltage_limited` full ahead, or any torque."""

    def __init__(self, step=0.002, armature=0.05, delay=0.0, battery=None, **motor):
        config = {
            "joints": {"*": {"kp": 0.0, "kd": 0.0, "armature": armature}},
            "motors": {"*": MOTOR | motor},
            "battery": {"open_circuit": [[0, V], [1, V]], "resistance": 0.0, "idle_power": 0.0} | (battery or {}),
        }
        self.config = build(RobotConfig, config, "bench")
        self.model = RobotModel(parse_description(URDF))
        self.joints = Joints(self.config, self.model)
        spec = SceneBuilder(self.model, self.config, self.joints).build(None, step, delay)
        self.power = Powertrain(self.model, self.config, self.joints)
        self.power.fit(spec)
        spec.option.gravity = np.zeros(3)
        self.mj = compile_spec(spec, "bench")
        self.state = self.power.start()
        self.power.load(self.mj, self.state)
        self.data = mujoco.MjData(self.mj)
        self.step, self.dof = step, self.mj.joint("j").dofadr[0]

    def speed(self):
        return self.data.qvel[self.dof]

    def hold(self, speed, steps):
        """Steps at a prescribed speed; returns the motor's torque at the end."""
        for _ in range(steps):
            self.data.qvel[:] = 0.0
            self.data.qvel[self.dof] = speed
            mujoco.mj_step(self.mj, self.data)
        return self.data.actuator_force[0]


# Torque, speed and current


def test_what_is_not_given_follows_from_the_urdfs_limits():
    config = build(RobotConfig, {}, "none")
    model = RobotModel(parse_description(URDF))
    m = Powertrain(model, config, Joints(config, model)).motors
    assert m.peak[0] == 40.0
    assert m.K[0] * 1.25 * 8.0 == pytest.approx(V), "no-load speed"
    assert m.K[0] * V / m.R[0] == pytest.approx(5 * 40.0), "stall torque"
    assert m.K[0] * (V - m.K[0] * 8.0) / m.R[0] == pytest.approx(40.0), "both limits together"
    loss = m.resistance(m.derate_from) * (40.0 / 3.0 / m.K) ** 2
    assert m.ambient + loss * (m.R_winding + m.R_housing) == pytest.approx(m.derate_from), "a third of it for ever"


def test_stall_torque_and_the_torque_speed_line():
    for speed in (0.0, 2.0, 6.0, 11.0, -3.0):
        bench = Bench()
        bench.data.ctrl[2] = HUGE
        assert bench.hold(speed, 30) == pytest.approx(4.0 * (V - 4.0 * speed) / 1.6, rel=1e-6)


def test_torque_is_what_was_asked_until_a_limit_binds():
    bench = Bench(peak_torque=40.0)
    bench.data.ctrl[2] = 30.0
    assert bench.hold(3.0, 30) == pytest.approx(30.0, rel=1e-6)
    bench.data.ctrl[2] = 60.0
    assert bench.hold(3.0, 30) == pytest.approx(40.0)
    current = bench.power.currents(bench.mj, full_state(bench)[None])[0]
    assert current == pytest.approx([10.0]), "the drive limits the current to that torque"


def test_no_load_speed():
    bench = Bench()
    bench.data.ctrl[2] = HUGE
    mujoco.mj_step(bench.mj, bench.data, nstep=1000)
    assert bench.speed() == pytest.approx(V / 4.0, rel=1e-6)


def test_current_rises_with_the_electrical_time_constant():
    bench = Bench(electrical_time=0.006)
    bench.data.ctrl[2] = 20.0
    for k in range(1, 8):
        bench.hold(0.0, 1)
        expected = 20.0 / 4.0 * (1.0 - np.exp(-k * 0.002 / 0.006))
        assert bench.power.currents(bench.mj, full_state(bench)[None])[0, 0] == pytest.approx(expected, rel=1e-9)


def test_a_shorted_motor_brakes_by_its_back_emf():
    bench = Bench(step=0.0005, armature=0.5, electrical_time=0.004)
    bench.mj.actuator_gainprm[0, 7] = 1e-9  # no bus voltage: the drive's terminals are connected
    bench.data.qvel[bench.dof] = 10.0
    L, R, K, J = 0.004 * 1.6, 1.6, 4.0, 0.5

    def rates(t, y):
        return [(-R * y[0] - K * y[1]) / L, K * y[0] / J]

    truth = solve_ivp(rates, (0, 0.2), [0.0, 10.0], dense_output=True, rtol=1e-10, atol=1e-10).sol
    for k in range(1, 401):
        mujoco.mj_step(bench.mj, bench.data)
        assert bench.speed() == pytest.approx(truth(k * 0.0005)[1], abs=0.15), k
    assert abs(bench.speed()) < 0.2


def test_a_command_acts_after_its_delay():
    for bench, steps in ((Bench(command_delay=0.006), 3), (Bench(command_delay=-1.0, delay=0.004), 2)):
        bench.data.ctrl[2] = 10.0
        for _ in range(steps):
            bench.hold(0.0, 1)
            assert bench.data.actuator_force[0] == 0.0
        assert bench.hold(0.0, 1) > 5.0


# Friction


@pytest.mark.parametrize("speed", [0.02, 0.1, 0.3, 1.0, -4.0])
def test_friction_in_steady_motion_is_on_the_stribeck_curve(speed):
    bench = Bench(coulomb=0.2, static=0.5, stribeck=0.15, viscous=0.05)
    motor = bench.hold(speed, 2000)  # its passive forces are those of the last step's start, too
    total = bench.data.qfrc_passive[bench.dof] + motor
    dry = 0.2 + 0.3 * np.exp(-((speed / 0.15) ** 2))
    assert total == pytest.approx(-np.sign(speed) * dry - 0.05 * speed, rel=1e-6)
    assert bench.power.motors.friction(np.array([speed]))[0] == pytest.approx(-total, rel=1e-6)


def test_a_joint_sticks_below_and_breaks_loose_above_its_static_friction():
    bench = Bench(armature=0.01, coulomb=0.2, static=0.3, viscous=0.05)
    moved = []
    for torque in (0.27, 0.33):
        mujoco.mj_resetData(bench.mj, bench.data)
        for k in range(1500):
            bench.data.ctrl[2] = torque * min(1.0, k / 500)
            mujoco.mj_step(bench.mj, bench.data)
        moved.append((bench.data.qpos[-1], abs(bench.speed())))
    assert moved[0][0] < 0.02 and moved[0][1] < 1e-6
    assert moved[1][0] > 1.0 and moved[1][1] == pytest.approx((0.33 - 0.2) / 0.05, rel=0.02)


def test_a_spinning_joint_runs_down_as_its_differential_equation_says():
    """Also: the bristles' implicit damping does not slow it."""
    bench = Bench(armature=0.01, coulomb=0.2, static=0.3, stribeck=0.1, viscous=0.05)
    bench.data.qvel[bench.dof] = 5.0
    bench.data.act[:] = bench.power.activations(bench.mj, np.zeros(1), np.array([5.0]))

    def rate(t, w):
        return -bench.power.motors.friction(w) / 0.01

    truth = solve_ivp(rate, (0, 0.14), [5.0], dense_output=True, rtol=1e-10, atol=1e-10).sol
    for k in range(1, 71):
        mujoco.mj_step(bench.mj, bench.data)
        assert bench.speed() == pytest.approx(truth(0.002 * k)[0], abs=0.03)
    mujoco.mj_step(bench.mj, bench.data, nstep=1000)
    assert abs(bench.speed()) < 1e-6, "and then it stands"


def test_without_a_rotor_friction_is_mujocos_own():
    bench = Bench(armature=0.0, coulomb=0.2, static=0.2)
    assert bench.mj.dof_frictionloss[bench.dof] == 0.2 and bench.mj.na == 1


def test_ten_times_larger_steps_are_stable():
    fine, coarse = (Bench(step=h, coulomb=0.2, static=0.3, viscous=0.05) for h in (0.002, 0.02))
    for bench in (fine, coarse):
        bench.data.ctrl[2] = 2.0
        mujoco.mj_step(bench.mj, bench.data, nstep=round(20.0 / bench.step))
    assert coarse.speed() == pytest.approx(fine.speed(), rel=1e-3)
    for bench in (fine, coarse):
        bench.data.ctrl[2] = 0.0
        mujoco.mj_step(bench.mj, bench.data, nstep=round(20.0 / bench.step))
        assert abs(bench.speed()) < 1e-3


# With heat and battery


def full_state(bench):
    state = np.empty(mujoco.mj_stateSize(bench.mj, FULL))
    mujoco.mj_getState(bench.mj, bench.data, state, FULL)
    return state


def test_a_hot_motor_gives_less():
    for celsius, share in ((25.0, 1.0), (100.0, 1.0), (115.0, 0.4), (125.0, 0.0), (150.0, 0.0)):
        bench = Bench(peak_torque=40.0)
        bench.power.load(bench.mj, bench.power.start(celsius))
        bench.data.ctrl[2] = HUGE
        assert bench.hold(0.0, 30) == pytest.approx(40.0 * share, abs=1e-9)


def test_a_hot_winding_lowers_the_line_and_not_the_no_load_speed():
    bench = Bench()
    hot = bench.power.start(100.0)
    bench.power.load(bench.mj, hot)
    bench.data.ctrl[2] = HUGE
    R = 1.6 * (1.0 + 0.00385 * 75.0)
    for speed in (0.0, 9.0):
        assert bench.hold(speed, 30) == pytest.approx(4.0 * (V - 4.0 * speed) / R, rel=1e-6)
        assert bench.power.headroom(hot, np.array([speed]))[0] == pytest.approx(4.0 * (V - 4.0 * speed) / R)
    mujoco.mj_step(bench.mj, bench.data, nstep=1000)
    assert bench.speed() == pytest.approx(V / 4.0, rel=1e-6)


def test_the_bus_sags_and_with_it_the_speed():
    bench = Bench(battery={"resistance": 0.2, "idle_power": 200.0})
    sagged = bench.power.start()
    voltage = 0.5 * (V + np.sqrt(V**2 - 4 * 0.2 * 200.0))
    assert sagged.voltage == pytest.approx(voltage)
    bench.power.load(bench.mj, sagged)
    bench.data.ctrl[2] = HUGE
    mujoco.mj_step(bench.mj, bench.data, nstep=1000)
    assert bench.speed() == pytest.approx(voltage / 4.0, rel=1e-6)


# On a robot


def test_the_humanoid_stands_on_its_motors_and_its_currents_are_read(robot):
    power = Powertrain(robot.model, robot.config, robot.joints, robot.where)
    spec = SceneBuilder(robot.model, robot.config, robot.joints).build(None, 0.002, 0.004)
    power.fit(spec)
    mj = compile_spec(spec, robot.where)
    state = power.start()
    power.load(mj, state)
    d = mujoco.MjData(mj)
    robot.model.write_joints(d.qpos, robot.joints.stand)
    d.qpos[2] = 0.0
    mujoco.mj_kinematics(mj, d)
    d.qpos[2] -= min(d.site(f.frame).xpos[2] for f in robot.config.feet) - 0.001
    d.ctrl.reshape(-1, 3)[:, 0] = robot.joints.stand
    mujoco.mj_step(mj, d, nstep=1000)
    initial = np.empty(mujoco.mj_stateSize(mj, FULL))
    mujoco.mj_getState(mj, d, initial, FULL)
    ctrl = np.tile(d.ctrl, (1, 25, 1))
    states, _ = rollout.rollout(mj, d, initial[None], ctrl, initial_warmstart=d.qacc_warmstart[None].copy())
    currents, speeds = power.currents(mj, states[0]), power.speeds(mj, states[0])
    assert currents.shape == speeds.shape == (25, robot.model.n)
    assert np.array_equal(speeds[-1], d.qvel[robot.model.dof_index])
    mujoco.mj_forward(mj, d)
    knee = robot.model.joint_index["l_knee"]
    bristles = mj.actuator_dynprm[:28, 5] * d.act[::2]
    assert np.allclose(power.motors.K * currents[-1], d.actuator_force + bristles, atol=0.02)
    assert abs(d.qpos[2] - initial[3]) < 1e-3 and d.qpos[2] > 0.75
    later = power.advance(state, currents, speeds, 0.002)
    assert later.winding[knee] > later.winding[robot.model.joint_index["neck_yaw"]] > 25.0 - 1e-9
    again = power.activations(mj, power.motors.K * currents[-1], speeds[-1])
    assert np.allclose(again[1::2], currents[-1])


def test_a_pattern_for_no_joint_and_nonsense_values_are_refused(robot):
    config = build(RobotConfig, {"motors": {"l_kne": {}}}, "mine.yaml")
    with pytest.raises(ConfigError, match=r"motors: unknown joint 'l_kne'; did you mean 'l_knee'"):
        check_names(config, robot.model, "mine.yaml")
    for values, what in (
        ({"torque": 3.0}, "unknown key 'torque'"),
        ({"derate_to": 90.0}, "derate_to must be above derate_from"),
        ({"ambient": 100.0}, "derate_from must be above ambient"),
    ):
        config = build(RobotConfig, {"motors": {"*": values}}, "mine.yaml")
        with pytest.raises(ConfigError, match=what):
            Powertrain(robot.model, config, robot.joints, "mine.yaml")
