"""The synchronizer as a whole, on the simulated robot, on a time axis of the test's own."""

import dataclasses

import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.core.drift.model_version import ModelVersion
from digital_twin.core.drift.parameters import Changes, Payload
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import Joints
from digital_twin.core.rotation import log_so3, rot_z, yaw_of
from digital_twin.core.script import Script, ScriptConfig, StepConfig, load_script
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer
from digital_twin.robots import with_version

TICK = 5


class Rig:
    """Plant, sensors and synchronizer at 200 Hz, a tracker at 50 Hz and 30 ms late."""

    def __init__(self, robot, seed=1, config=None):
        self.plant = Plant(robot.description, robot.config, PlantConfig(seed=seed))
        self.sensors = Instruments(self.plant, InstrumentConfig(), 200.0)
        self.sync = Synchronizer(robot.model, robot.config, config or SynchronizerConfig())
        poses = load_script(REPOSITORY / "config/scripts/humanoid.yaml").poses
        config = ScriptConfig([StepConfig(1.5, hold="stand"), StepConfig(4.0, cycle="crouch", period=4.0)], poses)
        self.script = Script(config, self.plant.model, self.plant.joints.stand)
        self.late, self.moved = [], np.zeros(3)
        self.states = []

    def run(self, seconds, imu=True, poses=True, drop=(), efforts=True):
        for k in range(round(seconds * 200)):
            q, qd = self.script.sample(self.plant.time_ns / 1e9)
            self.plant.command(q, qd)
            self.plant.advance(TICK)
            stamp = self.plant.time_ns
            for i, foot in enumerate(self.plant.robot.feet):
                self.sync.wrench(stamp, i, self.sensors.wrench(foot.name)[0])
            if imu:
                self.sync.imu(stamp, *self.sensors.imu(0))
            q, qd, effort = self.sensors.joint_states()
            for name in drop:
                q[self.plant.joint_of(name)] = np.nan
            state = self.sync.joints(stamp, q, qd, effort if efforts else None)
            if poses and k % 4 == 0:
                p, R, covariance = self.sensors.external_pose()
                self.late.append((stamp, p + self.moved, R, covariance))
            while self.late and self.late[0][0] <= stamp - 30_000_000:
                self.sync.external_pose(*self.late.pop(0))
            if state is not None:
                self.states.append((state, self.plant.frame_pose("base_link"), self.plant.joint_positions))
        return self

    def errors(self):
        state, (p0, R0), _ = self.states[0]
        turn = rot_z(yaw_of(R0) - yaw_of(state.base.rotation))
        shift = p0 - turn @ state.base.position
        dp = [np.linalg.norm(turn @ s.base.position + shift - p) for s, (p, _), _ in self.states]
        dR = [np.linalg.norm(log_so3((turn @ s.base.rotation).T @ R)) for s, (_, R), _ in self.states]
        dq = [np.abs(s.q - q).max() for s, _, q in self.states]
        return np.array(dp), np.degrees(dR), np.array(dq)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_follows_a_squat(robot, seed):
    rig = Rig(robot, seed).run(6.0)
    dp, dR, dq = rig.errors()
    assert np.ptp([p[2] for _, (p, _), _ in rig.states]) > 0.08, "it squats"
    assert dp.max() < 0.015 and dR.max() < 2.0 and dq.max() < 0.006
    status = rig.sync.status()
    assert status.level == 0 and status.words == () and status.sync_error < 0.03
    assert status.contacts == {"left": True, "right": True}
    bias = [status.values[f"gyro_bias_{axis}"] for axis in "xyz"]
    assert np.allclose(bias, rig.sensors.gyro_bias[0], atol=2e-3)


def test_outputs_bear_the_stamp_of_their_measurement(robot):
    rig = Rig(robot).run(0.1)
    assert [s.stamp_ns for s, *_ in rig.states] == [k * 5_000_000 for k in range(1, 21)]
    assert all(s.base.stamp_ns == s.stamp_ns for s, *_ in rig.states)


def test_odometry_never_jumps_not_even_when_the_map_does(robot):
    rig = Rig(robot).run(2.0)
    rig.moved = np.array([1.0, 0.5, 0.0])
    rig.run(1.0)
    rig.sync.resync()
    rig.run(1.0)
    steps = np.diff([s.base.position for s, *_ in rig.states], axis=0)
    assert np.linalg.norm(steps, axis=1).max() < 0.005
    p, *_ = rig.sync.map_pose(rig.states[-1][0])
    assert np.linalg.norm(p - rig.states[-1][1][0] - rig.moved) < 0.02, "and the map has followed"


def test_a_model_that_knows_of_an_encoders_error_straightens_the_legs(robot):
    """Odom does not jump when it comes into service, and nothing is taken for a slip."""
    rig, knee, zero = Rig(robot), robot.model.joint_index["l_knee"], 0.05
    rig.sensors.encoder_offset[knee] += zero
    rig.run(3.0, poses=False)

    def uneven():
        base = rig.states[-1][0].base
        soles = robot.model.kinematics([f.frame for f in robot.config.feet], "base_link")
        soles.update(rig.states[-1][0].q - rig.sync._zero)
        return abs(float(np.ptp(soles.position @ base.rotation[2])))

    assert uneven() > 0.004
    told = {**vars(robot.config.joint("l_knee")), "zero_error": zero}
    config = dataclasses.replace(robot.config, joints=robot.config.joints | {"l_knee": told})
    before = len(rig.states)
    rig.sync.use(robot.model, config, Joints(config, robot.model))
    rig.run(3.0, poses=False)
    steps = np.diff([s.base.position for s, *_ in rig.states[before - 1 :]], axis=0)
    assert np.linalg.norm(steps, axis=1).max() < 0.005 and uneven() < 0.002
    values = rig.sync.status().values
    assert values["feet_dropped"] == 0 and values["doubts"] == 0 and rig.sync.status().level == 0
    assert rig.states[-1][0].q[knee] - rig.plant.joint_positions[knee] > 0.9 * zero, "readings stay readings"


def test_another_weight_changes_only_what_is_computed_of_it(robot):
    """An estimate goes on to the last bit when the model in service says what the old one said; torques follow masses."""
    config = SynchronizerConfig(estimate_effort=True)
    alone, told = (Rig(robot, config=config).run(1.0, efforts=False) for _ in range(2))
    told.sync.use(robot.model, robot.config, robot.joints)
    for r in (alone, told):
        r.run(1.0, efforts=False)
    assert np.array_equal(alone.states[-1][0].base.covariance, told.states[-1][0].base.covariance)
    changes = Changes(payloads={"torso": Payload(20.0)})
    heavy = with_version(robot, ModelVersion(robot.description.name, robot.description.sha256, changes=changes))
    told.sync.use(heavy.model, heavy.config, heavy.joints)
    for r in (alone, told):
        r.run(0.5, efforts=False)
    assert np.abs(told.states[-1][0].effort - alone.states[-1][0].effort).max() > 5.0


def test_a_twin_out_of_step_says_so_and_resync_heals_it(robot):
    rig = Rig(robot).run(2.0)
    assert rig.sync.status().level == 0
    rig.moved = np.array([0.12, 0.0, 0.0])
    rig.run(1.0)
    status = rig.sync.status()
    assert status.level == 2 and status.sync_error == pytest.approx(0.12, abs=0.02)
    assert "out of step" in status.words[0] and "~/resync" in status.words[0] and " cm" in status.words[0]
    rig.sync.resync()
    rig.run(1.0)
    assert rig.sync.status().level == 0 and rig.sync.resyncs == 1


def test_below_the_threshold_it_is_quiet(robot):
    rig = Rig(robot).run(2.0)
    rig.moved = np.array([0.03, 0.0, 0.0])
    rig.run(0.5)
    assert rig.sync.status().level == 0


def test_late_joint_states_give_no_output_and_too_late_ones_are_counted(robot):
    rig = Rig(robot).run(0.5)
    stamp = rig.plant.time_ns
    q, qd, effort = rig.sensors.joint_states()
    assert rig.sync.joints(stamp - 10_000_000, q, qd, effort) is None
    assert rig.sync.status().values["replayed"] == 1 and not rig.sync.tally.rejected
    assert rig.sync.joints(stamp - 300_000_000, q + 1, qd, effort) is None
    assert rig.sync.tally.rejected["joint_states/late"] == 1
    rig.run(0.2)
    assert rig.errors()[0].max() < 0.02


def test_efforts_are_computed_where_none_are_reported(robot):
    rig = Rig(robot).run(2.5, efforts=False)
    error = rig.states[-1][0].effort - rig.plant.joint_efforts
    assert np.sqrt(np.mean(error**2)) < 0.25 * np.sqrt(np.mean(rig.plant.joint_efforts**2))


def test_the_robots_own_odom_is_fused_only_when_asked(robot):
    for fuse in (False, True):
        rig = Rig(robot, config=SynchronizerConfig(fuse_odom=fuse)).run(1.0)
        before = rig.sync._base.state.ekf.velocity.copy()
        rig.sync.odom(rig.plant.time_ns, np.array([0.02, 0.0, 0.0]), np.eye(3) * 1e-6)
        rig.sync.status()  # takes what waits
        assert (np.linalg.norm(rig.sync._base.state.ekf.velocity - before) > 1e-6) == fuse
        rig.sync.odom(rig.plant.time_ns, np.array([50.0, 0.0, 0.0]), np.eye(3) * 1e-6)
        rig.sync.status()
        assert rig.sync.tally.rejected["odom/outlier"] == fuse


def test_the_state_can_be_asked_ahead_and_is_less_sure_there(robot):
    rig = Rig(robot).run(3.0)
    now = rig.sync.ahead(rig.plant.time_ns)
    later = rig.sync.ahead(rig.plant.time_ns + 50_000_000)
    assert now.stamp_ns == rig.plant.time_ns and later.stamp_ns == rig.plant.time_ns + 50_000_000
    assert np.allclose(now.base.position, rig.states[-1][0].base.position)
    expected = now.base.position + 0.05 * now.base.rotation @ now.base.velocity
    assert np.allclose(later.base.position, expected, atol=2e-3)
    assert (np.diag(later.base.covariance) > np.diag(now.base.covariance)).all()
    far = rig.sync.ahead(rig.plant.time_ns + 10_000_000_000)
    assert far.stamp_ns == rig.plant.time_ns + 500_000_000, "not further than half a second"
    rig.run(0.05)
    assert np.allclose(rig.states[-1][0].base.position, later.base.position, atol=0.01)


def test_base_footprint_lies_between_the_soles(robot):
    rig = Rig(robot).run(0.5)
    floor, yaw = rig.sync.footprint(rig.states[-1][0].base)
    assert floor[2] == pytest.approx(0.0, abs=0.005) and yaw == pytest.approx(0.0, abs=0.01)
    k = robot.model.kinematics(["l_sole", "r_sole"])
    k.update(rig.states[-1][0].q)
    b = rig.states[-1][0].base
    assert np.allclose(floor[:2], (b.position + k.position @ b.rotation.T).mean(axis=0)[:2], atol=1e-3)


def test_silent_and_missing_joints_are_named(robot):
    rig = Rig(robot)
    rig.run(0.2, drop=("neck_yaw",))
    assert rig.sync.status().missing_joints == ("neck_yaw",)
    assert np.isnan(rig.states[-1][0].q[robot.model.joint_index["neck_yaw"]])
    rig.run(0.2)
    rig.run(0.8, drop=("l_elbow",))
    status = rig.sync.status()
    assert status.silent_joints == ("l_elbow",) and "silent joints, held where they were: l_elbow" in status.words
    assert np.isfinite(rig.states[-1][0].q).all()


def test_a_stopped_stream_and_a_lost_tracker_are_said(robot):
    rig = Rig(robot)
    assert rig.sync.status(0).words == ("no joint states yet",)
    rig.run(1.0)
    now = rig.plant.time_ns
    assert "no joint states for 0.7 s" in rig.sync.status(now + 700_000_000).words
    assert rig.sync.status(now + 700_000_000).level == 2
    rig.run(1.5, poses=False)
    rig.late.clear()
    assert any(w.startswith("no external pose for 1.5") for w in rig.sync.status().words)


def test_without_an_imu_it_works_and_warns_only_where_one_is_expected(robot):
    rig = Rig(robot).run(3.0, imu=False)
    dp, dR, _ = rig.errors()
    assert dp.max() < 0.03 and dR.max() < 3.0


def test_a_robot_that_tips_over_is_known_to_tip(robot):
    """Its soles rock over their edges with the load still on them; the gyro is believed, not the soles."""
    rig = Rig(robot, seed=3)
    rig.run(1.4)
    rig.plant.push("torso", np.array([260.0, 60.0, 0.0]), 0.1)
    tilt, errors, speeds = 0.0, [], []
    while tilt < np.radians(30) and len(errors) < 600:
        rig.run(0.005, poses=False)
        base = rig.states[-1][0].base
        up = rig.states[-1][1][1][2]
        tilt = np.arccos(min(1.0, up[2]))
        errors.append(np.arccos(min(1.0, up @ base.rotation[2])))
        speeds.append(np.linalg.norm(rig.plant.base_twist()[0] - base.velocity))
    assert tilt >= np.radians(30)  # it did fall
    assert max(errors) < np.radians(4.0) and max(speeds) < 0.3
