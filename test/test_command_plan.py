"""What forecasts assume of commands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digital_twin.core.command_plan import NS, CommandPlan

ZERO = np.zeros(2)


def ask(plan, now, times=(0.0, 0.1, 0.2), q=(7.0, 8.0)):
    return plan.sample(round(now * NS), np.array(times), np.array(q))


def test_without_commands_joints_hold_where_they_are():
    points, assumed = ask(CommandPlan(2), 1.0)
    assert points.position.tolist() == [[7.0, 8.0]] * 3 and not points.velocity.any() and "no commands" in assumed


def test_each_command_acts_from_its_stamp_plus_the_delay():
    plan = CommandPlan(1, "hold", delay=0.05)
    for k in range(5):
        plan.command(round(0.1 * k * NS), np.array([float(k)]), np.array([10.0 + k]), np.array([20.0 + k]))
    points, assumed = ask(plan, 0.2, (-0.06, -0.04, 0.0, 0.049, 0.051, 0.149, 0.151, 0.3), (7.0,))
    assert points.position.ravel().tolist() == [0, 1, 1, 1, 2, 2, 3, 4]
    assert points.velocity.ravel().tolist() == [10, 11, 11, 11, 12, 12, 13, 14]
    assert points.effort.ravel().tolist() == [20, 21, 21, 21, 22, 22, 23, 24]
    assert assumed == "the last command held"


def test_joints_that_a_command_does_not_name_keep_theirs():
    plan = CommandPlan(2, "hold")
    plan.command(0, np.array([np.nan, 2.0]))
    assert ask(plan, 0.0)[0].position[0].tolist() == [7.0, 2.0]  # never told: where it is
    plan.command(1, np.array([1.0, np.nan]))
    assert ask(plan, 0.1)[0].position[0].tolist() == [1.0, 2.0]


@given(v=st.floats(0.01, 3), span=st.floats(0.05, 1.0))
def test_a_trend_slows_down_evenly_and_its_speed_is_its_slope(v, span):
    plan = CommandPlan(1, "trend", trend_time=span)
    plan.command(0, np.array([1.0]), np.array([v]))
    t = np.linspace(0, 2 * span, 2001)
    points, assumed = ask(plan, 0.0, t, (0.0,))
    assert "going on" in assumed
    assert np.allclose(np.gradient(points.position[:, 0], t)[1:-1], points.velocity[1:-1, 0], atol=2e-3 * v)
    assert points.position[-1, 0] == pytest.approx(1.0 + 0.5 * span * v)
    assert points.velocity[-1, 0] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_cubic_is_followed_exactly_and_held_at_its_end(seed):
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((4, 2))
    at = lambda t: np.stack([c[3] + c[2] * x + c[1] * x**2 + c[0] * x**3 for x in t])  # noqa: E731
    slope = lambda t: np.stack([c[2] + 2 * c[1] * x + 3 * c[0] * x**2 for x in t])  # noqa: E731
    times = np.sort(rng.uniform(0, 1, 6))
    plan = CommandPlan(2)
    plan.command(0, at([0.0])[0], slope([0.0])[0])
    plan.trajectory(0, times, at(times), slope(times))
    inside = np.linspace(times[0] + 1e-6, times[-1], 50)
    points, assumed = ask(plan, 0.0, inside)
    assert assumed == "the trajectory being executed"
    assert np.allclose(points.position, at(inside), atol=1e-6) and np.allclose(
        points.velocity, slope(inside), atol=1e-4
    )
    beyond, _ = ask(plan, 0.0, [times[-1] + 0.2])
    assert np.allclose(beyond.position, at(times[-1:])) and not beyond.velocity.any()


def test_what_was_commanded_already_is_not_replaced_by_the_trajectory():
    plan = CommandPlan(1, delay=0.1)
    plan.command(0, np.array([5.0]))
    plan.trajectory(0, np.array([0.0, 1.0]), np.array([[6.0], [6.0]]))
    assert ask(plan, 0.05, (0.0, 0.04, 0.06), (0.0,))[0].position.ravel().tolist() == [5.0, 5.0, 6.0]


def test_a_trajectory_that_ended_long_ago_is_none():
    plan = CommandPlan(1)
    plan.trajectory(0, np.array([0.0, 1.0]), np.array([[6.0], [6.0]]))
    plan.command(5 * NS, np.array([1.0]))
    assert ask(plan, 5.0, q=(0.0,))[1] == "the last command held"


@pytest.mark.parametrize(
    ("times", "position"),
    [([], np.empty((0, 2))), ([0.0, 0.0], np.zeros((2, 2))), ([0.0], np.zeros((1, 3))), ([0.0], [[np.nan, 0.0]])],
)
def test_trajectories_that_are_none_are_refused(times, position):
    plan = CommandPlan(2)
    with pytest.raises(ValueError, match="trajectory"):
        plan.trajectory(0, np.array(times), np.array(position))
    assert ask(plan, 0.0)[1].startswith("no commands")


def test_a_source_that_turns_back_time_starts_anew():
    plan = CommandPlan(1, "hold")
    plan.command(10 * NS, np.array([1.0]))
    plan.command(NS, np.array([2.0]))
    assert ask(plan, 1.0, q=(0.0,))[0].position[0] == 2.0


def test_a_copy_is_not_changed_by_what_comes_later():
    plan = CommandPlan(1, "hold")
    plan.command(0, np.array([1.0]))
    other = plan.copy()
    plan.command(1, np.array([2.0]))
    assert ask(other, 1.0, q=(0.0,))[0].position[0] == 1.0 and ask(plan, 1.0, q=(0.0,))[0].position[0] == 2.0


def test_a_trajectory_is_followed_in_the_steps_of_its_source():
    """A source at 100 Hz holds each point for 10 ms, as it did with what it commanded already."""
    plan = CommandPlan(1, "auto", delay=0.003)
    for k in range(8):
        plan.command(k * 10_000_000, np.array([0.1 * k]))
    plan.trajectory(70_000_000, np.array([0.0, 1.0]), np.array([[0.7], [10.7]]))  # 10 rad/s
    times = np.arange(0.0, 0.05, 0.001)
    position = plan.sample(70_000_000, times, np.zeros(1))[0].position[:, 0]
    issued = np.floor((0.070 + times - 0.003 + 1e-9) / 0.01) * 0.01
    assert np.allclose(position, np.where(issued < 0.0699, 0.6, 0.7 + 10.0 * (issued - 0.07)))
