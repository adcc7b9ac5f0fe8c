"""From a robot to the specifications of its sensors, cameras aside."""

from __future__ import annotations

from digital_twin.core.sensors.robot_sensors import SensorSpec, robot_sensors
from digital_twin.paths import find
from digital_twin.robots import Robot


def sensor_specs(robot: Robot) -> tuple[list[SensorSpec], list[str]]:
    """The sensors of a robot (cameras aside), and one line for each that cannot be."""
    return robot_sensors(robot.description.tree(), robot.config, lambda n: find(n, "config/sensors"))
