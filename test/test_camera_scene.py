"""What cameras see: known objects at known places, through MuJoCo's renderer where there is one."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.cameras import make_cameras
from digital_twin.core.description import parse_description
from digital_twin.core.model import RobotModel
from digital_twin.core.rotation import exp_so3, rpy_matrix
from digital_twin.core.sensors.camera_description import read_cameras
from digital_twin.core.sensors.camera_scene import SHOWN, CameraScene, TwinPose, frame_note, mount_problem
from digital_twin.core.sensors.optics import distort
from digital_twin.core.sensors.rendering import Renderer, RenderingError, metres
from digital_twin.core.world import Shape, World, load_world

EYE = """
<robot name="stick">
  <link name="base"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="arm"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="eye"/>
  <joint name="lift" type="revolute"><parent link="base"/><child link="arm"/><origin xyz="0 0 0.5"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="1" velocity="9"/></joint>
  <joint name="mount" type="fixed"><parent link="arm"/><child link="eye"/><origin xyz="0.2 0 0.1" rpy="0 0.1 0.2"/></joint>
  <gazebo reference="eye"><sensor name="eye" type="rgbd_camera"><pose>0 0 0.05 0.1 0 0</pose>
    <camera><horizontal_fov>1.4</horizontal_fov><image><width>160</width><height>120</height></image>
    <distortion><k1>-0.1</k1></distortion></camera></sensor></gazebo>
</robot>"""
REST = TwinPose(0, np.zeros(1), np.zeros(1), np.zeros(3), np.eye(3), np.zeros(3), np.zeros(3))


def world(*balls):
    """Coloured balls of 5 cm."""
    shapes = [
        Shape(f"ball{i}", mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, 0.05), np.array(p), np.eye(3), 1.0, (*rgb, 1.0))
        for i, (p, rgb) in enumerate(balls)
    ]
    return World("w", np.array([0, 0, -9.81]), tuple(shapes), (), REPOSITORY)


def build(w, urdf=EYE):
    description = parse_description(urdf)
    model = RobotModel(description)
    mounts, _ = read_cameras(ET.fromstring(urdf))
    cameras, problems = make_cameras(mounts, model, {}, seed=1)
    assert not problems
    return CameraScene(model, w, cameras), cameras[0][1], mounts[0]


def eye_pose(q, position, rotation):
    """Where the optical frame is, by hand: base, joint, fixed joint, the sensor's own pose, x forward to z forward."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, position
    for xyz, R in (
        ((0, 0, 0.5), exp_so3([0, q, 0])), ((0.2, 0, 0.1), rpy_matrix([0, 0.1, 0.2])), ((0, 0, 0.05), rpy_matrix([0.1, 0, 0])),
        ((0, 0, 0), np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    ):  # fmt: skip
        A = np.eye(4)
        A[:3, :3], A[:3, 3] = R, xyz
        T = T @ A
    return T


@pytest.fixture(scope="module")
def gl():
    """A renderer's maker, or a skip where there is no OpenGL."""

    def make(scene, source):
        renderer = Renderer(scene.mj, source.width, source.height)
        renderer.show(SHOWN)
        return renderer

    scene, camera, _ = build(world(((1.0, 0.0, 0.0), (1, 1, 1))))
    try:
        make(scene, camera.optics.source).close()
    except RenderingError as e:
        pytest.skip(str(e))
    return make


def test_objects_are_seen_where_camera_info_projects_them(gl):
    """At any pose of robot and joint: frames, quaternions, mount, distortion and depth in one go."""
    pose = TwinPose(
        0,
        np.array([0.3]),
        np.zeros(1),
        np.array([0.4, -0.3, 0.2]),
        rpy_matrix([0.1, -0.2, 0.7]),
        np.zeros(3),
        np.zeros(3),
    )
    T = eye_pose(0.3, pose.position, pose.rotation)
    seen = {
        "r": (-0.3, -0.2, 1.5),
        "g": (0.35, -0.1, 1.2),
        "b": (0.1, 0.3, 1.0),
    }  # in the optical frame: right, down, forward
    colours = {"r": (1, 0, 0), "g": (0, 1, 0), "b": (0, 0, 1)}
    balls = [(T[:3, :3] @ p + T[:3, 3], colours[c]) for c, p in seen.items()]
    scene, camera, _ = build(world(*balls))
    renderer = gl(scene, camera.optics.source)
    rgb, z = renderer.render(scene.place(pose), 0, camera.optics.source, 0.05, 50.0, colour=True, depth=True)
    renderer.close()
    quiet = replace(camera.config, off=["shot_noise", "read_noise", "fixed_pattern", "stereo_noise", "edge_holes"])
    camera = type(camera)(replace(quiet, exposure=replace(quiet.exposure, time=0.02)), "eye", 1)
    image = camera.colour(camera.raw([rgb])).astype(float)
    depth = camera.optics.crop(z)
    info = camera.info()
    for i, (x, y, forward) in enumerate(seen.values()):
        others = image.sum(axis=2) - image[..., i]
        mask = image[..., i] > 30 + others
        v, u = np.argwhere(mask).mean(axis=0)
        xd, yd = distort(info.model, info.d, np.array(x / forward), np.array(y / forward))
        want = info.k @ [xd, yd, 1.0]
        assert np.hypot(u - want[0], v - want[1]) < 0.7, "px, of the middle of a ball under a light from the side"
        straight = info.k @ [x / forward, y / forward, 1.0]
        near = depth[round(straight[1]), round(straight[0])]
        assert near == pytest.approx(forward - 0.05 * forward / np.linalg.norm([x, y, forward]), abs=0.005)
    assert np.isinf(depth[0, 0]), "the sky has no depth"


def test_only_the_robot_is_seen_without_a_world(gl):
    scene, camera, _ = build(None)
    renderer = gl(scene, camera.optics.source)
    _, z = renderer.render(scene.place(REST), 0, camera.optics.source, 0.05, 50.0, colour=False, depth=True)
    renderer.close()
    assert np.isinf(z).all()


def test_the_humanoid_sees_the_crate_at_its_left(robot, gl):
    from digital_twin.cameras import robot_cameras

    mounts, _ = robot_cameras()
    cameras, _ = make_cameras(mounts, robot.model, {}, seed=1)
    scene = CameraScene(robot.model, load_world(REPOSITORY / "worlds/humanoid_world.sdf"), cameras)
    n = robot.model.n
    q = robot.joints.stand
    pose = TwinPose(0, q, np.zeros(n), np.array([0.0, 0.0, 0.82]), np.eye(3), np.zeros(3), np.zeros(3))
    camera = cameras[0][1]
    source = camera.optics.source
    renderer = gl(scene, source)
    rgb, z = renderer.render(scene.place(pose), 0, source, 0.05, 50.0, colour=True, depth=True)
    renderer.close()
    red, blue = rgb[..., 0].astype(int), rgb[..., 2].astype(int)
    crate, column = np.argwhere(red > blue + 40), np.argwhere(blue > red + 25)
    column = column[column[:, 0] > source.height // 2]
    assert crate[:, 1].mean() < source.width / 2 < column[:, 1].mean()
    wall = z[source.height // 2 - 30 : source.height // 2, source.width // 2]
    assert np.allclose(wall, 3.925 - scene._data.cam_xpos[0][0], atol=0.01), "depth is along the axis"


# Motion, without a renderer


def moving(q=0.0, qd=0.0, v=(0, 0, 0), w=(0, 0, 0)):
    return TwinPose(0, np.array([q]), np.array([qd]), np.zeros(3), np.eye(3), np.array(v, float), np.array(w, float))


def test_motion_of_the_image_is_foreseen():
    scene, camera, _ = build(world(((2.0, 0.0, 0.6), (1, 1, 1))))
    source = camera.optics.source
    assert scene.motion(0, source, REST, 0.01) == pytest.approx(0.0, abs=1e-9)
    turn = scene.motion(0, source, moving(w=(0, 0, 2.0)), 0.01)
    assert turn == pytest.approx(source.focal * 0.02, rel=0.5)
    assert scene.motion(0, source, moving(qd=2.0), 0.01) > 0.5 * source.focal * 0.02, "a joint that turns the camera"
    side = scene.motion(0, source, moving(v=(0, 1.0, 0)), 0.01)
    assert side == pytest.approx(source.focal * 0.01 / 1.75, rel=0.15), "f v t / z of the ball"


def test_between_states_the_robot_moves_on():
    scene, _, _ = build(world())
    pose = moving(qd=1.0, v=(1.0, 0, 0), w=(0, 0, 1.0))
    for ahead in (-0.02, 0.0, 0.03):
        d = scene.place(pose, ahead)
        T = eye_pose(ahead, np.array([ahead, 0, 0]), exp_so3([0, 0, ahead]))
        assert np.allclose(d.cam_xpos[0], T[:3, 3], atol=1e-9)
        assert np.allclose(d.cam_xmat[0].reshape(3, 3) @ np.diag([1, -1, -1]), T[:3, :3], atol=1e-9)


def test_a_base_frame_that_is_not_the_root(robot):
    """The pose is of the base frame, wherever that is."""
    model = RobotModel(robot.description, "torso")
    scene = CameraScene(model, None, [])
    q = robot.joints.stand.copy()
    q[model.joint_index["waist_yaw"]] = 0.4
    n = model.n
    pose = TwinPose(0, q, np.zeros(n), np.array([1.0, 2.0, 3.0]), rpy_matrix([0.1, 0.2, 0.3]), np.zeros(3), np.zeros(3))
    d = scene.place(pose)
    assert np.allclose(d.site("torso").xpos, [1, 2, 3]) and np.allclose(
        d.site("torso").xmat.reshape(3, 3), pose.rotation
    )


def test_images_name_an_optical_frame_or_it_is_said(robot):
    from digital_twin.cameras import robot_cameras

    (mount,), _ = robot_cameras()
    assert frame_note(mount, robot.model) == ""
    for frame in ("camera_link", "torso"):
        said = frame_note(replace(mount, frame=frame), robot.model)
        assert said == f"camera 'camera': frame '{frame}' is not its optical frame (z forward, x right, y down)"
    assert "frame 'camera_link' is not" in frame_note(replace(mount, frame=""), robot.model)
    assert mount_problem(mount, robot.model) == "" and "'nose'" in mount_problem(
        replace(mount, link="nose"), robot.model
    )


def test_depth_of_the_buffer():
    near, far = 0.1, 20.0
    z = np.array([0.1, 0.5, 3.0, 19.0])
    buffer = (1 / z - 1 / far) / (1 / near - 1 / far)
    assert np.allclose(metres(buffer.astype(np.float32), near, far), z, rtol=1e-4)
    assert metres(np.zeros(1, np.float32), near, far)[0] == np.inf
