"""Numbers with names and a stamp, as std_msgs/Float64MultiArray."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.ros.cdr import LITTLE_ENDIAN, U32, MalformedError, align, pack_string, pad, read_string

STAMP = ("stamp_sec", "stamp_nanosec")
_TWO = struct.Struct("<2d")


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


class LabelledReader:
    """Reads messages that differ in stamp and numbers only: names are looked at when they change."""

    def __init__(self) -> None:
        self._head = b""
        self.labels: tuple[str, ...] = ()

    def read(self, data: bytes) -> tuple[int, Array]:
        """Stamp [ns] and numbers (n,), which `labels` names. Raises MalformedError."""
        if not self._head or not data.startswith(self._head):
            self._learn(data)
        n = len(self.labels) + len(STAMP)
        if len(data) < len(self._head) + 8 * n:
            raise MalformedError(f"{n} numbers do not fit")
        values = np.frombuffer(data, "<f8", n, len(self._head))
        if not np.isfinite(values[:2]).all():
            raise MalformedError("the stamp is not finite")
        return int(values[0]) * 1_000_000_000 + int(values[1]), values[2:]

    def _learn(self, data: bytes) -> None:
        if data[:4] != LITTLE_ENDIAN or len(data) < 12 or U32.unpack_from(data, 4)[0] != 1:
            raise MalformedError("not one dimension of numbers, little endian")
        text, end = read_string(data, 8)
        begin = align(align(end, 4) + 16, 8)
        names = text.split(",")
        if tuple(names[:2]) != STAMP or len(data) < begin:
            raise MalformedError("no stamp before the numbers")
        (count,) = U32.unpack_from(data, align(end, 4) + 12)
        if count != len(names):
            raise MalformedError(f"{len(names)} names for {count} numbers")
        self._head, self.labels = bytes(data[:begin]), tuple(names[2:])


_FIRST = STAMP[0].encode()
_PLACE = slice(12, 12 + len(_FIRST))  # of the first name


def is_labelled(data: bytes) -> bool:
    """Whether these are numbers with names and a stamp."""
    return data[_PLACE] == _FIRST


def labelled_stamp_ns(data: bytes) -> int:
    """The stamp [ns] of labelled numbers; 0 when they have none."""
    if not is_labelled(data):
        return 0
    try:
        (n,) = U32.unpack_from(data, 8)
        sec, nanosec = _TWO.unpack_from(data, align(align(12 + n, 4) + 16, 8))
        return int(sec) * 1_000_000_000 + int(nanosec)
    except (struct.error, ValueError, OverflowError):
        return 0
