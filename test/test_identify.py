"""digital-twin identify: a robot's parameters from a recording of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drift_data import script, still
from drift_wire import Wire

from digital_twin.cli.identify import missing
from digital_twin.cli.main import main, parser
from digital_twin.core.drift.identification import SUSPICIONS
from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.rehearsal import Rehearsal
from digital_twin.core.faults import parse_fault
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.recording import Recording
from digital_twin.robots import load_robot

BEGIN = 1_700_000_000 * 10**9
PAYLOAD = 2.0
KINDS = {"joint_states": "sensor_msgs/msg/JointState", "imu/data": "sensor_msgs/msg/Imu"}


class Tape(Wire):
    """A wire that is recorded, as the robot itself says it, instead of heard."""

    now_ns = 0

    def __init__(self, robot, recording):
        super().__init__(robot, self)
        kinds = {**KINDS, "joint_commands": KINDS["joint_states"]}
        kinds |= {f.wrench_topic: "geometry_msgs/msg/WrenchStamped" for f in robot.config.feet}
        self._recording = recording
        self._numbers = {topic: recording.declare(f"/{topic}", kind) for topic, kind in kinds.items()}

    def advance(self, arrival_ns):
        self.now_ns = arrival_ns

    def send(self, topic, data):
        topic = topic.removeprefix("physical/")
        if topic in self._numbers:
            self._recording.add(self._numbers[topic], BEGIN + self.now_ns, data)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Squats of one of the series, with 2 kg in the left hand from the sixth second on."""
    path = tmp_path_factory.mktemp("bags") / "loaded"
    robot = load_robot()
    recording = Recording(path, RecordingConfig(min_free=0.0, backlog=10_000.0), {})
    r = Rehearsal(robot.model, robot.config, 1, script("squats.yaml"), Tape(robot, recording))
    r.run(6.0)
    r.faults.add(parse_fault(f"payload l_gripper {PAYLOAD:g}"))
    r.run(9.0)
    recording.close()
    return path


def test_a_payload_is_found_in_the_part_of_a_bag_that_has_it_and_goes_into_the_store(bag, tmp_path, capsys):
    store = tmp_path / "models"
    command = ["identify", str(bag), "--seconds", "7", "--only", "payload:l_gripper", "--store", str(store)]
    assert main(command) == 0
    said = capsys.readouterr().out
    kept = ModelStore(store / load_robot().description.name)
    version = kept.get("in_service")
    assert version.changes.payloads["l_gripper"].mass == pytest.approx(PAYLOAD, rel=0.1)
    assert "7.0 s" in said and f"in service: {version.short}" in said and "better" in said
    assert kept.get(version.parent).reason == "as brought"
    # The model that knows it leaves nothing to be found.
    assert main(command) == 1
    assert kept.in_service() == version.hash


def test_before_it_was_hung_there_it_is_not_found(bag, capsys):
    assert main(["identify", str(bag), "--until", "6", "--seconds", "5", "--only", "payload:l_gripper"]) == 1
    assert "stays" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "ghost:l_knee"], "unknown kind 'ghost'; allowed: payload"),
        (["--only", "payload:l_tentacle"], "l_tentacle"),
        (["--seconds", "61"], "at most 60"),
        (["--until", "1000"], "the recording has 1"),
    ],
)
def test_what_cannot_be_asked_is_said(bag, capsys, arguments, words):
    code = main(["identify", str(bag), *arguments])
    out = capsys.readouterr()
    assert code != 0 and words in out.err + out.out and "Traceback" not in out.err


def test_what_a_window_lacks_is_named():
    w, nan = still(), np.full((600, 28), np.nan)
    joints = [f"j{i}" for i in range(28)]
    assert missing(w, joints, ["left", "right"]) == []
    some = w.q.copy()
    some[:, 3] = np.nan
    some[0, 5] = np.nan
    assert missing(replace(w, q=some, effort=nan), joints, ["left", "right"]) == [
        "no positions of j3",
        "no torques of any",
    ]


def test_help_names_what_can_be_suspected(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["identify", "--help"])
    said = capsys.readouterr().out
    assert all(kind in said for kind in SUSPICIONS)
