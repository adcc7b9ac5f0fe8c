"""What a robot looks like: its shapes where MuJoCo has them, bones where there are none, its mass and how it moves."""

import dataclasses
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest
from conftest import ICUB, needs_icub
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.balance import capture_point, support_polygon, zero_moment_point
from digital_twin.core.description import parse_description
from digital_twin.core.errors import TwinError
from digital_twin.core.figure import Figure, standing
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig
from digital_twin.core.rotation import exp_so3, matrix_from_quat, xyzw_from_wxyz
from digital_twin.core.shapes import box, cylinder, multiply, robot_parts, sphere, world_parts
from digital_twin.core.world import load_world
from digital_twin.dashboard.cast import load_cast
from digital_twin.paths import share
from digital_twin.robots import load_robot

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(("make", "volume"), [(box, 8.0), (cylinder, 2.0 * np.pi), (sphere, 4.0 / 3.0 * np.pi)])
def test_unit_meshes_are_closed_and_face_outwards(make, volume):
    """Each side of a triangle belongs to another one, the other way round; the signed volume is about the shape's."""
    mesh = make()
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0 == pytest.approx(volume, rel=0.04)
    corner = {tuple(v): i for i, v in enumerate(np.unique(mesh.vertices.round(6) + 0.0, axis=0))}
    faces = [[corner[tuple(v)] for v in mesh.vertices[f].round(6) + 0.0] for f in mesh.faces]
    sides = [s for f in faces for s in zip(f, f[1:] + f[:1], strict=True) if s[0] != s[1]]
    assert len(set(sides)) == len(sides) and {(y, x) for x, y in sides} == set(sides)


def test_shapes_are_where_mujoco_has_them(robot):
    figure = Figure(robot.description, robot.config)
    q = RNG.uniform(-0.5, 0.5, robot.model.n)
    position, rotation = np.array([1.0, 2.0, 3.0]), exp_so3([0.3, -0.2, 2.0])
    figure.place(position, rotation, q)
    base, R = figure.frame(robot.model.base_frame)
    np.testing.assert_allclose(base, position, atol=1e-12)
    np.testing.assert_allclose(R, rotation, atol=1e-12)
    m, d = figure.model.mj, figure._data
    seen = [g for g in range(m.ngeom) if m.geom_contype[g] == 0]
    assert len(seen) == sum(len(p.body) for p in figure.parts)
    found = {tuple(x) for positions, _ in figure.poses() for x in positions.round(9)}
    assert found == {tuple(x) for x in d.geom_xpos[seen].round(9)}
    kinds = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}
    for part, (_, wxyz) in zip(figure.parts, figure.poses(), strict=True):
        if part.name in kinds:
            ours = [matrix_from_quat(xyzw_from_wxyz(x)).ravel() for x in wxyz]
            theirs = [d.geom_xmat[g] for g in seen if m.geom_type[g] == int(kinds[part.name])]
            np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-9)


def test_mass_moves_as_finite_differences_say(robot):
    """Also where the base frame is a link that joints move against the root."""
    for config in (robot.config, dataclasses.replace(robot.config, base_frame="head")):
        figure, dt = Figure(robot.description, config), 1e-6
        q, qd = RNG.uniform(-0.3, 0.3, (2, robot.model.n))
        p, R = np.array([0.1, 0.2, 0.9]), exp_so3([0.2, 0.1, -1.0])
        v, w = np.array([0.3, -0.1, 0.2]), np.array([0.4, 0.5, -0.6])
        if config.base_frame == "head":
            qd[:] = 0.0  # the twist is the head's: a rigid robot
        figure.place(p, R, q)
        com, velocity = figure.mass_motion(v, w, qd)
        figure.place(p + dt * R @ v, R @ exp_so3(dt * w), q + dt * qd)
        later, _ = figure.mass_motion(v, w, qd)
        np.testing.assert_allclose(velocity, (later - com) / dt, atol=1e-4)


def test_a_robot_stands_on_the_ground(robot):
    figure = Figure(robot.description, robot.config)
    position, rotation = standing(figure, robot.joints.stand)
    figure.place(position, rotation, robot.joints.stand)
    assert min(corners[:, 2].min() for *_, corners in figure.soles()) == pytest.approx(0.0, abs=1e-9)


@needs_icub
def test_a_robot_whose_meshes_are_missing_is_drawn_as_bones():
    cast = load_cast(str(ICUB / "icub.urdf"), "", "")
    assert len(cast.missing) == 1 and cast.missing[0].startswith("39 meshes are not here")
    model = cast.figure.model.mj
    moving = {b for b in range(1, model.nbody) if model.body_mass[b] > 0.05}
    assert moving <= {int(b) for part in cast.figure.parts for b in part.body}
    cast.figure.place(*cast.rest)
    height = np.concatenate([p for p, _ in cast.figure.poses()])[:, 2]
    assert height.min() > -0.02 and 0.8 < height.max() < 1.2


def obj(text):
    """The tetrahedron as OBJ: MuJoCo reads binary STL only."""
    return "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n" + text


URDF = """<robot name="r"><link name="a"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/>
</inertial>{a}</link><link name="b"><inertial><origin xyz="0 0 0.2"/><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0"
 ixz="0" iyz="0"/></inertial>{b}</link><joint name="j" type="revolute"><parent link="a"/><child link="b"/><origin
 xyz="0.5 0 0"/><axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/></joint></robot>"""
MESH = '<visual><origin xyz="0 0 1"/><geometry><mesh filename="{0}" scale="2 2 2"/></geometry></visual>'


def test_meshes_are_drawn_where_the_urdf_puts_them(tmp_path):
    (tmp_path / "t.obj").write_text(obj(""))
    (tmp_path / "r.urdf").write_text(URDF.format(a=MESH.format("t.obj"), b=MESH.format("lost.stl")))
    cast = load_cast(str(tmp_path / "r.urdf"), "", "")
    assert len(cast.missing) == 1 and "1 meshes are not here, like lost.stl" in cast.missing[0]
    part = next(p for p in cast.figure.parts if p.name.startswith("mesh"))
    cast.figure.place(np.zeros(3), np.eye(3), np.zeros(1))
    position, wxyz = dict(zip((p.name for p in cast.figure.parts), cast.figure.poses(), strict=True))[part.name]
    corners = part.mesh.vertices @ matrix_from_quat(xyzw_from_wxyz(wxyz[0])).T + position[0]
    for corner in ((0, 0, 1), (2, 0, 1), (0, 2, 1), (0, 0, 3)):
        assert np.linalg.norm(corners - corner, axis=1).min() < 1e-6
    assert {int(b) for p in cast.figure.parts for b in p.body} == {1, 2}, "the link without its mesh has a bone"


def test_a_mesh_that_is_none_costs_the_shapes_not_the_page(tmp_path):
    (tmp_path / "t.obj").write_text("no mesh at all")
    (tmp_path / "r.urdf").write_text(URDF.format(a=MESH.format("t.obj"), b=""))
    cast = load_cast(str(tmp_path / "r.urdf"), "", "")
    assert len(cast.missing) == 1 and "its meshes cannot be used" in cast.missing[0] and cast.figure.parts


def test_worlds_are_drawn_and_their_ground_is_not(tmp_path):
    shapes = load_world(share("worlds/humanoid_world.sdf")).shapes
    solid = [s for s in shapes if s.kind != mujoco.mjtGeom.mjGEOM_PLANE]
    positions = np.concatenate([p.position for p in world_parts(load_world(share("worlds/humanoid_world.sdf")))])
    assert {tuple(s.position.round(6)) for s in solid} <= {tuple(p.round(6)) for p in positions}
    with pytest.raises(TwinError, match="cannot read the world"):
        load_cast("", "", str(tmp_path / "no.sdf"))


def test_capsules_have_round_ends():
    text = """<sdf version="1.9"><world name="w"><model name="m"><link name="l"><collision name="c"><pose>1 0 2 0 1.5707963 0</pose>
    <geometry><capsule><radius>0.1</radius><length>0.6</length></capsule></geometry></collision></link></model></world></sdf>"""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.sdf"
        path.write_text(text)
        parts = {p.name: p for p in world_parts(load_world(path))}
    assert sorted(parts["sphere"].position[:, 0].round(6)) == [0.7, 1.3]
    np.testing.assert_allclose(parts["cylinder"].scale, [[0.1, 0.1, 0.3]])


quaternions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(quaternions, quaternions)
def test_products_of_quaternions_are_products_of_rotations(a, b):
    a, b = (np.array(x) / np.linalg.norm(x) for x in (a, b))
    R = [matrix_from_quat(xyzw_from_wxyz(q)) for q in (a, b, multiply(a, b[None])[0])]
    np.testing.assert_allclose(R[2], R[0] @ R[1], atol=1e-9)


def test_balance_of_a_pendulum():
    com, still = np.array([0.1, -0.2, 1.5]), np.zeros(3)
    np.testing.assert_allclose(capture_point(com, still, 0.5), com[:2])
    np.testing.assert_allclose(zero_moment_point(com, still, 0.5), com[:2])
    w = np.sqrt(9.81 / 1.0)
    np.testing.assert_allclose(capture_point(com, np.array([w, 0, 5.0]), 0.5), com[:2] + np.array([1.0, 0.0]))
    # A point that falls about a pivot has its ZMP there: a = w² (c − p).
    pull = np.array([w**2 * 0.03, 0.0, 0.0])
    np.testing.assert_allclose(zero_moment_point(com, pull, 0.5), com[:2] - np.array([0.03, 0.0]))


def test_support_is_the_hull_of_the_soles():
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]])
    ring = support_polygon(square)
    assert {tuple(x) for x in ring} == {(0, 0), (1, 0), (1, 1), (0, 1)}
    x, y = ring.T
    assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2 == pytest.approx(1.0), "counter-clockwise"
    assert len(support_polygon(np.zeros((4, 2)))) == 0 and len(support_polygon(np.zeros((2, 2)))) == 0


def test_collision_shapes_serve_where_nothing_is_to_be_seen():
    text = URDF.format(a='<collision><geometry><sphere radius="0.3"/></geometry></collision>', b="")
    model = RobotModel(parse_description(text), geometry=True)
    parts = robot_parts(model, [])
    assert [p.name for p in parts] == ["sphere"] and parts[0].scale[0, 0] == pytest.approx(0.3)
    bare = Figure(parse_description(URDF.format(a="", b="")), RobotConfig())
    bare.place(np.zeros(3), np.eye(3), np.zeros(1))
    assert max(p[:, 0].max() for p, _ in bare.poses()) == pytest.approx(0.5), "a bone to the joint"
    assert max(p[:, 2].max() for p, _ in bare.poses()) == pytest.approx(0.2), "and to the mass of the last link"


def test_the_tree_of_a_humanoid_has_no_bones(robot):
    xml = ET.fromstring(load_robot().description.urdf)
    visuals = sum(len(link.findall("visual")) for link in xml.findall("link"))
    assert sum(len(p.body) for p in Figure(robot.description, robot.config).parts) == visuals
