"""Heat and charge against solve_ivp and closed forms; energy is neither made nor lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from digital_twin.core.errors import ConfigError
from digital_twin.core.motor_config import BatteryConfig
from digital_twin.core.power_flow import Battery, PowerState, heat_step
from digital_twin.core.powertrain import Powertrain

STEP = 0.002


@pytest.fixture(scope="module")
def power(robot):
    return Powertrain(robot.model, robot.config, robot.joints)


def squat(power, t):
    """Currents and speeds (…, n) at times [s] (…): every joint loaded differently, giving back energy half the time."""
    m = power.motors
    phase = np.pi * np.asarray(t)[..., None]
    torque = (0.5 - 0.5 * np.cos(phase)) * np.linspace(0.1, 0.6, len(m.K)) * m.peak
    return torque / m.K, 2.0 * np.sin(phase) * np.ones_like(m.K)


def run(power, state, seconds, step=STEP, chunk=25):
    """Squats for some time, by chunks; yields the state after each."""
    times = (np.arange(round(seconds / step)) + 0.5) * step
    for a in range(0, len(times), chunk):
        before, state = state, power.advance(state, *squat(power, times[a : a + chunk]), step)
        yield before, state


def rates(power, t, y):
    """d/dt of winding, housing, charge and energy, written anew from the equations."""
    m, b = power.motors, power.battery.config
    n = len(m.K)
    winding, housing = y[:n], y[n : 2 * n]
    current, speed = squat(power, t)
    loss = current**2 * m.R * (1 + m.alpha * (winding - 25.0))
    across, away = (winding - housing) / m.R_winding, (housing - m.ambient) / m.R_housing
    rise = (squat(power, t + 1e-5)[0] - squat(power, t - 1e-5)[0]) / 2e-5
    draw = float(np.sum(loss + m.K * current * speed + m.L * current * rise))
    draw = (draw if draw > 0 else b.regeneration * draw) + b.idle_power
    u = np.interp(y[2 * n], *np.array(b.open_circuit).T)
    amps = (u - np.sqrt(u * u - 4 * b.resistance * draw)) / (2 * b.resistance)
    flow = [-amps / (3600 * b.capacity), amps * (u - amps * b.resistance)]
    return np.concatenate([(loss - across) / m.C_winding, (across - away) / m.C_housing, flow])


# Heat


@given(st.floats(0.0, 3.0), st.floats(0.01, 3000.0), st.floats(-20.0, 140.0), st.floats(-20.0, 120.0))
def test_a_heat_step_is_exact_for_a_constant_current(power, load, seconds, winding, housing):
    """`load` in terms of the continuous torque; up to a step of most of an hour."""
    m = power.motors
    square = (load * m.peak / 3.0 / m.K) ** 2
    w, h = heat_step(m, np.full_like(m.K, winding), np.full_like(m.K, housing), square, seconds)
    i = 19  # a knee

    def f(t, y):
        loss = square[i] * m.R[i] * (1 + m.alpha[i] * (y[0] - 25.0))
        across = (y[0] - y[1]) / m.R_winding[i]
        return [(loss - across) / m.C_winding[i], (across - (y[1] - m.ambient[i]) / m.R_housing[i]) / m.C_housing[i]]

    truth = solve_ivp(f, (0, seconds), [winding, housing], method="Radau", rtol=1e-9, atol=1e-9).y[:, -1]
    assert [w[i], h[i]] == pytest.approx(truth, rel=1e-6, abs=1e-5)


def test_steady_state(power):
    m = power.motors
    torque = 0.25 * m.peak
    w, h = heat_step(m, m.ambient, m.ambient, (torque / m.K) ** 2, 1e7)
    cold_loss = m.R * (torque / m.K) ** 2
    total = m.R_winding + m.R_housing
    expected = (m.ambient + cold_loss * total * (1 - m.alpha * 25.0)) / (1 - m.alpha * cold_loss * total)
    assert w == pytest.approx(expected)
    assert (w - h) / m.R_winding == pytest.approx((h - m.ambient) / m.R_housing)


def test_two_half_steps_are_one_step_and_no_step_is_unstable(power):
    m = power.motors
    square = (0.4 * m.peak / m.K) ** 2
    once = heat_step(m, m.ambient + 30, m.ambient, square, 40.0)
    twice = heat_step(m, *heat_step(m, m.ambient + 30, m.ambient, square, 20.0), square, 20.0)
    assert np.allclose(once, twice, rtol=1e-12)
    hot = np.full_like(m.K, 120.0)
    for seconds in (1.0, 1e3, 1e6):
        w, h = heat_step(m, hot, hot, np.zeros_like(m.K), seconds)
        for cooling in (w, h):
            assert (cooling < 120.0).all() and (cooling >= m.ambient - 1e-9).all()
    runaway, _ = heat_step(m, hot, hot, (30.0 * m.peak / m.K) ** 2, 1e6)
    assert np.isfinite(runaway).all()


# All together


@pytest.mark.parametrize(("step", "kelvin"), [(STEP, 1e-4), (10 * STEP, 1e-2)])
def test_squats_against_solve_ivp(power, step, kelvin):
    """20 s at the physics' step, in chunks of 50 ms, and at ten times its length, in chunks of half a second."""
    start = power.start(30.0, charge=0.2)
    *_, (_, end) = run(power, start, 20.0, step)
    n = len(end.winding)
    y = np.concatenate([start.winding, start.housing, [start.charge, 0.0]])
    truth = solve_ivp(lambda t, y: rates(power, t, y), (0, 20), y, method="LSODA", rtol=1e-10, atol=1e-10, max_step=0.1)
    y = truth.y[:, -1]
    assert np.abs(end.winding - y[:n]).max() < kelvin
    assert np.abs(end.housing - y[n : 2 * n]).max() < kelvin
    assert end.winding.max() > 36.0
    assert end.charge == pytest.approx(y[-2], abs=1e-7)
    assert end.energy == pytest.approx(y[-1], rel=3e-5)


def test_energy_is_neither_made_nor_lost(power):
    """What the battery gave is in copper, iron and air (by their temperatures), in motion, in fields and in computers."""
    m, b = power.motors, power.battery.config
    seconds = 10.5  # ends with the currents at half their height
    first, air, chemical = power.start(30.0), 0.0, 0.0
    for before, state in run(power, first, seconds):
        air += 0.05 * np.sum((0.5 * (before.housing + state.housing) - m.ambient) / m.R_housing)
        charge = 3600 * b.capacity * (before.charge - state.charge)
        chemical += charge * power.battery.open_circuit(0.5 * (before.charge + state.charge))
    currents, speeds = squat(power, (np.arange(round(seconds / STEP)) + 0.5) * STEP)
    mechanical = STEP * np.sum(m.K * currents * speeds)
    fields = 0.5 * np.sum(m.L * state.motor_current**2)
    stored = np.sum(m.C_winding * (state.winding - first.winding) + m.C_housing * (state.housing - first.housing))
    assert state.energy == pytest.approx(stored + air + mechanical + fields + b.idle_power * seconds, rel=1e-6)
    assert fields > 1e-5 * state.energy > 0.0, "large enough to be missed"
    assert chemical > state.energy, "the rest is lost in the battery"
    voltage, current = power.battery.under_load(first.charge, np.array(500.0))
    inside = b.resistance * current**2
    assert power.battery.open_circuit(first.charge) * current == pytest.approx(500.0 + inside)


def test_members_of_an_ensemble_do_not_mix(power):
    many = PowerState(*(np.stack([a, b]) for a, b in zip(power.start(30.0, 0.9), power.start(60.0, 0.3), strict=True)))
    currents, speeds = squat(power, np.arange(25) * STEP)
    both = power.advance(many, np.stack([currents, 0.5 * currents]), np.stack([speeds, -speeds]), STEP)
    one = power.advance(power.start(30.0, 0.9), currents, speeds, STEP)
    two = power.advance(power.start(60.0, 0.3), 0.5 * currents, -speeds, STEP)
    for i, alone in enumerate((one, two)):
        for a, b in zip(both.member(i), alone, strict=True):
            assert np.allclose(a, b, rtol=1e-13)


def test_a_live_state_follows_measured_torques(power):
    m = power.motors
    torque, speed = 0.3 * m.peak, np.full_like(m.K, 1.5)
    live = power.observe(power.start(), torque, speed, 0.02)
    fore = power.advance(power.start(), np.tile(torque / m.K, (10, 1)), np.tile(speed, (10, 1)), 0.002)
    assert live.winding == pytest.approx(fore.winding) and live.charge == pytest.approx(float(fore.charge), abs=1e-6)
    gaps = np.where(np.arange(len(torque)) % 3 == 0, np.nan, torque)
    again = power.observe(live, gaps, np.where(np.isnan(gaps), np.nan, speed), 0.02)
    for field, whole in zip(
        again, power.observe(live, torque, np.where(np.isnan(gaps), 0.0, speed), 0.02), strict=True
    ):
        assert np.array_equal(field, whole), "a missing torque is the last one"
    beyond = power.observe(power.start(), 9.0 * m.peak, speed, 0.02)
    assert beyond.motor_current == pytest.approx(m.peak / m.K), "no motor gives more than its limit"


# The battery


def test_voltage_under_load():
    battery = Battery(BatteryConfig(resistance=0.1))
    u = battery.open_circuit(np.array(0.5))
    assert u == 48.1
    for power in (0.0, 300.0, -300.0, 5000.0):
        voltage, current = battery.under_load(np.array(0.5), np.array(power))
        assert voltage == pytest.approx(u - 0.1 * current)
        assert voltage * current == pytest.approx(power)
    voltage, current = battery.under_load(np.array(0.5), np.array(1e6))
    assert (voltage, current) == pytest.approx((u / 2, u / 2 / 0.1)), "the most that it can give"


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_braking_charges_the_battery_as_far_as_it_takes_it(robot, power, share):
    config = type(robot.config)(battery=BatteryConfig(regeneration=share, idle_power=0.0))
    mine = Powertrain(robot.model, config, robot.joints)
    m = mine.motors
    torque, speed = 0.2 * m.peak, np.full_like(m.K, -6.0)
    state = mine.start(charge=0.5)
    current = np.tile(torque / m.K, (25, 1))
    state = state._replace(motor_current=current[0])
    after = mine.advance(state, current, np.tile(speed, (25, 1)), STEP)
    given_back = -0.05 * np.sum(torque * speed + m.resistance(after.winding) * current[0] ** 2)
    assert given_back > 0.0
    assert after.energy == pytest.approx(-share * given_back, rel=1e-3)
    assert (after.charge - 0.5) * 3600 * 9.0 * 48.1 == pytest.approx(share * given_back, rel=0.1)


@pytest.mark.parametrize(
    "points", [[], [(0.0, 40.0)], [(0.0, 40.0), (0.0, 50.0)], [(0.0, 50.0), (1.0, 40.0)], [(0.0, 0.0), (1.0, 4.0)]]
)
def test_a_curve_that_is_none_is_refused(points):
    with pytest.raises(ConfigError, match=r"mine\.yaml: battery: open_circuit: expected two or more rising pairs"):
        Battery(BatteryConfig(open_circuit=points), "mine.yaml")
