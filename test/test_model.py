"""The model against the URDF itself: masses, frames, kinematics by an independent chain, Jacobians by differences."""

import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest
from conftest import ICUB, needs_icub
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from digital_twin.core.description import load_description, parse_description
from digital_twin.core.errors import DescriptionError
from digital_twin.core.model import RobotModel, build_spec, compile_spec
from digital_twin.core.rotation import exp_so3


def pose_from_urdf(urdf, link, q):
    """Pose of a link in the root link, by walking up the URDF's own joints."""
    joints = {j.find("child").get("link"): j for j in ET.fromstring(urdf).findall("joint")}
    T = np.eye(4)
    while link in joints:
        j = joints[link]
        step, origin = np.eye(4), j.find("origin")
        if origin is not None:
            step[:3, 3] = [float(x) for x in origin.get("xyz", "0 0 0").split()]
            step[:3, :3] = Rotation.from_euler(
                "xyz", [float(x) for x in origin.get("rpy", "0 0 0").split()]
            ).as_matrix()
        if j.get("type") != "fixed":
            axis = np.array([float(x) for x in j.find("axis").get("xyz").split()])
            axis /= np.linalg.norm(axis)
            turn = np.eye(4)
            turn[:3, :3] = Rotation.from_rotvec(axis * q[j.get("name")]).as_matrix()
            step = step @ turn
        T = step @ T
        link = j.find("parent").get("link")
    return T


def random_pose(model, seed):
    low, high = np.maximum(model.lower, -2), np.minimum(model.upper, 2)
    return np.random.default_rng(seed).uniform(low, high)


def models():
    yield "humanoid", load_description("urdf/humanoid.urdf.xacro")
    if ICUB.exists():
        yield "icub", load_description(ICUB / "icub.urdf")


@pytest.fixture(scope="module", params=list(models()), ids=lambda p: p[0])
def model(request):
    return RobotModel(request.param[1])


def test_mass_is_that_of_the_urdf(model):
    masses = [float(m.get("value")) for m in ET.fromstring(model.description.urdf).iterfind("link/inertial/mass")]
    assert model.mass == pytest.approx(sum(masses), rel=1e-12)


def test_every_link_is_a_frame(model):
    assert set(model.frames) == set(model.description.links)


def test_the_root_is_free(model):
    assert model.mj.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE and model.mj.nv == 6 + model.n


@pytest.mark.parametrize("seed", [0, 1])
def test_frames_are_where_the_urdf_puts_them(model, seed):
    q = random_pose(model, seed)
    k = model.kinematics(model.frames)
    k.update(q)
    named = dict(zip(model.joint_names, q, strict=True))
    for i, frame in enumerate(k.frames):
        T = pose_from_urdf(model.description.urdf, frame, named)
        assert np.allclose(k.position[i], T[:3, 3], atol=1e-9), frame
        assert np.allclose(k.rotation[i], T[:3, :3], atol=1e-6), frame


def difference_jacobian(k, i, q, h=1e-6):
    jp, jr = np.zeros((3, len(q))), np.zeros((3, len(q)))
    for c in range(len(q)):
        step = np.zeros(len(q))
        step[c] = h
        k.update(q + step)
        p1, R1 = k.position[i].copy(), k.rotation[i].copy()
        k.update(q - step)
        jp[:, c] = (p1 - k.position[i]) / (2 * h)
        jr[:, c] = Rotation.from_matrix(R1 @ k.rotation[i].T).as_rotvec() / (2 * h)
    return jp, jr


@pytest.mark.parametrize("base", ["", "torso", "l_ankle"])
def test_jacobians_against_differences(robot, base):
    m = RobotModel(robot.description, base)
    k = m.kinematics(["l_sole", "r_gripper"])
    q = random_pose(m, 3)
    for i in range(2):
        expected = difference_jacobian(k, i, q)
        k.update(q)
        for got, want in zip(k.jacobian(i), expected, strict=True):
            assert np.allclose(got, want, atol=1e-6)
    turn = exp_so3([0.3, -0.2, 0.9])
    plain, turned = k.jacobians([0, 1]), k.jacobians([0, 1], turn)
    assert np.allclose(turned.reshape(2, 2, 3, -1), turn @ plain.reshape(2, 2, 3, -1), atol=1e-14)


@given(st.integers(0, 1000))
def test_a_base_elsewhere_sees_the_same_robot(robot, seed):
    q = random_pose(robot.model, seed)
    a = robot.model.kinematics(["l_sole", "torso"])
    b = RobotModel(robot.description, "torso").kinematics(["l_sole"]) if seed == 0 else None
    a.update(q)
    if b is not None:
        b.update(q)
        assert np.allclose(b.position[0], a.rotation[1].T @ (a.position[0] - a.position[1]))
    assert np.isfinite(a.position).all()


MIMIC = """<robot name="m">
  <link name="base"><inertial><mass value="2"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="a"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="b"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="ja" type="revolute"><parent link="base"/><child link="a"/><origin xyz="0 0 1"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="5" velocity="2"/></joint>
  <joint name="jb" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0 0 1"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="5" velocity="2"/><mimic joint="{leader}" multiplier="-0.5" offset="0.1"/></joint>
</robot>"""


def test_joints_that_mimic_follow_in_position_and_jacobian():
    m = RobotModel(parse_description(MIMIC.format(leader="ja")))
    assert m.joint_names == ["ja"]
    k = m.kinematics(["b"])
    q = np.array([0.4])
    k.update(q)
    expected = pose_from_urdf(MIMIC.format(leader="ja"), "b", {"ja": 0.4, "jb": -0.1})
    assert np.allclose(k.position[0], expected[:3, 3]) and np.allclose(k.rotation[0], expected[:3, :3])
    want = difference_jacobian(k, 0, q)
    k.update(q)
    assert np.allclose(k.jacobian(0)[0], want[0], atol=1e-6) and np.allclose(k.jacobian(0)[1], want[1], atol=1e-6)
    with pytest.raises(DescriptionError, match="mimics 'jb', which does not move by itself"):
        RobotModel(parse_description(MIMIC.format(leader="jb")))


def test_an_unknown_frame_is_named(robot):
    with pytest.raises(DescriptionError, match="unknown frame 'l_sol'; did you mean 'l_sole'"):
        RobotModel(robot.description, "l_sol")
    with pytest.raises(DescriptionError, match="no moving joint"):
        RobotModel(parse_description("<robot name='x'><link name='a'><inertial><mass value='1'/><inertia ixx='1' iyy='1' izz='1' ixy='0' ixz='0' iyz='0'/></inertial></link></robot>"))  # fmt: skip


def test_inertias_follow_from_shapes_and_masses(robot):
    """The pelvis is a box: its inertia is the closed form."""
    m = robot.model.mj
    alone = ET.fromstring(robot.description.urdf).find("link[@name='l_thigh']/inertial")
    mass, r, h = float(alone.find("mass").get("value")), 0.07, 0.36
    i = m.body("l_thigh").id
    assert np.allclose(sorted(m.body_inertia[i]), sorted([mass * (3 * r * r + h * h) / 12] * 2 + [mass * r * r / 2]))


def test_shapes_come_along_when_asked(robot):
    with_shapes = compile_spec(build_spec(robot.description), "x")
    without = compile_spec(build_spec(robot.description, geometry=False), "x")
    assert with_shapes.ngeom > 100 and without.ngeom == 0
    assert with_shapes.body_mass.sum() == pytest.approx(without.body_mass.sum())


@needs_icub
def test_merging_fixed_links_keeps_the_centre_of_mass(icub):
    spec = build_spec(icub.description)
    spec.compiler.fusestatic = False
    whole = spec.compile()
    merged = icub.model.mj
    a, b = mujoco.MjData(whole), mujoco.MjData(merged)
    for m, d in ((whole, a), (merged, b)):
        d.qpos[7:] = 0.2
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
    assert merged.nbody < 40 < 180 < whole.nbody
    assert np.allclose(a.subtree_com[0], b.subtree_com[0], atol=1e-12)
