"""Versions of a model: what they change, that they are what their hash says, and that a robot takes them."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from digital_twin.core.drift.inertia import phi
from digital_twin.core.drift.model_version import difference, flat, nominal, parse_version
from digital_twin.core.drift.parameters import Changes, JointChange, Payload, body_change
from digital_twin.core.drift.residual_gp import JointResidual, ResidualConfig
from digital_twin.core.errors import ConfigError
from digital_twin.core.model import RobotModel
from digital_twin.robots import load_robot, with_version
from digital_twin.ros.model_topic import ModelTopic, file_hash

FOREARM = phi(0.9, np.array([0.01, 0.0, -0.06]), np.array([[4e-3, 1e-4, 0], [1e-4, 4e-3, 0], [0, 0, 6e-4]]))


@pytest.fixture(scope="module")
def version(robot):
    changes = Changes(
        {"l_forearm": body_change(FOREARM)},
        {"l_knee": JointChange(0.4, 0.5, 0.07, 0.9, 0.01)},
        {"r_gripper": Payload(2.0, (0.01, 0.0, 0.02))},
        0.02,
    )
    return replace(nominal(robot.description), parent="f" * 64, created_ns=1, reason="test", changes=changes)


def test_a_file_gives_back_the_version(version):
    again = parse_version(version.to_json(), "file")
    assert again == version and again.hash == version.hash
    assert parse_version(again.to_json(), "file").to_json() == version.to_json()


def test_the_hash_is_of_the_content(version):
    assert replace(version, created_ns=2).hash != version.hash
    assert replace(version, scores={"ratio": 0.5}).hash != version.hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"), ("[1]", "not a model version"), ('{"format": "x"}', "not a model version"),
        ("[" * 100000, "not JSON"), ('{"format": "digital_twin model 1", "robot": 3}', "expected str"),
        ('{"format": "digital_twin model 1", "robot": "r", "urdf": "u", "colour": 1}', "unknown key 'colour'"),
        ('{"format": "digital_twin model 1", "robot": "r", "urdf": "u", "hash": "0"}', "damaged or edited"),
        ('{"format": "digital_twin model 1", "robot": "r", "urdf": "u", "changes": {"delay": NaN}}', "must be a number"),
    ],
)  # fmt: skip
def test_what_is_no_version_is_refused_in_one_line(text, words):
    with pytest.raises(ConfigError, match=words) as e:
        parse_version(text, "bad.json")
    assert str(e.value).startswith("bad.json: ") and "\n" not in str(e.value)


def test_an_edited_file_is_noticed(version):
    with pytest.raises(ConfigError, match="damaged or edited"):
        parse_version(version.to_json().replace("0.9", "0.8", 1), "x")


def test_the_robot_has_these_parameters(robot, version):
    changed = with_version(robot, version)
    m = changed.model.mj
    forearm = m.body("l_forearm")
    assert forearm.mass[0] == pytest.approx(0.9) and np.allclose(forearm.ipos, [0.01, 0.0, -0.06])
    assert changed.model.mass == pytest.approx(robot.model.mass + 0.15 + 2.0)
    knee = m.joint("l_knee").dofadr[0]
    assert (m.dof_damping[knee], m.dof_frictionloss[knee]) == (0.4, 0.5)
    i = robot.model.joint_index["l_knee"]
    assert changed.joints.kp[i] == pytest.approx(0.9 * robot.joints.kp[i])
    assert changed.joints.kd[i] == pytest.approx(0.9 * robot.joints.kd[i])
    assert (changed.joints.armature[i], changed.joints.zero_error[i]) == (0.07, 0.01)
    assert changed.config.motor("r_knee").command_delay == 0.02
    # Everything else is as it was.
    others = np.arange(robot.model.n) != i
    assert np.array_equal(changed.joints.kp[others], robot.joints.kp[others])
    head = robot.model.mj.body("head")
    assert np.allclose(m.body("head").inertia, head.inertia) and m.body("head").mass == head.mass


def test_a_payload_is_where_the_frame_is(robot, version):
    """By the centre of mass of all."""

    def com(model):
        d = mujoco.MjData(model.mj)
        mujoco.mj_forward(model.mj, d)
        return d.subtree_com[1] * model.mass, d.site("r_gripper")

    only = replace(version, changes=Changes(payloads=version.changes.payloads))
    before, site = com(robot.model)
    after, _ = com(with_version(robot, only).model)
    at = site.xpos + site.xmat.reshape(3, 3) @ [0.01, 0.0, 0.02]
    assert np.allclose((after - before) / 2.0, at, atol=1e-6)


def test_a_version_without_changes_is_the_robot(robot):
    same = with_version(robot, nominal(robot.description))
    for name in ("body_mass", "body_inertia", "body_ipos", "dof_damping", "dof_frictionloss"):
        assert np.allclose(getattr(same.model.mj, name), getattr(robot.model.mj, name), atol=1e-12), name


def test_another_robots_version_is_refused(version, icub):
    with pytest.raises(ConfigError, match="another robot"):
        with_version(icub, version)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (Changes(joints={"l_kne": JointChange(friction=1.0)}), "did you mean 'l_knee'"),
        (Changes(payloads={"l_griper": Payload(1.0)}), "did you mean 'l_gripper'"),
        (Changes(bodies={"l_forearm": replace(body_change(FOREARM), inertia=(1, 0, 0, 1, 0, 3))}), "no body can have"),
        (Changes(bodies={"l_forearm": replace(body_change(FOREARM), mass=0.0)}), "no body can have"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(robot, changes, words):
    with pytest.raises(ConfigError, match=words):
        with_version(robot, replace(nominal(robot.description), changes=changes))


def test_a_residual_of_an_unknown_joint_is_refused(robot):
    residual = ResidualConfig({"l_kne": JointResidual([0.0], [0.0], [1.0], 1.0, 1.0, 1.0, 0.1)})
    with pytest.raises(ConfigError, match="did you mean 'l_knee'"):
        with_version(robot, replace(nominal(robot.description), residual=residual))


def test_differences_are_by_name(robot, version):
    before = nominal(robot.description)
    assert difference(version, version) == {}
    said = difference(before, version)
    assert said["friction of l_knee"] == (None, 0.5) and said["mass of l_forearm"] == (None, 0.9)
    assert said["payload of r_gripper"] == (None, 2.0) and said["command delay"] == (None, 0.02)
    assert set(said) == set(flat(version))


def test_an_announcement_may_name_a_version(robot, version, tmp_path):
    path = tmp_path / "v.json"
    path.write_text(version.to_json())
    topic = ModelTopic(load_robot(), "")
    said = json.dumps({"file": str(path), "hash": file_hash(path), "parent": ""})
    taken = topic.take(said)
    assert taken.model.mass == pytest.approx(robot.model.mass + 2.15)
    assert topic.take(said) is None, "it is in service already"
    # The next one is relative to the robot as it was brought, not to the last.
    path.write_text(nominal(robot.description).to_json())
    again = topic.take(json.dumps({"file": str(path), "hash": file_hash(path)}))
    assert again.model.mass == pytest.approx(robot.model.mass)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not a model version"):
        topic.take(json.dumps({"file": str(path), "hash": file_hash(path)}))


def test_zero_errors_are_known_to_forecasts(robot):
    """A joint that reads too large by z starts, and is foretold, where it reads; its servo acts on where it is."""
    from digital_twin.core.forecast_model import ForecastModel

    z = 0.02
    changed = with_version(
        robot, replace(nominal(robot.description), changes=Changes().with_joint("l_elbow", zero_error=z))
    )
    f = ForecastModel(changed.model, changed.config, changed.joints)
    i = robot.model.joint_index["l_elbow"]
    q = robot.joints.stand
    state = f.start(q, np.zeros(28), np.array([0, 0, 0.8]), np.eye(3), np.zeros(3), np.zeros(3))
    assert f.data.qpos[changed.model.qpos_index][i] == pytest.approx(q[i] - z)
    assert np.allclose(f.motion(state).q, q)
    assert isinstance(changed.model, RobotModel)
