"""virtual_sensor_publisher: what should the robot's sensors read?

Publishes virtual/imu/data, virtual/feet/…/wrench, virtual/encoders/… Lidars and cameras have nodes of their own.
"""

from __future__ import annotations

from digital_twin.ros.process import run
from digital_twin.ros.sensor_node import SensorNode
from digital_twin.settings import SensorPublisherSettings


class VirtualSensorPublisher(SensorNode[SensorPublisherSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(
            "virtual_sensor_publisher", SensorPublisherSettings, "twin/sensor_status", lambda kind: kind != "lidar"
        )


def main() -> None:
    """Entry point."""
    run("virtual_sensor_publisher", VirtualSensorPublisher, SensorPublisherSettings)


if __name__ == "__main__":
    main()
