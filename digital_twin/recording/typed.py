"""Messages of a recording as values, without ROS: by the rosbags library, and by ourselves where there are many."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.errors import BagError, one_line
from digital_twin.recording.message_types import typestore


def deserialize(data: bytes, kind: str) -> Any:
    """A message as rosbags gives it: fields as attributes, numbers in numpy arrays.

    Raises:
        BagError: when its type is not known or the bytes are no message of it.
    """
    try:
        if data[:2] not in (b"\0\0", b"\0\1"):
            raise ValueError("not CDR")
        store = typestore()
        known = store.get_msgdef(kind)
        read = known.deserialize_cdr_le if data[1] else known.deserialize_cdr_be
        # Not by deserialize_cdr, which minds bytes after the end: rclpy leaves some where sequences are in sequences.
        return read(data[4:], 0, known.cls, store)[0]
    except Exception as e:  # KeyError, struct.error, AssertionError, UnicodeDecodeError …
        raise BagError(f"a message is no {kind}: {one_line(e)}") from e


def int64_multi_array(data: bytes) -> tuple[str, int, NDArray[np.int64]]:
    """Label of the first dimension, data_offset and data of a std_msgs/Int64MultiArray."""
    m = deserialize(data, "std_msgs/msg/Int64MultiArray")
    label = m.layout.dim[0].label if m.layout.dim else ""
    return label, int(m.layout.data_offset), np.asarray(m.data, dtype=np.int64)


def first_difference(a: bytes, b: bytes, kind: str) -> str:
    """Where two messages of a type differ: the field and both values, in words; empty when only bytes that align do."""
    try:
        return _differ(deserialize(a, kind), deserialize(b, kind), "")
    except BagError:
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return f"byte {at}"


def _differ(a: Any, b: Any, where: str) -> str:
    fields = getattr(a, "__dataclass_fields__", None)
    if fields is not None:
        for name in fields:
            if name.startswith("__"):
                continue
            found = _differ(getattr(a, name), getattr(b, name), f"{where}.{name}" if where else name)
            if found:
                return found
        return ""
    if isinstance(a, np.ndarray | list):
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)} elements"
        return next((d for i in range(len(a)) if (d := _differ(a[i], b[i], f"{where}[{i}]"))), "")
    if isinstance(a, float | np.floating):
        same = struct.pack("<d", a) == struct.pack("<d", b)
        return "" if same else f"{where}: {float(a)!r} and {float(b)!r}"
    return "" if a == b else f"{where}: {a!r} and {b!r}"
