"""What plays the robot, with real rclpy: simulated_robot, command_script, bag_player."""

import numpy as np
import pytest
from conftest import ICUB, needs_icub
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter
from ros_rig import rig
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState, LaserScan
from std_srvs.srv import Trigger

from digital_twin.core.errors import BagError, ConfigError, TwinError
from digital_twin.nodes.bag_player import BagPlayer
from digital_twin.nodes.command_script import CommandScript
from digital_twin.nodes.simulated_robot import SimulatedRobot
from digital_twin.ros.qos import CLOCK, INTERNAL, SENSOR_IN

SENSORS = {
    "joint_states": JointState, "imu/data": Imu, "feet/left/wrench": WrenchStamped, "feet/right/wrench": WrenchStamped,
    "external_pose": PoseWithCovarianceStamped, "scan": LaserScan, "ground_truth/odom": Odometry,
    "ground_truth/joint_states": JointState,
}  # fmt: skip


def ns_of(m):
    return m.header.stamp.sec * 10**9 + m.header.stamp.nanosec


def listen_to_all(r):
    for topic, kind in SENSORS.items():
        r.listen(kind, topic, SENSOR_IN)
    r.connected(*SENSORS)
    for messages in r.messages.values():
        messages.clear()


def test_it_publishes_what_a_robot_publishes(robot):
    with rig(SimulatedRobot) as r:
        listen_to_all(r)
        r.until(lambda: len(r.messages["scan"]) >= 4, "scans")
        m = {topic: r.messages[topic] for topic in SENSORS}
        js = m["joint_states"][-1]
        assert js.name == robot.model.joint_names and len(js.velocity) == len(js.effort) == 28
        imu = m["imu/data"][-1]
        assert imu.header.frame_id == "imu_link" and imu.orientation_covariance[0] == -1.0
        assert 9.0 < imu.linear_acceleration.z < 10.5 and imu.angular_velocity_covariance[0] > 0
        assert all(200 < m[f"feet/{side}/wrench"][-1].wrench.force.z < 320 for side in ("left", "right"))
        assert m["external_pose"][-1].header.frame_id == "map"
        scan = m["scan"][-1]
        assert len(scan.ranges) == 360 and min(scan.ranges) > 1.0 and scan.header.frame_id == "lidar_link"
        truth = m["ground_truth/odom"][-1]
        assert truth.child_frame_id == "base_link" and 0.75 < truth.pose.pose.position.z < 0.9


def test_stamps_are_regular_and_the_tracker_is_late():
    with rig(SimulatedRobot) as r:
        listen_to_all(r)
        late = []

        def measure():
            if r.messages["external_pose"] and r.messages["joint_states"]:
                late.append(ns_of(r.messages["joint_states"][-1]) - ns_of(r.messages["external_pose"][-1]))

        r.until(lambda: len(r.messages["external_pose"]) > 15, "poses", action=measure)
        steps = np.diff([ns_of(m) for m in r.messages["joint_states"]])
        assert np.median(steps) == 5_000_000 and np.all(steps % 5_000_000 == 0)
        truth = {ns_of(m) for m in r.messages["ground_truth/odom"][2:-2]}
        assert truth <= {ns_of(m) for m in r.messages["joint_states"]}, "the truth is of the same instants"
        assert 25e6 < np.median(late) < 60e6


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_its_rate_can_be_chosen(rate):
    with rig(SimulatedRobot, rate=rate) as r:
        listen_to_all(r)
        r.until(lambda: len(r.messages["joint_states"]) > 30, "joint states")
        assert np.median(np.diff([ns_of(m) for m in r.messages["joint_states"]])) == 1e9 / rate


def test_a_rate_that_does_not_divide_the_physics_is_refused():
    with pytest.raises(ConfigError, match="rate: must divide 1000 Hz evenly"), rig(SimulatedRobot, rate=300.0):
        pass


def test_simulated_time_is_published_when_asked():
    with rig(SimulatedRobot, publish_clock=True, real_time_factor=2.0) as r:
        listen_to_all(r)
        r.listen(Clock, "/clock", CLOCK)
        r.until(lambda: len(r.messages["/clock"]) > 50, "the clock")
        times = np.array([m.clock.sec + m.clock.nanosec * 1e-9 for m in r.messages["/clock"]])
        steps = np.diff(times) / 0.01
        # A reader that the machine holds up misses some.
        assert np.allclose(steps, np.round(steps)) and steps.min() > 0.5 and np.median(steps) == pytest.approx(1.0)
        assert times[0] < 60

        def apart():
            clock = r.messages["/clock"][-1].clock
            return abs(ns_of(r.messages["joint_states"][-1]) / 1e9 - clock.sec - clock.nanosec * 1e-9)

        r.until(lambda: apart() < 0.1, "joints of the clock's time")


def test_it_obeys_commands_and_refuses_rubbish(robot):
    with rig(SimulatedRobot) as r:
        listen_to_all(r)
        out = r.publisher(JointState, "joint_commands")
        r.connected("joint_commands")
        out.publish(JointState(name=["neck_yaw"], position=[float("nan")]))
        out.publish(JointState(name=["nobody", "neck_yaw"], position=[1.0, 0.4]))
        r.until(lambda: abs(_joint(r, "neck_yaw") - 0.4) < 0.05, "the neck to turn")
        rejected = r.nodes[0].tally.rejected
        assert rejected == {"joint_commands/non_finite": 1, "joint_commands/unknown_joint": 1}


def _joint(r, name):
    m = r.messages["ground_truth/joint_states"]
    return dict(zip(m[-1].name, m[-1].position, strict=True))[name] if m else 0.0


def test_faults_are_injected_and_cleared_while_it_runs():
    with rig(SimulatedRobot) as r:
        listen_to_all(r)
        robot = r.nodes[0]

        def inject(text):
            robot.set_parameters([Parameter("fault", value=text)])
            return r.call(Trigger, "simulated_robot/inject_fault")

        assert inject("drop imu/data").success
        r.settle(0.1)
        r.messages["imu/data"].clear()
        r.settle(0.2)
        assert not r.messages["imu/data"] and r.messages["joint_states"]
        answer = inject("payload nose 2")
        assert not answer.success and "unknown frame 'nose'" in answer.message
        assert not inject("explode").success
        assert r.call(Trigger, "simulated_robot/clear_faults").success
        r.until(lambda: r.messages["imu/data"], "the imu again")


def test_faults_from_the_start(robot):
    with rig(SimulatedRobot, faults=["encoder l_knee 0.2", "at 0.1: payload l_gripper 5"]) as r:
        listen_to_all(r)
        r.listen(DiagnosticArray, "twin/robot_status")
        r.until(
            lambda: r.messages["twin/robot_status"] and r.status("twin/robot_status")["faults"] == "2", "both faults"
        )
        knee = robot.model.joint_names.index("l_knee")
        i = next(
            i
            for i, m in enumerate(r.messages["joint_states"])
            if ns_of(m) == ns_of(r.messages["ground_truth/joint_states"][-2])
        )
        measured, true = r.messages["joint_states"][i].position[knee], _joint(r, "l_knee")
        assert measured - true == pytest.approx(0.2, abs=0.01)
        assert "payload l_gripper 5" in r.status("twin/robot_status")["words"]
    with pytest.raises(TwinError, match="unknown joint"), rig(SimulatedRobot, faults=["motor nothing 0"]):
        pass


def test_only_declared_live_parameters_may_change():
    with rig(SimulatedRobot) as r:
        (result,) = r.nodes[0].set_parameters([Parameter("rate", value=100.0)])
        assert not result.successful


# Scripts


def test_the_script_starts_from_where_the_robot_is(robot):
    with rig(CommandScript, lead_in=0.5) as r:
        r.listen(JointState, "virtual/joint_commands")
        states = r.publisher(JointState, "virtual/joint_states")
        r.connected("virtual/joint_commands", "virtual/joint_states")
        r.settle(0.3)
        assert not r.messages["virtual/joint_commands"], "nothing before the robot is known"
        states.publish(JointState(name=robot.model.joint_names, position=[0.0] * 28))
        r.until(lambda: len(r.messages["virtual/joint_commands"]) > 60, "commands")
        q = np.array([m.position for m in r.messages["virtual/joint_commands"]])
        assert np.abs(q[0]).max() < 0.01 and np.allclose(q[-1], robot.joints.stand, atol=1e-6)
        assert np.abs(np.diff(q, axis=0)).max() < 0.05


def test_a_script_that_is_none_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text("steps: [{seconds: 1, hold: nothing}]")
    with (
        pytest.raises(ConfigError, match="unknown pose 'nothing'"),
        rig(CommandScript, script=str(tmp_path / "s.yaml")),
    ):
        pass


# Recordings


def play(r, topics):
    for topic, kind in topics.items():
        r.listen(kind, topic, CLOCK if topic == "/clock" else INTERNAL)
    r.until(lambda: r.nodes[0].done, "the end of the recording", timeout=30)
    r.settle(0.2)


@needs_icub
def test_a_recording_is_played_whole_in_time_and_on_its_clock():
    import time

    topics = {"joint_states": JointState, "imu/data": Imu, "feet/left/wrench": WrenchStamped, "ground_truth/odom": Odometry, "/clock": Clock}  # fmt: skip
    with rig(BagPlayer, bag=str(ICUB), rate=4.0) as r:
        begin = time.monotonic()
        play(r, topics)
        assert all(len(r.messages[t]) == 1188 for t in topics if t != "/clock")
        assert 3.0 < time.monotonic() - begin < 8.0
        stamps = [ns_of(m) for m in r.messages["joint_states"]]
        assert stamps[0] == 1_600_000_000 * 10**9 and np.all(np.diff(stamps) > 0)
        clock = [m.clock.sec * 10**9 + m.clock.nanosec for m in r.messages["/clock"]]
        assert np.all(np.diff(clock) >= 0) and clock[-1] > stamps[-1]


def test_recordings_that_are_none(tmp_path):
    with pytest.raises(BagError, match="no such recording"), rig(BagPlayer, bag=str(tmp_path / "no")):
        pass
    (tmp_path / "x.mcap").write_bytes(b"\x89MCAP0\r\nrubbish")
    with pytest.raises(BagError, match="the recording is empty"), rig(BagPlayer, bag=str(tmp_path / "x.mcap")):
        pass
    (tmp_path / "x.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="ROS 1 recording"), rig(BagPlayer, bag=str(tmp_path / "x.bag")):
        pass
    with pytest.raises(ConfigError, match="parameter 'bag' is missing"), rig(BagPlayer):
        pass
