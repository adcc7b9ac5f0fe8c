"""physics_predictor with real messages: forecasts, requests, models, bad input, and a robot that changes."""

import hashlib
import json
import time
from itertools import pairwise

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rclpy.parameter import Parameter
from ros_rig import rig
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from digital_twin.nodes.command_script import CommandScript
from digital_twin.nodes.physical_bridge import PhysicalBridge
from digital_twin.nodes.physics_predictor import PhysicsPredictor
from digital_twin.nodes.simulated_robot import SimulatedRobot
from digital_twin.nodes.twin_synchronizer import TwinSynchronizer
from digital_twin.paths import share
from digital_twin.robots import load_robot
from digital_twin.ros.qos import LATCHED, SENSOR_OUT

ROBOT = load_robot()
STAND = ROBOT.joints.stand
STATUS = "twin/prediction_status"
TRAJECTORY, PATH, WARNINGS = (f"virtual/prediction/{x}" for x in ("joint_trajectory", "path", "warnings"))


@pytest.fixture
def predictor():
    with rig(PhysicsPredictor, rate=20.0, ensemble_rate=2.0, horizon=0.3, yields=False) as r:
        r.listen(JointTrajectory, TRAJECTORY)
        r.listen(Path, PATH)
        r.listen(DiagnosticArray, STATUS)
        r.listen(String, "virtual/prediction/about")
        yield r


def send_state(r, q=STAND, z=0.83, ns=None, vx=0.0, nan=False):
    """One synchronized state: joints and odometry of one stamp."""
    ns = time.time_ns() if ns is None else ns
    joints = JointState(name=ROBOT.model.joint_names, position=list(map(float, q)), velocity=[0.0] * ROBOT.model.n)
    odom = Odometry()
    for m in (joints, odom):
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
    odom.pose.pose.position.z, odom.pose.pose.orientation.w = float("nan") if nan else z, 1.0
    odom.twist.twist.linear.x = vx
    r.publisher(JointState, "virtual/joint_states").publish(joints)
    r.publisher(Odometry, "virtual/odom").publish(odom)
    return ns


def hold(r):
    command = JointState(name=ROBOT.joints.reported_names, position=list(map(float, STAND)))
    command.header.stamp.sec, command.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
    r.publisher(JointState, "joint_commands", SENSOR_OUT).publish(command)


def stand(r):
    hold(r)
    send_state(r)


def forecasts(r, count=1):
    r.messages["virtual/prediction/about"].clear()
    r.until(lambda: len(r.messages["virtual/prediction/about"]) >= count, "forecasts", action=lambda: stand(r))


def test_forecasts_start_from_the_state_and_follow_the_commands(predictor):
    stamps = []

    def feed():
        hold(predictor)
        stamps.append(send_state(predictor))

    predictor.until(lambda: len(predictor.messages[PATH]) >= 3, "forecasts", action=feed)
    m = predictor.messages[TRAJECTORY][-1]
    assert m.header.stamp.sec * 10**9 + m.header.stamp.nanosec in stamps
    assert m.joint_names == ROBOT.model.joint_names and len(m.points) == 15
    assert [p.time_from_start.nanosec for p in m.points[:3]] == [20_000_000, 40_000_000, 60_000_000]
    assert np.allclose(m.points[-1].positions, STAND, atol=0.05)
    path = next(p for p in predictor.messages[PATH] if p.header == m.header)
    assert path.header.frame_id == "odom" and path.poses[-1].pose.position.z == pytest.approx(0.83, abs=0.02)
    ahead = path.poses[-1].header.stamp.sec * 10**9 + path.poses[-1].header.stamp.nanosec
    assert ahead - (path.header.stamp.sec * 10**9 + path.header.stamp.nanosec) == 300_000_000
    predictor.until(
        lambda: "held" in predictor.messages["virtual/prediction/about"][-1].data, "the commands", action=feed
    )


def test_the_halves_of_a_state_may_come_in_any_order(predictor):
    """Two topics have no common order; forecasts start from every state all the same."""
    worker, stamps = predictor.nodes[0]._worker, []

    def feed():
        ns = time.time_ns()
        joints = JointState(
            name=ROBOT.model.joint_names, position=list(map(float, STAND)), velocity=[0.0] * ROBOT.model.n
        )
        odom = Odometry()
        odom.pose.pose.orientation.w = 1.0
        for m in (joints, odom):
            m.header.stamp.sec, m.header.stamp.nanosec = divmod(ns, 10**9)
        order = [("virtual/odom", Odometry, odom), ("virtual/joint_states", JointState, joints)]
        for topic, kind, m in order if len(stamps) % 2 else order[::-1]:
            predictor.publisher(kind, topic).publish(m)
        stamps.append(ns)

    seen = set()
    take = worker.take
    worker.take = lambda s: (seen.add(s.stamp_ns), take(s))
    predictor.nodes[0]._inputs._arrived = worker.take
    predictor.until(lambda: len(seen & set(stamps[::2])) > 3 and len(seen & set(stamps[1::2])) > 3, "both", action=feed)
    assert seen <= set(stamps) and not predictor.nodes[0].tally.rejected


def test_an_announced_trajectory_is_followed(predictor):
    knee = ROBOT.model.joint_index["l_knee"]
    plan = JointTrajectory(joint_names=["l_knee"])
    for k in range(5):
        point = JointTrajectoryPoint(positions=[float(STAND[knee]) + 0.1 * k])
        point.time_from_start.nanosec = 100_000_000 * k
        plan.points.append(point)

    def feed():
        plan.header.stamp.sec, plan.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        stand(predictor)
        predictor.publisher(JointTrajectory, "virtual/joint_trajectory").publish(plan)

    ends = lambda: [m.points[-1].positions[knee] for m in predictor.messages[TRAJECTORY]]  # noqa: E731
    predictor.until(lambda: any(q > STAND[knee] + 0.15 for q in ends()), "the knee to bend", action=feed)
    about = predictor.messages["virtual/prediction/about"]
    predictor.until(lambda: any("the trajectory being executed" in m.data for m in about), "the words", action=feed)
    last = predictor.messages[TRAJECTORY][-1].points
    assert last[-1].positions[knee] > last[0].positions[knee] + 0.1  # it bends on the way, and so far


def test_a_forecast_on_request(predictor):
    answer = predictor.call(Trigger, "physics_predictor/predict")
    assert not answer.success and answer.message == "there is no synchronized state to forecast from"
    forecasts(predictor)
    answer = predictor.call(Trigger, "physics_predictor/predict")
    assert answer.success and "the robot stays up within 0.30 s; fidelity contact" in answer.message
    node = predictor.nodes[0]
    node.set_parameters([Parameter("predict_fidelity", value="kinematic"), Parameter("predict_horizon", value=2.0)])
    answer = predictor.call(Trigger, "physics_predictor/predict")
    assert answer.success and "within 2.00 s; fidelity kinematic" in answer.message


def test_callbacks_go_on_while_a_long_forecast_is_made(predictor):
    forecasts(predictor)
    predictor.nodes[0].set_parameters([Parameter("predict_horizon", value=20.0)])
    client = predictor.node.create_client(Trigger, "physics_predictor/predict")
    predictor.until(client.service_is_ready, "the service")
    future = client.call_async(Trigger.Request())
    before = len(predictor.messages[STATUS])
    heard = predictor.nodes[0].tally.received["virtual/odom"]
    predictor.until(future.done, "the answer", action=lambda: stand(predictor), period=0.002)
    assert "within 20.00 s" in future.result().message
    assert len(predictor.messages[STATUS]) >= before
    assert predictor.nodes[0].tally.received["virtual/odom"] > heard + 20


def test_bad_input_is_counted_and_survived(predictor):
    forecasts(predictor)
    tally = predictor.nodes[0].tally

    def rubbish():
        send_state(predictor, nan=True)
        bad = JointTrajectory(joint_names=["l_kne"], points=[JointTrajectoryPoint(positions=[0.0])])
        predictor.publisher(JointTrajectory, "virtual/joint_trajectory").publish(bad)
        for strange in (JointState(name=["l_kne"], position=[1.0]), JointState(name=["a", "b"], position=[1.0])):
            predictor.publisher(JointState, "joint_commands", SENSOR_OUT).publish(strange)
        predictor.publisher(Float64MultiArray, "virtual/contacts").publish(Float64MultiArray(data=[1.0]))

    wanted = (
        "virtual/odom/not finite", "virtual/joint_trajectory/unknown_joint",
        "joint_commands/size", "joint_commands/unknown_joint", "virtual/contacts/malformed",
    )  # fmt: skip
    predictor.until(lambda: all(tally.rejected[x] for x in wanted), "the refusals", action=rubbish)
    forecasts(predictor, 2)
    assert all(np.isfinite(p.positions).all() for m in predictor.messages[TRAJECTORY] for p in m.points)
    assert predictor.nodes[0]._worker.failed.total() == 0


def test_another_model_is_taken_and_one_that_cannot_be_is_not(predictor, tmp_path):
    forecasts(predictor)
    about = predictor.messages["virtual/prediction/about"]
    old = about[-1].data.rsplit(" ", 1)[1]
    text = share("urdf/humanoid.urdf.xacro").read_text()
    predictor.publisher(String, "twin/model", LATCHED)

    def announce(path, digest=None):
        digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
        m = String(data=json.dumps({"file": str(path), "hash": digest, "parent": old}))
        predictor.publisher(String, "twin/model", LATCHED).publish(m)

    broken = tmp_path / "broken.urdf"
    broken.write_text("<robot name='x'><link name='a'/></robot>")
    failed = predictor.nodes[0]._worker.failed
    for k, action in enumerate((lambda: announce(broken), lambda: announce(broken, "0" * 64), lambda: predictor.publisher(String, "twin/model", LATCHED).publish(String(data="rubbish")))):  # fmt: skip
        action()
        predictor.until(lambda k=k: failed["model"] == k + 1, "the refusal")
    forecasts(predictor, 2)
    assert about[-1].data.endswith(old)
    from digital_twin.core.description import load_description

    heavier = tmp_path / "heavier.urdf"
    tree = load_description(share("urdf/humanoid.urdf.xacro")).tree()
    mass = next(link.find("inertial/mass") for link in tree.findall("link") if link.get("name") == "torso")
    mass.set("value", str(float(mass.get("value")) + 5.0))
    import xml.etree.ElementTree as ET

    heavier.write_text(ET.tostring(tree, encoding="unicode"))
    assert text
    announce(heavier)
    predictor.until(lambda: not about[-1].data.endswith(old), "the new model", action=lambda: stand(predictor))


def test_the_first_forecast_of_another_model_is_from_the_state_of_now():
    """Not from the state before it was made: commands since then may be forgotten already."""
    with rig(PhysicsPredictor, rate=100.0, ensemble_rate=0.0, horizon=0.3, yields=False) as r:
        for kind, topic in ((JointTrajectory, TRAJECTORY), (String, "virtual/prediction/about")):
            r.listen(kind, topic)
        forecasts(r, 3)
        worker, ready = r.nodes[0]._worker, []

        def slow(robot):
            end = time.monotonic() + 0.7
            while time.monotonic() < end:
                time.sleep(0.01)
            ready.append(time.time())
            return worker.prediction

        worker.build = slow
        worker.use(ROBOT)
        r.until(lambda: ready, "the model", action=lambda: stand(r))
        seen = len(r.messages[TRAJECTORY])
        r.until(lambda: len(r.messages[TRAJECTORY]) > seen + 3, "forecasts", action=lambda: stand(r))
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in r.messages[TRAJECTORY][seen:]]
        assert min(stamps) > ready[0] - 0.3


def test_ensembles_leave_forecasts_half_of_the_time():
    """Where a core is short, rather few ensembles than few forecasts."""
    with rig(PhysicsPredictor, rate=20.0, ensemble_rate=10.0, horizon=0.3, yields=False) as r:
        r.listen(String, "virtual/prediction/about")
        forecasts(r, 3)
        worker, took = r.nodes[0]._worker, []
        spread = worker.prediction.spread

        def slow(*args):
            begin = time.monotonic()
            out = spread(*args)
            time.sleep(max(0.0, begin + 0.3 - time.monotonic()))
            took.append((begin, time.monotonic()))
            return out

        worker.prediction.spread = slow
        r.until(lambda: len(took) > 3, "ensembles", action=lambda: stand(r))
        assert all(b - e >= 0.99 * (e - a) for (a, e), (b, _) in pairwise(took))


def test_a_fall_ahead_is_announced(predictor):
    predictor.listen(DiagnosticArray, WARNINGS)

    def topple():
        hold(predictor)
        send_state(predictor, vx=4.0)

    fall = lambda: [s for m in predictor.messages[WARNINGS] for s in m.status if s.name.endswith(": fall")]  # noqa: E731
    predictor.until(fall, "the announcement", action=topple)
    values = {v.key: v.value for v in fall()[-1].values}
    assert fall()[-1].level == b"\x02" and 0 < float(values["lead_s"]) < 0.3 and float(values["chance"]) >= 0.5
    levels = lambda: {m.status[0].level for m in predictor.messages[STATUS]}  # noqa: E731
    predictor.until(lambda: b"\x02" in levels(), "the status", action=topple)


def test_the_skill_falls_when_the_robot_changes_and_the_model_does_not():
    """The whole twin, squatting; then the robot carries a load that nobody told the model of."""
    label = "joints_skill_persistence@100ms"
    with rig(
        SimulatedRobot, PhysicalBridge, TwinSynchronizer, CommandScript, PhysicsPredictor,
        **{
            "simulated_robot:rate": 100.0, "simulated_robot:wrench_rate": 100.0, "command_script:lead_in": 0.5,
            "command_script:script": "squats.yaml", "physics_predictor:rate": 30.0, "physics_predictor:horizon": 0.2,
            "physics_predictor:ensemble_rate": 1.0, "physics_predictor:step_down": False, "physics_predictor:yields": False,
        },
    ) as r:  # fmt: skip
        r.listen(DiagnosticArray, STATUS)
        skill = lambda: float(r.status(STATUS).get(label, "nan")) if r.messages[STATUS] else float("nan")  # noqa: E731
        book = r.nodes[4]._worker.book
        known = lambda: book.score(0.1, "joints") is not None and book.score(0.1, "joints").count >= 150  # noqa: E731
        r.until(known, "outcomes", timeout=30)
        r.until(lambda: skill() > 0.5, "skill", timeout=60)  # a slow machine's commands are late, and refused
        before = skill()
        r.nodes[0].set_parameters([Parameter("fault", value="payload torso 30")])
        assert r.call(Trigger, "simulated_robot/inject_fault").success
        r.until(lambda: skill() < before - 0.1, "the skill to fall", timeout=30)
