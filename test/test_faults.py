"""Faults: their grammar, and that they come and go when they should."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.fault_schedule import FaultSchedule
from digital_twin.core.faults import KINDS, parse_fault
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.ros.outbox import Outbox


@pytest.mark.parametrize(
    ("text", "kind", "target", "values", "start", "duration"),
    [
        ("payload l_gripper 2.0", "payload", "l_gripper", (2.0,), 0, np.inf),
        ("at 5: push torso 30 0 -1.5 for 0.3", "push", "torso", (30.0, 0.0, -1.5), 5, 0.3),
        ("push torso 30 0 0", "push", "torso", (30.0, 0.0, 0.0), 0, 0.2),
        ("drop imu/data for 2", "drop", "imu/data", (), 0, 2),
        ("imu_bias gyro 0.01 0 0", "imu_bias", "gyro", (0.01, 0.0, 0.0), 0, np.inf),
        ("  at 1.5 :  delay joint_states 0.05 ", "delay", "joint_states", (0.05,), 1.5, np.inf),
    ],
)
def test_grammar(text, kind, target, values, start, duration):
    f = parse_fault(text)
    assert (f.kind, f.target, f.values, f.start, f.duration) == (kind, target, values, start, duration)
    assert parse_fault(str(f)) == parse_fault(text.split(":")[-1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown kind"),
        ("payloda l_gripper 2", "did you mean 'payload'"),
        ("payload l_gripper", "wants a frame and 1 number"),
        ("push torso 1 2", "wants a frame and 3 numbers"),
        ("payload l_gripper two", "'two' is not a number"),
        ("payload l_gripper nan", "out of range"),
        ("payload l_gripper -1", "out of range [0, 500]"),
        ("imu_bias compass 1 2 3", "unknown sensor 'compass'"),
        ("at five: drop scan", "'five' is not a number"),
        ("at 5 drop scan", "expected 'at SECONDS: …'"),
        ("drop scan for ever", "'ever' is not a number"),
    ],
)
def test_errors_name_the_bad_word(text, words):
    with pytest.raises(ConfigError) as e:
        parse_fault(text)
    assert words in str(e.value) and "\n" not in str(e.value)


@given(st.text(max_size=40) | st.builds(" ".join, st.lists(st.sampled_from([*KINDS, "at", "1:", "for", "2", "x"]), max_size=7)))  # fmt: skip
def test_any_text_is_a_fault_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        assert parse_fault(text).kind in KINDS


class Topics:
    def __init__(self):
        self.now, self.sent = 0, []
        self.box = Outbox()
        self.box.add("a", lambda m: self.sent.append((self.now, m)))

    def post(self, message, now):
        self.now = now
        self.box.post("a", message, now)
        self.box.flush(now)


def test_topics_can_be_dropped_frozen_and_delayed():
    t = Topics()
    t.post(1, 0)
    t.box.drop("a", True)
    t.post(2, 10)
    t.box.drop("a", False)
    t.post(3, 20)
    t.box.freeze("a", True)
    t.post(4, 30)
    t.post(5, 40)
    t.box.freeze("a", False)
    t.box.delay("a", 25e-9)
    t.post(6, 50)
    t.box.delay("a", 0.0)
    t.post(7, 60)
    t.now = 80
    t.box.flush(80)
    assert t.sent == [(0, 1), (20, 3), (30, 3), (40, 3), (60, 7), (80, 6)]
    with pytest.raises(ConfigError, match="unknown topic 'b'"):
        t.box.check("b")


@pytest.fixture
def world(robot):
    plant = Plant(robot.description, robot.config, PlantConfig())
    sensors = Instruments(plant, InstrumentConfig(), 200.0)
    topics = Topics().box
    return plant, sensors, topics, FaultSchedule(plant, sensors, topics)


def test_faults_come_when_they_are_due_and_go_after_their_time(world):
    plant, sensors, _, faults = world
    i = plant.joint_of("l_knee")
    zero, bias = sensors.encoder_offset[i], sensors.gyro_bias.copy()
    nominal = plant.mj.body_mass.copy()
    for text in (
        "at 0.1: encoder l_knee 0.0175 for 0.1", "at 0.1: imu_bias gyro 0.01 0 0 for 0.1",
        "at 0.1: payload l_gripper 2 for 0.1", "at 0.1: motor r_knee 0.5 for 0.1", "at 0.1: freeze a for 0.1",
    ):  # fmt: skip
        faults.add(parse_fault(text))

    def run_to(ms):
        while plant.steps < ms:
            plant.advance(5)
            faults.update()

    run_to(95)
    assert not faults.active and sensors.encoder_offset[i] == zero
    run_to(105)
    assert len(faults.active) == 5
    assert sensors.encoder_offset[i] == pytest.approx(zero + 0.0175)
    assert np.allclose(sensors.gyro_bias[0] - bias[0], [0.01, 0, 0])
    assert plant.mj.body_mass.sum() == pytest.approx(nominal.sum() + 2)
    run_to(210)
    assert not faults.active
    assert sensors.encoder_offset[i] == pytest.approx(zero) and np.allclose(sensors.gyro_bias, bias)
    assert np.allclose(plant.mj.body_mass, nominal)


def test_clearing_takes_everything_back_and_forgets_what_was_to_come(world):
    plant, sensors, _, faults = world
    nominal = plant.mj.body_mass.copy()
    faults.add(parse_fault("payload l_gripper 2"))
    faults.add(parse_fault("at 0.01: motor l_knee 0"))
    faults.update()
    assert len(faults.active) == 1
    faults.clear()
    plant.advance(20)
    faults.update()
    assert not faults.active and np.allclose(plant.mj.body_mass, nominal)


@pytest.mark.parametrize(
    "text", ["payload nose 1", "motor l_kne 0", "encoder nothing 0.1", "drop b", "push nose 1 2 3", "friction x 2"]
)
def test_a_target_that_is_not_there_is_refused_at_once(world, text):
    with pytest.raises(TwinError, match="unknown"):
        world[3].add(parse_fault(text))
