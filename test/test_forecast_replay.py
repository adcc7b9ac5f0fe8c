"""Forecasts made again from what they started from are the same to the last bit; what was changed is found."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from nav_msgs.msg import Odometry, Path
from rclpy.serialization import serialize_message
from ros_rig import rig
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.bags import Bag
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import STEADY, CommandPlan
from digital_twin.core.config import to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.forecast_start import ForecastStart, read_start
from digital_twin.core.prediction import State
from digital_twin.core.rotation import exp_so3
from digital_twin.nodes.physics_predictor import PhysicsPredictor
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.forecast_replay import BASE, JOINTS, START, forecaster_of, remake
from digital_twin.recording.recording import Recording
from digital_twin.robots import load_robot
from digital_twin.settings import PredictorSettings

ROBOT = load_robot()
N, STAND = ROBOT.model.n, ROBOT.joints.stand
T = 1_700_000_000_123_456_789
RNG = np.random.default_rng(3)
KINDS = {START: "std_msgs/msg/String", JOINTS: "trajectory_msgs/msg/JointTrajectory", BASE: "nav_msgs/msg/Path"}


def a_start(fidelity="contact"):
    """Of a robot that leans and moves, under commands, on a slope, with warm motors."""
    plan = CommandPlan(N, "auto", 0.003)
    for k in range(50):
        plan.command(
            T - (50 - k) * 10_000_000, STAND + 0.01 * RNG.normal(size=N), 0.1 * RNG.normal(size=N), RNG.normal(size=N)
        )
    plan.trajectory(T, np.arange(5) * 0.1, STAND + 0.02 * RNG.normal(size=(5, N)))
    base = BaseState(
        T, np.array([0.1, 0.2, 0.82]), exp_so3([0.02, 0.03, 0.4]), 0.1 * RNG.normal(size=3), 0.1 * RNG.normal(size=3),
        np.diag(RNG.uniform(1e-6, 1e-4, 6)), np.zeros((6, 6)), (True, False), True,
    )  # fmt: skip
    state = State(T, STAND + 0.01 * RNG.normal(size=N), 0.1 * RNG.normal(size=N), base)
    settings = to_plain(PredictorSettings(horizon=0.2))
    blank = ForecastStart(state, plan, fidelity, 0.0, np.array([0.01, -0.02, 1.0]), None, "", settings)
    f = forecaster_of(ROBOT, blank)
    power = f.power_state._replace(winding=f.power_state.winding + RNG.uniform(0, 20, N))
    return replace(blank, power=power, version=f.version), f


@pytest.mark.parametrize("fidelity", ["kinematic", "rigid_body", "contact", "multiphysics"])
def test_a_start_that_was_written_down_gives_the_same_forecast(fidelity):
    start, forecaster = a_start(fidelity)
    first = start.forecast(forecaster)
    again = read_start(start.text())
    assert again.text() == start.text()
    other = forecaster_of(ROBOT, again)
    other.forecast(T, STAND, np.zeros(N), start.state.base, CommandPlan(N))  # what it did before does not matter
    second = again.forecast(other)
    for name in ("q", "qd", "position", "rotation"):
        np.testing.assert_array_equal(getattr(first.motion, name), getattr(second.motion, name), err_msg=name)
    moved = replace(again, state=replace(again.state, q=again.state.q + 1e-9))
    assert not np.array_equal(moved.forecast(other).motion.q, first.motion.q), "every digit matters"


def test_only_commands_that_matter_are_written_down():
    start, _ = a_start()
    assert 1 <= len(json.loads(start.text())["plan"]["commands"]) <= STEADY and len(start.text()) < 60_000


@pytest.mark.parametrize("text", ["", "{}", "[1]", "5", '{"stamp": "x"}', "x" * 100])
def test_what_is_no_start_is_refused(text):
    with pytest.raises(TwinError, match="not the start of a forecast"):
        read_start(text)


@pytest.mark.parametrize(("key", "value"), [("q", {"shape": [3], "data": "AAAA"}), ("plan", None), ("contacts", 5), ("normal", {"shape": [1], "data": "%%%%"})])  # fmt: skip
def test_a_start_that_was_damaged_is_refused(key, value):
    m = json.loads(a_start()[0].text()) | {key: value}
    with pytest.raises(TwinError, match="not the start of a forecast"):
        read_start(json.dumps(m))


def test_another_model_is_not_taken_for_the_one():
    start, forecaster = a_start()
    with pytest.raises(TwinError, match="was made with model 0123"):
        replace(start, version="0123").forecast(forecaster)


def feed(r, k):
    """A state and a command."""
    ns = T + k * 5_000_000
    q = STAND + 0.01 * np.sin(0.1 * k)
    joints, odom = JointState(name=ROBOT.model.joint_names, position=q.tolist(), velocity=[0.0] * N), Odometry()
    command = JointState(name=ROBOT.joints.reported_names, position=q.tolist(), velocity=[0.05] * N)
    for m in (joints, odom, command):
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
    odom.pose.pose.position.z, odom.pose.pose.orientation.w = 0.83, 1.0
    for topic, m in (("joint_commands", command), ("virtual/joint_states", joints), ("virtual/odom", odom)):
        r.publisher(type(m), topic).publish(m)
    if k % 40 == 0:
        t = JointTrajectory(joint_names=ROBOT.model.joint_names, header=joints.header)
        for i in range(3):
            point = JointTrajectoryPoint(positions=(q + 0.01 * i).tolist())
            point.time_from_start.nanosec = 100_000_000 * i
            t.points.append(point)
        r.publisher(JointTrajectory, "virtual/joint_trajectory").publish(t)


def test_the_forecasts_of_a_recorded_predictor_are_made_again(tmp_path):
    with rig(PhysicsPredictor, rate=20.0, ensemble_rate=2.0, horizon=0.2) as r:
        for topic, kind in ((START, String), (JOINTS, JointTrajectory), (BASE, Path)):
            r.listen(kind, topic)
        for topic, kind in (
            ("joint_commands", JointState),
            ("virtual/joint_states", JointState),
            ("virtual/odom", Odometry),
            ("virtual/joint_trajectory", JointTrajectory),
        ):
            r.publisher(kind, topic)
        r.connected("joint_commands", "virtual/joint_states", "virtual/odom", "virtual/joint_trajectory", JOINTS, START)
        k = iter(range(10**6))
        r.until(lambda: len(r.messages[BASE]) >= 15, "forecasts", action=lambda: feed(r, next(k)))
        r.settle(0.3)
        messages = [(topic, m) for topic in KINDS for m in r.messages[topic]]
    starts = [read_start(m.data) for t, m in messages if t == START]
    assert len(starts) >= 15 and {s.plan._trajectory is not None for s in starts} >= {True}
    path = record(tmp_path / "good", messages)
    with Bag(path) as bag:
        done = remake(bag, "/", ROBOT)
    assert done.same >= 15 and done.different == 0 and done.first == "" and done.without <= 1

    changed = next(m for t, m in messages if t == JOINTS)
    q = list(changed.points[3].positions)
    q[5] = float(np.nextafter(q[5], 1.0))
    changed.points[3].positions = q
    with Bag(record(tmp_path / "bad", messages)) as bag:
        found = remake(bag, "/", ROBOT)
    assert found.different == 1 and found.same == done.same - 1 and "point 3, positions" in found.first


def record(path, messages):
    recording = Recording(path, RecordingConfig(keep=0.0), {}, [])
    numbers = {topic: recording.declare("/" + topic, kind) for topic, kind in KINDS.items()}
    for i, (topic, m) in enumerate(messages):
        recording.add(numbers[topic], time.time_ns() + i, bytes(serialize_message(m)))
    recording.close()
    return path
