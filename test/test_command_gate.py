"""The way down: nothing leaves the gate that is not finite, too fast, too far or too strong, or when it is closed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.command_gate import MAX_STEP_TIME, Command, CommandGate, CommandGateConfig

MS = 1_000_000
S = 1000 * MS


def gate(robot, measured=True, alive=True, **config):
    g = CommandGate(robot.model, CommandGateConfig(**config))
    if measured:
        g.measured(np.arange(28), robot.joints.stand)
    if alive:
        g.twin_alive(0)
    return g


def everything(robot, q=None):
    return np.arange(28), robot.joints.stand.copy() if q is None else q


def test_a_first_command_starts_from_where_the_joints_are(robot):
    g = gate(robot)
    index, q = everything(robot)
    out = g.accept(index, q + 0.5, None, None, 10 * MS)
    assert np.allclose(out.q, robot.joints.stand), "no leap"
    out = g.accept(index, q + 0.5, None, None, 20 * MS)
    step = out.q - robot.joints.stand
    expected = np.minimum(np.clip(q + 0.5, robot.model.lower, robot.model.upper) - q, robot.model.max_velocity * 0.01)
    assert np.allclose(step, expected)


def test_without_a_measurement_nothing_moves(robot):
    g = gate(robot, measured=False)
    assert g.accept(*everything(robot), None, None, 10 * MS) == "no_measurement"


def test_a_pause_entitles_to_no_leap(robot):
    g = gate(robot, twin_timeout=60.0)
    index, q = everything(robot)
    g.accept(index, q, None, None, 0)
    g.accept(index, q, None, None, 10 * MS)
    out = g.accept(index, q + 5, None, None, 5 * S)
    assert np.all(np.abs(out.q - q) <= robot.model.max_velocity * MAX_STEP_TIME + 1e-12)


commands = st.tuples(
    st.integers(0, 300),  # ms since the last
    st.lists(st.integers(0, 27), min_size=1, max_size=28, unique=True),
    st.floats(-50, 50, allow_nan=False) | st.sampled_from([np.nan, np.inf, -np.inf]),
    st.none() | st.floats(allow_nan=True, allow_infinity=True),
    st.none() | st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["accept", "accept", "accept", "tick", "stop", "enable", "disable"]),
)


@settings(max_examples=300)
@given(st.lists(commands, max_size=40), st.sampled_from(["hold", "damp"]), st.sampled_from(["hold", "damp"]), st.floats(0.05, 1.0))  # fmt: skip
def test_limits_hold_whatever_is_asked(robot, steps, silent, stopped, scale):
    """Positions inside their range, never faster than allowed between two outputs, torques and speeds clamped, finite."""
    m = robot.model
    g = gate(robot, when_silent=silent, when_stopped=stopped, speed_scale=scale, twin_timeout=1.0)
    last, last_time, now = robot.joints.stand.copy(), 0, 0
    for gap, joints, q, qd, effort, what in steps:
        now += gap * MS
        g.twin_alive(now)
        index = np.array(joints, dtype=np.intp)
        count = len(joints)
        full = lambda v, k=count: None if v is None else np.full(k, v)  # noqa: E731
        out = None
        if what == "accept":
            out = g.accept(index, full(q), full(qd), full(effort), now)
        elif what == "tick":
            out = g.tick(now)
        elif what == "stop":
            out = g.emergency_stop()
        else:
            g.enable(what == "enable")
        if not isinstance(out, Command):
            continue
        assert np.isfinite(out.qd).all() and np.isfinite(out.effort).all()
        assert np.all(np.abs(out.qd) <= m.max_velocity[out.index]) and np.all(
            np.abs(out.effort) <= m.max_effort[out.index]
        )
        if g.stopped:
            assert not out.qd.any() and not out.effort.any()
        if out.q is None:
            last = robot.joints.stand.copy()  # limp: it starts again from where the joints are measured
            continue
        assert np.isfinite(out.q).all()
        assert np.all((out.q >= m.lower[out.index]) & (out.q <= m.upper[out.index]))
        reach = m.max_velocity[out.index] * scale * min((now - last_time) / S, MAX_STEP_TIME)
        assert np.all(np.abs(out.q - last[out.index]) <= reach + 1e-9)
        last[out.index], last_time = out.q, now


@given(st.floats(0.01, 0.2), st.floats(-50, 50))
def test_a_joint_found_outside_its_range_is_led_back(robot, beyond, target):
    m = robot.model
    g = gate(robot)
    start = robot.joints.stand.copy()
    start[3] = m.upper[3] + beyond
    g.measured(np.arange(28), start)
    previous = start[3]
    for k in range(1, 200):
        out = g.accept(np.arange(28), np.full(28, target), None, None, k * 5 * MS)
        g.twin_alive(k * 5 * MS)
        assert out.q[3] <= previous + 1e-12 or out.q[3] <= m.upper[3]
        assert abs(out.q[3] - previous) <= m.max_velocity[3] * 0.005 + 1e-9
        previous = out.q[3]
    assert m.lower[3] <= previous <= m.upper[3]


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_whole(robot, where, bad):
    g = gate(robot)
    fields = [robot.joints.stand.copy(), np.zeros(28), np.zeros(28)]
    fields[where][4] = bad
    assert g.accept(np.arange(28), *fields, 10 * MS) == "non_finite"


# Opening and closing


def test_closed_on_a_real_robot_until_enabled(robot):
    g = gate(robot, gate="manual")
    assert g.accept(*everything(robot), None, None, MS) == "gate_closed"
    assert "~/enable_commands opens it" in g.why_closed(MS)
    g.enable(True)
    assert isinstance(g.accept(*everything(robot), None, None, 2 * MS), Command)
    g.enable(False)
    assert g.accept(*everything(robot), None, None, 3 * MS) == "gate_closed"


def test_closed_while_the_twin_is_stale(robot):
    g = gate(robot, alive=False)
    assert g.accept(*everything(robot), None, None, MS) == "gate_closed" and g.why_closed(MS) == "the twin is stale"
    g.twin_alive(MS)
    assert isinstance(g.accept(*everything(robot), None, None, 2 * MS), Command)
    assert g.accept(*everything(robot), None, None, 3 * S) == "gate_closed"


@pytest.mark.parametrize(("kind", "opens"), [("auto", True), ("manual", False)])
def test_after_a_silence_a_simulation_goes_on_and_a_real_robot_waits(robot, kind, opens):
    g = gate(robot, gate=kind)
    g.enable(True)
    g.accept(*everything(robot), np.ones(28), np.ones(28), 0)
    assert g.tick(100 * MS) is None, "not silent yet"
    held = g.tick(250 * MS)
    assert np.allclose(held.q, robot.joints.stand) and not held.qd.any() and not held.effort.any()
    g.twin_alive(300 * MS)
    assert isinstance(g.accept(*everything(robot), None, None, 310 * MS), Command) == opens


def test_damping_sends_no_positions(robot):
    g = gate(robot, when_silent="damp")
    g.accept(*everything(robot), None, None, 0)
    out = g.tick(300 * MS)
    assert out.q is None and not out.qd.any() and len(out.index) == 28


def test_a_second_source_closes_it(robot):
    g = gate(robot)
    g.sources(("/script",))
    assert isinstance(g.accept(*everything(robot), None, None, MS), Command)
    g.sources(("/script", "/rogue"))
    assert g.accept(*everything(robot), None, None, 2 * MS) == "gate_closed"
    assert "/script, /rogue" in g.why_closed(2 * MS)
    assert g.tick(3 * MS) is not None, "and the robot is held"
    g.sources(("/script",))
    assert isinstance(g.accept(*everything(robot), None, None, 4 * MS), Command)


def test_an_emergency_stop_holds_until_enabled(robot):
    g = gate(robot)
    g.accept(*everything(robot), np.ones(28), None, 0)
    out = g.emergency_stop()
    assert np.allclose(out.q, robot.joints.stand) and not out.qd.any()
    assert g.accept(*everything(robot), None, None, MS) == "gate_closed"
    assert g.tick(2 * MS) is not None
    g.enable(True)
    assert isinstance(g.accept(*everything(robot), None, None, 3 * MS), Command)


def test_an_emergency_stop_before_any_command_holds_what_is_measured(robot):
    assert np.allclose(gate(robot).emergency_stop().q, robot.joints.stand)
    assert gate(robot, measured=False).emergency_stop() is None


def test_some_joints_may_be_commanded_alone(robot):
    g = gate(robot)
    out = g.accept(np.array([3, 5]), robot.joints.stand[[3, 5]], None, None, MS)
    assert list(out.index) == [3, 5]
    out = g.accept(np.array([7]), robot.joints.stand[[7]], None, None, 2 * MS)
    assert list(out.index) == [3, 5, 7], "the others stay under command"
