"""recorder: writes what is needed to run the twin again, and what it gave out, as a rosbag2 recording (MCAP).

The last minute is always in memory; it is written on ~/snapshot, after an emergency stop, when the drift monitor finds
an error, and when the robot falls. Messages are taken as bytes and written by a thread of its own.
"""

from __future__ import annotations

import ctypes
import fnmatch
import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger

from digital_twin.recording.identity import attachments_of, metadata_of
from digital_twin.recording.recording import Recording, check_writable_folder, free_name
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import DoublesCodec, MalformedError
from digital_twin.ros.message_class import message_class
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.scheduling import MIDDLEWARE
from digital_twin.settings import RecorderSettings

LOOK = 0.2
DEPTH = 2000
READY_AFTER = 0.6  # [s] without a new topic
PATIENCE = 3.0  # [s] that a topic may stay silent before the recorder is called ready without it
TOPICS = (
    "joint_states", "joint_commands", "imu/*", "feet/*", "external_pose", "odom", "scan", "physical/*", "virtual/*",
    "twin/*", "ground_truth/*", "/tf", "/tf_static", "/clock", "/diagnostics",
)  # fmt: skip
LEFT_OUT = ("virtual/camera/*", "virtual/view", "twin/recorder_status")
MADE_BY_THE_TWIN = ("physical/", "virtual/", "twin/")


class Recorder(TwinNode[RecorderSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("recorder", RecorderSettings, "twin/recorder_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        own = [imu.topic for imu in robot.config.imus] + [f.wrench_topic for f in robot.config.feet if f.wrench_topic]
        wanted = s.topics or [*TOPICS, *own]
        self._wanted = [self.resolve_topic_name(p) if "*" not in p else self._below_us(p) for p in wanted]
        self._left_out = [] if s.topics else [self._below_us(p) for p in LEFT_OUT]
        folder = Path(s.folder).expanduser()
        check_writable_folder(folder)
        self._said_by_thread: deque[tuple[str, str]] = deque()
        self._recording = Recording(
            free_name(folder, s.name or time.strftime("twin_%Y%m%d_%H%M%S")), s.recording, metadata_of(robot),
            attachments_of(robot), continuous=s.continuous, say=lambda level, text: self._said_by_thread.append((level, text)),
        )  # fmt: skip
        self._heard: dict[str, int] = {}  # messages by topic
        self._since: dict[str, float] = {}
        self._foreign: set[str] = set()
        self._next_look = 0.0
        self._alarms: dict[str, bool] = {}
        self._due: list[tuple[float, str]] = []
        self.every(LOOK, self._look)
        self.serve(Trigger, "~/snapshot", self._snapshot)
        if s.continuous:
            self.get_logger().info(f"recording to {self._recording.path}")

    def _below_us(self, pattern: str) -> str:
        return pattern if pattern.startswith("/") else f"{self.get_namespace().rstrip('/')}/{pattern}"

    # Topics

    def _look(self) -> None:
        """Subscribe to what is wanted and new; do what is due."""
        now = time.monotonic()
        if now >= self._next_look:
            self._find_topics()
            # Asking for all topics costs milliseconds; a graph that has not changed for a while is asked seldom.
            lately = max(self._since.values(), default=now)
            self._next_look = now + (0.0 if now - lately < 10.0 else 1.0)
        for due, reason in [d for d in self._due if d[0] <= now]:
            self._due.remove((due, reason))
            self._recording.snapshot(
                reason, lambda text, r=reason: self._said_by_thread.append(("warning", f"{r}: {text}"))
            )  # type: ignore[misc]
        while self._said_by_thread:
            level, text = self._said_by_thread.popleft()
            self.say_once(level, text, 1.0)

    def _find_topics(self) -> None:
        for name, kinds in self.get_topic_names_and_types():
            if name in self._since or name in self._foreign or not self._is_wanted(name):
                continue
            if self.count_publishers(name) > 0:
                self._record(name, kinds[0])

    def _is_wanted(self, name: str) -> bool:
        fits = lambda patterns: any(fnmatch.fnmatchcase(name, p) for p in patterns)  # noqa: E731
        return fits(self._wanted) and not fits(self._left_out)

    def _record(self, name: str, kind: str) -> None:
        message_type = message_class(kind)
        if message_type is None:
            self._foreign.add(name)
            self.get_logger().warning(f"{name}: type {kind} is not installed here; not recorded")
            return
        number = self._recording.declare(name, kind)
        add, heard = self._recording.add, self._heard
        read_time = self._read_clock if self._follows_clock else time.time_ns
        watch = self._watch_of(name, kind)
        heard[name], self._since[name] = 0, time.monotonic()

        def receive(data: Any) -> None:
            heard[name] += 1
            data = bytes(data)
            add(number, read_time(), data)
            if watch is not None:
                watch(data)

        self.create_subscription(message_type, name, receive, self._quality(name), raw=True)

    def _quality(self, name: str) -> QoSProfile:
        """Reliable and latched where all publishers are, so that every one of them matches."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(name)]
        reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
        latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
        return QoSProfile(
            depth=DEPTH, history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )  # fmt: skip

    # What makes a snapshot

    def _watch_of(self, name: str, kind: str) -> Callable[[bytes], None] | None:
        relative = name.removeprefix(self.get_namespace().rstrip("/")).lstrip("/")
        if relative == "twin/bridge_status":
            return lambda data: self._alarm("emergency stop", _level(data, "emergency stop") >= 2)
        if relative in ("twin/drift", "twin/drift_status") and kind == "diagnostic_msgs/msg/DiagnosticArray":
            return lambda data: self._alarm("drift", _level(data) >= 2)
        if relative == "virtual/odom":
            codec = DoublesCodec(Odometry, 85, child_frame=True)
            least = math.cos(math.radians(self.settings.fall_tilt))

            def look(data: bytes) -> None:
                try:
                    x, y = codec.read(data).values[3:5].tolist()
                except MalformedError:
                    return
                self._alarm("fall", 1.0 - 2.0 * (x * x + y * y) < least)

            return look
        return None

    def _alarm(self, reason: str, on: bool) -> None:
        """When a reason appears, a snapshot is due soon after."""
        if on and not self._alarms.get(reason):
            self._due.append((time.monotonic() + self.settings.snapshot_tail, reason))
        self._alarms[reason] = on

    def _snapshot(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        where: list[str] = []
        done = self._recording.snapshot("snapshot", where.append)
        done.wait(5.0)
        response.message = where[0] if where else "the disk is slow; the snapshot is still being written"
        response.success = bool(where) and where[0].startswith(str(self._recording.path.parent))
        return response

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """What has been written and lost, and whether all topics are there."""
        r = self._recording
        values: dict[str, object] = {"folder": str(r.path), "written": r.written, "lost": r.lost}
        values |= {"kept_mb": r.kept_mb, "ready": int(self._ready()), "topics": len(self._heard)}
        values |= {f"recorded/{name}": n for name, n in self._heard.items()}
        if r.trouble:
            return 2, f"not recording: {r.trouble}", values
        return (1, f"{r.lost} messages lost", values) if r.lost else (0, "", values)

    def _ready(self) -> bool:
        """Does everything that the robot sends arrive here?"""
        now, inputs = time.monotonic(), [n for n in self._since if not self._from_the_twin(n)]
        if not inputs or now - max(self._since[n] for n in inputs) < READY_AFTER:
            return False
        return all(self._heard[n] or now - self._since[n] > PATIENCE for n in inputs)

    def _from_the_twin(self, name: str) -> bool:
        return any(name.startswith(self._below_us(p)) for p in MADE_BY_THE_TWIN)

    def destroy_node(self) -> None:
        """Also writes what is still to be written."""
        for _, reason in self._due:
            self._recording.snapshot(reason)
        self._recording.close()
        super().destroy_node()


def _level(data: bytes, words: str = "") -> int:
    """The level of a status whose words contain these; 0 when they do not, or when it is no status."""
    try:
        message = deserialize_message(data, DiagnosticArray)
    except Exception:  # rclpy raises RMWError, or nothing better than RuntimeError
        return 0
    return max((s.level[0] for s in message.status if words in s.message), default=0)


def give_back() -> None:
    """Have what is freed in large pieces go back to the system (glibc; elsewhere nothing is done).

    Left to itself, glibc raises the size from which it does so, and the holes between the packed pieces of the last minute
    come to take several times as much memory as the pieces.
    """
    m_mmap_threshold, large = -3, 128 * 1024
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(m_mmap_threshold, large)


def main() -> None:
    """Entry point."""
    give_back()
    run("recorder", Recorder, RecorderSettings, first=MIDDLEWARE)


if __name__ == "__main__":
    main()
