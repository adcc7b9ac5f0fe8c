"""The synchronizer's odometry as a state of the base."""

from __future__ import annotations

from typing import Any

import numpy as np
from nav_msgs.msg import Odometry

from digital_twin.core.base_state import BaseState
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.ros.cdr import DoublesCodec
from digital_twin.ros.node import TwinNode

TOPIC = "virtual/odom"


class OdometryReader:
    """Reads the messages on virtual/odom; counts those that cannot be used."""

    def __init__(self, node: TwinNode[Any]) -> None:
        self._node = node
        self._codec = DoublesCodec(Odometry, 85, child_frame=True)

    def read(self, data: bytes, contacts: tuple[bool, ...]) -> BaseState | None:
        """The state, or None. contacts: which feet stand, which the message does not say."""
        m = self._codec.read(data)
        v = m.values
        if not np.isfinite(v).all():
            self._node.tally.reject(TOPIC, "not finite")
            return None
        try:
            rotation = matrix_from_quat(v[3:7])
        except ValueError:
            self._node.tally.reject(TOPIC, "quaternion")
            return None
        return BaseState(
            m.stamp_ns,
            v[:3],
            rotation,
            v[43:46],
            v[46:49],
            v[7:43].reshape(6, 6),
            v[49:85].reshape(6, 6),
            contacts,
            True,
        )
