"""Forecasts against MuJoCo itself, closed forms and invariants."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_model import STATE, ForecastModel
from digital_twin.core.forecaster import DivergedError, Forecaster, roll
from digital_twin.core.prediction_config import ForecastConfig
from digital_twin.core.rotation import exp_so3, log_so3
from digital_twin.robots import load_robot

ROBOT = load_robot()
N = ROBOT.model.n
STAND = ROBOT.joints.stand


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster(ROBOT.model, ROBOT.config, ROBOT.joints, ForecastConfig())


def base_state(position=None, rotation=None, velocity=(0, 0, 0), turning=(0, 0, 0), contacts=(True, True), height=0.0):
    position = np.array([0.3, -0.2, 0.83 + height]) if position is None else position
    rotation = np.eye(3) if rotation is None else rotation
    zero = np.zeros((6, 6))
    return BaseState(
        0, position, rotation, np.array(velocity, float), np.array(turning, float), zero, zero, contacts, True
    )


def holding():
    plan = CommandPlan(N, "hold")
    plan.command(0, STAND)
    return plan


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_a_state_goes_in_and_comes_out(seed):
    rng = np.random.default_rng(seed)
    model = MODEL
    q, qd = rng.uniform(ROBOT.model.lower, ROBOT.model.upper), rng.standard_normal(N)
    p, R = rng.standard_normal(3), exp_so3(rng.standard_normal(3))
    v, w = rng.standard_normal((2, 3))
    state = model.start(q, qd, p, R, v, w)
    m = model.motion(state)
    assert np.allclose(m.q, q) and np.allclose(m.qd, qd) and np.allclose(m.position, p) and np.allclose(m.rotation, R)
    assert np.allclose(m.velocity, R @ v) and np.allclose(m.angular_velocity, w)
    # And MuJoCo means the same by it.
    d = mujoco.MjData(model.mj)
    mujoco.mj_setState(model.mj, d, state, STATE)
    mujoco.mj_kinematics(model.mj, d)
    mujoco.mj_comPos(model.mj, d)
    mujoco.mj_comVel(model.mj, d)
    site, twist = model.mj.site(ROBOT.model.base_frame).id, np.zeros(6)
    mujoco.mj_objectVelocity(model.mj, d, mujoco.mjtObj.mjOBJ_SITE, site, twist, 1)
    assert np.allclose(d.site_xpos[site], p) and np.allclose(d.site_xmat[site].reshape(3, 3), R)
    assert np.allclose(twist[3:], v, atol=1e-9) and np.allclose(twist[:3], w, atol=1e-9)


MODEL = ForecastModel(ROBOT.model, ROBOT.config, ROBOT.joints)


def settled():
    """Joint positions of the robot at ease, bent by its weight."""
    start = MODEL.start(STAND, np.zeros(N), np.array([0, 0, 0.83]), np.eye(3), *np.zeros((2, 3)), (True, True))
    controls = np.zeros((1000, N, 3))
    controls[:, :, 0] = STAND
    return MODEL.motion(roll(MODEL, start, controls.reshape(1000, -1))[-1]).q


STANDING = settled()


def test_the_model_has_the_robots_mass_and_one_version():
    assert MODEL.mj.body_mass.sum() == pytest.approx(ROBOT.model.mass)
    assert MODEL.version == ForecastModel(ROBOT.model, ROBOT.config, ROBOT.joints).version
    assert MODEL.version != ForecastModel(ROBOT.model, ROBOT.config, ROBOT.joints, timestep=0.001).version


def test_a_simulators_own_steps_come_out_bit_for_bit():
    m, d = MODEL.mj, mujoco.MjData(MODEL.mj)
    mujoco.mj_setState(m, d, MODEL.start(STAND, np.zeros(N), np.array([0, 0, 0.83]), np.eye(3), *np.zeros((2, 3)), (True, True)), STATE)  # fmt: skip
    d.ctrl.reshape(N, 3)[:, 0] = STAND
    mujoco.mj_step(m, d, nstep=50)
    start, warm = np.empty(MODEL.size), d.qacc_warmstart.copy()
    mujoco.mj_getState(m, d, start, STATE)
    rng = np.random.default_rng(3)
    controls = np.tile(d.ctrl, (200, 1)) + 0.02 * rng.standard_normal((200, m.nu))
    expected = np.empty((200, MODEL.size))
    for u, row in zip(controls, expected, strict=True):
        d.ctrl[:] = u
        mujoco.mj_step(m, d)
        mujoco.mj_getState(m, d, row, STATE)
    assert roll(MODEL, start, controls, warm).tobytes() == expected.tobytes()
    assert roll(MODEL, start, controls).tobytes() != expected.tobytes()  # the warm start is part of it


@pytest.mark.parametrize("height", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("tilt", [0.0, 0.02])
def test_a_robot_that_stands_goes_on_standing(forecaster, height, tilt):
    """Whatever is wrong about the height, and about the attitude."""
    forecaster.ground.clear()
    base = base_state(rotation=exp_so3([0.0, tilt, 0.3]), height=height)
    base.covariance[3:5, 3:5] = 0.1**2 * np.eye(2)  # it may well be wrong by that much
    forecaster.ground.update(base, STANDING)
    rest = forecaster.forecast(0, STANDING, np.zeros(N), base, holding())
    later = rest.motion
    assert np.abs(later.position - base.position).max() < 0.002
    assert max(np.linalg.norm(log_so3(R @ base.rotation.T)) for R in later.rotation) < 0.004
    assert rest.assumed == "the last command held" and rest.fidelity == "contact" and len(rest.times) == 50


def test_feet_far_from_the_ground_are_not_set_down(forecaster):
    forecaster.ground.clear()
    base = base_state(height=0.5, contacts=(True, True))
    motion = forecaster.forecast(0, STAND, np.zeros(N), base, holding(), horizon=0.2).motion
    fallen = 0.5 * 9.81 * 0.2**2
    assert base.position[2] - motion.position[-1, 2] == pytest.approx(fallen, rel=0.05)


def test_in_the_air_momentum_is_kept(forecaster):
    """Contact fidelity without contact: the centre of mass flies a parabola."""
    forecaster.ground.clear()
    base = base_state(height=1.0, velocity=(0.5, -0.3, 1.0), turning=(0.4, 0.3, -0.2), contacts=(False, False))
    f = forecaster.forecast(0, STAND, np.zeros(N), base, holding(), horizon=0.3)
    m = forecaster.models["contact"].mj
    d = mujoco.MjData(m)
    states = roll(forecaster.models["contact"], f.start, f.controls)

    def com(state):
        mujoco.mj_setState(m, d, state, STATE)
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_comVel(m, d)
        mujoco.mj_subtreeVel(m, d)
        return d.subtree_com[1].copy(), d.subtree_linvel[1].copy()

    (p0, v0), (p1, _) = com(f.start), com(states[-1])
    assert p1 == pytest.approx(p0 + v0 * 0.3 + [0, 0, -0.5 * 9.81 * 0.09], abs=0.005)


def test_rigid_body_holds_the_feet_where_they_stand(forecaster):
    forecaster.ground.clear()
    base = base_state()
    plan = CommandPlan(N, "hold")
    squat = STAND.copy()
    for side in "lr":
        for joint, by in (("hip_pitch", -0.2), ("knee", 0.4), ("ankle_pitch", -0.2)):
            squat[ROBOT.model.joint_index[f"{side}_{joint}"]] += by
    plan.command(0, squat)
    motion = forecaster.forecast(0, STAND, np.zeros(N), base, plan, "rigid_body").motion
    assert np.abs(motion.q[-1] - squat).max() < 0.1 and motion.position[-1, 2] < base.position[2] - 0.02
    kinematics = ROBOT.model.kinematics(["l_sole", "r_sole"])

    def soles(q, position, rotation):
        kinematics.update(q)
        return position + kinematics.position @ rotation.T

    before = soles(STAND, base.position, base.rotation)
    assert soles(motion.q[-1], motion.position[-1], motion.rotation[-1]) == pytest.approx(before, abs=0.003)


def test_multiphysics_warms_the_motors_and_drains_the_battery(forecaster):
    forecaster.ground.clear()
    before = forecaster.power_state
    f = forecaster.forecast(0, STANDING, np.zeros(N), base_state(), holding(), "multiphysics")
    knee = ROBOT.model.joint_index["l_knee"]
    assert (
        np.abs(f.motion.position - base_state().position).max() < 0.03
    )  # it stands, on motors with friction of their own
    assert f.power.winding[-1, knee] > before.winding[knee] and f.power.energy[-1] > 0
    assert f.power.charge[-1] < before.charge and forecaster.power_state is before  # a forecast changes nothing
    for _ in range(100):
        forecaster.observe(np.full(N, 10.0), np.zeros(N), 0.01)
    assert (forecaster.power_state.winding > before.winding).all()
    forecaster.power_state = before


def test_friction_that_varies_is_renewed_on_the_way():
    config = replace(
        ROBOT.config, contacts={"*_ankle/*": {"stiffness": 3e5, "damping": 500.0, "kinetic": 0.05, "stribeck": 0.02}}
    )
    varying = Forecaster(ROBOT.model, config, ROBOT.joints, ForecastConfig(horizon=0.1))
    friction = varying.models["contact"].mj.pair_friction
    at_rest = friction[:, 0].max()
    varying.forecast(0, STANDING, np.zeros(N), base_state(velocity=(1.5, 0, 0)), holding())
    assert varying._friction["contact"].varies and friction[:, 0].min() < 0.2 < at_rest
    constant = Forecaster(ROBOT.model, ROBOT.config, ROBOT.joints, ForecastConfig(horizon=0.1))
    assert not constant._friction["contact"].varies


def test_a_motors_own_delay_is_kept():
    config = replace(ROBOT.config, motors={"l_knee": {"command_delay": 0.023}})
    late = Forecaster(ROBOT.model, config, ROBOT.joints, ForecastConfig(command_delay=0.003))
    controls = np.arange(50.0)[:, None] * np.ones(3 * N)
    knee = ROBOT.model.joint_index["l_knee"]
    shifted = late._late(controls).reshape(50, N, 3)
    assert shifted[20, knee, 0] == 10.0 and shifted[5, knee, 0] == 0.0 and shifted[20, knee - 1, 0] == 20.0


def test_kinematic_is_even_motion(forecaster):
    q, qd = STAND, np.full(N, 0.1)
    base = base_state(velocity=(1.0, 0, 0), turning=(0, 0, 0.5), rotation=exp_so3([0, 0, 0.7]))
    f = forecaster.forecast(0, q, qd, base, holding(), "kinematic", 0.4)
    t = f.times[:, None]
    assert np.allclose(f.motion.q, np.clip(q + qd * t, ROBOT.model.lower, ROBOT.model.upper))
    assert np.allclose(f.motion.position, base.position + base.rotation @ [1, 0, 0] * t)
    assert np.allclose(f.motion.rotation[-1], exp_so3([0, 0, 0.7 + 0.5 * 0.4]))
    falling = forecaster.forecast(0, q, qd, base_state(contacts=(False, False)), holding(), "kinematic", 0.4)
    assert falling.motion.position[-1, 2] - 0.83 == pytest.approx(-0.5 * 9.81 * 0.16)


def test_a_controller_in_the_loop_is_as_good_as_its_commands(forecaster):
    forecaster.ground.clear()
    seen = []

    def controller(t, q, qd):
        seen.append(q[0])
        return STAND + 0.1 * np.sin(5 * t), np.zeros(N), np.zeros(N)

    base = base_state()
    f = forecaster.forecast(0, STAND, np.zeros(N), base, holding(), horizon=0.2, controller=controller)
    assert f.assumed == "a controller" and len(seen) == 100 and seen[-1] != seen[0]
    again = roll(forecaster.models["contact"], f.start, f.controls)
    assert np.allclose(forecaster.models["contact"].motion(again).q[[9, 99]], f.motion.q[[0, 9]], atol=1e-9)
    assert np.allclose(f.set_points.position[-1], STAND + 0.1 * np.sin(5 * 0.198))


def test_a_forecast_can_be_made_again_from_what_it_keeps(forecaster):
    f = forecaster.forecast(0, STAND, np.full(N, 0.01), base_state(), holding())
    model = forecaster.models["contact"]
    states = roll(model, f.start, f.controls)[9::10]
    assert np.array_equal(model.motion(states).q, f.motion.q)


def test_on_a_slope_gravity_pulls_downhill(forecaster):
    """A real slope: the attitude is certain, the soles are flat on the incline."""
    forecaster.ground.clear()
    tilt = exp_so3([0.0, -0.12, 0.0])
    base = base_state(position=tilt @ np.array([0, 0, 0.83]), rotation=tilt)
    for _ in range(5):
        forecaster.ground.update(base, STAND)
    down = forecaster.ground.gravity(base, forecaster.config.slope)
    assert down == pytest.approx(forecaster.ground.frame() @ [0, 0, -1], abs=1e-6)
    f = forecaster.forecast(0, STAND, np.zeros(N), base, holding(), horizon=0.1)
    m = forecaster.models["contact"].mj
    assert m.opt.gravity == pytest.approx(9.81 * down, abs=1e-6)
    assert np.abs(f.motion.position[-1] - base.position).max() < 0.02
    forecaster.ground.clear()


# Bad input


@pytest.mark.parametrize(("horizon", "fidelity", "words"), [
    (1e-3, "", "0.02 to 60 s"), (3600.0, "", "0.02 to 60 s"), (0.5, "psychic", "unknown fidelity 'psychic'"),
])  # fmt: skip
def test_impossible_requests_are_refused(forecaster, horizon, fidelity, words):
    with pytest.raises(TwinError, match=words):
        forecaster.forecast(0, STAND, np.zeros(N), base_state(), holding(), fidelity, horizon)


def test_a_state_that_is_not_finite_is_refused(forecaster):
    with pytest.raises(TwinError, match="not finite"):
        forecaster.forecast(0, np.full(N, np.nan), np.zeros(N), base_state(), holding())


def test_a_simulation_that_diverges_says_what_it_began_with(forecaster):
    forecaster.ground.clear()
    with pytest.raises(DivergedError, match="diverged") as caught:
        forecaster.forecast(0, STAND, np.full(N, 1e7), base_state(), holding())
    again = caught.value
    with pytest.raises(DivergedError):
        roll(forecaster.models["contact"], again.state, again.controls)
    forecaster.forecast(0, STAND, np.zeros(N), base_state(), holding())  # and the next one is as good as ever


def test_a_start_inside_the_ground_is_survived(forecaster):
    forecaster.ground.clear()
    base = base_state(height=-0.3)
    try:
        motion = forecaster.forecast(0, STAND, np.zeros(N), base, holding()).motion
    except DivergedError:
        return
    assert np.isfinite(motion.position).all()


def test_a_base_frame_that_moves_against_the_root_is_refused():
    robot = load_robot()
    model = type(robot.model)(robot.description, "head")
    with pytest.raises(TwinError, match="'head' moves against the root link"):
        ForecastModel(model, robot.config, robot.joints)


def test_the_base_of_one_robot_is_that_of_the_motion(forecaster):
    model = forecaster.models["contact"]
    rng = np.random.default_rng(3)
    base = base_state(velocity=rng.normal(size=3), turning=rng.normal(size=3), rotation=exp_so3(rng.normal(size=3)))
    state = model.start(STAND, np.zeros(N), base.position, base.rotation, base.velocity, base.angular_velocity)
    mujoco.mj_setState(model.mj, model.data, state, STATE)
    m = model.motion(state)
    for mine, theirs in zip(
        model.base(model.data), (m.position, m.rotation, m.velocity, m.angular_velocity), strict=True
    ):
        assert np.allclose(mine, theirs)
