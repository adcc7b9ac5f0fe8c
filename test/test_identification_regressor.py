"""The linear equations of motion against MuJoCo's, and inertias that a body can have."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.drift.inertia import (
    derivative,
    from_theta,
    is_consistent,
    mass_com_inertia,
    phi,
    phi_of_body,
    pseudo_inertia,
    reference,
    to_theta,
)
from digital_twin.core.drift.regressor import Regressor
from digital_twin.core.drift.signals import Signals
from digital_twin.core.model import ROOT_JOINT, RobotModel
from digital_twin.core.rotation import exp_so3, quat_from_matrix, wxyz_from_xyzw

thetas = st.lists(st.floats(-1.5, 1.5), min_size=10, max_size=10).map(np.array)
BODY = phi(1.3, np.array([0.02, -0.05, 0.11]), np.diag([0.011, 0.012, 0.004]))


@given(thetas)
def test_every_theta_is_a_body_and_every_body_a_theta(theta):
    known = reference(BODY)
    p = from_theta(known, theta)
    assert is_consistent(p)
    mass, _, inertia = mass_com_inertia(p)
    least, middle, most = np.linalg.eigvalsh(inertia)
    assert mass > 0 and least > 0 and most <= least + middle + 1e-12
    assert np.allclose(to_theta(known, p), theta, atol=1e-6)


@given(thetas)
def test_the_derivative_is_that_of_finite_differences(theta):
    known, h = reference(BODY), 1e-6
    numeric = [(from_theta(known, theta + h * e) - from_theta(known, theta - h * e)) / (2 * h) for e in np.eye(10)]
    exact = derivative(known, theta)
    assert np.allclose(exact, np.stack(numeric, axis=1), atol=1e-6 * max(1.0, np.abs(exact).max()))


def test_alpha_alone_scales_a_body():
    known = reference(BODY)
    p = from_theta(known, np.array([0.5 * np.log(1.1)] + 9 * [0.0]))
    assert np.allclose(p, 1.1 * BODY, rtol=1e-6)


def test_negative_mass_and_impossible_inertia_are_none():
    assert not is_consistent(-BODY)
    assert not is_consistent(phi(1.0, np.zeros(3), np.diag([1.0, 1.0, 3.0])))
    with pytest.raises(np.linalg.LinAlgError):
        to_theta(reference(BODY), -BODY)
    assert np.linalg.eigvalsh(pseudo_inertia(BODY)).min() > 0


def free_model(model):
    """The robot without what the rows leave to others: friction, limits."""
    m = RobotModel(model.description, model.base_frame).mj
    m.dof_damping[:] = m.dof_frictionloss[:] = 0.0
    m.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    return m


def tumbling(model, n=5, seed=1):
    """Samples of a robot that tumbles, and MuJoCo's generalized forces for them."""
    rng = np.random.default_rng(seed)
    m = free_model(model)
    d = mujoco.MjData(m)
    q, qd, qdd = (rng.uniform(-0.8, 0.8, (n, model.n)) for _ in range(3))
    R = np.array([exp_so3(rng.normal(size=3)) for _ in range(n)])
    p, v, w, a, dw = (rng.normal(size=(n, 3)) for _ in range(5))
    forces = []
    root = m.joint(ROOT_JOINT)
    pos, vel = int(root.qposadr[0]), int(root.dofadr[0])
    for i in range(n):
        d.qpos[pos : pos + 3], d.qpos[pos + 3 : pos + 7] = p[i], wxyz_from_xyzw(quat_from_matrix(R[i]))
        model.write_joints(d.qpos, q[i])
        d.qvel[:], d.qacc[:] = 0.0, 0.0
        d.qvel[vel : vel + 6] = [*v[i], *(R[i].T @ w[i])]
        d.qacc[vel : vel + 6] = [*a[i], *(R[i].T @ dw[i])]
        d.qvel[model.dof_index], d.qacc[model.dof_index] = qd[i], qdd[i]
        for mimic in model._mimic:
            d.qvel[mimic.dof] = mimic.factor * qd[i, mimic.leader]
            d.qacc[mimic.dof] = mimic.factor * qdd[i, mimic.leader]
        mujoco.mj_inverse(m, d)
        total = d.qfrc_inverse.copy()
        joints = model.joint_columns(total)
        forces.append(np.concatenate([total[vel : vel + 3], R[i] @ total[vel + 3 : vel + 6], joints]))
    still = Signals(
        np.arange(n),
        q,
        qd,
        qdd,
        np.array(forces)[:, 6:],
        R,
        p,
        w,
        dw,
        a + np.array([0.0, 0.0, 9.81]),
        np.zeros((n, 0, 6)),
    )
    return still, np.array(forces)


@pytest.mark.parametrize("name", ["robot", "icub"])
def test_the_rows_are_mujocos_inverse_dynamics(name, request):
    if name == "icub":
        from conftest import ICUB

        if not ICUB.exists():
            pytest.skip("../shared is not beside this checkout")
    model = request.getfixturevalue(name).model
    signals, forces = tumbling(model)
    r = Regressor(model, [])
    values = np.zeros(r.size)
    for b in r.bodies:
        values[r.column(b)] = phi_of_body(model.mj, b)
    explained = np.stack([row.factors @ values[row.columns] for row in r.rows(signals)], axis=1)
    assert np.allclose(explained, forces, atol=1e-7 * np.abs(forces).max())


def test_columns_are_finite_differences_of_mujoco(robot):
    """One body's mass and centre of mass, changed in MuJoCo."""
    signals, before = tumbling(robot.model)
    r = Regressor(robot.model, [])
    body = robot.model.mj.body("l_forearm").id
    changed = RobotModel(robot.description, robot.config.base_frame)
    mass, com = float(changed.mj.body_mass[body]), changed.mj.body_ipos[body].copy()
    p0 = phi_of_body(changed.mj, body)
    changed.mj.body_mass[body] = mass + 0.5
    changed.mj.body_ipos[body] = com + np.array([0.01, -0.02, 0.03])
    p1 = phi_of_body(changed.mj, body)

    class Changed:
        def __init__(self):
            self.__dict__.update(robot.model.__dict__)

    for i in range(len(signals)):
        del i
    m = changed.mj
    m.dof_damping[:] = m.dof_frictionloss[:] = 0.0
    m.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    d = mujoco.MjData(m)
    after = []
    for i in range(len(signals)):
        d.qpos[:3], d.qpos[3:7] = signals.position[i], wxyz_from_xyzw(quat_from_matrix(signals.rotation[i]))
        robot.model.write_joints(d.qpos, signals.q[i])
        R = signals.rotation[i]
        d.qvel[:] = [0.0, 0.0, 0.0, *(R.T @ signals.turn[i]), *signals.qd[i]]
        d.qacc[:] = [*(signals.acceleration[i] - [0, 0, 9.81]), *(R.T @ signals.turn_rate[i]), *signals.qdd[i]]
        mujoco.mj_inverse(m, d)
        after.append(d.qfrc_inverse[6:].copy())
    rows = r.rows(signals)
    c = r.column(body)
    for j in range(robot.model.n):
        row = rows[6 + j]
        mine = (row.columns >= c.start) & (row.columns < c.stop)
        said = row.factors[:, mine] @ (p1 - p0) if mine.any() else np.zeros(len(signals))
        assert np.allclose(said, np.array(after)[:, j] - before[:, 6 + j], atol=1e-7), robot.model.joint_names[j]


def test_friction_and_rotor(robot):
    signals, _ = tumbling(robot.model)
    r = Regressor(robot.model, [])
    row = r.rows(signals)[6 + 3]
    for kind, expected in (
        ("damping", signals.qd[:, 3]), ("friction", np.sign(signals.qd[:, 3])), ("armature", signals.qdd[:, 3]),
    ):  # fmt: skip
        at = np.flatnonzero(row.columns == r.joint_column(kind, 3))
        assert np.allclose(row.factors[:, at[0]], expected, atol=1e-6)
