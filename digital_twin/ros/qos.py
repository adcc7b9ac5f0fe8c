"""Quality of service: REP-2003 for sensors; reliable and deep between the twin's own nodes."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

# What plays a sensor publishes reliable. Deeper than the default, which in Fast DDS is one message: a reliable reader that
# is held up for an instant, like a recorder, would lose what came meanwhile.
SENSOR_OUT = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
# What reads a sensor takes best effort, so that any publisher matches; deep enough for a burst.
SENSOR_IN = QoSProfile(
    depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)  # fmt: skip
INTERNAL = QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
# Of who shall see every message, and may be late by a second: of fast streams (others: INTERNAL).
ALL_OF_THEM = QoSProfile(depth=200, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)  # fmt: skip
# Of /clock only the newest counts; reliable readers (rosbag2, rviz) match too.
CLOCK = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
