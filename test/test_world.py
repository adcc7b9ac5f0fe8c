"""Worlds: the shapes of an SDF stand in MuJoCo where the SDF puts them."""

import mujoco
import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.core.errors import WorldError
from digital_twin.core.world import add_world, load_world
from digital_twin.gazebo import world_for

WORLD = '<sdf version="1.9"><world name="w">{}</world></sdf>'
MODEL = '<model name="m">{pose}<link name="l">{link}<collision name="c">{inner}<geometry>{shape}</geometry></collision></link></model>'
BOX = "<box><size>1 2 3</size></box>"


def write(tmp_path, text):
    path = tmp_path / "w.sdf"
    path.write_text(text)
    return path


def model(shape=BOX, pose="", link="", inner=""):
    return WORLD.format(MODEL.format(shape=shape, pose=pose, link=link, inner=inner))


def compiled(world):
    spec = mujoco.MjSpec()
    add_world(spec, world)
    m = spec.compile()
    d = mujoco.MjData(m)
    mujoco.mj_kinematics(m, d)
    return m, d


def test_the_packages_world():
    world = load_world(REPOSITORY / "worlds/humanoid_world.sdf")
    assert world.name == "humanoid_world" and world.skipped == ()
    assert [s.name.split("/")[0] for s in world.shapes] == ["ground", "crate", "column", "ball", "wall"]
    assert np.allclose(world.gravity, [0, 0, -9.81])
    m, _ = compiled(world)
    assert m.ngeom == 5


def test_rays_find_the_obstacles_where_the_sdf_puts_them():
    m, d = compiled(load_world(REPOSITORY / "worlds/humanoid_world.sdf"))
    geom = np.zeros(1, dtype=np.int32)
    for start, direction, distance in [
        ([0, 0, 1.0], [1, 0, 0], 4.0 - 0.075),  # the wall
        ([2.0, 0.0, 0.6], [0, -1, 0], 1.4 - 0.15),  # the column
        ([1.4, 1.7, 3.0], [0, 0, -1], 3.0 - 0.4),  # the top of the ball
        ([-1, -1, 2.0], [0, 0, -1], 2.0),  # the ground
    ]:
        assert mujoco.mj_ray(m, d, np.array(start, float), np.array(direction, float), None, 1, -1, geom) == pytest.approx(distance, abs=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [
        (BOX, mujoco.mjtGeom.mjGEOM_BOX, [0.5, 1.0, 1.5]),
        ("<sphere><radius>0.3</radius></sphere>", mujoco.mjtGeom.mjGEOM_SPHERE, [0.3] * 3),
        ("<cylinder><radius>0.3</radius><length>2</length></cylinder>", mujoco.mjtGeom.mjGEOM_CYLINDER, [0.3, 1.0]),
        ("<capsule><radius>0.3</radius><length>2</length></capsule>", mujoco.mjtGeom.mjGEOM_CAPSULE, [0.3, 1.0]),
        ("<ellipsoid><radii>1 2 3</radii></ellipsoid>", mujoco.mjtGeom.mjGEOM_ELLIPSOID, [1, 2, 3]),
        ("<plane><normal>0 0 1</normal><size>4 6</size></plane>", mujoco.mjtGeom.mjGEOM_PLANE, [2, 3]),
    ],
)
def test_shapes_and_their_half_lengths(tmp_path, shape, kind, size):
    (s,) = load_world(write(tmp_path, model(shape))).shapes
    assert s.kind == kind and np.allclose(s.size[: len(size)], size)


def test_nested_poses_multiply(tmp_path):
    text = model(
        pose="<pose>1 0 0 0 0 1.5707963267948966</pose>", link="<pose>1 0 0 0 0 0</pose>",
        inner="<pose>0 0 2 0 0 0</pose>",
    )  # fmt: skip
    (s,) = load_world(write(tmp_path, text)).shapes
    assert np.allclose(s.position, [1, 1, 2]) and np.allclose(s.rotation @ [1, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 1, 0), (1, 1, 0), (0.3, -0.2, -1)])
def test_planes_face_their_normal(tmp_path, normal):
    text = model(f"<plane><normal>{normal[0]} {normal[1]} {normal[2]}</normal></plane>")
    (s,) = load_world(write(tmp_path, text)).shapes
    assert np.allclose(s.rotation[:, 2], np.array(normal) / np.linalg.norm(normal))
    assert np.isclose(np.linalg.det(s.rotation), 1.0)


def test_friction_is_the_grounds(tmp_path):
    mu = "<surface><friction><ode><mu>0.25</mu></ode></friction></surface>"
    (s,) = load_world(write(tmp_path, model(inner=mu))).shapes
    assert s.friction == 0.25


def test_what_cannot_be_read_is_named(tmp_path):
    text = WORLD.format(
        MODEL.format(shape=BOX, pose="", link="", inner="")
        + "<include><uri>model://sun</uri></include>"
        + MODEL.format(shape="<mesh><uri>a.dae</uri></mesh>", pose="", link="", inner="")
    )
    world = load_world(write(tmp_path, text))
    assert len(world.shapes) == 1
    assert world.skipped == ("<include> model://sun", "m/c: <mesh> geometry")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid XML"),
        ("<robot/>", "not a world: expected <sdf> with a <world> in it, found <robot>"),
        ('<sdf version="1.9"/>', "not a world"),
        (WORLD.format(""), "no shape that can be read"),
        (model("<box/>"), "m/c: size is missing"),
        (model("<box><size>1 2</size></box>"), "expected 3 finite numbers"),
        (model("<box><size>1 2 nan</size></box>"), "expected 3 finite numbers"),
        (model("<box><size>1 2 x</size></box>"), "are not numbers"),
        (model("<box><size>1 2 0</size></box>"), "a box needs a size above zero"),
        (model("<plane><normal>0 0 0</normal></plane>"), "the normal of a plane has no direction"),
        (model(pose='<pose relative_to="x">0 0 0 0 0 0</pose>'), "only plain poses"),
    ],
)
def test_errors_name_the_bad_thing_in_one_line(tmp_path, text, words):
    with pytest.raises(WorldError) as e:
        load_world(write(tmp_path, text))
    assert words in str(e.value) and "w.sdf" in str(e.value) and "\n" not in str(e.value)


def test_a_world_that_is_not_there(tmp_path):
    with pytest.raises(WorldError, match="cannot read the world"):
        load_world(tmp_path / "no.sdf")


def test_fortress_gets_its_own_plugin_names():
    text = (REPOSITORY / "worlds/humanoid_world.sdf").read_text()
    assert world_for(text, "harmonic") == text
    fortress = world_for(text, "fortress")
    assert "gz-sim" not in fortress and "gz::sim" not in fortress
    for name in ("physics", "user-commands", "scene-broadcaster", "imu", "forcetorque", "sensors"):
        assert f'filename="ignition-gazebo-{name}-system"' in fortress
    assert fortress.count("ignition::gazebo::systems::") == text.count("gz::sim::systems::")
