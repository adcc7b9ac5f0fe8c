"""physical_bridge with real rclpy: what it passes, refuses, counts and commands."""

import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from ros_rig import rig
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray, Int64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from digital_twin.core.errors import ConfigError
from digital_twin.nodes.physical_bridge import PhysicalBridge
from digital_twin.ros.qos import SENSOR_IN

STATUS = "twin/bridge_status"


def stamped(m, ns=None):
    m.header.stamp.sec, m.header.stamp.nanosec = divmod(time.time_ns() if ns is None else ns, 10**9)
    return m


def joint_state(robot, q=None, ns=None, **fields):
    q = robot.joints.stand if q is None else q
    return stamped(JointState(**({"name": robot.model.joint_names, "position": list(map(float, q))} | fields)), ns)


def imu(gyro=(0.0, 0, 0), accel=(0.0, 0, 9.81), ns=None):
    m = stamped(Imu(), ns)
    m.orientation_covariance[0] = -1.0
    m.angular_velocity.x, m.angular_velocity.y, m.angular_velocity.z = map(float, gyro)
    m.linear_acceleration.x, m.linear_acceleration.y, m.linear_acceleration.z = map(float, accel)
    return m


def counts(r):
    """The bridge's counters, read where they are kept: no wait for the next status."""
    return r.nodes[0].tally


def send(r, topic, *messages):
    """Publish messages and wait until the bridge has had them all."""
    before = counts(r).received[topic]
    for m in messages:
        r.publisher(type(m), topic).publish(m)
        got = counts(r).received[topic]
        r.until(lambda got=got: counts(r).received[topic] > got, f"the bridge to take {topic}")
    assert counts(r).received[topic] == before + len(messages)


@pytest.fixture
def bridge():
    with rig(PhysicalBridge) as r:
        for kind, topic in (
            (JointState, "physical/joint_states"), (Imu, "physical/imu/data"),
            (WrenchStamped, "physical/feet/left/wrench"), (PoseWithCovarianceStamped, "physical/external_pose"),
        ):  # fmt: skip
            r.listen(kind, topic)
            r.publisher(kind, topic.removeprefix("physical/"))
        r.connected("joint_states", "imu/data", "physical/joint_states", "physical/imu/data", "physical/external_pose")
        yield r


def test_good_messages_pass_with_their_stamp_unchanged(bridge, robot):
    sent = [joint_state(robot, ns=time.time_ns() + k * 5_000_000) for k in range(5)]
    send(bridge, "joint_states", *sent)
    bridge.until(lambda: len(bridge.messages["physical/joint_states"]) == 5, "five joint states")
    for a, b in zip(sent, bridge.messages["physical/joint_states"], strict=True):
        assert a.header.stamp == b.header.stamp and a.name == b.name and a.position == b.position
    m = imu((0.1, 0.2, 0.3))
    send(bridge, "imu/data", m)
    bridge.until(lambda: bridge.messages["physical/imu/data"], "an imu")
    assert bridge.messages["physical/imu/data"][0] == m


def test_what_is_not_fit_is_refused_and_counted_by_reason(bridge, robot):
    n, now = robot.model.n, time.time_ns()
    stand = robot.joints.stand
    bad = stand.copy()
    bad[3] = np.nan
    send(bridge, "joint_states", joint_state(robot, ns=now))
    step = iter(range(1, 100))
    at = lambda: now + next(step) * 1_000_000  # noqa: E731
    send(
        bridge, "joint_states",
        joint_state(robot, bad, at()),                                                     # one joint NaN
        joint_state(robot, np.full(n, np.inf), at()),                                      # all infinite
        joint_state(robot, stand[:-1], at()),                                              # sizes differ
        joint_state(robot, stand, at(), velocity=[0.0] * 3),
        joint_state(robot, [0.1], at(), name=["nobody"]),                                  # unknown joint
        joint_state(robot, ns=now),                                                        # a duplicate
        joint_state(robot, ns=now - 300_000_000),                                          # too old
        joint_state(robot, ns=now + 10_000_000_000),                                       # from the future
        joint_state(robot, stand + 9, at()),                                               # beyond all limits
    )  # fmt: skip
    assert {k.split("/")[1]: v for k, v in counts(bridge).rejected.items()} == {
        "non_finite": 2, "size": 2, "unknown_joint": 1, "duplicate": 1, "too_old": 1, "future": 1, "out_of_limits": 1,
    }  # fmt: skip
    send(bridge, "joint_states", joint_state(robot, ns=at()))
    bridge.until(lambda: len(bridge.messages["physical/joint_states"]) >= 3, "the good ones")
    passed = bridge.messages["physical/joint_states"]
    assert [len(m.name) for m in passed] == [n, n - 1, n] and robot.model.joint_names[3] not in passed[1].name
    assert all(np.isfinite(m.position).all() for m in passed)


def test_other_sensors_are_checked_too(bridge):
    send(bridge, "imu/data", imu(gyro=(np.nan, 0, 0)), imu(accel=(0, 0, 1e4)))
    wrench = stamped(WrenchStamped())
    wrench.wrench.force.z = float("inf")
    send(bridge, "feet/left/wrench", wrench)
    pose = stamped(PoseWithCovarianceStamped())
    pose.pose.pose.orientation.w = 0.0  # no direction
    negative = stamped(PoseWithCovarianceStamped())
    negative.pose.covariance[0] = -1.0
    send(bridge, "external_pose", pose, negative)
    assert dict(counts(bridge).rejected) == {
        "imu/data/non_finite": 1, "imu/data/out_of_limits": 1, "feet/left/wrench/non_finite": 1,
        "external_pose/quaternion": 1, "external_pose/covariance": 1,
    }  # fmt: skip
    bridge.settle(0.1)
    assert not any(bridge.messages[f"physical/{t}"] for t in ("imu/data", "feet/left/wrench", "external_pose"))


def test_an_attitude_that_is_none_is_marked_as_not_given(bridge):
    m = stamped(Imu())
    m.linear_acceleration.z = 9.81
    m.orientation.w = 0.0
    send(bridge, "imu/data", m)
    bridge.until(lambda: bridge.messages["physical/imu/data"], "the imu")
    assert bridge.messages["physical/imu/data"][0].orientation_covariance[0] == -1.0


def test_a_flood_is_cut_and_the_bridge_goes_on(bridge, robot):
    now = time.time_ns()
    for k in range(3000):
        bridge.publisher(JointState, "joint_states").publish(joint_state(robot, ns=now + k * 200_000))
        bridge.executor.spin_once(timeout_sec=0.0)
    bridge.settle(0.5)
    assert counts(bridge).rejected["joint_states/flood"] > 100
    passed = len(bridge.messages["physical/joint_states"])
    send(bridge, "joint_states", joint_state(robot))
    bridge.until(lambda: len(bridge.messages["physical/joint_states"]) > passed, "life after the flood")


def test_a_stepped_clock_is_followed_and_said(bridge, robot):
    start = time.time_ns()
    send(bridge, "joint_states", *(joint_state(robot, ns=start + k * 5_000_000) for k in range(10)))
    bridge.until(
        lambda: bridge.nodes[0]._intake.guards["joint_states"].clock_steps == 1, "the step to be noticed",
        action=lambda: bridge.publisher(JointState, "joint_states").publish(joint_state(robot, ns=time.time_ns() - 10**9)),
    )  # fmt: skip
    m = joint_state(robot, ns=time.time_ns() - 10**9)
    send(bridge, "joint_states", m)
    seen = lambda: [x.header.stamp for x in bridge.messages["physical/joint_states"]]  # noqa: E731
    bridge.until(lambda: m.header.stamp in seen(), "data on the new clock")
    assert counts(bridge).rejected["joint_states/too_old"] > 0  # until it was clear that the clock had gone back


def test_the_status_tells_rates_refusals_and_work(bridge, robot):
    bridge.listen(DiagnosticArray, STATUS)
    action = lambda: bridge.publisher(JointState, "joint_states").publish(joint_state(robot))  # noqa: E731
    bridge.until(lambda: len(bridge.messages[STATUS]) >= 4, "four statuses", action=action, period=0.01)
    status = bridge.status(STATUS)
    assert 30 < float(status["rate_hz/physical/joint_states"]) < 105 and float(status["loop_ms/avg"]) > 0
    assert int(status["received/joint_states"]) == int(status["sent/physical/joint_states"])
    assert status["level"] == 0


def test_arrival_times_are_noted(bridge, robot):
    bridge.listen(Int64MultiArray, "twin/arrivals")
    bridge.connected("twin/arrivals")
    before = time.time_ns()
    m = joint_state(robot)
    send(bridge, "joint_states", m)
    bridge.until(lambda: bridge.messages["twin/arrivals"], "the arrivals")
    stamp, arrival = bridge.messages["twin/arrivals"][0].data
    assert stamp == m.header.stamp.sec * 10**9 + m.header.stamp.nanosec and before < arrival < time.time_ns()


# Down


def alive(r):
    """The twin gives a sign of life, and the robot its joints."""
    r.publisher(DiagnosticArray, "twin/sync_status").publish(DiagnosticArray())


def open_bridge(r, robot, kind=JointState):
    r.listen(kind, "joint_commands", SENSOR_IN)
    for k, t in (
        (JointState, "joint_states"),
        (JointState, "virtual/joint_commands"),
        (DiagnosticArray, "twin/sync_status"),
    ):
        r.publisher(k, t)
    r.connected("joint_states", "virtual/joint_commands", "twin/sync_status", "joint_commands")
    send(r, "joint_states", joint_state(robot))
    send(r, "twin/sync_status", DiagnosticArray())


def command(robot, q=None, **fields):
    return joint_state(robot, q, **fields)


def feeding(r, robot, q=None):
    def act():
        alive(r)
        r.publisher(JointState, "virtual/joint_commands").publish(command(robot, q))

    return act


def test_commands_pass_within_limits_in_a_simulation():
    from digital_twin.robots import load_robot

    robot = load_robot()
    with rig(PhysicalBridge, safety__active=False) as r:
        open_bridge(r, robot)
        target = robot.joints.stand + 100.0
        r.until(
            lambda: r.messages["joint_commands"]
            and np.allclose(r.messages["joint_commands"][-1].position, robot.model.upper), "the joints to be led to their limits",
            action=feeding(r, robot, target),
        )  # fmt: skip
        outs = r.messages["joint_commands"]
        assert np.allclose(outs[0].position, robot.joints.stand, atol=1e-9), "from where they are"
        assert all(np.all(np.array(m.position) <= robot.model.upper + 1e-12) for m in outs)
        assert outs[-1].name == robot.model.joint_names


def test_a_real_robot_gets_nothing_until_enabled_and_nothing_after_silence(robot):
    with rig(PhysicalBridge, commands__gate="manual") as r:
        open_bridge(r, robot)
        r.settle(0.3, feeding(r, robot))
        assert not r.messages["joint_commands"] and counts(r).rejected["virtual/joint_commands/gate_closed"] > 10
        assert r.call(SetBool, "physical_bridge/enable_commands", SetBool.Request(data=True)).success
        r.until(lambda: len(r.messages["joint_commands"]) > 5, "commands", action=feeding(r, robot))
        held = len(r.messages["joint_commands"])
        r.settle(0.5, lambda: alive(r))  # the source falls silent
        r.until(lambda: len(r.messages["joint_commands"]) > held + 5, "the robot to be held", action=lambda: alive(r))
        assert not any(r.messages["joint_commands"][-1].velocity)
        passed = counts(r).rejected["virtual/joint_commands/gate_closed"]
        r.settle(0.2, feeding(r, robot))
        assert counts(r).rejected["virtual/joint_commands/gate_closed"] > passed, "and waits to be enabled again"


def test_after_an_emergency_stop_nothing_moves_until_enabled(robot):
    """How fast it is in force is measured in benchmark/bringup.py."""
    with rig(PhysicalBridge) as r:
        open_bridge(r, robot)
        q = robot.joints.stand.copy()

        def act():
            q[0] = 0.3 * np.sin(5 * time.monotonic())
            feeding(r, robot, q)()

        def spread():
            return np.ptp([m.position[0] for m in r.messages["joint_commands"][-10:]])

        r.until(lambda: len(r.messages["joint_commands"]) > 20 and spread() > 0.01, "commands that move", action=act)
        assert r.call(Trigger, "physical_bridge/emergency_stop").success
        r.settle(0.1, act)
        r.messages["joint_commands"].clear()
        r.settle(0.3, act)
        r.until(lambda: len(r.messages["joint_commands"]) > 5, "commands that hold", action=act)
        assert np.ptp([m.position for m in r.messages["joint_commands"]], axis=0).max() == 0
        assert r.call(SetBool, "physical_bridge/enable_commands", SetBool.Request(data=True)).success
        r.until(lambda: spread() > 0.01, "commands that move again", action=act)


def test_a_second_source_is_refused_and_named(robot):
    with rig(PhysicalBridge) as r:
        open_bridge(r, robot)
        r.listen(DiagnosticArray, STATUS)
        r.until(lambda: r.messages["joint_commands"], "commands", action=feeding(r, robot))
        other = Node("rogue")
        rogue = other.create_publisher(JointState, "virtual/joint_commands", 10)
        r.until(
            lambda: r.nodes[0]._gate.why_closed(time.monotonic_ns()),
            "the second source to be seen",
            action=feeding(r, robot),
        )
        passed = [list(m.position) for m in r.messages["joint_commands"]][-1]
        r.settle(0.3, feeding(r, robot, robot.joints.stand + 0.3))
        assert np.allclose(r.messages["joint_commands"][-1].position, passed), "held"
        r.until(lambda: r.messages[STATUS] and "more than one source" in r.status(STATUS)["commands"], "it to be said", action=feeding(r, robot))  # fmt: skip
        other.destroy_publisher(rogue)
        other.destroy_node()
        r.until(
            lambda: not r.nodes[0]._gate.why_closed(time.monotonic_ns()), "one source again", action=feeding(r, robot)
        )


def test_what_is_not_safe_is_refused_counted_and_said(robot):
    with rig(PhysicalBridge) as r:
        open_bridge(r, robot)
        r.listen(DiagnosticArray, STATUS)
        lying = imu(accel=(9.81, 0, 0))
        r.publisher(Imu, "imu/data")
        r.connected("imu/data")
        r.until(lambda: r.messages["joint_commands"], "a command", action=feeding(r, robot))
        send(r, "imu/data", lying)
        r.messages["joint_commands"].clear()
        r.until(
            lambda: r.messages[STATUS] and "commands are refused: the base is tilted" in r.status(STATUS)["words"],
            "it to be said", action=feeding(r, robot),
        )  # fmt: skip
        # It may be said after the first that is refused.
        r.until(
            lambda: counts(r).rejected["virtual/joint_commands/safety_support"] > 5,
            "more of them",
            action=feeding(r, robot),
        )
        assert r.nodes[0]._safety.refused["support"] == counts(r).rejected["virtual/joint_commands/safety_support"]
        assert len(r.messages["joint_commands"]) <= 1, "the last that was on its way"


def test_bad_commands_are_counted(robot):
    with rig(PhysicalBridge) as r:
        open_bridge(r, robot)
        send(
            r, "virtual/joint_commands", command(robot, np.full(28, np.nan)), command(robot, robot.joints.stand[:5]),
            command(robot, [0.1], name=["nobody"]), command(robot, []), JointState(),
        )  # fmt: skip
        assert counts(r).rejected["virtual/joint_commands/non_finite"] == 1
        assert counts(r).rejected["virtual/joint_commands/size"] == 3
        assert counts(r).rejected["virtual/joint_commands/unknown_joint"] == 1


@pytest.mark.parametrize(("output", "kind"), [("forward_command", Float64MultiArray), ("joint_trajectory", JointTrajectory), ("gazebo", JointTrajectory)])  # fmt: skip
def test_commands_in_the_form_that_the_robot_wants(robot, output, kind):
    with rig(PhysicalBridge, command_output=output) as r:
        open_bridge(r, robot, kind)
        r.until(lambda: r.messages["joint_commands"], "a command", action=feeding(r, robot))
        m = r.messages["joint_commands"][-1]
        if kind is Float64MultiArray:
            assert np.allclose(m.data, robot.joints.stand)
        else:
            assert m.joint_names == robot.model.joint_names and len(m.points) == 1
            assert np.allclose(m.points[0].positions, robot.joints.stand) and not m.points[0].accelerations
            assert (m.points[0].time_from_start.nanosec == 0) == (output == "gazebo")


def test_calibration_goes_both_ways(robot, tmp_path):
    """A joint under another name, counted backwards in degrees with another zero: up it is URDF, down the robot's."""
    config = tmp_path / "r.yaml"
    config.write_text('joints: {"l_knee": {reported_as: knee_L, sign: -1.0, scale: 0.017453292519943295, offset: 0.1}}')
    with rig(PhysicalBridge, robot_config=str(config)) as r:
        r.listen(JointState, "physical/joint_states")
        r.listen(JointState, "joint_commands", SENSOR_IN)
        r.publisher(JointState, "joint_states"), r.publisher(JointState, "virtual/joint_commands")
        r.publisher(DiagnosticArray, "twin/sync_status")
        r.connected(
            "joint_states", "virtual/joint_commands", "twin/sync_status", "joint_commands", "physical/joint_states"
        )
        send(r, "twin/sync_status", DiagnosticArray())
        send(r, "joint_states", stamped(JointState(name=["knee_L"], position=[-30.0], velocity=[6.0], effort=[2.0])))
        r.until(lambda: r.messages["physical/joint_states"], "the joint")
        up = r.messages["physical/joint_states"][0]
        assert up.name == ["l_knee"] and up.position[0] == pytest.approx(np.radians(30) + 0.1)
        assert up.velocity[0] == pytest.approx(-np.radians(6))
        send(
            r,
            "virtual/joint_commands",
            stamped(JointState(name=["l_knee"], position=[float(np.radians(30) + 0.1)], effort=[3.0])),
        )
        r.until(lambda: r.messages["joint_commands"], "the command")
        down = r.messages["joint_commands"][0]
        assert down.name == ["knee_L"] and down.position[0] == pytest.approx(-30.0)
        assert down.effort[0] == pytest.approx(-3.0 * np.radians(1))


def test_damping_through_an_interface_of_positions_is_refused():
    with pytest.raises(ConfigError, match="cannot damp; use hold"), rig(PhysicalBridge, command_output="forward_command", commands__when_stopped="damp"):  # fmt: skip
        pass
    with pytest.raises(ConfigError, match="command_joints: unknown joint 'l_kne'"), rig(PhysicalBridge, command_output="forward_command", command_joints=["l_kne"]):  # fmt: skip
        pass


def test_the_other_odometry_is_passed_for_comparison(robot):
    with rig(PhysicalBridge) as r:
        r.listen(Odometry, "physical/odom")
        r.publisher(Odometry, "odom")
        r.connected("odom", "physical/odom")
        m = stamped(Odometry())
        m.header.frame_id, m.child_frame_id = "odom", "base_link"
        m.pose.pose.position.x, m.twist.twist.linear.y = 1.5, -0.25
        send(r, "odom", m)
        r.until(lambda: r.messages["physical/odom"], "the odometry")
        assert r.messages["physical/odom"] == [m]


def test_no_thread_is_left(robot):
    before = threading.active_count()
    with rig(PhysicalBridge):
        pass
    assert threading.active_count() <= before
