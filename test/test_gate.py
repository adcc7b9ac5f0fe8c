"""The gate: what would fall is refused with a reason, what would not passes, and stopping always does."""

import dataclasses
import math
from multiprocessing import active_children

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_forecaster import base_state

from digital_twin.core.command_gate import CommandGate, CommandGateConfig
from digital_twin.core.drift.model_version import ModelVersion
from digital_twin.core.drift.parameters import Changes, Payload
from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.gait.controller import GaitCommand, GaitController
from digital_twin.core.gait.episode import Episode, EpisodeConfig
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.gate import TwinGate, Verdict
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.gait.gate_senses import Senses
from digital_twin.core.gait.try_first import STOP, TryFirst
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.core.synchronizer import Synchronizer, VirtualState
from digital_twin.gate_worker import GateWorker, _Gate, _Model, _Try
from digital_twin.robots import with_version

S = 1_000_000_000
UP = np.array([0.0, 0.0, 1.0])
FEW = GateConfig(members=3, horizon=1.2, limit=0.5, doubt=0.12)


def standing(robot, **motion):
    n = robot.model.n
    base = base_state(**motion)
    return VirtualState(base.stamp_ns, robot.joints.stand.copy(), np.zeros(n), np.zeros(n), np.full(n, np.nan), base)


def version(robot, changes):
    return ModelVersion(robot.description.name, robot.description.sha256, changes=changes)


@pytest.fixture(scope="module")
def gate(robot):
    return TwinGate(robot.model, robot.config, robot.joints, Gait(), FEW)


def test_standing_and_a_slow_walk_pass(gate, robot):
    for velocity in (STOP, (0.2, 0.0, 0.0)):
        v = gate.try_velocity(standing(robot), velocity)
        assert v.passes and v.words == "" and v.chance == 0.0 and v.first == math.inf
        assert v.tried < 3, "two of three that stand decide it"


def test_what_was_tried_before_does_not_matter(gate, robot):
    """Each trial begins with a robot that stands, not with what the last one left in the controller."""
    first = gate.try_velocity(standing(robot), (0.3, 0.0, 0.0))
    assert gate._controller.phase == "walk"
    assert gate.try_velocity(standing(robot), STOP).passes and gate._controller.phase == "stand"
    assert gate.try_velocity(standing(robot), (0.3, 0.0, 0.0)) == first


def test_a_robot_that_topples_is_refused_with_the_reason(gate, robot):
    for velocity, whereto in (((1.6, 0, 0), "forwards"), ((-1.6, 0, 0), "backwards"), ((0, 1.6, 0), "to the left")):
        v = gate.try_velocity(standing(robot, velocity=velocity), (0.3, 0.0, 0.0))
        assert not v.passes and v.chance >= 0.5 and 0.1 < v.first < 1.2
        assert "robots in the twin fall within 1.2 s" in v.words and "0.30 m/s ahead" in v.words and whereto in v.words


@pytest.mark.parametrize(
    ("falls", "tried", "passes"),
    [("....", 4, True), ("xxxx", 4, False), ("x.....", 6, True), ("xx.xxx", 6, False), ("x." * 8, 16, False), (".x" * 7 + "..", 16, True)],
)  # fmt: skip
def test_a_clear_case_is_decided_by_few_a_doubtful_one_by_more(gate, robot, monkeypatch, falls, tried, passes):
    """Wald's walk: four falls more, or fewer, than robots that stand; after sixteen what most do."""
    left = iter(falls)
    monkeypatch.setattr(gate, "config", GateConfig(members=16, limit=0.5, doubt=0.02))
    monkeypatch.setattr(gate._ensemble, "starts", lambda *_: [None] * 16)
    monkeypatch.setattr(gate, "_fall", lambda *_: (1.0, "forwards") if next(left) == "x" else None)
    v = gate.try_velocity(standing(robot), (0.2, 0.0, 0.0))
    assert (v.tried, v.passes) == (tried, passes) and v.chance == falls.count("x") / tried


def test_the_same_question_has_the_same_answer(gate, robot):
    ask = standing(robot, velocity=(0.75, 0, 0))
    first, second = (gate.try_velocity(ask, (0.4, 0.0, 0.0)) for _ in range(2))
    assert first == second


def test_it_begins_in_mid_step(gate, robot):
    """With the snapshot of a controller that walks the rollout goes on walking; the snapshot itself stays as it was."""
    controller = GaitController(robot.model, robot.config, robot.joints, Gait())
    loads = np.zeros((2, 6))
    loads[:, 2] = 264.0
    state = standing(robot)
    controller.request(0.3, 0.0, 0.0)
    for k in range(60):
        state = dataclasses.replace(state, stamp_ns=k * 5_000_000)
        controller.step(state, loads)
    assert controller.phase == "walk"
    snapshot = controller.snapshot()
    before = repr(snapshot)
    assert gate.try_velocity(state, (0.2, 0.0, 0.0), snapshot).tried >= 2
    assert repr(snapshot) == before


def test_a_gait_can_be_tried(gate, robot):
    v = gate.try_velocity(standing(robot), (0.2, 0.0, 0.0), gait=dataclasses.replace(Gait(), step_time=0.6))
    assert v.passes


# What passes meanwhile


class Slow:
    """A trial that takes until it is told."""

    def __init__(self):
        self.asked, self.verdict = [], None

    def begin(self, velocity):
        self.asked.append(velocity)

    def done(self):
        verdict, self.verdict = self.verdict, None
        return verdict


GOOD, BAD = Verdict(True, 0.0, 8, math.inf, ""), Verdict(False, 1.0, 2, 1.0, "it falls")


def test_meanwhile_the_robot_goes_on_as_allowed():
    trials = Slow()
    t = TryFirst(trials, patience=5.0)
    assert t.ask((0.5, 0, 0), 0) == (STOP, "the twin tries it first")
    assert t.ask((0.51, 0, 0), S) == (STOP, "the twin tries it first") and trials.asked == [(0.5, 0, 0)]
    trials.verdict = GOOD
    assert t.ask((0.5, 0, 0), 2 * S) == ((0.5, 0, 0), "")
    assert t.ask((0.9, 0, 0), 3 * S).velocity == (0.5, 0, 0)
    trials.verdict = BAD
    assert t.ask((0.9, 0, 0), 4 * S) == ((0.5, 0, 0), "refused: it falls")
    assert t.ask(STOP, 5 * S) == (STOP, "") and len(trials.asked) == 2
    assert t.ask((0.9, 0, 0), 6 * S).words == "refused: it falls", "remembered"
    assert t.ask((0.9, 0, 0), 10 * S).words == "the twin tries it first", "but not for ever"
    assert (t.passed, t.refused) == (1, 1)


velocities = st.tuples(st.floats(-2, 2), st.floats(-1, 1), st.floats(-2, 2))


@given(st.lists(st.tuples(velocities, st.sampled_from([None, GOOD, BAD])), max_size=30))
def test_nothing_passes_that_was_not_tried_and_found_good(steps):
    trials = Slow()
    t = TryFirst(trials)
    good = [STOP]
    for k, (velocity, verdict) in enumerate(steps):
        if verdict is not None and t._trying is not None:
            trials.verdict = verdict
            if verdict.passes:
                good.append(trials.asked[-1])
        answer = t.ask(velocity, k * S // 10)
        near = [g for g in good if np.all(np.abs(np.subtract(g, answer.velocity)) <= [0.1, 0.06, 0.16])]
        assert near, "at most twice the tolerance from what was tried"
        assert (answer.words == "") == (answer.velocity == velocity) or answer.velocity == velocity


def test_what_was_tried_by_another_model_is_tried_again():
    trials = Slow()
    t = TryFirst(trials)
    ahead, fast = (0.3, 0.0, 0.0), (0.9, 0.0, 0.0)
    t.ask(ahead, 0)
    trials.verdict = BAD
    assert "refused" in t.ask(ahead, S).words
    t.ask(fast, S)
    t.forget()
    trials.verdict = GOOD  # of `fast`, by the old model
    assert t.ask(fast, S) == (STOP, "the twin tries it first") and trials.asked == [ahead, fast, fast]
    trials.verdict = GOOD
    assert t.ask(fast, S).words == ""
    assert t.ask(ahead, S).words == "the twin tries it first", "not refused by what the old model did"


def test_the_process_takes_the_model_in_service(robot):
    gate = _Gate("", "", Gait(), dataclasses.replace(FEW, members=2), "", 0)
    heavy = with_version(robot, version(robot, Changes(payloads={"l_gripper": Payload(3.0)})))
    before = gate._gate._ensemble.model.mj.body_mass.sum()
    assert gate(_Model(heavy.description, heavy.config, heavy.where)) is None
    assert gate._gate._ensemble.model.mj.body_mass.sum() == pytest.approx(before + 3.0, abs=1e-3)
    asked = _Try(standing(robot), (0.2, 0.0, 0.0), None, UP)
    assert gate(asked).passes
    with pytest.raises(ConfigError, match="two feet"):
        gate(_Model(heavy.description, dataclasses.replace(heavy.config, feet=[]), "footless"))
    with pytest.raises(TwinError, match="footless cannot be simulated"):
        gate(asked)


def test_a_process_of_its_own(robot):
    worker = GateWorker("", "", Gait(), dataclasses.replace(FEW, members=2), lambda: (standing(robot), None, UP))
    try:
        t = TryFirst(worker)
        answer = t.ask((0.2, 0.0, 0.0), 0)
        assert answer == (STOP, "the twin tries it first")
        worker._pending.result(timeout=60)
        assert t.ask((0.2, 0.0, 0.0), S) == ((0.2, 0.0, 0.0), "")
        worker.use(robot)
        t.forget()
        assert t.ask((0.4, 0.0, 0.0), S).words == "the twin tries it first"
        worker._pending.result(timeout=60)
        (process,) = active_children()
        process.kill()
        t.ask((0.6, 0.0, 0.0), S)
        while "could not be tried" not in t.ask((0.6, 0.0, 0.0), 2 * S).words:
            process.join(0.05)
        worker.use(robot)  # a process that has died is no reason to end the node
    finally:
        worker.close()
    assert not active_children(), "close waits for the end"


def test_the_node_walks_only_what_passes(robot):
    """A velocity waits for its trial, in words; what is refused is counted and said; what passes is walked."""
    from geometry_msgs.msg import Twist
    from ros_rig import rig

    from digital_twin.nodes.gait_controller import GaitControllerNode

    def asked(node):
        return tuple(node.controller._m.asked)

    with rig(GaitControllerNode, gate="twin", trial__members=2) as r:
        node, trials = r.nodes[0], Slow()
        assert node._worker is not None
        node._state, node._stamp_ns, node._gate = standing(robot), 1, TryFirst(trials)
        node._watch = lambda: None
        ahead = Twist()
        ahead.linear.x = 0.3
        r.publisher(Twist, "cmd_vel")
        r.connected("cmd_vel")

        def send():
            r.publisher(Twist, "cmd_vel").publish(ahead)

        r.until(lambda: trials.asked, "a trial", action=send)
        assert asked(node) == STOP and "the twin tries it first" in node.status()[1]
        trials.verdict = GOOD
        r.until(lambda: asked(node) == (0.3, 0.0, 0.0), "it to pass", action=send)
        ahead.linear.x = 0.9
        r.until(lambda: len(trials.asked) == 2, "another trial", action=send)
        trials.verdict = BAD
        r.until(lambda: "refused: it falls" in node.status()[1], "the reason", action=send)
        assert asked(node) == (0.3, 0.0, 0.0) and node.tally.rejected["cmd_vel/refused_by_the_gate"] > 0
        ahead.linear.x = float("nan")
        r.until(lambda: asked(node) == STOP, "what is no velocity to stop it", action=send)
    assert not active_children()


def test_a_command_that_the_bridge_would_limit_is_limited(gate, robot):
    bridge = CommandGate(robot.model, CommandGateConfig())
    n, stand = robot.model.n, robot.joints.stand
    bridge.measured(np.arange(n), stand)
    ctrl = np.zeros((n, 3))
    for k, far in enumerate((0.0, 1.0)):
        gate._obey(GaitCommand(stand + far, np.full(n, 1e3), np.full(n, -1e4)), bridge, k * 5_000_000, ctrl)
    reach = robot.model.max_velocity * 0.005
    assert (np.abs(ctrl[:, 0] - stand) <= reach + 1e-9).all() and (ctrl[:, 0] > stand).any()
    assert np.allclose(ctrl[:, 1:], np.column_stack([robot.model.max_velocity, -robot.model.max_effort]))


@pytest.fixture(scope="module")
def walking(robot):
    """A robot in mid-step, and what its controller knows."""
    e = Episode(robot.description, robot.config, Gait(), EpisodeConfig(seconds=10.0))
    while e.result.seconds < 2.4:
        e.advance((0.4, 0.0, 0.0))
    assert sum(e.state.base.contacts) == 1
    return e, e.state, e.controller.snapshot()


def test_each_robot_is_seen_as_well_as_the_twin_sees_its_own(gate, walking, monkeypatch):
    """By the synchronizer, which goes on in mid-step: off by centimetres a second, never right."""
    _, state, snapshot = walking
    errors, model = [], gate._ensemble.model

    class Watched(Senses):
        def look(self, m, d, tick):
            seen, wrenches = super().look(m, d, tick)
            _, rotation, velocity, _ = model.base(d)
            errors.append([rotation @ seen.base.velocity - velocity, rotation[:, 2] - seen.base.rotation[:, 2]])
            assert seen.stamp_ns == state.stamp_ns + tick * 5_000_000
            return seen, wrenches

    monkeypatch.setattr("digital_twin.core.gait.gate.Senses", Watched)
    assert gate.try_velocity(state, (0.4, 0.0, 0.0), snapshot).chance == 0.0
    speed, tilt = np.sqrt(np.mean(np.square(errors), axis=0))
    assert 0.002 < speed.max() < 0.03 and 5e-4 < tilt.max() < 0.012


def test_a_foot_without_a_sensor_feels_nothing_in_the_gate_either(robot):
    feet = [dataclasses.replace(f, wrench_topic="") if f.name == "left" else f for f in robot.config.feet]
    config = dataclasses.replace(robot.config, feet=feet)
    gate = TwinGate(robot.model, config, robot.joints, Gait(), dataclasses.replace(FEW, members=2))
    felt = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate._controller, "step", _kept(gate._controller.step, felt))
        assert gate.try_velocity(standing(robot), (0.2, 0.0, 0.0)).passes
    wrenches = np.array(felt)
    assert np.isnan(wrenches[:, 0]).all() and np.isfinite(wrenches[:, 1]).all()


def _kept(step, felt):
    def call(state, wrenches):
        felt.append(wrenches)
        return step(state, wrenches)

    return call


def test_it_goes_on_where_it_is_told_to(robot, walking):
    """Fed with the same measurements, another synchronizer soon says what the first one says."""
    e, state, snapshot = walking
    other = Synchronizer(e.model, robot.config, SynchronizerConfig())
    other.continue_from(state, 0.02, 0.1)
    controller = e.controller
    controller.restore(snapshot)
    apart = []
    for _ in range(200):
        controller.request(0.4, 0.0, 0.0)
        e._obey(controller.step(e.state, e._wrenches))
        e.plant.advance(5)
        heard = []
        for name in ("wrench", "imu", "joints"):
            heard.append((name, getattr(e.sync, name)))
            setattr(e.sync, name, _both(getattr(e.sync, name), getattr(other, name)))
        e._measure()
        for name, method in heard:
            setattr(e.sync, name, method)
        twin = other._latest
        assert twin.stamp_ns == e.state.stamp_ns
        apart.append([np.abs(twin.base.velocity - e.state.base.velocity).max(), np.abs(twin.qd - e.state.qd).max()])
    assert np.median(apart, axis=0)[0] < 0.02 and np.array(apart)[20:, 1].max() < 0.05
    assert np.linalg.norm(other._latest.base.position - e.state.base.position) < 0.02


def _both(first, second):
    def call(*arguments):
        second(*arguments)
        return first(*arguments)

    return call
