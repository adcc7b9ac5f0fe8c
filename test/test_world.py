"""Worlds: the shapes of an SDF stand in MuJoCo where the SDF puts them."""

import importlib.util

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


# The worlds to walk in


def made():
    spec = importlib.util.spec_from_file_location("make_worlds", REPOSITORY / "worlds/make_worlds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def height_under(m, d, x, y):
    """Of the ground at a place, and its normal."""
    geom, normal = np.zeros(1, dtype=np.int32), np.zeros(3)
    down = np.array([0.0, 0.0, -1.0])
    return 3.0 - mujoco.mj_ray(m, d, np.array([x, y, 3.0]), down, None, 1, -1, geom, normal), normal


def test_the_worlds_to_walk_in_are_those_that_the_script_writes():
    for name, text in made().worlds().items():
        path = REPOSITORY / f"worlds/{name}.sdf"
        assert path.read_text() == text, "run: python worlds/make_worlds.py"
        world = load_world(path)
        assert world.name == name and world.skipped == ()
        m, d = compiled(world)
        for x in np.linspace(-0.5, 0.9, 5):
            assert height_under(m, d, x, 0.0)[0] == pytest.approx(0.0, abs=1e-9), f"{name}: level at the start"


def test_rough_ground_is_uneven_by_2_cm():
    m, d = compiled(load_world(REPOSITORY / "worlds/rough.sdf"))
    heights = [height_under(m, d, 1.15 + 0.3 * i, -1.35 + 0.3 * j)[0] for i in range(40) for j in range(10)]
    assert min(heights) >= 0.0 and max(heights) <= 0.02 + 1e-9
    # As of a uniform distribution from 0 to 2 cm.
    assert np.mean(heights) == pytest.approx(0.01, abs=0.001) and np.std(heights) == pytest.approx(0.00577, abs=0.0005)


def test_the_slope_climbs_5_degrees_without_an_edge():
    m, d = compiled(load_world(REPOSITORY / "worlds/slope.sdf"))
    t = np.tan(np.radians(5.0))
    for x, height in [(1.01, 0.01 * t), (3.0, 2.0 * t), (5.99, 4.99 * t), (7.0, 5.0 * t), (9.0, 4.0 * t)]:
        found, normal = height_under(m, d, x, 0.3)
        assert found == pytest.approx(height, abs=1e-3), x
        if x in (3.0, 9.0):
            assert np.degrees(np.arccos(normal[2])) == pytest.approx(5.0, abs=0.01)


def test_stairs_go_up_and_down_in_steps_of_4_cm():
    m, d = compiled(load_world(REPOSITORY / "worlds/stairs.sdf"))
    heights = [height_under(m, d, 1.3 + 0.6 * i, 0.0)[0] for i in range(10)]
    assert np.allclose(heights, 0.04 * np.array([1, 2, 3, 4, 4, 4, 3, 2, 1, 0]), atol=1e-6)


@pytest.mark.parametrize(("name", "slides"), [("flat", False), ("low_friction", True)])
def test_a_block_slides_by_the_worlds_friction(name, slides):
    """Pushed with half its weight it stays where μ is 0.9 and slides where μ is 0.3, by F − μ m g."""
    spec = mujoco.MjSpec()
    add_world(spec, load_world(REPOSITORY / f"worlds/{name}.sdf"))
    body = spec.worldbody.add_body(pos=[0, 0, 0.1])
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.2, 0.2, 0.1], mass=1.0)
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    m = spec.compile()
    d = mujoco.MjData(m)
    mujoco.mj_step(m, d, nstep=200)
    d.xfrc_applied[1, 0] = 0.5 * 9.81
    before = d.qvel[0]
    mujoco.mj_step(m, d, nstep=500)
    gained = d.qvel[0] - before
    assert gained == pytest.approx(0.2 * 9.81 * 1.0, rel=0.05) if slides else abs(gained) < 0.02
