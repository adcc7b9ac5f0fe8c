"""A node that plays sensors of a robot: it reads the twin's state (virtual/joint_states, virtual/odom, virtual/pose) and
publishes what each sensor would say of it, imperfections and all. While nobody listens nothing is read.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError, TwinError, WorldError, unknown
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.sensors.motion import state
from digital_twin.core.sensors.robot_sensors import shared_errors
from digital_twin.core.sensors.suite import SensorSuite
from digital_twin.core.world import World, load_world
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.model_topic import ModelTopic
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import LATCHED, SENSOR_IN, SENSOR_OUT
from digital_twin.ros.ray_caster import RayCaster
from digital_twin.ros.sensor_topics import JointTable, instrument_topic
from digital_twin.sensor_specs import sensor_specs
from digital_twin.settings import LidarPublisherSettings, SensorNodeSettings

WAITING = 20  # states of which a half has come, at most
IDLE = 0.1  # [s]
LOOK_PERIOD = 0.25  # [s] at which listeners are looked for
S = TypeVar("S", bound=SensorNodeSettings)
Joints = tuple[Array, Array, Array]  # positions, speeds, torques


class SensorNode(TwinNode[S]):
    """A node that plays those sensors of a robot that `plays` names by their kind."""

    def __init__(self, name: str, settings: type[S], status_topic: str, plays: Callable[[str], bool]) -> None:
        super().__init__(name, settings, status_topic)
        self._plays = plays
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        self._joints = JointTable(robot.model.joint_names, robot.joints.stand)
        self._suite = self._make_suite(robot)
        self._halves: dict[int, Joints | Array] = {}
        self._due: list[tuple[float, int, Callable[[bytes], None], bytes]] = []
        self._count = itertools.count()
        self._heard_at: float | None = None
        self._write = {}
        for name, i in self._suite.instruments.items():
            kind, write = instrument_topic(i, self.frame(i.spec.frame), self._joints)
            self._write[name] = write, self.talk(kind, f"virtual/{i.spec.topic}", SENSOR_OUT)
        feet = [n for n, i in self._suite.instruments.items() if i.spec.kind == "wrench"]
        self._feet = [self._suite.instruments[n].device for n in feet]
        self._topics = [f"virtual/{i.spec.topic}" for i in self._suite.instruments.values()]
        if feet:
            self._contacts_out = self.talk_labelled("virtual/feet/contacts", feet)
            self._topics.append("virtual/feet/contacts")
        self._rays = {name: RayCaster(self, scanner) for name, scanner in self._suite.scanners.items()}
        self._topics += [f"virtual/{s.spec.topic}" for s in self._suite.scanners.values()]
        self._subscriptions_in: list[Any] = []
        self.every(LOOK_PERIOD, self._look)
        self._models = ModelTopic(robot, s.robot_config)
        self.create_subscription(String, "twin/model", self._model, LATCHED)

    def destroy_node(self) -> None:
        """End the threads first."""
        for caster in self._rays.values():
            caster.end()
        super().destroy_node()

    def _make_suite(self, robot: Robot) -> SensorSuite:
        s = self.settings
        specs, problems = sensor_specs(robot)
        sources, more = shared_errors(robot.config, specs)
        problems += more
        known = [spec.name for spec in specs]
        for name in s.sensors:
            if name not in known:
                raise ConfigError(f"node {self.get_name()}: sensors: {unknown('sensor', name, known)}")
        specs = [spec for spec in specs if self._plays(spec.kind) and (not s.sensors or spec.name in s.sensors)]
        world: World | None = None
        try:
            if isinstance(s, LidarPublisherSettings):
                problems = []  # virtual_sensor_publisher says these
                world = load_world(find(s.world, "worlds")) if s.world else None
        except WorldError as e:
            problems.append(str(e))
        suite = SensorSuite(
            robot.model, robot.config, robot.joints, specs, world, s.seed, sources, smoothing=s.smoothing, gap=s.gap
        )
        suite.problems[:0] = problems
        for line in suite.problems:
            self.get_logger().error(f"left out: {line}")
        return suite

    def _model(self, message: String) -> None:
        """Another model is in service."""
        try:
            robot = self._models.take(message.data)
            if robot is not None:
                self._suite.use(robot.model, robot.config, robot.joints)
        except TwinError as e:
            self.tally.reject("twin/model", "unusable")
            self.get_logger().error(f"twin/model: {e}; the old model stays")

    # The twin's state

    def _look(self) -> None:
        """Listen to the twin while somebody listens to a sensor."""
        wanted = any(self.count_subscribers(self.resolve_topic_name(topic)) for topic in self._topics)
        if wanted and not self._subscriptions_in:
            self._listen()
        elif not wanted and self._subscriptions_in:
            for subscription in self._subscriptions_in:
                self.destroy_subscription(subscription)
            self._subscriptions_in, self._heard_at = [], None

    def _listen(self) -> None:
        joints, odometry = JointStateCodec(JointState), DoublesCodec(Odometry, 85, child_frame=True)
        pose = DoublesCodec(PoseWithCovarianceStamped, 43)

        def on_joints(data: bytes) -> None:
            m = joints.read(data)
            found = self._joints.read(m)
            if isinstance(found, str):
                return self.tally.reject("virtual/joint_states", found)
            if self._joints.missing:
                self.say_once(
                    "warning", f"no state of {', '.join(self._joints.missing)}: taken to stand at ease", 600.0
                )
            return self._half(m.stamp_ns, found)

        def on_odom(data: bytes) -> None:
            m = odometry.read(data)
            self._half(m.stamp_ns, m.values)

        def on_pose(data: bytes) -> None:
            m = pose.read(data)
            if np.isfinite(m.values[:7]).all() and m.values[3:7].any():
                self._suite.map_pose(m.stamp_ns, m.values[:3], matrix_from_quat(m.values[3:7]))

        self._subscriptions_in = [
            # Best effort: a slow reader never holds up the synchronizer.
            self.listen(JointState, "virtual/joint_states", on_joints, SENSOR_IN),
            self.listen(Odometry, "virtual/odom", on_odom, SENSOR_IN),
            self.listen(PoseWithCovarianceStamped, "virtual/pose", on_pose, SENSOR_IN),
        ]

    def _half(self, stamp_ns: int, half: Joints | Array) -> None:
        """Joints and base of one state come in two messages of one stamp."""
        other = self._halves.pop(stamp_ns, None)
        if other is None or isinstance(other, np.ndarray) == isinstance(half, np.ndarray):
            self._halves[stamp_ns] = half
            while len(self._halves) > WAITING:
                self._halves.pop(next(iter(self._halves)))
            return
        joints, odom = (other, half) if isinstance(half, np.ndarray) else (half, other)
        self._take(stamp_ns, joints, odom)  # type: ignore[arg-type]

    def _take(self, stamp_ns: int, joints: Joints, o: Array) -> None:
        start = time.perf_counter_ns()
        if not (np.isfinite(o[:7]).all() and np.isfinite(o[43:49]).all() and o[3:7].any()):
            return self.tally.reject("virtual/odom", "non_finite")
        self._heard_at = now = time.monotonic()
        rotation = matrix_from_quat(o[3:7])
        readings, sweeps = self._suite.feed(state(stamp_ns, o[:3], rotation, o[43:46], o[46:49], *joints))
        for r in readings:
            write, send = self._write[r.sensor]
            message = write(r.stamp_ns, r.values)
            if r.delay > 0.0:
                heapq.heappush(self._due, (now + r.delay, next(self._count), send, message))
            else:
                send(message)
        if readings and self._feet:
            self._contacts_out(readings[-1].stamp_ns, lambda: np.array([float(f.stands) for f in self._feet]))  # type: ignore[union-attr]
        for job in sweeps:
            self._rays[job.sensor].take(job)
        return self.loop.add((time.perf_counter_ns() - start) / 1e6)

    def work(self) -> float:
        """Send what is due; returns how long [s] nothing is."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, send, message = heapq.heappop(self._due)
            send(message)
        return self._due[0][0] - now if self._due else IDLE

    # Status

    def status(self) -> tuple[int, str, dict[str, object]]:
        """Which sensors there are, and why some are not."""
        words = list(self._suite.problems)
        playing = [*self._suite.instruments, *self._suite.scanners]
        age = np.nan if self._heard_at is None else time.monotonic() - self._heard_at
        if not self._subscriptions_in:
            age = np.nan  # nobody listens
        elif self._heard_at is None:
            words.append(f"no twin state yet; waiting: {', '.join(playing)}")
        elif age > self.settings.silent_after:
            words.append(f"no twin state for {age:.1f} s; stopped: {', '.join(playing)}")
            self.say_once("warning", f"the twin's state has stopped, and so have {', '.join(playing)}")
        values: dict[str, object] = {"age_s": float(age), "sensors": " ".join(playing)}
        values |= {f"behind/{name}": caster.behind for name, caster in self._rays.items()}
        return 1 if words else 0, "; ".join(words), values
