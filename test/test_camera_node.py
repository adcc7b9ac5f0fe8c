"""virtual_camera_publisher with real rclpy: images while somebody listens, a twin that stops, sensors that cannot be."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from ros_rig import rig
from sensor_msgs.msg import CameraInfo, Image, JointState

from digital_twin.core.config import build
from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.camera import Camera, CameraConfig
from digital_twin.core.sensors.rendering import RenderingError, open_context
from digital_twin.nodes.virtual_camera_publisher import VirtualCameraPublisher
from digital_twin.robots import load_robot
from digital_twin.ros.camera_topics import ImageWriter
from digital_twin.ros.camera_worker import CameraWorker, View
from digital_twin.ros.qos import SENSOR_IN

T0 = 1_700_000_000 * 10**9
IMAGE, INFO = "virtual/camera/camera/image_raw", "virtual/camera/camera/camera_info"
DEPTH, DEPTH_INFO = "virtual/camera/camera/depth/image_rect", "virtual/camera/camera/depth/camera_info"


def has_gl():
    try:
        open_context(8, 8)[0].free()
    except RenderingError:
        return False
    return True


needs_gl = pytest.mark.skipif(not has_gl(), reason="no OpenGL here")


class Twin:
    """Publishes the state of a robot that stands still, 100 times a second by its stamps."""

    def __init__(self, r):
        self.r, self.k = r, 0
        robot = load_robot()
        self.joints = JointState(
            name=robot.model.joint_names, position=robot.joints.stand.tolist(), velocity=[0.0] * 28
        )
        self.odom = Odometry()
        self.odom.pose.pose.position.z, self.odom.pose.pose.orientation.w = 0.82, 1.0
        for kind, topic in ((JointState, "virtual/joint_states"), (Odometry, "virtual/odom")):
            r.publisher(kind, topic)
        r.listen(DiagnosticArray, "twin/camera_status")

    def step(self):
        self.k += 1
        for topic, m in (("virtual/joint_states", self.joints), ("virtual/odom", self.odom)):
            m.header.stamp.sec, m.header.stamp.nanosec = divmod(T0 + self.k * 10_000_000, 10**9)
            self.r.publisher(type(m), topic).publish(m)

    def until(self, condition, what):
        self.r.until(condition, what, timeout=20.0, action=self.step, period=0.01)


def ns_of(m):
    return m.header.stamp.sec * 10**9 + m.header.stamp.nanosec


def words(r):
    return r.status("twin/camera_status")["words"] if r.messages["twin/camera_status"] else ""


@needs_gl
def test_images_come_while_somebody_listens_and_stop_with_the_twin():
    with rig(VirtualCameraPublisher, rate=20.0) as r:
        twin = Twin(r)
        r.settle(1.0, action=twin.step, period=0.01)
        node = r.nodes[0]
        assert node.count_subscribers("virtual/odom") == 0, "while nobody listens nothing is read"
        assert r.status("twin/camera_status")["renderer"] == "none yet"
        ears = [
            r.node.create_subscription(kind, topic, r.messages[topic].append, SENSOR_IN)
            for kind, topic in ((Image, IMAGE), (CameraInfo, INFO))
        ]
        twin.until(lambda: len(r.messages[IMAGE]) >= 8 and len(r.messages[INFO]) >= 8, "images")
        m, info = r.messages[IMAGE][-1], r.messages[INFO][-1]
        assert (m.width, m.height, m.encoding, m.step) == (320, 240, "rgb8", 960)
        assert m.header.frame_id == info.header.frame_id == "camera_optical_frame"
        stamps = [ns_of(m) for m in r.messages[IMAGE]]
        assert all((s - T0) % 10_000_000 == 0 for s in stamps), "each bears the stamp of a state"
        assert len({s // 50_000_000 for s in stamps}) == len(stamps), "no two in one period of 20 Hz"
        assert {ns_of(m) for m in r.messages[INFO]} & set(stamps)
        assert (
            info.distortion_model == "plumb_bob" and len(info.d) == 5 and info.k[0] == pytest.approx(160 / np.tan(0.6))
        )
        pixels = np.frombuffer(bytes(m.data), np.uint8).reshape(240, 320, 3)
        assert pixels.std() > 10, "it shows something"
        twin.until(lambda: r.status("twin/camera_status")["renderer"] in ("egl", "osmesa"), "word of the renderer")
        r.until(lambda: "state has stopped" in words(r), "word that the twin has stopped")
        count = len(r.messages[IMAGE])
        r.settle(0.5)
        assert len(r.messages[IMAGE]) == count, "nothing is made up to fill the gap"
        twin.until(lambda: len(r.messages[IMAGE]) > count + 2 and not words(r), "images again")
        for ear in ears:
            r.node.destroy_subscription(ear)
        twin.until(lambda: node.count_subscribers("virtual/odom") == 0, "it to stop reading")
        count = len(r.messages[IMAGE])
        r.listen(Image, IMAGE, SENSOR_IN)
        twin.until(lambda: len(r.messages[IMAGE]) > count + 2, "images once more")


RGBD = '<sensor name="camera" type="rgbd_camera"><update_rate>50</update_rate></sensor>'
BROKEN = '<sensor name="broken" type="camera"><update_rate>0</update_rate></sensor>'
LOST = '<gazebo reference="nowhere"><sensor name="lost" type="camera"/></gazebo>'


def urdf_with(sensors, more=""):
    from digital_twin.core.description import load_description

    plain = load_description(REPOSITORY / "urdf/humanoid.urdf.xacro").urdf
    return plain.replace("</robot>", f'<gazebo reference="camera_link">{sensors}</gazebo>{more}</robot>')


@needs_gl
def test_depth_and_colour_of_one_camera_beside_two_that_cannot_be():
    with rig(
        VirtualCameraPublisher, robot_description=urdf_with(RGBD + BROKEN, LOST), depth="16UC1", colour="raw"
    ) as r:
        twin = Twin(r)
        for topic in (IMAGE, DEPTH):
            r.listen(Image, topic, SENSOR_IN)
        r.listen(CameraInfo, DEPTH_INFO, SENSOR_IN)
        twin.until(lambda: all(len(r.messages[t]) >= 3 for t in (IMAGE, DEPTH, DEPTH_INFO)), "colour and depth")
        assert r.messages[IMAGE][-1].encoding == "bayer_grbg16"
        d = r.messages[DEPTH][-1]
        assert (d.encoding, d.step) == ("16UC1", 2 * d.width)
        z = np.frombuffer(bytes(d.data), "<u2").reshape(d.height, d.width) / 1000.0
        wall = z[d.height // 2 - 20 : d.height // 2, d.width // 2 - 20 : d.width // 2 + 20]
        # The wall's near side is at x = 3.925 m, the camera 0.105 m before the head's joint.
        assert np.median(wall[wall > 0]) == pytest.approx(3.9 - 0.1, abs=0.1)
        said = words(r)
        assert (
            "camera 'broken': rate: 0.0 Hz is out of range" in said and "camera 'lost': unknown link 'nowhere'" in said
        )


@needs_gl
def test_the_map_says_where_the_robot_is_in_the_world():
    with rig(VirtualCameraPublisher, robot_description=urdf_with(RGBD)) as r:
        twin = Twin(r)
        r.listen(Image, DEPTH, SENSOR_IN)
        pose = PoseWithCovarianceStamped()
        pose.pose.pose.position.x, pose.pose.pose.position.z, pose.pose.pose.orientation.w = 1.0, 0.82, 1.0
        r.publisher(PoseWithCovarianceStamped, "virtual/pose")

        def step():
            pose.header.stamp.sec, pose.header.stamp.nanosec = divmod(T0 + (twin.k + 1) * 10_000_000, 10**9)
            r.publisher(PoseWithCovarianceStamped, "virtual/pose").publish(pose)
            Twin.step(twin)

        def middle():
            if not r.messages[DEPTH]:
                return np.nan
            d = r.messages[DEPTH][-1]
            z = np.frombuffer(bytes(d.data), "<f4").reshape(d.height, d.width)
            return float(np.nanmedian(z[d.height // 2 - 20 : d.height // 2, d.width // 2 - 20 : d.width // 2 + 20]))

        r.until(lambda: abs(middle() - 2.8) < 0.1, "the wall a metre nearer", timeout=20.0, action=step, period=0.01)
        assert r.messages[DEPTH][-1].header.frame_id == "camera_link"  # where this robot has its depth camera


@needs_gl
def test_in_a_namespace_and_under_another_name():
    with rig(VirtualCameraPublisher, remaps={"__ns": "/bob", "virtual/camera/camera/image_raw": "/seen"}) as r:
        twin = Twin(r)
        r.listen(Image, "/seen", SENSOR_IN)
        twin.until(lambda: r.messages["/seen"], "an image")
        assert r.messages["/seen"][-1].header.frame_id == "bob/camera_optical_frame"


def test_a_robot_without_cameras_and_a_world_without_geometry(tmp_path):
    (tmp_path / "empty.sdf").write_text('<sdf version="1.9"><world name="w"/></sdf>')
    with rig(VirtualCameraPublisher, robot_description=urdf_with(RGBD), world=str(tmp_path / "empty.sdf")) as r:
        r.listen(DiagnosticArray, "twin/camera_status")
        r.until(lambda: "camera 'camera': sees nothing but the robot" in words(r), "word of the empty world")
    with rig(VirtualCameraPublisher, robot_description=urdf_with("")) as r:
        r.listen(DiagnosticArray, "twin/camera_status")
        r.until(lambda: r.messages["twin/camera_status"], "a status")
        assert words(r) == "" and r.status("twin/camera_status")["level"] == 0


def test_no_gl_at_all_is_one_line(monkeypatch):
    from digital_twin.core.sensors import rendering

    monkeypatch.setattr(rendering, "_open", lambda *_: (_ for _ in ()).throw(ImportError("no such library")))
    with rig(VirtualCameraPublisher) as r:
        twin = Twin(r)
        r.listen(Image, IMAGE, SENSOR_IN)
        twin.until(lambda: "no OpenGL" in words(r), "word that nothing can be rendered")
        s = r.status("twin/camera_status")
        assert s["level"] == 2 and s["words"].startswith(
            "camera 'camera': no OpenGL to render with (egl: no such library; "
        )
        assert not r.messages[IMAGE]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"profiles": ["camera"]}, "profiles: 'camera' is not of the form NAME=PROFILE"),
        ({"profiles": ["head=x.yaml"]}, "unknown camera 'head'; known: camera"),
        ({"depth": "8UC1"}, "'8UC1' is not one of 32FC1, 16UC1"),
    ],
)
def test_a_bad_parameter_stops_it(parameters, said):
    with pytest.raises(ConfigError) as e, rig(VirtualCameraPublisher, **parameters):
        pass
    assert said in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(("encoding", "kind"), [("rgb8", "u1"), ("bayer_rggb16", "<u2"), ("32FC1", "<f4")])
def test_images_are_written_as_rclpy_writes_them(encoding, kind):
    pixels = np.arange(5 * 3 * 3).reshape(3, 5, 3)[..., : 3 if encoding == "rgb8" else 1].astype(kind)
    size = pixels.itemsize * pixels.shape[2]
    for frame in ("", "f", "camera_optical_frame"):
        ours = ImageWriter(frame, 3, 5, encoding, size).write(T0 + 7, pixels)
        m = Image(height=3, width=5, encoding=encoding, step=5 * size)
        m.header.frame_id, m.header.stamp.sec, m.header.stamp.nanosec = frame, T0 // 10**9, 7
        m.data.frombytes(pixels.tobytes())
        # Bytes that only align may hold anything.
        assert deserialize_message(ours, Image) == m and len(ours) == len(serialize_message(m))
    with pytest.raises(ValueError, match="bytes of pixels"):
        ImageWriter("f", 3, 6, encoding, size).write(0, pixels)


# When, without a middleware


def view(**values):
    camera = Camera(build(CameraConfig, {"width": 16, "height": 16} | values, "test"), "c", 1)
    return View(0, camera, SimpleNamespace(colour_wanted=True, depth_wanted=False))


def test_an_image_in_each_period():
    v = view(rate=30.0)
    stamps = [T0 + k * 5_000_000 for k in range(2000)]
    due = [s for s in stamps if v.due(s)]
    assert len(due) == pytest.approx(300, abs=2) and v.missed == 0
    assert {int(d / 5e6 + 0.5) for d in np.diff(due)} == {6, 7}
    v = view(rate=30.0)
    assert [s for s in stamps[::20] if v.due(s)] == stamps[::20] and v.missed == pytest.approx(200, abs=2)


def test_images_get_lost_and_come_at_other_times():
    n = 20_000
    stamps = [T0 + k * 1_000_000 for k in range(10 * n)]
    lossy = view(rate=100.0, dropout=0.2)
    assert abs(sum(lossy.due(s) for s in stamps) / n - 0.8) < 4 * np.sqrt(0.16 / n)
    shaky = view(rate=100.0, jitter=0.001)
    due = np.array([s for s in stamps if shaky.due(s)])
    assert len(due) == pytest.approx(n, abs=2)
    # Two neighbours' errors are independent; a millisecond's grid adds a twelfth of its square, twice.
    assert np.diff(due).std() / 1e6 == pytest.approx(np.sqrt(2 * (1.0 + 1 / 12)), rel=0.03)


def test_an_image_is_held_for_its_latency():
    now, sent = [T0], []
    node = SimpleNamespace(now_ns=lambda: now[0])
    v = view(latency=0.1)
    v.topics.publish = lambda what, stamp, pixels: sent.append((what, stamp))
    worker = CameraWorker(node, None, None, [v])
    worker._hold(v, T0 - 50_000_000, "colour", None)
    assert worker._send_held() == pytest.approx(0.05) and not sent
    now[0] += 50_000_000
    assert worker._send_held() == 0.1 and sent == [("colour", T0 - 50_000_000)]
    worker._hold(v, T0 + 10**12, "colour", None)
    worker._send_held()
    assert len(sent) == 2, "a stamp of another clock is not waited for"


def test_osmesa_where_there_is_no_egl():
    """In a process of its own, since OpenGL binds itself to what is tried first."""
    code = (
        "from digital_twin.core.sensors import rendering as r\n"
        "try: print(r.open_context(16, 16)[1])\n"
        "except r.RenderingError as e: print('none:', e)"
    )

    def run(**environment):
        import os

        plain = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=plain | environment, capture_output=True, text=True
        )
        return done.stdout.strip()

    first = run()
    if first.startswith("none"):
        pytest.skip("no OpenGL here")
    assert run(MUJOCO_EGL_DEVICE_ID="99") in ("osmesa", "none") or first == "osmesa"
    nothing = run(PYOPENGL_PLATFORM="glx")
    assert (
        nothing.startswith("none: no OpenGL to render with (egl: ") and "osmesa: " in nothing and "libegl1" in nothing
    )
