"""simulated_robot: plays the physical robot in MuJoCo, paced to the wall clock.

It takes joint_commands and publishes what a robot publishes: joint_states, imu/data, feet wrenches, external_pose (as
a tracker would: noisy and late), scan, and the truth on ground_truth/… for whoever scores.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, WrenchStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState, LaserScan
from std_srvs.srv import Trigger

from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.fault_schedule import FaultSchedule
from digital_twin.core.faults import parse_fault
from digital_twin.core.instruments import Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.rotation import quat_from_matrix
from digital_twin.core.statistics import Pace
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import load_robot
from digital_twin.ros.cdr import DoublesCodec, JointStateCodec
from digital_twin.ros.node import TwinNode, run
from digital_twin.ros.outbox import Outbox
from digital_twin.ros.qos import CLOCK, SENSOR_IN, SENSOR_OUT
from digital_twin.settings import SimulatedRobotSettings

NS = 1_000_000_000
MAX_LAG_NS = 50_000_000


class SimulatedRobot(TwinNode[SimulatedRobotSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("simulated_robot", SimulatedRobotSettings, "twin/robot_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        world = load_world(find(s.world or "humanoid_world.sdf", "worlds"))
        for what in world.skipped:
            self.get_logger().warning(f"{world.source}: left out {what}")
        self._plant = Plant(robot.description, robot.config, s.plant, world)
        self._instruments = Instruments(self._plant, s.instruments, s.rate)
        self._steps = self._whole(1.0 / (s.rate * s.plant.timestep), "rate")
        self._tick_ns = self._steps * round(s.plant.timestep * NS)
        self._outbox = Outbox()
        self._jobs: list[tuple[int, Callable[[int], None]]] = []
        self._publish_robot(robot.joints.reported_names)
        self._publish_truth()
        self._take_commands(robot)
        self._faults = FaultSchedule(self._plant, self._instruments, self._outbox)
        for text in s.faults:
            self._faults.add(parse_fault(text))
        self.create_service(Trigger, "~/inject_fault", self._inject)
        self.create_service(Trigger, "~/clear_faults", self._clear)
        self.loop.limit_ms = self._tick_ns / s.real_time_factor / 1e6
        self._ticks = 0
        self._start_ns = self._wall_ns = time.time_ns()
        self._slipped_ns = 0
        self._pace = Pace()

    def _whole(self, ratio: float, what: str) -> int:
        """A number of steps; rates must divide each other."""
        n = round(ratio)
        if n < 1 or abs(ratio - n) > 1e-6 * ratio:
            raise ConfigError(
                f"node simulated_robot: {what}: must divide {1 / self.settings.plant.timestep:g} Hz evenly"
            )
        return n

    def _often(self, rate: float, job: Callable[[int], None]) -> None:
        """Do a job at (about) a rate [Hz], as a whole number of ticks allows."""
        if rate > 0.0:
            self._jobs.append((max(1, round(self.settings.rate / rate)), job))

    # Out

    def _add(self, message_type: Any, topic: str, delay: float = 0.0) -> None:
        self._outbox.add(topic, self.talk(message_type, topic, SENSOR_OUT), delay)

    def _publish_robot(self, reported: list[str]) -> None:
        s = self.settings
        for i, foot in enumerate(self._plant.robot.feet):
            if foot.wrench_topic:
                self._add(WrenchStamped, foot.wrench_topic)
                self._often(s.wrench_rate, self._wrench_job(i))
        for i, imu in enumerate(self._plant.robot.imus):
            self._add(Imu, imu.topic)
            self._often(s.rate, self._imu_job(i))
        self._add(JointState, "joint_states")
        writer = JointStateCodec(JointState).writer(tuple(reported))
        calibration = self._plant.joints

        def joints(stamp: int) -> None:
            q, qd, effort = self._instruments.joint_states()
            # As the robot itself counts: the inverse of the calibration that the bridge applies.
            f = calibration.factor
            message = writer.write(stamp, (q - calibration.offset) / f, qd / f, effort * f)
            self._outbox.post("joint_states", message, self._plant.time_ns)

        self._often(s.rate, joints)
        if s.pose_rate > 0:
            self._add(PoseWithCovarianceStamped, "external_pose", s.pose_delay)
            self._often(s.pose_rate, self._pose_job())
        if s.scan_rate > 0 and "lidar_link" in self._plant.model.frames:
            self._add(LaserScan, "scan")
            self._often(s.scan_rate, self._scan_job("lidar_link"))

    def _wrench_job(self, i: int) -> Callable[[int], None]:
        foot = self._plant.robot.feet[i]
        writer = DoublesCodec(WrenchStamped, 6).writer(self.frame(foot.frame))

        def job(stamp: int) -> None:
            wrench = np.concatenate(self._instruments.wrench(foot.name)) * foot.wrench_sign
            self._outbox.post(foot.wrench_topic, writer.write(stamp, wrench), self._plant.time_ns)

        return job

    def _imu_job(self, i: int) -> Callable[[int], None]:
        imu = self._plant.robot.imus[i]
        writer = DoublesCodec(Imu, 37).writer(self.frame(imu.frame))
        values = np.zeros(37)
        values[3], values[4] = 1.0, -1.0  # no attitude (REP-145)
        values[16:25:4] = imu.gyro_noise**2 * self.settings.rate
        values[28:37:4] = imu.accel_noise**2 * self.settings.rate

        def job(stamp: int) -> None:
            values[13:16], values[25:28] = self._instruments.imu(i)
            self._outbox.post(imu.topic, writer.write(stamp, values), self._plant.time_ns)

        return job

    def _pose_job(self) -> Callable[[int], None]:
        writer = DoublesCodec(PoseWithCovarianceStamped, 43).writer(self.frame("map"))

        def job(stamp: int) -> None:
            position, rotation, covariance = self._instruments.external_pose()
            values = np.concatenate([position, quat_from_matrix(rotation), covariance.ravel()])
            self._outbox.post("external_pose", writer.write(stamp, values), self._plant.time_ns)

        return job

    def _scan_job(self, frame: str) -> Callable[[int], None]:
        n = self.settings.scan_rays
        angles = -math.pi + 2 * math.pi * np.arange(n) / n
        scan = LaserScan(angle_min=-math.pi, angle_max=float(angles[-1]), angle_increment=2 * math.pi / n)
        scan.header.frame_id, scan.range_min, scan.range_max = self.frame(frame), 0.1, 20.0
        scan.scan_time = 1.0 / self.settings.scan_rate

        def job(stamp: int) -> None:
            scan.header.stamp.sec, scan.header.stamp.nanosec = divmod(stamp, NS)
            scan.ranges = array("f", self._instruments.scan(frame, angles, scan.range_min, scan.range_max))
            self._outbox.post("scan", bytes(serialize_message(scan)), self._plant.time_ns)

        return job

    def _publish_truth(self) -> None:
        base = self._plant.model.base_frame
        odometry = self.talk(Odometry, "ground_truth/odom", SENSOR_OUT)
        joint_states = self.talk(JointState, "ground_truth/joint_states", SENSOR_OUT)
        where = DoublesCodec(Odometry, 85, child_frame=True).writer(self.frame("map"), self.frame(base))
        joints = JointStateCodec(JointState).writer(tuple(self._plant.model.joint_names))

        def truth(stamp: int) -> None:
            p = self._plant
            position, rotation = p.frame_pose(base)
            values = np.zeros(85)
            values[:3], values[3:7] = position, quat_from_matrix(rotation)
            values[43:46], values[46:49] = p.base_twist()
            odometry(where.write(stamp, values))
            joint_states(joints.write(stamp, p.joint_positions, p.joint_velocities, p.joint_efforts))

        self._often(self.settings.truth_rate, truth)
        if self.settings.publish_clock:
            clock = self.talk(Clock, "/clock", CLOCK)

            def tell(stamp: int) -> None:
                message = Clock()
                message.clock.sec, message.clock.nanosec = divmod(stamp, NS)
                clock(message)

            self._often(min(100.0, self.settings.rate), tell)

    # In

    def _take_commands(self, robot: Any) -> None:
        codec = JointStateCodec(JointState)
        index_of = {name: i for i, name in enumerate(robot.joints.reported_names)}
        calibration = robot.joints

        def receive(data: bytes) -> None:
            m = codec.read(data)
            known = [i for i, name in enumerate(m.names) if name in index_of]
            if len(known) < len(m.names):
                self.tally.reject("joint_commands", "unknown_joint")
            joints = np.array([index_of[m.names[i]] for i in known], dtype=np.intp)
            fields = [x[known] if len(x) == len(m.names) else None for x in (m.position, m.velocity, m.effort)]
            if any(x is not None and not np.isfinite(x).all() for x in fields):
                return self.tally.reject("joint_commands", "non_finite")
            q, qd, effort = fields
            f, offset = calibration.factor[joints], calibration.offset[joints]
            return self._plant.command(
                None if q is None else f * q + offset, None if qd is None else f * qd,
                None if effort is None else effort / f, joints,
            )  # fmt: skip

        self.listen(JointState, "joint_commands", receive, SENSOR_IN)

    # Time

    def work(self) -> float:
        """Simulate and publish when a tick is due; returns how long [s] nothing is."""
        due = self._wall_ns + round(self._tick_ns / self.settings.real_time_factor)
        now = time.time_ns()
        if now < due - 20_000:
            return (due - now) / 1e9
        if now - due > MAX_LAG_NS:
            # Too far behind to catch up: time slips rather than run in bursts.
            self._slipped_ns += now - due
            due = now
        self._wall_ns = due
        self._tick()
        return 0.0

    def _tick(self) -> None:
        start = time.perf_counter_ns()
        self._faults.update()
        self._plant.advance(self._steps)
        stamp = self._plant.time_ns if self.settings.publish_clock else self._start_ns + self._sim_wall_ns()
        for every, job in self._jobs:
            if self._ticks % every == 0:
                job(stamp)
        self._outbox.flush(self._plant.time_ns)
        self._ticks += 1
        self.loop.add((time.perf_counter_ns() - start) / 1e6)

    def _sim_wall_ns(self) -> int:
        """Simulated time on the wall's scale, so that stamps stay near the wall clock."""
        return round(self._plant.time_ns / self.settings.real_time_factor) + self._slipped_ns

    # Faults and status

    def _inject(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            fault = parse_fault(self.get_parameter("fault").value)
            self._faults.add(fault)
            response.success, response.message = True, str(fault)
        except TwinError as e:
            response.success, response.message = False, str(e)
        self.get_logger().warning(f"fault: {response.message}")
        return response

    def _clear(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._faults.clear()
        response.success, response.message = True, "no faults"
        return response

    def status(self) -> tuple[int, str, dict[str, object]]:
        """How fast time goes, and what is broken on purpose."""
        simulated = self._plant.time_ns
        rtf = self._pace.factor(simulated, time.monotonic_ns())
        faults = [str(f) for f in self._faults.active.values()]
        values = {"real_time_factor": rtf, "simulated_s": simulated / NS, "slipped_s": self._slipped_ns / NS}
        return 0, f"faults: {'; '.join(faults)}" if faults else "", values | {"faults": len(faults)}


def main() -> None:
    """Entry point."""
    run("simulated_robot", SimulatedRobot, SimulatedRobotSettings)


if __name__ == "__main__":
    main()
