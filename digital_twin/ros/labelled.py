"""Numbers with names and a stamp, as std_msgs/Float64MultiArray."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from digital_twin.core.arrays import Array

STAMP = ("stamp_sec", "stamp_nanosec")


class LabelledWriter:
    """Writes messages that differ in stamp and numbers only, as bytes.

    The layout has one dimension; its label holds the names of all numbers, separated by commas. The first two are the
    stamp's seconds and nanoseconds.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        names = [*STAMP, *labels]
        self._count = len(labels)
        message = Float64MultiArray(data=[0.0] * len(names))
        message.layout.dim = [MultiArrayDimension(label=",".join(names), size=len(names), stride=len(names))]
        whole = bytes(serialize_message(message))
        # The data are the last field of the message.
        self._head = whole[: len(whole) - 8 * len(names)]

    def write(self, stamp_ns: int, values: Array) -> bytes:
        """values: (n,), one for each label."""
        if values.shape != (self._count,):
            raise ValueError(f"expected {self._count} values, got shape {values.shape}")
        stamp = np.array(divmod(stamp_ns, 1_000_000_000), dtype="<f8")
        return self._head + stamp.tobytes() + np.ascontiguousarray(values, dtype="<f8").tobytes()
