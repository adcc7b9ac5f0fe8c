"""The ground under a robot: told by a landing, refused by a robot that only stands."""

from dataclasses import replace

import numpy as np
import pytest
from drift_data import squats

from digital_twin.core.drift.contact_fit import GROUND, fit_contacts
from digital_twin.core.drift.holdout import Candidate
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError

TRUE = {"stiffness": 6e4, "damping": 2500.0, "friction": 0.04}


@pytest.fixture(scope="module")
def landing(robot):
    """A robot that is let go 3 cm above a soft and slippery ground, sliding, as the synchronizer would see it."""
    c = Candidate(*replace_contacts(robot, TRUE), 0.0)
    f = c.compile(robot.model, 0.001, sensors=True)
    q = robot.joints.stand
    n = robot.model.n
    d = f.data
    state = f.start(
        q, np.zeros(n), np.array([0, 0, f.stand_height + 0.03]), np.eye(3), np.array([0.8, 0.0, 0.0]), np.zeros(3)
    )
    steps, every = 600, 5
    controls = np.zeros((steps, n, 3))
    controls[:, :, 0] = q
    import mujoco
    from mujoco import rollout

    states, sensed = rollout.rollout(f.mj, d, state[None], controls.reshape(1, steps, -1))
    picked = np.arange(every - 1, steps, every)
    m = f.motion(states[0, picked])
    rng = np.random.default_rng(1)
    wrenches = np.zeros((len(picked), 2, 6))
    for i, foot in enumerate(robot.config.feet):
        start = int(f.mj.sensor_adr[mujoco.mj_name2id(f.mj, mujoco.mjtObj.mjOBJ_SENSOR, f"foot/{foot.name}/FORCE")])
        wrenches[:, i, :3] = -sensed[0, picked, start : start + 3]
    zero = np.zeros_like(m.q)
    return Window(
        picked * 1_000_000, m.q, m.qd, zero, zero, np.tile(q, (len(picked), 1)),
        m.position + 1e-4 * rng.normal(size=m.position.shape), m.velocity + 2e-3 * rng.normal(size=m.velocity.shape),
        m.rotation, m.angular_velocity, wrenches + rng.normal(size=wrenches.shape), np.zeros((len(picked), 3)),
        np.zeros((len(picked), 3)),
    )  # fmt: skip


def replace_contacts(robot, contact):
    return robot.description, replace(robot.config, contacts={GROUND: contact})


def test_a_landing_tells_stiffness_and_friction(robot, landing):
    guess = {"stiffness": 1.5e5, "damping": 4000.0, "friction": 0.1}
    fit = fit_contacts(landing, Candidate(*replace_contacts(robot, guess), 0.0), feeds_speed=False)
    for key in ("stiffness", "friction"):
        e = fit.estimates[f"ground's {key}"]
        assert e.told and e.value == pytest.approx(TRUE[key], rel=0.25), f"{key}: {e}"
    assert fit.contacts[GROUND]["friction"] == fit.estimates["ground's friction"].value


def test_squats_do_not_tell_friction(robot):
    fit = fit_contacts(squats()[:300], Candidate(robot.description, robot.config, 0.003))
    assert "ground's friction" in fit.excitation.refused


def test_too_short_is_said(robot):
    with pytest.raises(TwinError, match=r"no whole|too few"):
        fit_contacts(squats()[:10], Candidate(robot.description, robot.config, 0.003))
