"""The dashboard with real rclpy: what it is fed, what its buttons do, who is let in, and that nobody holds it up."""

import socket
import struct
import threading
import time
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
import viser
from conftest import ICUB, needs_icub
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Path
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from ros_rig import rig
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Float64MultiArray, Int64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from digital_twin.core.view import View, ViewLayout
from digital_twin.dashboard.panel import Action
from digital_twin.nodes.dashboard import Dashboard
from digital_twin.ros.cdr import MalformedError
from digital_twin.ros.labelled import LabelledReader, LabelledWriter
from digital_twin.ros.page_feed import read_forecast, read_scan, spread_of_base

T0 = 1_700_000_000 * 10**9


@contextmanager
def dashboard(**parameters):
    """A dashboard on a free port, and a client."""
    with rig(Dashboard, **{"port": 0, "yielding": False} | parameters) as r:
        yield r, r.nodes[0]


def view(robot, x=0.0, **changes):
    n, k = robot.model.n, len(robot.config.feet)
    values = {
        "position": np.array([x, 0.0, 0.83]), "quaternion": np.array([0.0, 0, 0, 1]), "odom_position": np.zeros(3),
        "odom_yaw": 0.0, "velocity": np.zeros(3), "turning": np.zeros(3), "contacts": np.ones(k), "initialised": True,
        "q": robot.joints.stand, "qd": np.zeros(n), "measured": robot.joints.stand + 0.001,
        "wrenches": np.tile([0, 0, 260.0, 0, 0, 0], (k, 1)), "seen": np.array([x, 0, 0.83, 0, 0, 0, 1.0]),
    }  # fmt: skip
    return View(**values | changes)


class Twin:
    """Says what the twin says."""

    def __init__(self, r, robot):
        self.r, self.robot = r, robot
        self.layout = ViewLayout(robot.model.joint_names, [f.name for f in robot.config.feet])
        self._view = LabelledWriter(self.layout.labels)
        self.out = r.publisher(Float64MultiArray, "virtual/view")
        r.connected("virtual/view")
        self.k = 0

    def say(self, **changes):
        self.k += 1
        self.out.publish(self._view.write(T0 + self.k * 33_333_333, self.layout.pack(view(self.robot, **changes))))


def viewer(d, path=None, host=None, **options):
    """A page that is open, as far as viser can tell."""
    url = d.url.replace("http", "ws").rstrip("/") if path is None else f"{d.url.split('/')[2]}{path}"
    url = url if "://" in url else f"ws://{url}"
    return connect(url, subprotocols=[f"viser-v{viser.__version__}"], max_size=None, **options)


def spinning(r):
    """Let the nodes work while this thread waits for a socket."""
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            r.executor.spin_once(timeout_sec=0.01)

    thread = threading.Thread(target=spin)
    thread.start()
    return stop, thread


@contextmanager
def working(r):
    stop, thread = spinning(r)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def receive(ws, until, timeout=20.0):
    """Names of the messages that come, until one satisfies a condition."""
    end, seen = time.monotonic() + timeout, []
    while time.monotonic() < end:
        for m in decode(ws.recv(timeout=max(end - time.monotonic(), 0.01))):
            seen.append(m)
            if until(m):
                return seen
    raise AssertionError("waited in vain")


def decode(data):
    import zstandard

    size, packed = struct.unpack_from("<QQ", data)
    inner = zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed], max_output_size=size)
    return msgspec.msgpack.decode(inner)["messages"]


def is_update(m, name, prop):
    return m.get("type") == "SceneNodeUpdateMessage" and m.get("name") == name and prop in m.get("updates", {})


def test_a_viewer_sees_the_robot_at_once_and_then_each_moment(robot):
    with dashboard() as (r, d):
        with working(r), viewer(d) as ws:
            seen = receive(ws, lambda m: m.get("type") == "ReplayDoneMessage")
        drawn = {m["name"] for m in seen if m.get("type") == "BatchedMeshesMessage"}
        assert {"/map/virtual/box", "/map/virtual/cylinder", "/map/measured/box", "/map/forecast/box"} <= drawn
        twin = Twin(r, robot)
        r.until(lambda: len(d._past) >= 5, "moments", action=twin.say, period=0.03)
        assert d.page.viewers == 0 and d.loop.summary() == {}, "nobody looks: nothing is drawn"
        with viewer(d) as ws:
            count = d.loop.count if hasattr(d.loop, "count") else 0
            r.until(lambda: d.loop.summary() != {}, "a moment to be drawn", action=twin.say, period=0.03)
            with working(r):
                receive(ws, lambda m: is_update(m, "/map/measured", "visible") or "measured" in str(m.get("name")))
            assert count == 0


def test_what_makes_no_sense_is_counted_and_the_page_goes_on(robot):
    with dashboard() as (r, d):
        twin = Twin(r, robot)
        twin.say(position=np.array([np.nan, 0, 0]))
        twin.out.publish(Float64MultiArray(data=[1.0, 2.0]))
        twin.out.publish(LabelledWriter(["a", "b"]).write(5, np.zeros(2)))
        r.until(lambda: sum(d.tally.rejected.values()) == 3, "three refusals")
        assert (
            set(d.tally.rejected)
            == {"virtual/view: non_finite", "virtual/view: malformed", "virtual/view: another robot"}
            or len(d.tally.rejected) == 3
        )
        twin.say()
        r.until(lambda: len(d._past) == 1, "a moment")


def status(name, level=0, words="", **values):
    s = DiagnosticStatus(level=bytes([level]), name=name, message=words)
    s.values = [KeyValue(key=k.replace("__", "/"), value=str(v)) for k, v in values.items()]
    return DiagnosticArray(status=[s])


def test_it_gathers_what_the_others_say(robot):
    with dashboard() as (r, d):
        twin, board = Twin(r, robot), d.board
        for topic in ("twin/sync_status", "twin/drift", "virtual/prediction/warnings"):
            r.publisher(DiagnosticArray, topic)
        r.publisher(Int64MultiArray, "twin/arrivals")
        skill = r.publisher(Float64MultiArray, "virtual/prediction/skill")
        r.connected(
            "twin/sync_status", "twin/drift", "virtual/prediction/warnings", "twin/arrivals", "virtual/prediction/skill"
        )
        assert board.drift is None
        r.publisher(DiagnosticArray, "twin/sync_status").publish(status("ns/twin_synchronizer", sync_error_m=0.02))
        r.publisher(DiagnosticArray, "twin/drift").publish(status("drift", 2, "l_knee drags", cause="friction"))
        r.publisher(DiagnosticArray, "virtual/prediction/warnings").publish(status("p: fall", 2, "a fall in 0.40 s"))
        skill.publish(LabelledWriter(["joints_skill_persistence@500ms", "x"]).write(5, np.array([0.8, 1.0])))
        twin.say()
        r.publisher(Int64MultiArray, "twin/arrivals").publish(
            Int64MultiArray(data=[T0 + 33_333_333, time.time_ns() - 4_000_000])
        )
        r.until(
            lambda: board.drift and board.warnings and "twin_synchronizer" in board.nodes and board.latency()[0] > 0,
            "all of it",
        )
        assert board.verdict(time.monotonic())[1] == "l_knee drags" and board.warnings == [(2, "a fall in 0.40 s")]
        r.until(
            lambda: np.isfinite(board.curves(("skill_joints", "joints", "base"))[1][-1]),
            "a row of curves",
            action=twin.say,
            period=0.1,
        )
        curves = [c[-1] for c in board.curves(("skill_joints", "joints", "base"))[1:]]
        np.testing.assert_allclose(curves, [0.8, 1.0, 2.0], rtol=1e-6)


class Services:
    """Stands in for the nodes that the buttons call."""

    def __init__(self, r):
        self.calls = []

        def answer(name, kind):
            def reply(request, response):
                self.calls.append((name, getattr(request, "data", None)))
                response.success, response.message = True, f"{name} done"
                return response

            r.node.create_service(kind, name, reply)

        for name in (
            "physical_bridge/emergency_stop",
            "twin_synchronizer/resync",
            "simulated_robot/inject_fault",
            "simulated_robot/clear_faults",
        ):
            answer(name, Trigger)
        answer("physical_bridge/enable_commands", SetBool)

        def parameters(request, response):
            for p in request.parameters:
                self.calls.append((p.name, p.value.string_value))
                response.results.append(
                    SetParametersResult(successful=p.value.string_value != "bad", reason="no such fault")
                )
            return response

        r.node.create_service(SetParameters, "simulated_robot/set_parameters", parameters)


def test_buttons_call_what_they_say(robot):
    with dashboard() as (r, d):
        s, notes = Services(r), []
        d.page.note = lambda text, level=0: notes.append((text, level))
        c = d._controls
        clients = (c._stop, c._enable, c._resync, c._inject, c._mend, c._parameters)
        r.until(lambda: all(x.service_is_ready() for x in clients), "the services")

        def press(action, *expected):
            s.calls.clear()
            notes.clear()
            d.page.actions.put(action)
            r.until(lambda: s.calls == list(expected) and notes and notes[-1][1] != 1, f"{action} to do {expected}")

        press(Action("stop"), ("physical_bridge/emergency_stop", None))
        assert notes[-1] == ("emergency stop: physical_bridge/emergency_stop done", 0)
        press(Action("release"), ("physical_bridge/enable_commands", True))
        press(Action("resync"), ("twin_synchronizer/resync", None))
        press(Action("mend"), ("simulated_robot/clear_faults", None))
        press(Action("fault", "motor l_knee 0"), ("fault", "motor l_knee 0"), ("simulated_robot/inject_fault", None))
        press(Action("fault", "bad"), ("fault", "bad"))
        assert notes[-1] == ("fault: no such fault", 2)


def test_a_button_whose_node_is_not_there_says_so(robot):
    with dashboard() as (r, d):
        notes = []
        d._controls._say = lambda text, level: notes.append((text, level))
        d._controls.emergency_stop()
        assert notes == [("emergency stop: physical_bridge/emergency_stop is not there", 2)]


def test_walking_goes_out_clipped_and_ends_with_the_last_page(robot):
    with dashboard() as (r, d):
        r.listen(Twist, "cmd_vel")
        heard = r.messages["cmd_vel"]
        r.until(lambda: d._controls.gait, "somebody who takes cmd_vel")
        with viewer(d):
            r.until(lambda: d.page.viewers == 1, "the page to be open")
            d.page.actions.put(Action("walk", (0.2, 99.0, -0.1)))
            r.until(lambda: len(heard) >= 3, "commands")
            assert (heard[-1].linear.x, heard[-1].linear.y, heard[-1].angular.z) == (0.2, 0.3, -0.1)
            for bad in (("a", 1, 2), (float("nan"), 0, 0), (1.0,), 5):
                d._controls.walk(bad)
            assert d._controls.speeds == (0.2, 0.3, -0.1)
        r.until(lambda: d._controls.speeds is None, "the walk to end with the page")
        r.until(lambda: heard[-1].linear.x == 0.0, "a command to stand")
        count = len(heard)
        r.settle(0.4)
        assert len(heard) == count, "then cmd_vel is left alone"


def test_an_emergency_stop_ends_a_walk(robot):
    with dashboard() as (_, d):
        d._controls.speeds = (0.1, 0.0, 0.0)
        d._controls.emergency_stop()
        assert d._controls.speeds is None


def test_looking_back_shows_the_past(robot):
    with dashboard() as (r, d):
        twin, shown = Twin(r, robot), []
        while twin.k < 60:
            twin.say(x=0.01 * twin.k)
            r.until(lambda: len(d._past) == twin.k, "the moment")
        d.page.show = lambda m: shown.append(m.view.position[0])
        d.guard.open = 1
        for action, x in (
            (Action("scrub", 1.0), 0.29),
            (Action("scrub", float("nan")), 0.29),
            (Action("scrub", 500.0), 0.0),
            (Action("scrub", 0.0), 0.59),
        ):
            d.page.actions.put(action)
            before = len(shown)
            r.until(lambda before=before: len(shown) > before, "the past")
            assert shown[-1] == pytest.approx(x, abs=0.011) and d.playhead.paused
        before = len(shown)
        twin.say(x=5.0)
        r.until(lambda: len(d._past) == 61, "a moment during the pause")
        assert len(shown) == before
        d.page.actions.put(Action("pause"))
        r.until(lambda: shown[-1] == 5.0, "the present")
        d.guard.open = 0


# Rubbish, crowds and slow ones


RUBBISH = [
    "text", b"", b"\x00" * 100, b"\xff" * 5000, msgspec.msgpack.encode({"type": "NoSuchMessage"}), msgspec.msgpack.encode([1, 2]),
    msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": 5, "updates": "x"}),
    msgspec.msgpack.encode({"type": "ViewerCameraMessage", "wxyz": "a"}), b"\x91" * 100_000, b"x" * 300_000,
]  # fmt: skip


def test_rubbish_closes_its_own_connection_only(robot):
    with dashboard() as (r, d), working(r), viewer(d) as good:
        for rubbish in RUBBISH:
            with viewer(d) as bad:
                bad.send(rubbish)
                with pytest.raises(ConnectionClosed):
                    bad.send(b"\x00")  # what viser bears with, the next one ends
                    while True:
                        bad.recv(timeout=20)
        for raw in (
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x00\x01\x02" * 1000,
            b"GET /" + b"a" * 100_000,
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        ):
            with socket.create_connection(good.socket.getpeername(), timeout=20) as s:
                s.sendall(raw)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
        receive(good, lambda m: m.get("type") == "ReplayDoneMessage")
        assert d.guard.refused["rubbish"] >= 5


def test_strangers_are_refused(robot):
    with dashboard(host="0.0.0.0", most_viewers=2) as (r, d), working(r):
        port, token = d.url.split(":")[2].split("/")[:2]
        assert len(token) >= 16
        for path in ("", "/", "/wrong", f"/{token[:-1]}"):
            with pytest.raises(InvalidStatus) as e:
                connect(f"ws://127.0.0.1:{port}{path}")
            assert e.value.response.status_code == 403 and b"wants its whole address" in e.value.response.body
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{port}/{token}", origin="http://evil.example")
        one, two = (
            connect(f"ws://127.0.0.1:{port}/{token}", subprotocols=[f"viser-v{viser.__version__}"]) for _ in range(2)
        )
        with pytest.raises(InvalidStatus) as e:
            connect(f"ws://127.0.0.1:{port}/{token}")
        assert e.value.response.status_code == 503
        one.close(), two.close()
        assert d.guard.refused["token"] == 4 and d.guard.refused["origin"] == 1 and d.guard.refused["too many"] == 1


def test_ten_viewers_of_whom_one_hangs(robot):
    """Memory stays bounded and the node is not held up: it draws all moments, the others get the last one."""
    with dashboard() as (r, d):
        twin = Twin(r, robot)
        d.guard.open = 0
        hung = socket.create_connection(("127.0.0.1", int(d.url.split(":")[2].strip("/"))))
        hung.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hung.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: viser-v{viser.__version__}\r\n\r\n".encode()
        )  # and never reads again
        with working(r):
            others = [viewer(d) for _ in range(9)]
        r.until(lambda: d.page.viewers == 10, "ten viewers")
        buffer = d.page._server._websock_server._broadcast_buffer
        readers = [threading.Thread(target=read_all, args=(ws, "/map/virtual/box"), daemon=True) for ws in others]
        for t in readers:
            t.start()
        sizes = []
        while twin.k < 300:
            twin.say(x=0.001 * twin.k)
            r.until(lambda: len(d._past) == twin.k, "the node to take the moment")
            sizes.append(len(buffer.message_from_id))
        assert max(sizes[100:]) <= max(sizes[:100]) + 50, "what waits for a slow reader does not grow"
        twin.say(x=77.0)
        r.until(
            lambda: all(ws.last is not None and abs(ws.last - 77.0) < 2.0 for ws in others),
            "all others to see the last",
        )
        for ws in others:
            ws.close()
        hung.close()


def read_all(ws, name):
    """Keep the last x of a robot, until the connection ends."""
    ws.last = None
    try:
        while True:
            for m in decode(ws.recv()):
                if m.get("type") == "SetPositionMessage" and m.get("name") == "/map":
                    ws.last = -m["position"][0]
    except ConnectionClosed:
        pass


def test_a_port_in_use_costs_the_page_only(robot):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with rig(Dashboard, port=port, yielding=False) as r:
            d = r.nodes[0]
            r.listen(DiagnosticArray, "twin/dashboard_status")
            r.until(lambda: r.messages["twin/dashboard_status"], "its status")
            said = r.status("twin/dashboard_status")
            assert d.page is None and said["level"] == 1 and f"port {port} is in use" in said["words"]
            other.close()
            d._try()
            assert d.page is not None and d.status()[0] == 0


# What is read of messages


def forecast(n, k=5):
    t, p = JointTrajectory(joint_names=[f"j{i}" for i in range(n)]), Path()
    for i in range(k):
        point = JointTrajectoryPoint(positions=[0.1 * i] * n)
        point.time_from_start.nanosec = i * 20_000_000
        t.points.append(point)
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.orientation.w = 0.5 * i, 1.0
        p.poses.append(pose)
    return t, p


def test_forecasts_are_read_and_those_that_do_not_fit_are_not():
    from rclpy.serialization import serialize_message as s

    t, p = forecast(3)
    names = list(t.joint_names)
    f = read_forecast(s(t), s(p), names)
    np.testing.assert_allclose(f.times, np.arange(5) * 0.02)
    np.testing.assert_allclose(f.q[:, 0], np.arange(5) * 0.1)
    np.testing.assert_allclose(f.position[:, 0], np.arange(5) * 0.5)
    assert read_forecast(s(t), s(p), names[::-1]) is None
    assert read_forecast(s(t), s(Path(poses=p.poses[:-1])), names) is None
    p.poses[2].pose.orientation.w = 0.0
    assert read_forecast(s(t), s(p), names) is None
    t.points[1].positions = [float("nan")] * 3
    assert read_forecast(s(t), s(forecast(3)[1]), names) is None


def test_scans_are_points_in_the_frame_of_their_sensor():
    from rclpy.serialization import serialize_message as s

    m = LaserScan(
        angle_min=0.0,
        angle_increment=np.pi / 2,
        range_min=0.1,
        range_max=10.0,
        ranges=[1.0, 2.0, float("inf"), 0.05, 11.0],
    )
    m.header.frame_id = "bob/lidar"
    scan = read_scan(s(m), "bob", {"lidar"})
    np.testing.assert_allclose(scan.points, [[1, 0, 0], [0, 2, 0]], atol=1e-6)
    assert scan.frame == "lidar" and read_scan(s(m), "", {"lidar"}) is None


def test_spread_is_that_of_the_base():
    labels = (
        "l_knee@500ms",
        "x@500ms",
        "y@500ms",
        "z@500ms",
        "x@1000ms",
        "roll@500ms",
        "x@100ms",
        "y@100ms",
        "z@100ms",
    )
    times, widths = spread_of_base(labels, np.array([9, 1, 2, 3, 7, 8, 4, 5, np.nan]))
    np.testing.assert_array_equal(times, [0.5])
    np.testing.assert_array_equal(widths, [[1, 2, 3]])
    assert spread_of_base(("a",), np.zeros(1)) is None


def test_labelled_numbers_are_read_back():
    reader = LabelledReader()
    for labels in (["a", "b"], ["a", "b"], ["c"]):
        data = LabelledWriter(labels).write(5 * 10**9 + 7, np.arange(len(labels)) + 0.5)
        stamp, values = reader.read(data)
        assert stamp == 5 * 10**9 + 7 and reader.labels == tuple(labels)
        np.testing.assert_array_equal(values, np.arange(len(labels)) + 0.5)
        for cut in range(0, len(data), 3):
            with pytest.raises(MalformedError):
                LabelledReader().read(data[:cut])
    with pytest.raises(MalformedError):
        LabelledReader().read(LabelledWriter([]).write(1, np.zeros(0)).replace(b"stamp_sec", b"stomp_sec"))


@needs_icub
def test_a_robot_without_meshes_has_a_page_and_one_warning():
    said = []
    with dashboard(robot_description=str(ICUB / "icub.urdf")) as (_, d):
        assert d.page is not None
        said.append(d.url)
    assert said
