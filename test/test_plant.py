"""The simulated robot stands, withstands pushes, differs from its description, and breaks on demand."""

import mujoco
import numpy as np
import pytest
from conftest import REPOSITORY, needs_icub

from digital_twin.core.errors import TwinError
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.world import load_world

EXACT = PlantConfig(mass_spread=0, friction_spread=0, armature_spread=0, strength_spread=0, motor_delay=0)


@pytest.fixture(scope="module")
def world():
    return load_world(REPOSITORY / "worlds/humanoid_world.sdf")


@pytest.fixture
def plant(robot, world):
    return Plant(robot.description, robot.config, PlantConfig(), world)


def test_it_stands(plant):
    before = plant.frame_pose("base_link")[0]
    plant.advance(5000)
    after = plant.frame_pose("base_link")[0]
    assert plant.time_ns == 5_000_000_000
    assert np.linalg.norm(after - before) < 0.005 and after[2] > 0.75
    assert np.abs(plant.joint_positions - plant.joints.stand).max() < 0.1


@pytest.mark.parametrize("degrees", range(0, 360, 45))
def test_it_stays_up_when_pushed_with_30_newton_for_a_fifth_of_a_second(plant, degrees):
    start = plant.frame_pose("torso")[0]
    plant.push("torso", 30 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0]), 0.2)
    away = 0.0
    for _ in range(100):
        plant.advance(40)
        away = max(away, float(np.linalg.norm(plant.frame_pose("torso")[0] - start)))
    position, rotation = plant.frame_pose("torso")
    assert 0.01 < away < 0.15, "it was pushed, and not far"
    assert np.linalg.norm(position - start) < 0.03 and rotation[2, 2] > 0.99


def test_a_push_gives_its_momentum(robot):
    """Far from any ground, force times time is mass times speed."""
    p = Plant(robot.description, robot.config, EXACT)
    p.mj.opt.gravity[:] = 0
    p.data.qpos[2] += 10
    p.data.qvel[:] = 0
    p.push("base_link", np.array([30.0, 0, 0]), 0.2)
    p.advance(100)
    p.advance(100)
    p.advance(100)
    mujoco.mj_subtreeVel(p.mj, p.data)
    assert p.mj.body_mass.sum() * p.data.subtree_linvel[0, 0] == pytest.approx(6.0, rel=0.01)


def test_it_is_not_the_twins_model(robot, world):
    same = Plant(robot.description, robot.config, EXACT, world)
    one, two, again = (Plant(robot.description, robot.config, PlantConfig(seed=s), world) for s in (1, 2, 1))
    assert same.mj.body_mass.sum() == pytest.approx(robot.model.mass)
    for name in ("body_mass", "dof_frictionloss", "dof_damping", "dof_armature", "actuator_biasprm"):
        a, b, c, d = (getattr(p.mj, name) for p in (one, two, again, same))
        assert not np.allclose(a, b) and not np.allclose(a, d), name
        assert np.array_equal(a, c), name
    for p in (one, again):
        p.advance(200)
    assert np.array_equal(one.data.qpos, again.data.qpos)


def test_the_sole_sensors_carry_the_weight(robot, world):
    p = Plant(robot.description, robot.config, EXACT, world)
    p.advance(2000)
    forces = [p.wrench(side)[0] for side in ("left", "right")]
    feet = 2 * p.mj.body("l_ankle").mass[0]
    assert sum(f[2] for f in forces) == pytest.approx((p.model.mass - feet) * 9.81, rel=1e-3)
    assert all(f[2] > 200 for f in forces), "+z under load"


def test_the_imu_reads_g_upwards_at_rest(plant):
    plant.advance(3000)
    gyro, accel = plant.imu(0)
    _, R = plant.frame_pose("imu_link")
    assert np.allclose(R @ accel, [0, 0, 9.81], atol=0.02) and np.linalg.norm(gyro) < 0.01


def test_the_base_twist_is_the_derivative_of_its_pose(plant):
    plant.push("torso", np.array([60.0, 40.0, 0]), 0.3)
    plant.advance(100)
    p0, R0 = plant.frame_pose("base_link")
    v, w = plant.base_twist()
    plant.advance(1)
    p1, R1 = plant.frame_pose("base_link")
    assert np.allclose(R0.T @ (p1 - p0) / 0.001, v, atol=2e-3)
    turn = (R0.T @ R1 - np.eye(3)) / 0.001
    assert np.allclose([turn[2, 1], turn[0, 2], turn[1, 0]], w, atol=2e-2)


def test_commands_are_followed_after_the_motors_delay(robot, world):
    p = Plant(robot.description, robot.config, PlantConfig(motor_delay=0.004), world)
    i = p.joint_of("l_elbow")
    target = p.joints.stand.copy()
    target[i] -= 0.3
    torque = p.joint_efforts[i]
    p.command(position=target)
    p.advance(3)
    assert abs(p.joint_efforts[i] - torque) < 1.0, "not before the delay"
    p.advance(1)
    assert abs(p.joint_efforts[i] - torque) > 5.0
    p.advance(1500)
    assert p.joint_positions[i] == pytest.approx(target[i], abs=0.05)


def test_torques_stay_within_the_motors_limits(plant):
    plant.command(position=plant.model.lower.clip(-2), effort=np.full(plant.model.n, 1e4))
    for _ in range(50):
        plant.advance(5)
        assert np.all(np.abs(plant.joint_efforts) <= plant.model.max_effort + 1e-9)


def test_without_positions_the_joints_are_only_damped(plant):
    plant.command(velocity=np.zeros(plant.model.n))
    plant.advance(1500)
    assert plant.frame_pose("base_link")[0][2] < 0.6, "it sinks"


def test_a_scan_sees_the_world_and_not_the_robot(plant):
    angles = np.array([0.0, np.pi])
    ahead, behind = plant.scan("lidar_link", angles, 20.0)
    x = plant.frame_pose("lidar_link")[0][0]
    assert ahead == pytest.approx(4.0 - 0.075 - x, abs=0.02) and np.isinf(behind)


# Faults


def test_a_payload_is_felt_by_the_soles_and_taken_away_again(robot, world):
    p = Plant(robot.description, robot.config, EXACT, world)
    p.advance(1000)
    before = sum(p.wrench(s)[0][2] for s in ("left", "right"))
    p.set_payload("l_gripper", 2.0)
    p.advance(3000)
    assert sum(p.wrench(s)[0][2] for s in ("left", "right")) - before == pytest.approx(2 * 9.81, rel=0.02)
    p.set_payload("l_gripper", 0.0)
    p.advance(3000)
    assert sum(p.wrench(s)[0][2] for s in ("left", "right")) == pytest.approx(before, rel=0.01)


def test_a_dead_motor_gives_nothing_and_heals(plant):
    i = plant.joint_of("l_elbow")
    target = plant.joints.stand.copy()
    target[i] = -1.2
    plant.set_motor_strength("l_elbow", 0.0)
    plant.command(position=target)
    plant.advance(500)
    assert plant.joint_efforts[i] == 0.0 and abs(plant.joint_positions[i]) < 0.5
    plant.heal()
    plant.advance(1500)
    assert plant.joint_positions[i] == pytest.approx(-1.2, abs=0.1)


def test_a_weak_motor_gives_its_share(robot, world):
    strong, weak = (Plant(robot.description, robot.config, EXACT, world) for _ in range(2))
    weak.set_motor_strength("l_elbow", 0.5)
    i = strong.joint_of("l_elbow")
    for p in (strong, weak):
        target = p.joint_positions
        target[i] -= 0.01
        p.command(position=target)
        p.advance(1)
    assert weak.joint_efforts[i] == pytest.approx(0.5 * strong.joint_efforts[i], rel=0.05)


def test_friction_slows_a_swing(robot, world):
    free, stiff = (Plant(robot.description, robot.config, EXACT, world) for _ in range(2))
    stiff.set_joint_friction("l_shoulder_pitch", 50.0)
    i = free.joint_of("l_shoulder_pitch")
    for p in (free, stiff):
        p.command(velocity=np.zeros(1), joints=np.array([i]))
        p.mj.actuator_biasprm[i, 2] = 0.0
        p.data.qvel[p.model.dof_index.start + i] = 3.0
        p.advance(100)
    assert abs(free.joint_velocities[i]) > 3 * abs(stiff.joint_velocities[i])


def test_unknown_targets_are_named(plant):
    with pytest.raises(TwinError, match="unknown joint 'l_kne'; did you mean 'l_knee'"):
        plant.set_motor_strength("l_kne", 0.5)
    with pytest.raises(TwinError, match="unknown frame"):
        plant.push("nose", np.zeros(3), 0.1)


def test_a_simulation_that_diverges_says_so(plant):
    plant.data.qvel[10] = np.nan
    with pytest.raises(TwinError, match="diverged"):
        plant.advance(1)


@needs_icub
def test_any_humanoid_stands_on_its_soles(icub, world):
    """iCub's collision meshes are not here: it stands on the polygons of its robot config."""
    p = Plant(icub.description, icub.config, EXACT, world)
    p.advance(500)
    assert p.data.ncon > 0
    forces = [p.wrench(side)[0][2] for side in ("left", "right")]
    assert 0.5 < sum(forces) / (p.model.mass * 9.81) < 1.2
