"""Scripts: smooth, within limits, and wrong ones are refused with the word that is wrong."""

import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.core.errors import ConfigError
from digital_twin.core.script import Script, load_script, smooth_step


@pytest.fixture(scope="module")
def script(robot):
    config = load_script(REPOSITORY / "config/scripts/humanoid.yaml")
    return Script(config, robot.model, robot.joints.stand)


def test_it_stands_sways_squats_and_waves(robot, script):
    times = np.arange(0.0, 26.0, 0.05)
    q = np.array([script.sample(t)[0] for t in times])
    i = robot.model.joint_index
    assert np.allclose(script.sample(1.0)[0], robot.joints.stand)
    assert np.ptp(q[(times > 4) & (times < 10), i["l_hip_roll"]]) > 0.08, "sways"
    assert q[:, i["l_knee"]].max() > 1.3, "squats"
    assert q[:, i["r_shoulder_roll"]].min() < -1.3, "waves"


def test_set_points_and_speeds_never_jump(robot, script):
    dt = 1e-3
    times = np.arange(0.0, 60.0, dt)
    samples = [script.sample(t) for t in times]
    q, qd = (np.array([s[k] for s in samples]) for k in (0, 1))
    assert np.abs(np.diff(q, axis=0) / dt - (qd[1:] + qd[:-1]) / 2).max() < 1e-3, "speed is the derivative of position"
    assert np.abs(np.diff(qd, axis=0)).max() < 0.02
    assert np.all(np.abs(qd).max(axis=0) < 0.5 * robot.model.max_velocity)
    assert np.all((q >= robot.model.lower) & (q <= robot.model.upper))


def test_a_smooth_step_begins_and_ends_at_rest():
    assert smooth_step(0.0) == (0.0, 0.0) and smooth_step(1.0) == (1.0, 0.0)
    assert smooth_step(0.5)[0] == 0.5
    h = 1e-6
    assert (smooth_step(0.3 + h)[0] - smooth_step(0.3 - h)[0]) / (2 * h) == pytest.approx(smooth_step(0.3)[1], rel=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: []", "at least one step"),
        ("steps: [{seconds: 1}]", "exactly one of hold, cycle and swing"),
        ("steps: [{seconds: 1, hold: stand, cycle: stand}]", "exactly one of"),
        ("steps: [{seconds: 1, hold: crouhc}]\nposes: {crouch: {}}", "did you mean 'crouch'"),
        ("steps: [{seconds: 1, hold: a}]\nposes: {a: {l_kne: 1}}", "did you mean 'l_knee'"),
        ("steps: [{seconds: 1, swing: {nothing: 1}}]", "unknown joint 'nothing'"),
        ("steps: [{seconds: 0, hold: stand}]", "out of range [0.1, 100000]"),
        ("steps: 5", "expected a list"),
        ("{}", "'steps' is missing"),
    ],
)
def test_errors_name_the_bad_thing(robot, tmp_path, text, words):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as e:
        Script(load_script(path), robot.model, robot.joints.stand, str(path))
    assert words in str(e.value) and "s.yaml" in str(e.value)
