"""Torques and sole forces from joints, gyro and accelerometer: against the simulated robot, and by finite differences."""

import numpy as np
import pytest

from digital_twin.core.drift.dynamics import BodyDynamics
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.script import Script, load_script
from digital_twin.paths import find

BOTH = (True, True)


@pytest.fixture(scope="module")
def exact(robot):
    """A robot that is exactly as described."""
    c = PlantConfig(mass_spread=0.0, friction_spread=0.0, armature_spread=0.0, strength_spread=0.0)
    return Plant(robot.description, robot.config, c)


@pytest.fixture(scope="module")
def dynamics(robot):
    return BodyDynamics(robot.model, robot.config, robot.joints)


def readings(plant):
    """What ideal sensors read: the arguments of `balance`."""
    gyro, accel = plant.imu(0)
    dofs, mj = plant.model.dof_index, plant.data
    wrenches = np.array([np.concatenate(plant.wrench(f.name)) for f in plant.robot.feet])
    return (
        plant.joint_positions, plant.joint_velocities, mj.qacc[dofs].copy(), gyro, accel, mj.qacc[3:6].copy(), wrenches
    )  # fmt: skip


def squat(plant, robot, seconds):
    script = Script(load_script(find("squats.yaml", "config/scripts")), robot.model, robot.joints.stand)
    start = plant.time_ns
    while plant.time_ns - start < seconds * 1e9:
        plant.command(*script.sample(plant.time_ns / 1e9))
        plant.advance(10)
        yield


def test_a_squatting_robot_is_in_balance(robot, exact, dynamics):
    """Forces and torques on the base cancel to rounding; torques but for how MuJoCo softens friction."""
    moved = 0.0
    for _ in squat(exact, robot, 1.5):
        said = dynamics.balance(*readings(exact), BOTH)
        assert np.abs(said.base).max() < 1e-4
        assert np.abs(exact.joint_efforts - said.needed).max() < 2.0 * dynamics.friction.max()
        moved = max(moved, float(np.abs(exact.joint_velocities).max()))
        assert np.abs(said.turn).max() < 5e-3 and np.abs(said.feel).max() < 0.2, "the soles are soft, and no more"
    assert moved > 0.5


def test_turning_the_world_changes_nothing(robot, exact, dynamics):
    """No attitude is needed: only readings in the body count. A sideways accelerometer is another pose, not an error."""
    q, qd, qdd, gyro, accel, rate, wrenches = readings(exact)
    whole = dynamics.balance(q, qd, qdd, gyro, accel, rate, wrenches, BOTH)
    tilted = dynamics.balance(q, qd, qdd, gyro, exp_so3([0.1, 0.0, 0.0]) @ accel, rate, wrenches, BOTH)
    assert np.linalg.norm(tilted.base[:3] - whole.base[:3]) == pytest.approx(
        2 * np.sin(0.05) * np.linalg.norm(accel) * dynamics.mass, rel=0.02
    )


def test_mass_regressors_are_the_derivatives(robot, exact, dynamics):
    list(squat(exact, robot, 0.7))
    args = readings(exact)
    torque, base = dynamics.mass_regressors(*args[:6])
    before = dynamics.balance(*args, BOTH)
    for k in (0, 5, len(dynamics.bodies) - 1):
        factors = np.ones(len(dynamics.bodies))
        factors[k] += 0.3
        dynamics.set_masses(factors)
        after = dynamics.balance(*args, BOTH)
        dynamics.set_masses(np.ones(len(dynamics.bodies)))
        assert np.allclose((after.needed - before.needed) / 0.3, torque[:, k], atol=1e-8)
        # The residual is what is measured minus what is needed: it grows by what the robot has and the model has not.
        assert np.allclose((before.base - after.base) / 0.3, base[:, k], atol=1e-8)


def test_a_payloads_signature_is_what_it_does(robot, exact):
    dynamics = BodyDynamics(robot.model, robot.config, robot.joints)
    list(squat(exact, robot, 0.4))
    exact.set_payload("l_gripper", 2.0)
    list(squat(exact, robot, 1.0))
    args = readings(exact)
    said = dynamics.balance(*args, BOTH)
    torque, base = dynamics.payload_regressor(robot.model.frame_id("l_gripper"))
    exact.heal()
    assert np.allclose(said.base, 2.0 * base, atol=0.05)
    error = exact.joint_efforts - said.needed
    arm = [robot.model.joint_index[j] for j in ("l_shoulder_pitch", "l_shoulder_roll", "l_elbow")]
    assert np.abs(error[arm]).max() > 1.0
    assert np.allclose(error, 2.0 * torque, atol=2.5 * dynamics.friction.max())


def test_an_accelerometers_bias_is_what_it_does(exact, dynamics):
    args = list(readings(exact))
    before = dynamics.balance(*args, BOTH)
    for axis in np.eye(3):
        args[4] = readings(exact)[4] + 0.3 * axis
        after = dynamics.balance(*args, BOTH)
        torque, base = dynamics.shaken(axis)
        assert np.allclose(after.base - before.base, 0.3 * base, atol=1e-8)
        assert np.allclose(before.needed - after.needed, 0.3 * torque, atol=1e-8)
        assert np.allclose(after.feel - before.feel, 0.3 * axis, atol=1e-8)


def test_gyro_bias_shows_against_the_feet(exact, dynamics):
    args = list(readings(exact))
    before = dynamics.balance(*args, BOTH).turn
    args[3] = args[3] + np.array([0.01, -0.02, 0.03])
    assert np.allclose(dynamics.balance(*args, BOTH).turn - before, [0.01, -0.02, 0.03], atol=1e-9)


def test_in_the_air_nothing_is_said_of_the_feet(exact, dynamics):
    said = dynamics.balance(*readings(exact), (False, False))
    assert np.isnan(said.turn).all() and np.isnan(said.feel).all() and np.isfinite(said.needed).all()


def test_legs_carry_the_feet_and_arms_do_not(robot, dynamics):
    carried = {name for name, c in zip(robot.model.joint_names, dynamics.carries, strict=True) if c}
    assert {"l_knee", "r_ankle_roll"} <= carried and not carried & {"l_elbow", "neck_yaw", "waist_yaw"}


def test_couplings_are_what_accelerations_cost(robot, dynamics):
    """Columns of the mass matrix, rotors included, by differences of the balance; the root link's are an IMU's readings."""
    n, still = robot.model.n, np.zeros(robot.model.n)
    quiet = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros((2, 6)), BOTH

    def rows(qdd=still, accel=quiet[1], turn_rate=quiet[2]):
        said = dynamics.balance(robot.joints.stand, still, qdd, quiet[0], accel, turn_rate, *quiet[3:])
        return np.concatenate([said.needed, -said.base])

    M = dynamics.couplings(robot.joints.stand)
    nothing = rows()
    for i, unit in enumerate(np.eye(n)):
        assert M[:, i] == pytest.approx(rows(qdd=unit) - nothing, abs=1e-9), robot.model.joint_names[i]
    assert pytest.approx(M.T, abs=1e-12) == M
    imu = robot.model.kinematics([robot.config.imus[0].frame])
    imu.update(robot.joints.stand)
    for i, unit in enumerate(np.eye(3)):
        assert M[:, n + i] == pytest.approx(rows(accel=imu.rotation[0].T @ unit) - nothing, abs=1e-9)


def test_what_a_joint_carries_is_what_hangs_below_it(robot, dynamics):
    carried = dict(zip(robot.model.joint_names, dynamics.carried(), strict=True))
    assert carried["l_wrist_pitch"] < carried["l_elbow"] < carried["l_shoulder_pitch"] < carried["waist_yaw"]
    assert carried["waist_yaw"] < dynamics.mass and carried["l_ankle_roll"] == 0.0, "feet count for nothing"
    arm = carried["l_elbow"]
    dynamics.set_masses(2.0 * dynamics.masses)
    assert dynamics.carried()[robot.model.joint_index["l_elbow"]] == pytest.approx(2.0 * arm)
    dynamics.set_masses(0.5 * dynamics.masses)
