"""twin_synchronizer with real rclpy: one output per measurement, frames, throttling, resync, bad bytes."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from ros_rig import rig
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.synthetic_walk import WalkErrors, WalkPlan, synthetic_walk
from digital_twin.nodes.twin_synchronizer import TwinSynchronizer

T0 = 1_700_000_000 * 10**9
INPUTS = {
    "physical/joint_states": JointState, "physical/imu/data": Imu, "physical/feet/left/wrench": WrenchStamped,
    "physical/feet/right/wrench": WrenchStamped, "physical/external_pose": PoseWithCovarianceStamped,
}  # fmt: skip
OUTPUTS = {
    "virtual/joint_states": JointState, "virtual/odom": Odometry, "virtual/pose": PoseWithCovarianceStamped,
    "twin/sync_status": DiagnosticArray,
}  # fmt: skip


def stamp(m, ns):
    m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
    return m


def ns_of(m):
    return m.header.stamp.sec * 10**9 + m.header.stamp.nanosec


def words(r):
    return r.status("twin/sync_status")["words"] if r.messages["twin/sync_status"] else ""


class Robot:
    """A robot at rest whose torso leans a little; `at(k)` publishes its k-th sample, of 5 ms each."""

    def __init__(self, r, robot, names=None, order=None):
        self.r, self.robot = r, robot
        self.names = names or robot.model.joint_names
        self.q = [float(robot.joints.stand[robot.model.joint_index[n]]) for n in self.names]
        for topic, kind in INPUTS.items():
            r.publisher(kind, topic)
        for topic, kind in OUTPUTS.items():
            r.listen(kind, topic)
        r.connected(*INPUTS, *OUTPUTS)

    def send(self, topic, m, ns):
        self.r.publisher(INPUTS[topic], topic).publish(stamp(m, ns))

    def at(self, k, shift=(0.0, 0.0, 0.0), velocity=True):
        ns = T0 + k * 5_000_000
        for side in ("left", "right"):
            w = WrenchStamped()
            w.wrench.force.z = 260.0
            self.send(f"physical/feet/{side}/wrench", w, ns)
        self.imu(ns)
        m = JointState(name=self.names, position=self.q, velocity=[0.0] * len(self.q) if velocity else [])
        self.send("physical/joint_states", m, ns)
        if k % 4 == 0:
            p = PoseWithCovarianceStamped()
            x, y, z = shift
            p.pose.pose.position.x, p.pose.pose.position.y, p.pose.pose.position.z = 2.0 + x, 1.0 + y, 0.8 + z
            p.pose.pose.orientation.y, p.pose.pose.orientation.w = np.sin(0.025), np.cos(0.025)
            self.send("physical/external_pose", p, ns)

    def imu(self, ns):
        m = Imu()
        m.linear_acceleration.x, m.linear_acceleration.z = -9.81 * np.sin(0.05), 9.81 * np.cos(0.05)
        self.send("physical/imu/data", m, ns)

    def play(self, ks, **kw):
        ks = list(ks)
        if not self.r.messages["virtual/joint_states"]:
            # Joints that come before the first IMU reading are not answered.
            self.imu(T0 + ks[0] * 5_000_000 - 1)
            self.r.settle(0.3)
        for k in ks:
            seen = len(self.r.messages["virtual/joint_states"])
            self.at(k, **kw)
            self.r.until(lambda seen=seen: len(self.r.messages["virtual/joint_states"]) > seen, "the virtual state")
        self.r.settle(0.05)


def test_each_measurement_is_answered_once_with_its_stamp(robot):
    with rig(TwinSynchronizer) as r:
        Robot(r, robot).play(range(100))
        for topic in ("virtual/joint_states", "virtual/odom"):
            assert [ns_of(m) for m in r.messages[topic]] == [T0 + k * 5_000_000 for k in range(100)], topic
        last = r.messages["virtual/joint_states"][-1]
        assert last.name == robot.model.joint_names and np.allclose(last.position, robot.joints.stand, atol=1e-6)
        assert np.allclose(last.velocity, 0.0, atol=1e-6)
        assert len(last.effort) == 28, "computed, since the robot reports none"


def test_odometry_has_frames_attitude_and_covariances(robot):
    with rig(TwinSynchronizer) as r:
        Robot(r, robot).play(range(100))
        o = r.messages["virtual/odom"][-1]
        assert (o.header.frame_id, o.child_frame_id) == ("odom", "base_link")
        q = o.pose.pose.orientation
        R = matrix_from_quat([q.x, q.y, q.z, q.w])
        # It leans 0.05 rad forward about +y: the accelerometer reads g along the world's z.
        assert np.allclose(R @ [-np.sin(0.05), 0, np.cos(0.05)], [0, 0, 1], atol=2e-3)
        assert np.all(np.diag(np.reshape(o.pose.covariance, (6, 6))) >= 0) and o.pose.covariance[21] > 0
        assert o.twist.covariance[0] > 0
        p = r.messages["virtual/pose"][-1]
        assert p.header.frame_id == "map"
        assert np.allclose([p.pose.pose.position.x, p.pose.pose.position.y], [2.0, 1.0], atol=1e-3)
        assert len(r.messages["virtual/pose"]) == pytest.approx(25, abs=2), "50 Hz of 200"


def faulty(walk, rng):
    """(stamp, topic, message) of a walk as a bad network delivers it: a fifth lost, 50 ms of jitter, some twice, NaN."""
    out = []
    for i, t in enumerate(walk.stamps.tolist()):
        bad = i > 600
        for f, side in enumerate(("left", "right")):
            w = WrenchStamped()
            w.wrench.force.z = float(walk.loads[i, f])
            out.append((t, f"physical/feet/{side}/wrench", w))
        m = Imu()
        g, a = m.angular_velocity, m.linear_acceleration
        g.x, g.y, g.z = (walk.gyro[i] * (np.nan if bad and rng.random() < 0.02 else 1.0)).tolist()
        a.x, a.y, a.z = walk.accel[i].tolist()
        out.append((t, "physical/imu/data", m))
        out.append((t, "physical/joint_states", (walk.encoders[i], walk.speeds[i])))
    late = []
    for k, m in enumerate(out):
        for _ in range(int(rng.choice([0, 1, 2], p=[0.2, 0.75, 0.05])) if k > 2400 else 1):
            late.append((m[0] + (rng.uniform(0, 50e6) if k > 2400 else 0), k, m))
    return [m for _, _, m in sorted(late, key=lambda x: x[:2])]


def test_a_walk_over_a_bad_network_is_followed(robot):
    walk = synthetic_walk(robot.model, robot.config, 5, WalkPlan(duration=8.0, stand=3.0), WalkErrors(slips=0.0))
    with rig(TwinSynchronizer) as r:
        b = Robot(r, robot)
        r.listen(Float64MultiArray, "twin/innovations")
        r.connected("twin/innovations")
        received = r.nodes[0].tally.received
        for topic, kind in INPUTS.items():
            r.until(lambda t=topic: received[t], topic, action=lambda t=topic, k=kind: b.send(t, k(), T0), period=0.1)
        r.settle(0.2)
        before = received.total()
        for count, (t, topic, m) in enumerate(faulty(walk, np.random.default_rng(0)), 1):
            if isinstance(m, tuple):
                m = JointState(name=b.names, position=m[0].tolist(), velocity=m[1].tolist())
            b.send(topic, m, T0 + t)
            if count % 20 == 0:  # fewer than the queues hold: a slow machine loses no more than the network
                r.until(lambda c=count: received.total() >= before + c, "what was sent")
        r.until(lambda: ns_of(r.messages["virtual/odom"][-1]) > T0 + 7.9e9, "the end")
        odom = r.messages["virtual/odom"]
        stamps = [ns_of(o) for o in odom]
        assert stamps == sorted(set(stamps)), "never back in time"
        p = np.array([[getattr(o.pose.pose.position, c) for c in "xyz"] for o in odom])
        truth = np.array([np.interp(np.array(stamps) - T0, walk.stamps, column) for column in walk.position.T]).T
        assert np.isfinite(p).all() and np.linalg.norm(truth[-1] - truth[0]) > 0.4
        assert np.linalg.norm((p - p[0]) - (truth - truth[0]), axis=1).max() < 0.08
        r.messages["twin/sync_status"].clear()
        r.until(lambda: r.messages["twin/sync_status"], "a status")
        status = r.status("twin/sync_status")
        assert int(status["replayed"]) > 100 and int(status["rejected/imu/not finite"]) > 3
        assert {"nis/left", "nis/left/low", "imu/offset_ms", "accel_bias_x", "leg_noise"} <= status.keys()
        m = r.messages["twin/innovations"][-2]
        labels = m.layout.dim[0].label.split(",")
        assert labels[:3] == ["stamp_sec", "stamp_nanosec", "left/x"] and labels[-1] == robot.model.joint_names[-1]
        assert len(m.data) == len(labels) == m.layout.dim[0].size == 2 + 12 + 28
        assert int(m.data[0]) * 10**9 + int(m.data[1]) in [ns_of(o) for o in odom]


def test_the_state_of_now_has_topics_of_its_own(robot):
    with rig(TwinSynchronizer, now_rate=100.0) as r:
        r.listen(Odometry, "virtual/now/odom")
        r.listen(JointState, "virtual/now/joint_states")
        b = Robot(r, robot)
        b.play(range(50))
        r.until(lambda: len(r.messages["virtual/now/odom"]) > 5, "the state of now")
        o = r.messages["virtual/now/odom"][-1]
        assert ns_of(o) > ns_of(r.messages["virtual/odom"][-1]) and o.child_frame_id == "base_link"
        assert o.pose.covariance[0] > 0.0 and r.messages["virtual/now/joint_states"]


def test_a_namespace_goes_before_topics_and_frames(robot):
    with rig(TwinSynchronizer) as r:
        pass
    import rclpy
    from ros_rig import Rig

    rclpy.init(args=["--ros-args", "-r", "__ns:=/bob"])
    r = Rig()
    r.add(TwinSynchronizer())
    try:
        Robot(r, robot).play(range(5))
        o = r.messages["virtual/odom"][-1]
        assert (o.header.frame_id, o.child_frame_id) == ("bob/odom", "bob/base_link")
        assert r.node.count_publishers("/bob/virtual/odom") == 1
    finally:
        r.executor.shutdown()
        for node in (*r.nodes, r.node):
            node.destroy_node()
        rclpy.shutdown()


def test_output_can_be_throttled(robot):
    with rig(TwinSynchronizer, sync_frequency=50.0) as r:
        b = Robot(r, robot)
        taken = r.nodes[0].tally.received
        for k in range(200):
            b.at(k)
            r.until(lambda k=k: taken["physical/joint_states"] > k, "the measurement to be taken")
        r.settle(0.1)
        stamps = [ns_of(m) for m in r.messages["virtual/joint_states"]]
        assert len(stamps) == 50 and np.all(np.diff(stamps) == 20_000_000)


def test_some_joints_in_another_order_and_without_speeds(robot):
    with rig(TwinSynchronizer) as r:
        names = list(reversed(robot.model.joint_names))[:20]
        b = Robot(r, robot, names)
        b.play(range(50), velocity=False)
        m = r.messages["virtual/joint_states"][-1]
        assert set(m.name) == set(names) and len(m.velocity) == 20
        got = dict(zip(m.name, m.position, strict=True))
        assert all(got[n] == pytest.approx(robot.joints.stand[robot.model.joint_index[n]], abs=1e-6) for n in names)
        r.messages["twin/sync_status"].clear()
        r.until(lambda: r.messages["twin/sync_status"], "a status")
        missing = r.status("twin/sync_status")["missing_joints"].split()
        assert set(missing) == set(robot.model.joint_names) - set(names)


def test_out_of_step_is_reported_and_resync_heals_it(robot):
    with rig(TwinSynchronizer) as r:
        b = Robot(r, robot)
        b.play(range(100))
        k = iter(range(100, 10_000))
        keep = lambda shift: lambda: b.at(next(k), shift)  # noqa: E731
        r.until(lambda: "out of step" in words(r), "the report", action=keep((0.2, 0.0, 0.0)))
        status = r.status("twin/sync_status")
        assert status["level"] == 2 and float(status["sync_error_m"]) == pytest.approx(0.2, abs=0.01)
        assert r.call(Trigger, "twin_synchronizer/resync").success
        r.until(
            lambda: "out of step" not in words(r) and r.status("twin/sync_status")["resyncs"] == "1", "the recovery",
            action=keep((0.2, 0.0, 0.0)),
        )  # fmt: skip
        r.until(
            lambda: abs(r.messages["virtual/pose"][-1].pose.pose.position.x - 2.2) < 0.01,
            "the pose",
            action=keep((0.2, 0.0, 0.0)),
        )


def test_the_status_names_contacts_latency_and_age(robot):
    with rig(TwinSynchronizer) as r:
        b = Robot(r, robot)
        k = iter(range(10_000))

        def whole():
            said = r.status("twin/sync_status") if r.messages["twin/sync_status"] else {}
            return "latency_ms/p99" in said and said["contact/left"] == "1"

        r.until(whole, "a whole status, when the foot is known to stand", action=lambda: b.at(next(k)))
        status = r.status("twin/sync_status")
        for key in (
            "contact/left",
            "contact/right",
            "sync_error_m",
            "joint_error_rad",
            "age_s",
            "gyro_bias_x",
            "loop_ms/avg",
        ):
            assert key in status
        assert float(status["latency_ms/p50"]) > 0


def test_bytes_that_are_no_message_and_joints_that_are_not_ours_do_not_stop_it(robot):
    with rig(TwinSynchronizer) as r:
        b = Robot(r, robot)
        b.play(range(5))
        b.send("physical/joint_states", JointState(name=["stranger"], position=[1.0]), T0 + 10**9)
        b.send("physical/joint_states", JointState(name=["l_knee"], position=[]), T0 + 10**9 + 1)
        r.until(lambda: r.nodes[0].tally.rejected["physical/joint_states/size"] == 1, "the refusal")
        b.play(range(400, 410))
        assert np.isfinite(r.messages["virtual/joint_states"][-1].position).all()
