"""Forecasts of 10 and 100 ms that are made a little at a time, and readings that are compared with them."""

import numpy as np
import pytest

from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.drift.lookahead import HORIZONS, Lookahead
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.prediction_config import ForecastConfig
from digital_twin.robots import load_robot

NS = 1_000_000_000
ROBOT = load_robot()
STAND = ROBOT.joints.stand
STILL = np.zeros(ROBOT.model.n)
TICK = 5_000_000  # [ns]


def base(stamp_ns):
    zero, eye = np.zeros((6, 6)), np.eye(3)
    return BaseState(stamp_ns, np.array([0.0, 0.0, 0.83]), eye, STILL[:3], STILL[:3], zero, zero, (True, True), True)


@pytest.fixture
def lookahead():
    made = Lookahead(ROBOT.model, ROBOT.config, ROBOT.joints, rate=10.0)
    made.plan.command(0, STAND + 0.02)
    return made


def said(stamp_ns):
    """What one simulation says in one go (joints after 10 and after 100 ms)."""
    config = ForecastConfig(fidelity="contact", horizon=HORIZONS[-1], resolution=HORIZONS[0])
    whole = Forecaster(ROBOT.model, ROBOT.config, ROBOT.joints, config)
    plan = CommandPlan(ROBOT.model.n, delay=config.command_delay)
    plan.command(0, STAND + 0.02)
    whole.ground.update(base(stamp_ns), STAND)
    f = whole.forecast(stamp_ns, STAND, STILL, base(stamp_ns), plan)
    return f.motion.q[0], f.motion.q[-1]


def readings(lookahead, start, count, q=STAND, leave_out=()):
    """Residuals that come of `count` readings from a stamp on, with the index of the reading."""
    found = []
    for i in range(1, count + 1):
        residual = None if i in leave_out else lookahead.outcome(start + i * TICK, q)
        if residual is not None:
            found.append((i, residual))
    return found


def test_a_forecast_in_pieces_is_that_of_one_go_and_says_nothing_before_it_is_true(lookahead):
    assert lookahead.begin(NS, STAND, STILL, base(NS))
    ((at, residual),) = readings(lookahead, NS, 40)
    assert at == 20, "100 ms after the state"
    soon, late = said(NS)
    assert np.abs(soon - STAND).max() > 1e-4, "the joints follow the command"
    assert np.allclose(residual, np.concatenate([STAND - soon, STAND - late]), atol=1e-6)


def test_each_residual_is_of_the_reading_of_its_own_moment(lookahead):
    lookahead.begin(NS, STAND, STILL, base(NS))
    found = []
    for i in range(1, 21):
        residual = lookahead.outcome(NS + i * TICK, STAND + 0.001 * i)
        found += [] if residual is None else [residual]
    soon, late = said(NS)
    assert np.allclose(found[0], np.concatenate([STAND + 0.002 - soon, STAND + 0.020 - late]), atol=1e-6)


@pytest.mark.parametrize(("leave_out", "count", "known"), [((2, 3), 1, False), ((20, 21), 0, False), ((7, 8), 1, True)])
def test_where_a_reading_is_missing_nothing_is_said_of_its_moment(lookahead, leave_out, count, known):
    lookahead.begin(NS, STAND, STILL, base(NS))
    found = readings(lookahead, NS, 40, leave_out=leave_out)
    assert len(found) == count
    n = ROBOT.model.n
    for _, residual in found:
        assert np.isfinite(residual[:n]).all() == known and np.isfinite(residual[n:]).all()


def test_rare_readings_do_not_hold_up_the_next_forecast(lookahead):
    """At 20 Hz a forecast has had two of its ten pieces when the next one is due: it is finished then."""
    found = 0
    for i in range(40):
        lookahead.begin(NS + 10 * i * TICK, STAND, STILL, base(NS + 10 * i * TICK))
        found += lookahead.outcome(NS + 10 * (i + 1) * TICK, STAND) is not None
    assert found >= 15


def test_time_that_is_turned_back_costs_no_more_than_what_was_under_way(lookahead):
    lookahead.begin(10 * NS, STAND, STILL, base(10 * NS))
    readings(lookahead, 10 * NS, 10)
    assert lookahead.begin(NS, STAND, STILL, base(NS)), "one is due at once"
    assert len(readings(lookahead, NS, 25)) == 1


def test_a_state_that_cannot_be_simulated_tells_nothing(lookahead):
    assert not lookahead.begin(NS, STAND * np.nan, STILL, base(NS))
    assert readings(lookahead, NS, 25) == []
    assert lookahead.begin(NS + 30 * TICK, STAND, STILL, base(NS + 30 * TICK))
    assert len(readings(lookahead, NS + 30 * TICK, 25)) == 1
