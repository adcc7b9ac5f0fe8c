"""simulated_robot: plays the physical robot in MuJoCo, paced to the wall clock.

It takes joint_commands and publishes what a robot publishes: joint_states, imu/data, feet wrenches, external_pose (as
a tracker would: noisy and late), scan, and the truth on ground_truth/… for whoever scores.
"""

from __future__ import annotations

import time

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from digital_twin.core.errors import ConfigError, TwinError
from digital_twin.core.fault_schedule import FaultSchedule
from digital_twin.core.faults import parse_fault
from digital_twin.core.instruments import Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.statistics import Pace
from digital_twin.core.world import load_world
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.cdr import JointStateCodec
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.qos import SENSOR_IN
from digital_twin.ros.robot_topics import RobotTopics
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
        self._topics = RobotTopics(self, self._plant, self._instruments)
        self._take_commands(robot)
        self._faults = FaultSchedule(self._plant, self._instruments, self._topics.outbox)
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

    # In

    def _take_commands(self, robot: Robot) -> None:
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
        self._topics.publish(self._ticks, stamp)
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
