"""virtual_lidar_publisher: what should the robot's lidars see?

Publishes virtual/scan, virtual/points, … A process of its own: rays take long, and other sensors shall not wait for them.
"""

from __future__ import annotations

from digital_twin.ros.process import run
from digital_twin.ros.sensor_node import SensorNode
from digital_twin.settings import LidarPublisherSettings


class VirtualLidarPublisher(SensorNode[LidarPublisherSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(
            "virtual_lidar_publisher", LidarPublisherSettings, "twin/lidar_status", lambda kind: kind == "lidar"
        )


def main() -> None:
    """Entry point."""
    run("virtual_lidar_publisher", VirtualLidarPublisher, LidarPublisherSettings, shared_memory=True)


if __name__ == "__main__":
    main()
