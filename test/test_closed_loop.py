"""The loop closed: a payload is hung on a hand, found, identified, proved, announced and used; and taken away again.

The node is the real one, and so is the process that identifies; the robot, its messages and time are a rehearsal's, which
waits while a model is being renewed for as long as that took, at most, on a machine with nothing else to do.
"""

import json
import math
from pathlib import Path

import pytest
from drift_wire import Wire

from digital_twin.core.drift.model_version import parse_version
from digital_twin.core.drift.rehearsal import Rehearsal
from digital_twin.core.faults import parse_fault
from digital_twin.core.script import Script, ScriptConfig, StepConfig
from digital_twin.nodes import drift_monitor
from digital_twin.recording.typed import typestore
from digital_twin.ros.model_keeper import ModelKeeper
from digital_twin.ros.model_loop import ModelLoop
from digital_twin.ros.offline import Bus, offline

BENT = {"hip_pitch": -0.5, "knee": 0.9, "ankle_pitch": -0.4, "shoulder_pitch": -0.3, "elbow": -0.6}  # [rad]
RENEWAL = 3.0  # [s] of simulated time that a renewal is given


class Twin:
    """A node with its keeper, fed by a rehearsal."""

    def __init__(self, robot, store, monkeypatch, seed=1, **settings):
        monkeypatch.setattr(drift_monitor, "ModelLoop", lambda *a, offline: ModelLoop(*a, offline=False))
        self.said, self.announced = [], []
        self.bus = Bus(self._keep, say=lambda level, text: self.said.append((self.t, level, text)))
        given = {"calibration": 20.0, "forecast_rate": 0.0, "models.store": str(store)} | settings
        self.node = offline(drift_monitor.DriftMonitor, self.bus, given)
        # Gentle enough not to fall with a load in one hand.
        bent = {f"{side}_{joint}": q for side in "lr" for joint, q in BENT.items()}
        script = ScriptConfig([StepConfig(1000.0, cycle="bent", period=4.0)], {"bent": bent})
        motion = Script(script, robot.model, robot.joints.stand).sample
        self.rehearsal = Rehearsal(robot.model, robot.config, seed, motion, Wire(robot, self.bus))
        self.loop, self.monitor = self.node._loop, self.node._monitor

    @property
    def t(self):
        return self.bus.now_ns / 1e9

    def _keep(self, topic, data):
        if topic == "twin/model":
            text = typestore().deserialize_cdr(bytes(data), "std_msgs/msg/String").data
            self.announced.append((self.t, json.loads(text)))

    def run(self, seconds, until=lambda: False):
        """Go on for so long, or until something is the case."""
        end = self.rehearsal.time + seconds
        while self.rehearsal.time < end and not until():
            self.rehearsal.run(0.1)
            thread = self.loop.keeper._thread
            if thread is not None:
                self.rehearsal.run(RENEWAL)
                thread.join(60.0)

    def alarming(self):
        return any(a.any() for a in self.monitor.alarms().values())

    def payload(self):
        """What the model in service says hangs at a hand [kg]."""
        file = self.announced[-1][1]["file"]
        version = parse_version(Path(file).read_text(), file)
        return sum(p.mass for p in version.changes.payloads.values()), version.changes.payloads


@pytest.fixture
def twin(robot, tmp_path, monkeypatch):
    t = Twin(robot, tmp_path, monkeypatch)
    yield t
    t.loop.close()


def test_a_payload_comes_into_the_model_and_goes(twin):
    twin.run(60.0, lambda: twin.monitor.phase == "watching")
    twin.run(2.0)
    assert len(twin.announced) == 1, "the robot as it was brought"
    for kg, line in ((2.0, "payload l_gripper 2"), (0.0, None)):
        count, start = len(twin.announced), twin.t
        if line:
            twin.rehearsal.faults.add(parse_fault(line))
        else:
            twin.rehearsal.faults.clear()
        twin.run(25.0, lambda n=count: len(twin.announced) > n)
        assert len(twin.announced) == count + 1, twin.said
        assert twin.announced[-1][0] - start <= 15.0
        mass, where = twin.payload()
        assert mass == pytest.approx(kg, abs=0.2) and set(where) <= {"l_gripper", "l_wrist"}
        twin.run(2.0)
        assert twin.loop.service.endswith(twin.announced[-1][1]["version"][:12])
        count = len(twin.announced)
        twin.run(10.0, twin.alarming)
        assert not twin.alarming(), [b.worst() for b in twin.monitor.banks.values()]
        assert len(twin.announced) == count, "all is well"
    assert not [w for w in twin.said if w[1] == "error"]
    assert math.isfinite(twin.t)


def test_a_model_is_renewed_from_what_came_after_the_change_not_from_all_the_alarm(twin, monkeypatch):
    """A gyro's bias is nothing that a model follows: its alarm stands, and then a load comes."""
    asked = []
    ask = twin.loop.keeper.ask
    monkeypatch.setattr(twin.loop.keeper, "ask", lambda window, *a: asked.append(window.duration) or ask(window, *a))
    twin.run(60.0, lambda: twin.monitor.phase == "watching")
    twin.rehearsal.faults.add(parse_fault("imu_bias gyro 0.02 0 0"))
    twin.run(10.0)
    assert twin.monitor.hypotheses[0].kind == "gyro bias" and not asked
    start = twin.t
    twin.rehearsal.faults.add(parse_fault("payload l_gripper 2"))
    twin.run(10.0, lambda: asked)
    assert asked and asked[0] <= twin.t - start, "nothing of the time before the load"


def test_what_concerns_the_robot_as_it_was_gives_way_to_a_change(twin, monkeypatch):
    """A review takes longer than a change may wait; what a person asked for in words goes on."""
    twin.run(60.0, lambda: twin.monitor.phase == "watching")
    under_way, ended, asked = "review", [], []
    monkeypatch.setattr(ModelKeeper, "busy", property(lambda _: under_way not in ended))
    monkeypatch.setattr(ModelKeeper, "under_way", property(lambda _: under_way))
    monkeypatch.setattr(twin.loop.keeper, "give_up", lambda why: ended.append(under_way))
    monkeypatch.setattr(twin.loop.keeper, "ask", lambda window, *a: asked.append(window.duration) or True)
    twin.run(3.0)
    assert not ended, "nothing has changed"
    under_way = "calibration"
    twin.rehearsal.faults.add(parse_fault("payload l_gripper 2"))
    twin.run(10.0)
    assert not ended and not asked
    under_way = "review"
    twin.run(2.0, lambda: asked)
    assert ended == ["review"] and asked
    under_way = "gap"
    twin.run(6.0, lambda: len(asked) > 1)
    assert ended == ["review", "gap"] and len(asked) == 2
