"""How messages travel where ROS 2 runs on Fast DDS: by UDP, also on one machine."""

from __future__ import annotations

import os

import rclpy

from digital_twin.paths import share

OF_FAST_DDS_2, OF_FAST_DDS_3 = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
SAID = ("FASTDDS_BUILTIN_TRANSPORTS", OF_FAST_DDS_2, OF_FAST_DDS_3)


def use_sockets() -> None:
    """Have the participants of this process send by UDP alone, unless the user has said how. To be called before rclpy.init().

    By shared memory a writer whose new reader another writer has just looked at sleeps for a third of a second, and holds
    what its process sends: each `ros2 topic echo` could stop the loop for so long. For messages of some kilobytes UDP
    is no slower. On the range LOCALHOST, rmw_fastrtps insists on shared memory, so a profile says the same without it.

    A reliable writer of Fast DDS 2 (of ROS 2 Jazzy) wakes a thread twice for each message and reader, to be ready for requests to send it
    again; a profile has it do so every 20 ms. To publish to two readers takes a fifth less so.

    Sockets are given as much room as the system allows (net.core.rmem_max): what a whole twin sends fills the usual
    room in some hundredths of a second, and a reader that had to wait for a core so long would lose messages.
    """
    if any(name in os.environ for name in SAID) or not rclpy.get_rmw_implementation_identifier().startswith(
        "rmw_fastrtps"
    ):
        return
    if os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") != "LOCALHOST":
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4?sockets_size=4MB"
        os.environ[OF_FAST_DDS_2] = str(share("config/fastdds2.xml"))
    elif not os.environ.get("ROS_STATIC_PEERS"):
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
        os.environ[OF_FAST_DDS_3] = str(share("config/fastdds_loopback.xml"))
        os.environ[OF_FAST_DDS_2] = str(share("config/fastdds2_loopback.xml"))
