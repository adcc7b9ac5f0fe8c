"""Warnings: falls, limits, balance, the robot touching itself; and which fidelity can be afforded."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_forecaster import ROBOT, STAND, N, base_state, holding

from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.forecast_model import Motion
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.foresight import Balance, FallWatch, fall_times, inside, limits_ahead
from digital_twin.core.governor import BUSY, DOWN_AFTER, HELD, UP_AFTER, Governor
from digital_twin.core.prediction import Prediction, State
from digital_twin.core.prediction_config import EnsembleConfig, ForecastConfig, ForesightConfig
from digital_twin.core.rotation import exp_so3
from digital_twin.core.self_collision import SelfCollision

CONFIG = ForesightConfig()


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster(ROBOT.model, ROBOT.config, ROBOT.joints, ForecastConfig())


def tumbling(rate, sink=0.0):
    """A base that tilts and sinks at even speeds; (1, k, …)."""
    t = np.arange(1, 101) * 0.01
    rotation = np.array([exp_so3([rate * x, 0, 0]) for x in t])
    position = np.column_stack([np.zeros((100, 2)), 0.8 - sink * t])
    empty = np.zeros((100, 3))
    return t, Motion(*(x[None] for x in (np.zeros((100, N)), np.zeros((100, N)), position, rotation, empty, empty)))


def test_a_fall_is_when_it_tilts_thirty_degrees_or_sinks_a_third():
    t, motion = tumbling(1.0)
    assert fall_times(t, motion, 0.8) == pytest.approx([math.ceil(math.radians(30) * 100) / 100])
    t, motion = tumbling(0.0, sink=0.5)
    assert fall_times(t, motion, 0.8) == pytest.approx([0.54])
    assert fall_times(t, motion, 0.8, ground=-0.3) == [np.inf]  # the floor is lower
    assert fall_times(*tumbling(0.1), 0.8) == [np.inf]


def test_a_fall_is_announced_when_ensembles_agree_twice_in_a_row():
    watch = FallWatch(CONFIG)
    falls, stands = np.array([0.5, 0.7, 0.6, np.inf]), np.array([np.inf, np.inf, 0.5, np.inf])
    assert watch.update(falls) is None and watch.chance == 0.75
    assert watch.update(stands) is None and watch.update(falls) is None
    announced = watch.update(falls)
    assert (announced.lead, announced.chance) == (0.6, 0.75) and announced.text == "a fall in 0.60 s (75 %)"
    watch.clear()
    assert watch.update(falls) is None


def test_limits_are_met_when_they_are_met(forecaster):
    model, r = forecaster.models["contact"], ROBOT.model
    plan, knee = CommandPlan(N, "hold"), r.joint_index["l_knee"]
    q = STAND.copy()
    plan.command(0, q)
    f = forecaster.forecast(0, q, np.zeros(N), base_state(), plan)
    assert limits_ahead(f, model, CONFIG) == []
    moved = f.motion.q.copy()
    moved[30:, knee] = r.upper[knee] - 0.01
    fast = f.motion.qd.copy()
    fast[20:, 3] = -1.2 * r.max_velocity[3]
    met = limits_ahead(replace(f, motion=replace(f.motion, q=moved, qd=fast)), model, CONFIG)
    found = {(w.kind, w.subject): w.lead for w in met}
    assert found[("joint_limit", "l_knee")] == pytest.approx(f.times[30])
    assert found[("speed_limit", r.joint_names[3])] == pytest.approx(f.times[20])
    far = f.set_points.position.copy()
    far[10:, 0] += 2.0 * r.max_effort[0] / ROBOT.joints.kp[0]
    met = limits_ahead(replace(f, set_points=f.set_points._replace(position=far)), model, CONFIG)
    assert [(w.kind, w.subject, round(w.lead, 6)) for w in met] == [("torque_limit", r.joint_names[0], f.times[10])]


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_inside_a_rectangle(x, y):
    corners = np.array([[1.0, 0.5], [1.0, -0.5], [-1.0, -0.5], [-1.0, 0.5], [0.0, 0.0]])
    assert inside(np.array([x, y]), corners) == pytest.approx(min(1 - abs(x), 0.5 - abs(y)))


def test_the_capture_point_of_a_moving_robot(forecaster):
    """xi = c + v sqrt(h / g), of the whole robot; the margin shrinks as much as the capture point moves."""
    model = forecaster.models["contact"]
    balance = Balance(model)

    def start(v):
        return model.start(
            STAND, np.zeros(N), np.array([0, 0, 0.83]), np.eye(3), np.array(v), np.zeros(3), (True, True)
        )

    still, zmp = balance.margins(start([0.0, 0, 0]), (True, True))
    assert still == pytest.approx(zmp) and 0.02 < still < 0.115
    height = 0.83  # about that of the centre of mass above the soles
    quicker = [balance.margins(start([v, 0, 0]), (True, True))[0] for v in (0.5, 0.6)]
    assert quicker[0] - quicker[1] == pytest.approx(0.1 * math.sqrt(height / 9.81), rel=0.1)
    pulled = balance.margins(start([0.0, 0, 0]), (True, True), np.array([1.0, 0, 0]))[1]
    moved = balance.margins(start([0.0, 0, 0]), (True, True), np.array([2.0, 0, 0]))[1]
    assert abs(pulled - moved) == pytest.approx(height / 9.81, rel=0.15)
    assert all(math.isnan(x) for x in balance.margins(start([0.0, 0, 0]), (False, False)))


def test_the_robot_about_to_touch_itself(forecaster):
    touching = SelfCollision(ROBOT.model, forecaster.models["contact"].mj, ROBOT.joints.stand)
    q = np.tile(STAND, (50, 1))
    t = np.arange(1, 51) * 0.02
    assert touching.first(t, q) == []
    q[:, ROBOT.model.joint_index["l_hip_roll"]] = np.linspace(0.0, -0.4, 50)
    pairs = dict(touching.first(t, q, 1))
    assert "l_thigh and r_thigh" in pairs and 0.1 < pairs["l_thigh and r_thigh"] < 0.8
    assert touching.first(t, q[::-1]) == []  # they touch now: nothing to foretell


def test_a_push_that_topples_is_foreseen_and_one_that_does_not_is_not():
    p = Prediction(ROBOT.model, ROBOT.config, ROBOT.joints, ForecastConfig(), EnsembleConfig(), CONFIG)
    gentle = State(0, STAND, np.zeros(N), base_state(velocity=(0.1, 0, 0)))
    hard = State(0, STAND, np.zeros(N), base_state(velocity=(0.9, 0, 0), turning=(0, 1.0, 0)))
    assert not p.falls(p.forecast(gentle, holding()), gentle) and p.falls(p.forecast(hard, holding()), hard)
    for s in (gentle, gentle):
        assert p.fall(p.spread(s, holding()), s) is None
    assert p.fall(p.spread(hard, holding()), hard) is None
    warned = p.fall(p.spread(hard, holding()), hard)
    assert warned.kind == "fall" and warned.chance > 0.9 and 0.1 < warned.lead < 0.9
    f = p.forecast(hard, holding())
    p.look_at_balance(f, hard)
    assert p.capture_margin < 0 and p.in_doubt(f, hard)
    p.forget()
    assert math.isnan(p.capture_margin)


def test_a_motor_about_to_be_too_hot(forecaster):
    plan = holding()
    motors = forecaster.power.motors
    hottest = motors.derate_from.copy()
    forecaster.power_state = forecaster.power.start(hottest - 0.001)
    pushed = State(0, STAND + 0.0, np.zeros(N), base_state())
    f = forecaster.forecast(0, pushed.q, pushed.qd, pushed.base, plan, "multiphysics")
    met = limits_ahead(f, forecaster.models["contact"], CONFIG, motors.derate_from)
    knees = [w for w in met if w.kind == "temperature_limit"]
    assert {"l_knee", "r_knee"} <= {w.subject for w in knees} and all(0 < w.lead < 1 for w in knees)
    forecaster.power_state = forecaster.power.start()
    f = forecaster.forecast(0, pushed.q, pushed.qd, pushed.base, plan, "multiphysics")
    assert not limits_ahead(f, forecaster.models["contact"], CONFIG, motors.derate_from)


# The fidelity that can be afforded


def test_the_fidelity_goes_down_under_load_and_comes_up_again():
    g = Governor("contact", ("kinematic", "rigid_body", "contact"), 0.1)
    busy, idle = 0.1 * BUSY + 0.01, 0.001
    assert [bool(g.took(busy)) for _ in range(DOWN_AFTER)] == [False] * (DOWN_AFTER - 1) + [True]
    assert g.fidelity == "rigid_body"
    said = [s for s in (g.took(idle) for _ in range(4 * UP_AFTER)) if s]
    assert g.fidelity == "contact" and said == ["there is time again: the fidelity is now contact"]


def test_a_fidelity_hardly_dearer_than_the_one_in_use_comes_back_on_a_machine_that_stays_slow():
    g = Governor("contact", ("kinematic", "rigid_body", "contact"), 0.1)
    cost = {"rigid_body": 0.045, "contact": 0.057}
    for _ in range(DOWN_AFTER):
        g.took(0.09)
    assert g.fidelity == "rigid_body"
    assert sum(bool(g.took(cost[g.fidelity])) for _ in range(4 * UP_AFTER)) == 1 and g.fidelity == "contact"


def test_a_fidelity_that_keeps_failing_is_tried_more_and_more_rarely():
    g = Governor("contact", ("kinematic", "contact"), 0.1)
    waits = []
    for _ in range(4):
        while not g.took(0.09):
            pass
        waits.append(1)
        while not g.took(0.001):
            waits[-1] += 1
    assert waits == sorted(waits) and waits[-1] >= 4 * waits[0]


def test_what_has_held_for_long_is_tried_again_soon_after_a_disturbance():
    """However often it was disturbed before: a renewal of the model, some seconds long, is no reason to wait for minutes."""
    g = Governor("contact", ("kinematic", "rigid_body", "contact"), 0.1)
    for _ in range(6):
        for _ in range(2 * DOWN_AFTER):
            g.took(0.09)
        assert g.fidelity == "kinematic"
        for _ in range(2 * UP_AFTER):
            g.took(0.001)
        assert g.fidelity == "contact"
        for _ in range(2 * HELD):
            g.took(0.05)


def test_one_slow_forecast_changes_nothing_and_it_can_be_switched_off():
    g = Governor("contact", ("kinematic", "contact"), 0.1)
    assert not any(g.took(x) for x in [0.5, 0.01] * 100)
    still = Governor("contact", ("kinematic", "contact"), 0.1, active=False)
    assert not any(still.took(1.0) for _ in range(100)) and still.fidelity == "contact"
    bottom = Governor("kinematic", ("kinematic", "contact"), 0.1)
    assert not any(bottom.took(1.0) for _ in range(100)) and not any(bottom.took(0.0) for _ in range(10 * UP_AFTER))
