"""drift_monitor as a node: from messages to twin/drift and /diagnostics, its services, bad input, a replay to the byte."""

import dataclasses

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from drift_wire import Wire
from ros_rig import rig
from std_srvs.srv import Trigger

from digital_twin.core.drift.rehearsal import Rehearsal, squats_and_sways
from digital_twin.core.faults import parse_fault
from digital_twin.core.script import load_script
from digital_twin.nodes.drift_monitor import DriftMonitor
from digital_twin.paths import find
from digital_twin.recording.typed import typestore
from digital_twin.ros.labelled import LabelledReader, LabelledWriter
from digital_twin.ros.offline import Bus, offline


def play(robot, seconds, faults=(), **settings):
    """Run the node on a rehearsal; returns its messages on twin/drift and /diagnostics, each with its time [s]."""
    heard, store = [], typestore()

    def keep(topic, data):
        if topic in ("twin/drift", "/diagnostics"):
            message = store.deserialize_cdr(bytes(data), "diagnostic_msgs/msg/DiagnosticArray")
            heard.append((bus.now_ns / 1e9, topic, message, bytes(data)))

    bus = Bus(keep)
    node = offline(DriftMonitor, bus, {"calibration": 4.0, "forecast_rate": 0.0} | settings)
    script = load_script(find("humanoid.yaml", "config/scripts"))
    motion = squats_and_sways(script, robot.model, robot.joints.stand, 1)
    rehearsal = Rehearsal(robot.model, robot.config, 1, lambda t: motion(t + 2.0), Wire(robot, bus))
    for fault in faults:
        rehearsal.faults.add(parse_fault(fault))
    rehearsal.run(seconds)
    return node, heard


@pytest.fixture(scope="module")
def run(robot):
    return play(robot, 9.0, ["at 7.5: motor l_knee 0.5"])


def of(heard, topic):
    return [(t, m) for t, where, m, _ in heard if where == topic]


def test_it_learns_then_says_what_has_changed_in_words(run):
    """First that it learns, then that all is well, then the motor: size, interval, likelihood."""
    drift = of(run[1], "twin/drift")
    words = [(t, m.status[0].message) for t, m in drift]
    assert words[0][1] in ("learning what is normal", "waiting for data")
    last = drift[-1][1].status[0]
    assert last.level == 1 and "motor of l_knee at" in last.message
    values = {v.key: v.value for v in last.values}
    assert "motor of l_knee" in values["hypothesis/0"] and float(values["hypothesis/0/explained"]) > 0.4
    share = float(last.message.split("motor of l_knee at ")[1].split(" %")[0])
    assert share == pytest.approx(50, abs=10)


def test_every_subsystem_has_a_status(run):
    names = {s.name.split("/")[-1] for s in of(run[1], "twin/drift")[-1][1].status}
    assert {"streams", "drives", "dynamics", "balance", "gyro", "accelerometer", "encoders", "feet"} <= names


def test_hardware_is_told_to_technicians(run):
    """On /diagnostics, by part, and nothing there of models (REP-107)."""
    last = of(run[1], "/diagnostics")[-1][1]
    parts = {s.name.split("robot: ")[1]: (s.level, s.message) for s in last.status}
    assert parts["joints"][0] == 1 and "l_knee" in parts["joints"][1]
    assert parts["imu"][0] == 0


def test_at_most_five_messages_a_second(run):
    times = np.array([t for t, _ in of(run[1], "twin/drift")])
    assert all(((times >= t) & (times < t + 1.0)).sum() <= 6 for t in times)


def test_a_missing_stream_is_an_error(robot):
    _, heard = play(robot, 2.5, ["at 2: drop feet/left/wrench"])
    last = of(heard, "twin/drift")[-1][1].status[0]
    assert last.level == 2 and "feet/left/wrench has been missing" in last.message
    assert of(heard, "/diagnostics")[-1][1].status[0].level == 2


def test_the_same_messages_give_the_same_bytes(robot, run):
    again = play(robot, 5.0)
    first = [(where, raw) for t, where, _, raw in run[1] if t < 4.9]
    assert [(where, raw) for t, where, _, raw in again[1] if t < 4.9] == first and len(first) > 8


def test_labelled_numbers_are_read_back():
    values = np.array([1.5, np.nan, -3.0])
    stamp, read = LabelledReader().read(LabelledWriter(["a", "bc", "d/e"]).write(1_234_567_890_123_456_789, values))
    assert stamp == 1_234_567_890_123_456_789 and np.array_equal(read, values, equal_nan=True)


def test_services_and_bad_bytes_with_real_ros(tmp_path):
    with rig(DriftMonitor, forecast_rate=0.0, models__store=str(tmp_path)) as r:
        r.listen(DiagnosticArray, "twin/drift")
        r.listen(DiagnosticArray, "twin/drift_status")
        reset = r.call(Trigger, "drift_monitor/reset")
        assert reset.success and "forgotten" in reset.message
        again = r.call(Trigger, "drift_monitor/recalibrate")
        assert again.success and "no data to renew" in again.message and "60 s" in again.message
        assert not r.call(Trigger, "drift_monitor/approve").success
        assert "no data" in r.call(Trigger, "drift_monitor/report_gap").message
        r.until(lambda: r.messages["twin/drift"], "a verdict")
        assert r.messages["twin/drift"][-1].status[0].message == "waiting for data"
        node = r.nodes[0]
        from digital_twin.ros.cdr import MalformedError

        for receive in (node._inputs._joints, node._inputs._innovations, node._inputs._base):
            with pytest.raises(MalformedError):  # which `listen` counts
                receive(b"\x00\x01\x00\x00nonsense")


def test_a_verdict_is_logged_at_its_level_however_it_changes(tmp_path, capfd):
    """rclpy refuses a line of code that logs at another level than it did before."""
    with rig(DriftMonitor, forecast_rate=0.0, models__store=str(tmp_path)) as r:
        node = r.nodes[0]
        now = node._judge.verdict(0)
        for level, words in ((1, "worse"), (0, "well again"), (2, "bad")):
            verdict = dataclasses.replace(now, level=level, words=words)
            node._judge.verdict = lambda _, verdict=verdict: verdict
            node._looks += 100
            node._look()
        for level in ("info", "error", "warning", "info"):
            node.say(level, f"said as {level}")
    err = capfd.readouterr().err
    assert "[WARN]" in err and "worse" in err and "[INFO]" in err and "well again" in err and "bad" in err
    assert "[ERROR]" in err and "said as error" in err


def test_settings_are_a_dataclass_of_the_nodes():
    from digital_twin.settings import SETTINGS

    names = {f.name for f in dataclasses.fields(SETTINGS["drift_monitor"])}
    assert {"calibration", "false_alarm", "patience", "robot_description"} <= names
