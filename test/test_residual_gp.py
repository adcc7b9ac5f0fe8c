"""What no parameter explains: learnt where there are data, nothing where there are none, and worth it in forecasts."""

import numpy as np
import pytest
from drift_data import trial

from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.drift.holdout import Candidate, Trials, grouped, split
from digital_twin.core.drift.identification import identify
from digital_twin.core.drift.parameters import Changes, apply
from digital_twin.core.drift.residual_gp import JointResidual, ResidualConfig, ResidualTorque, fit_residual
from digital_twin.core.drift.update_config import HoldoutConfig
from digital_twin.core.errors import ConfigError
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.prediction_config import ForecastConfig

pytest.importorskip("sklearn")
JOINT = "l_knee"


def cable(q):
    """A spring and a ripple that nobody told the model of [N m]."""
    return 6.0 * np.sin(6.0 * q)


@pytest.fixture(scope="module")
def swept(robot):
    """Squats with such a cable at a knee, and what is left after identification."""
    t = trial()
    dof = t.plant.mj.joint(JOINT).dofadr[0]
    i = robot.model.joint_index[JOINT]

    def pull(_, plant):
        plant.data.qfrc_applied[dof] = -cable(plant.joint_positions[i])

    w = t.run(9.0, pull)
    learn, proof = split(w, 0.33)
    return identify(learn, robot.description, robot.config, Changes(), 0.003), proof


@pytest.fixture(scope="module")
def learnt(robot, swept):
    return fit_residual(*swept[0].leftover, robot.model.joint_names)


def test_the_cable_is_learnt_and_still_joints_are_left_alone(robot, learnt):
    assert JOINT in learnt.joints
    assert not {"neck_yaw", "l_wrist_yaw", "r_shoulder_yaw"} & set(learnt.joints)
    again = ResidualTorque(learnt, robot.model.joint_names)
    i = robot.model.joint_index[JOINT]
    q = np.tile(robot.joints.stand, (40, 1))
    q[:, i] = np.linspace(0.55, 1.3, 40)
    mean, sure = again.ask(q, np.zeros_like(q))
    assert sure[:, i].mean() > 0.8
    # Friction and masses may have taken up some of it; its shape is the cable's.
    assert np.corrcoef(mean[:, i], cable(q[:, i]))[0, 1] > 0.9


def test_it_fades_out_where_it_has_no_data(robot, learnt):
    process = ResidualTorque(learnt, robot.model.joint_names)
    far = np.full((1, 28), 50.0)
    mean, sure = process.ask(far, far)
    assert np.abs(mean).max() < 1e-6 and sure.max() < 1e-6 and np.abs(process.correction(far, far)).max() < 1e-9


def test_the_variance_is_that_of_a_gaussian_process():
    """Against conditioning the joint Gaussian by hand, for two points."""
    c = JointResidual([0.0, 0.5], [0.0, 1.0], [1.0, -1.0], 0.5, 2.0, 1.5, 0.2)
    p = ResidualTorque(ResidualConfig({"a": c}), ["a"])
    x = np.array([[0.0, 0.0], [0.5, 1.0], [0.3, -0.4]])
    z = x / [0.5, 2.0]
    K = 1.5**2 * np.exp(-0.5 * ((z[:, None] - z[None]) ** 2).sum(-1))
    inverse = np.linalg.inv(K[:2, :2] + 0.04 * np.eye(2))
    mean, sure = p.ask(x[2:, :1], x[2:, 1:])
    assert mean[0, 0] == pytest.approx(K[2, :2] @ inverse @ [1.0, -1.0])
    assert 1 - sure[0, 0] == pytest.approx((K[2, 2] - K[2, :2] @ inverse @ K[:2, 2]) / K[2, 2])


def test_a_hybrid_forecast_beats_physics_alone(robot, swept, learnt):
    found, proof = swept
    d, c = apply(found.changes, robot.description, robot.config)
    h = HoldoutConfig(spacing=0.1)
    trials = Trials(proof, h, feeds_speed=True, feet=2, weight=530.0)
    i = robot.model.joint_index[JOINT]
    physics, hybrid = (
        np.sqrt((trials.errors(Candidate(d, c, 0.003, r))[:, i] ** 2).mean()) for r in (ResidualConfig(), learnt)
    )
    assert hybrid < 0.7 * physics
    whole = [grouped(trials.errors(Candidate(d, c, 0.003, r)))["joints"] for r in (ResidualConfig(), learnt)]
    assert whole[1] < whole[0]


def test_the_forecaster_takes_it(robot):
    """A torque that a motor gives beyond what the model needs moves its joint the other way, by that over its stiffness."""
    name, torque = "l_elbow", 3.0
    q = robot.joints.stand
    i = robot.model.joint_index[name]
    one = JointResidual([float(q[i])], [0.0], [torque], 10.0, 100.0, 1000.0, 1e-3)
    config = ForecastConfig(horizon=1.0)
    ends = []
    for residual in (None, ResidualConfig({name: one})):
        f = Forecaster(robot.model, robot.config, robot.joints, config, residual=residual)
        height = f.models["contact"].stand_height
        base = BaseState(
            0,
            np.array([0.0, 0.0, height]),
            np.eye(3),
            np.zeros(3),
            np.zeros(3),
            np.eye(6) * 1e-6,
            np.eye(6),
            (True, True),
            True,
        )
        plan = CommandPlan(robot.model.n)
        plan.command(0, q)
        ends.append(f.forecast(0, q, np.zeros_like(q), base, plan).motion.q[-1])
    moved = ends[1] - ends[0]
    assert moved[i] == pytest.approx(-torque / robot.joints.kp[i], rel=0.15)
    assert np.abs(np.delete(moved, i)).max() < 0.2 * abs(moved[i])


def test_noise_is_not_learnt(robot):
    rng = np.random.default_rng(1)
    q, qd = rng.uniform(-1, 1, (2, 600, 28))
    assert fit_residual(q, qd, rng.normal(0, 0.3, (600, 28)), robot.model.joint_names).joints == {}
    assert fit_residual(q, qd, np.full((600, 28), np.nan), robot.model.joint_names).joints == {}
    assert fit_residual(q[:10], qd[:10], np.ones((10, 28)), robot.model.joint_names).joints == {}


@pytest.mark.parametrize(
    "numbers", [([], [], []), ([0.0], [0.0, 1.0], [1.0]), ([np.nan], [0.0], [1.0]), ([0.0] * 5000,) * 3]
)
def test_numbers_that_make_no_sense_are_refused(numbers):
    with pytest.raises(ConfigError, match="as many finite"):
        ResidualTorque(ResidualConfig({"a": JointResidual(*numbers, 1.0, 1.0, 1.0, 0.1)}), ["a"])
