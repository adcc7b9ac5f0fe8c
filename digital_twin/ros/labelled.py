"""Numbers with names and a stamp, as std_msgs/Float64MultiArray."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Array
from digital_twin.ros.cdr import LITTLE_ENDIAN, U32, MalformedError, align, pack_string, pad

STAMP = ("stamp_sec", "stamp_nanosec")


class LabelledWriter:
    """Writes messages that differ in stamp and numbers only, as bytes.

    The layout has one dimension; its label holds the names of all numbers, separated by commas. The first two are the
    stamp's seconds and nanoseconds.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        names = [*STAMP, *labels]
        self._count = len(labels)
        count = len(names)
        head = bytearray(LITTLE_ENDIAN + U32.pack(1) + pack_string(",".join(names)))
        pad(head, 4)
        # Size and stride of the dimension, data_offset, and the length of what follows.
        for number in (count, count, 0, count):
            head += U32.pack(number)
        pad(head, 8)
        self._head = bytes(head)

    def write(self, stamp_ns: int, values: Array) -> bytes:
        """values: (n,), one for each label."""
        if values.shape != (self._count,):
            raise ValueError(f"expected {self._count} values, got shape {values.shape}")
        stamp = np.array(divmod(stamp_ns, 1_000_000_000), dtype="<f8")
        return self._head + stamp.tobytes() + np.ascontiguousarray(values, dtype="<f8").tobytes()


def labelled_stamp_ns(data: bytes) -> int:
    """The stamp [ns] of labelled numbers; 0 when they have none."""
    try:
        (n,) = U32.unpack_from(data, 8)
        begin = align(align(12 + n, 4) + 16, 8)
        sec, nanosec = np.frombuffer(data, "<f8", 2, begin)
    except (struct.error, ValueError):
        return 0
    return int(sec) * 1_000_000_000 + int(nanosec) if data[12:].startswith(STAMP[0].encode()) else 0


def read_labelled(data: bytes) -> tuple[int, NDArray[np.float64]]:
    """Stamp [ns] and values of labelled numbers, as a read-only view (n,).

    Raises:
        MalformedError: they are none.
    """
    try:
        (n,) = U32.unpack_from(data, 8)
        sizes = align(12 + n, 4)
        (count,) = U32.unpack_from(data, sizes + 12)
        numbers = np.frombuffer(data, "<f8", count, align(sizes + 16, 8))
    except (struct.error, ValueError) as e:
        raise MalformedError(str(e)) from e
    if data[:4] != LITTLE_ENDIAN or count < 2 or not data[12:].startswith(STAMP[0].encode()):
        raise MalformedError("no labelled numbers")
    return int(numbers[0]) * 1_000_000_000 + int(numbers[1]), numbers[2:]
