"""The reality gap: measures against closed forms, and a report that knows a good model from a bad one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from drift_data import squats, trial
from scipy.signal import lfilter

from digital_twin.core.drift.gap_metrics import (
    distributions,
    errors,
    frequency_response,
    over_stretches,
    responses,
    spectral_distance,
    step_response,
)
from digital_twin.core.drift.holdout import Candidate
from digital_twin.core.drift.identification import identify
from digital_twin.core.drift.parameters import Changes, apply
from digital_twin.core.drift.reality_gap import GapConfig, reality_gap
from digital_twin.core.errors import TwinError

PARTS = np.array_split(np.arange(4000), 5)
RATE = 200.0


def noise(seed=1, n=4000):
    return np.random.default_rng(seed).normal(size=n)


def test_errors_are_those_of_a_known_offset():
    y = noise()[:, None]
    e = errors(y, y + 0.5, PARTS, "m")
    assert e["rmse"].value == pytest.approx(0.5) and e["mae"].value == pytest.approx(0.5) and e["rmse"].unit == "m"
    assert e["r2"].value == pytest.approx(1 - 0.25, abs=0.02)
    assert errors(y, y, PARTS, "m")["r2"].value == 1.0
    mean = np.full_like(y, y.mean())
    assert abs(errors(y, mean, PARTS, "m")["r2"].value) < 0.01, "the mean explains nothing"


def test_r2_is_against_what_other_stretches_say():
    """A model that only knows each stretch's own mean is better than one mean for all; in-sample it would be zero."""
    y = np.repeat(np.arange(5.0), 800)[:, None] + 0.1 * noise()[:, None]
    own = np.concatenate([np.full((800, 1), y[p].mean()) for p in PARTS])
    assert errors(y, own, PARTS, "")["r2"].value > 0.75


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [m.low <= 2.0 <= m.high for m in (over_stretches(2.0 + rng.normal(size=6)) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    one = over_stretches(np.array([1.0, np.nan]))
    assert one.value == 1.0 and one.to_plain()["low"] is None


def test_distributions_tell_same_from_shifted():
    a, b = noise(1), noise(2)
    same, moved = distributions(a, b, PARTS, "N", RATE), distributions(a, b + 1.0, PARTS, "N", RATE)
    assert same["ks_p"].value > 0.1 and moved["ks_p"].value < 1e-6
    assert (
        moved["ks"].value > 0.3 > same["ks"].value
        and moved["energy_distance"].value > 5 * same["energy_distance"].value
    )
    assert distributions(a, a, PARTS, "N", RATE)["energy_distance"].value == 0.0


def test_spectra_of_twice_the_amplitude_differ_by_6_db():
    a = noise()
    assert spectral_distance(a, 2.0 * a, RATE) == pytest.approx(20 * np.log10(2), abs=0.01)
    assert spectral_distance(a, a, RATE) == 0.0 == spectral_distance(np.zeros(500), np.zeros(500), RATE)


def test_responses_of_a_known_lag():
    """A first-order lag: H = 1 / (1 + i ω τ), step 1 − exp(−t / τ)."""
    tau, dt = 0.05, 1 / RATE
    k = 1 - np.exp(-dt / tau)
    c = np.cumsum(noise(3, 20000)) * 0.1
    q = lfilter([k], [1, k - 1], c)
    f, H, coherence = frequency_response(c, q, RATE)
    low = (f < 10) & (coherence > 0.9)
    exact = k / (1 - (1 - k) * np.exp(-2j * np.pi * f * dt))
    assert low.sum() > 20 and np.abs(H - exact)[low].max() < 0.05
    step = step_response(c, q, RATE)
    t = np.arange(1, len(step) + 1) * dt
    assert np.abs(step - (1 - np.exp(-t / tau))).max() < 0.03
    parts = np.array_split(np.arange(20000), 5)
    alike = responses(c[:, None], q[:, None], q[:, None], parts, RATE)
    assert alike["gain_difference"].value < 1e-9 and alike["step_difference"].value == 0.0
    later = responses(c[:, None], q[:, None], np.roll(q, 2)[:, None], parts, RATE)
    assert later["phase_difference"].value > 1.0 and later["step_difference"].value > 0.02


@pytest.fixture(scope="module")
def reports(robot):
    found = identify(squats(), robot.description, robot.config, Changes(), 0.003)
    w = trial("humanoid.yaml").run(8.0)
    before = Candidate(robot.description, robot.config, 0.003)
    after = Candidate(*apply(found.changes, robot.description, robot.config), 0.003)
    weak = Changes().with_joint("l_knee", strength=0.7)
    return [reality_gap(w, c) for c in (before, after, Candidate(*apply(weak, robot.description, robot.config), 0.003))]


def test_the_report_is_json_and_complete(reports):
    said = json.loads(json.dumps(reports[0], allow_nan=False))
    assert {"kinematic", "dynamic", "sensors", "energy", "from_ns", "until_ns"} <= set(said)
    for section in ("kinematic", "dynamic", "sensors", "energy"):
        for measures in said[section].values():
            for m in measures.values():
                assert set(m) == {"value", "low", "high", "unit"}
    rmse = said["dynamic"]["joint_positions"]["rmse"]
    assert rmse["low"] < rmse["value"] < rmse["high"] < 0.01
    assert said["dynamic"]["joint_positions"]["r2"]["value"] > 0.5
    assert {"gyro_x", "accelerometer_z", "left_force_z", "right_force_z"} <= set(said["sensors"])
    assert said["kinematic"]["feet_apart"]["deviation"]["value"] < 0.005
    assert abs(said["sensors"]["accelerometer_z"]["rmse"]["value"]) < 0.5, "gravity is in both"
    assert said["sensors"]["left_force_z"]["rmse"]["value"] < 60.0


def test_identification_narrows_the_gap_and_a_weak_motor_widens_it(reports):
    before, after, weak = (r["dynamic"]["joint_positions"]["rmse"]["value"] for r in reports)
    assert after < 0.85 * before and weak > 1.5 * before
    torque = [r["dynamic"]["joint_torques"]["rmse"]["value"] for r in reports]
    assert torque[1] < torque[0] < torque[2]


def test_too_little_is_said(robot):
    c = Candidate(robot.description, robot.config, 0.003)
    with pytest.raises(TwinError, match=r"too short|no whole"):
        reality_gap(squats()[:100], c, GapConfig())
    with pytest.raises(TwinError):
        reality_gap(replace(squats(), q=np.full_like(squats().q, np.nan)), c)
