"""Torques against MuJoCo's own: of a plant that stands, and of a body that moves in the air."""

import mujoco
import numpy as np
import pytest

from digital_twin.core.base_state import BaseState
from digital_twin.core.inverse_dynamics import InverseDynamics
from digital_twin.core.model import RobotModel
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.rotation import exp_so3, quat_from_matrix, wxyz_from_xyzw

EXACT = PlantConfig(mass_spread=0, friction_spread=0, armature_spread=0, strength_spread=0, motor_delay=0)
FEET = ["l_sole", "r_sole"]
EVEN = np.ones(2)
STILL = np.zeros(3)


@pytest.fixture(scope="module")
def standing(robot):
    plant = Plant(robot.description, robot.config, EXACT)
    plant.advance(2000)
    return plant


@pytest.fixture(scope="module")
def dynamics(robot):
    return InverseDynamics(robot.model, FEET)


def base_state(position, rotation, velocity=STILL, angular=STILL, contacts=(True, True)):
    return BaseState(0, position, rotation, velocity, angular, np.eye(6), np.eye(6), contacts, True)


def efforts_of(plant, dynamics, contacts=(True, True), load=EVEN, qdd=None):
    base = base_state(*plant.frame_pose("base_link"), *plant.base_twist(), contacts)
    qdd = np.zeros(plant.model.n) if qdd is None else qdd
    return dynamics.efforts(base, STILL, plant.joint_positions, plant.joint_velocities, qdd, load)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def test_the_torques_of_a_robot_that_stands_are_those_of_its_motors(standing, dynamics):
    torques = efforts_of(standing, dynamics)
    assert rms(standing.joint_efforts) > 4.0
    assert rms(torques - standing.joint_efforts) < 0.05


def test_the_feet_give_the_weight_together(standing, dynamics, robot):
    """By virtual work: what the feet add to the torques is −Jᵀ f, and f bears the weight."""
    with_feet = efforts_of(standing, dynamics)
    without = efforts_of(standing, dynamics, contacts=(False, False))
    kinematics = robot.model.kinematics(FEET)
    kinematics.update(standing.joint_positions)
    R = standing.frame_pose("base_link")[1]
    J = np.vstack([np.vstack(kinematics.jacobian(i)) for i in (0, 1)])  # in the base frame
    wrenches = np.linalg.lstsq(J.T, without - with_feet, rcond=None)[0].reshape(2, 2, 3)
    weight = robot.model.mass * 9.81
    assert np.allclose(R @ wrenches[:, 0].sum(axis=0), [0.0, 0.0, weight], atol=1e-6 * weight)
    assert wrenches[0, 0, 2] == pytest.approx(weight / 2, rel=0.01)


def test_a_foot_bears_what_its_share_of_the_load_says(standing, dynamics, robot):
    """On one foot alone the other's leg hangs: its torques are small ones."""
    left, right = (efforts_of(standing, dynamics, load=load) for load in (np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    i = robot.model.joint_index
    assert abs(left[i["l_knee"]]) > 20.0 and abs(left[i["r_knee"]]) < 0.3 * abs(left[i["l_knee"]])
    assert abs(right[i["r_knee"]]) > 20.0 and abs(right[i["l_knee"]]) < 0.3 * abs(right[i["r_knee"]])
    for load in (np.zeros(2), np.array([-3.0, -5.0]), np.array([250.0, 250.0])):
        assert np.allclose(efforts_of(standing, dynamics, load=load), efforts_of(standing, dynamics), atol=1e-9)
    one = efforts_of(standing, dynamics, contacts=(True, False))
    assert np.allclose(one, left, atol=0.5), "a foot that does not stand bears nothing, whatever its load"


def in_the_air(model, rng, feet=()):
    n = model.n
    middle = np.where(np.isfinite(model.lower + model.upper), 0.5 * (model.lower + model.upper), 0.0)
    q, qd, qdd = middle + 0.1 * rng.uniform(-1, 1, n), rng.uniform(-1, 1, n), rng.uniform(-5, 5, n)
    R = exp_so3(rng.uniform(-1, 1, 3))
    base = base_state(rng.uniform(-1, 1, 3), R, rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), (False,) * len(feet))
    return base, rng.uniform(-3, 3, 3), q, qd, qdd


@pytest.mark.parametrize("seed", range(3))
def test_in_the_air_they_are_those_of_mujocos_inverse(robot, seed):
    """The base of this robot is its root link, so that its state can be written as MuJoCo's."""
    model, rng = robot.model, np.random.default_rng(seed)
    base, acceleration, q, qd, qdd = in_the_air(model, rng, FEET)
    d = mujoco.MjData(model.mj)
    d.qpos[:3], d.qpos[3:7] = base.position, wxyz_from_xyzw(quat_from_matrix(base.rotation))
    d.qpos[model.qpos_index] = q
    d.qvel[:3], d.qvel[3:6], d.qvel[model.dof_index] = base.rotation @ base.velocity, base.angular_velocity, qd
    d.qacc[:3], d.qacc[model.dof_index] = acceleration, qdd
    mujoco.mj_inverse(model.mj, d)
    got = InverseDynamics(model, FEET).efforts(base, acceleration, q, qd, qdd, EVEN)
    assert np.allclose(got, d.qfrc_inverse[model.dof_index], atol=1e-9) and rms(got) > 0.5


def test_nothing_is_remembered_from_one_call_to_the_next(robot, standing):
    dynamics, rng = InverseDynamics(robot.model, FEET), np.random.default_rng(5)
    first = efforts_of(standing, dynamics)
    dynamics.efforts(*in_the_air(robot.model, rng, FEET), EVEN)
    assert np.allclose(efforts_of(standing, dynamics), first, atol=1e-9)


def test_they_do_not_depend_on_where_it_is_or_where_it_heads(robot, standing):
    dynamics = InverseDynamics(robot.model, FEET)
    p, R = standing.frame_pose("base_link")
    turn = exp_so3([0.0, 0.0, 2.0])
    args = STILL, standing.joint_positions, np.zeros(28), np.zeros(28), EVEN
    here, there = dynamics.efforts(base_state(p, R), *args), dynamics.efforts(base_state(p + 5.0, turn @ R), *args)
    assert np.allclose(here, there, atol=1e-6)


@pytest.mark.parametrize("frame", ["imu_link", "torso"])
def test_it_matters_not_which_frame_is_called_the_base_when_the_robot_stands(robot, standing, frame):
    args = STILL, standing.joint_positions, np.zeros(28), np.zeros(28), EVEN
    by_root, by_frame = (
        InverseDynamics(RobotModel(robot.description, f), FEET).efforts(base_state(*standing.frame_pose(f)), *args)
        for f in ("base_link", frame)
    )
    assert np.allclose(by_frame, by_root, atol=1e-6) and rms(by_root) > 4.0


def test_it_matters_not_which_frame_is_called_the_base_when_it_turns(robot):
    """The torso for a base, turned against the root link by the waist, while all turns about the root link."""
    model, rng = RobotModel(robot.description, "torso"), np.random.default_rng(6)
    q = robot.joints.stand.copy()
    q[model.joint_index["waist_pitch"]] = 0.5
    d = mujoco.MjData(model.mj)
    d.qpos[3:7] = wxyz_from_xyzw(quat_from_matrix(exp_so3(rng.uniform(-1, 1, 3))))
    d.qpos[model.qpos_index] = q
    mujoco.mj_kinematics(model.mj, d)
    root, torso = d.site("base_link"), d.site("torso")
    R_root, R = root.xmat.reshape(3, 3).copy(), torso.xmat.reshape(3, 3).copy()
    w, arm, v = np.array([0.5, -1.0, 2.0]), torso.xpos - root.xpos, np.array([0.4, 0.1, -0.2])
    d.qvel[:3], d.qvel[3:6] = v, R_root.T @ w
    d.qacc[:] = 0.0
    mujoco.mj_inverse(model.mj, d)
    base = base_state(torso.xpos.copy(), R, R.T @ (v + np.cross(w, arm)), R.T @ w, (False, False))
    got = InverseDynamics(model, FEET).efforts(base, STILL, q, np.zeros(28), np.zeros(28), EVEN)
    assert np.allclose(got, d.qfrc_inverse[model.dof_index], atol=1e-6) and rms(got) > 2.0


def test_the_motors_turn_their_own_rotors_too(robot):
    """An arm that swings in the air: the plant's motors accelerate the inertia of rotors, seen through the gears."""
    plant = Plant(robot.description, robot.config, EXACT)
    i = plant.model.joint_index["l_wrist_yaw"]
    dynamics = InverseDynamics(plant.model, FEET, robot.joints.armature)
    target, errors = robot.joints.stand.copy(), []
    for k in range(100):
        target[i] = 0.5 * np.sin(2 * np.pi * 3 * k * 0.005)
        plant.command(position=target)
        plant.advance(5)
        qdd = np.array(plant.data.qacc[plant.model.dof_index])
        errors.append(efforts_of(plant, dynamics, qdd=qdd)[i] - plant.joint_efforts[i])
    assert rms(errors) < 0.1
