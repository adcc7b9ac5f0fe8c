"""Messages as they lie on the wire (CDR, little endian), read and written straight from and to numpy.

The full-rate topics are subscribed to and published as bytes: a third of the cost of a callback is rclpy's conversion
to Python objects, most of it strings that never change. Here the constant part of a message (its strings) is compared
as a whole with the ones seen before. Whatever is not plain little-endian CDR is converted by rclpy instead.

Layout (OMG CDR 1.3, as rmw_fastrtps and rmw_cyclonedds write it): four bytes of encapsulation, then each value aligned
to its size, counted from the fifth byte; strings and sequences begin with their length as uint32. The bytes between,
that align, may hold anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

from digital_twin.core.arrays import Array

LITTLE_ENDIAN = b"\x00\x01\x00\x00"
MAX_STRINGS = 4096
REMEMBERED = 8
_STAMP = struct.Struct("<iI")
U32 = struct.Struct("<I")


class MalformedError(ValueError):
    """The bytes are no message of this type."""


def stamp_ns(data: bytes) -> int:
    """Stamp [ns] of a message that begins with a std_msgs/Header."""
    if len(data) < 12:
        raise MalformedError("too short for a header")
    sec, nanosec = _STAMP.unpack_from(data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def pack_stamp(ns: int) -> bytes:
    """A builtin_interfaces/Time."""
    sec, nanosec = divmod(ns, 1_000_000_000)
    return _STAMP.pack(sec, nanosec)


def pack_string(text: str) -> bytes:
    """A string, its length before it."""
    raw = text.encode() + b"\x00"
    return U32.pack(len(raw)) + raw


def pack_image_head(frame: str, height: int, width: int, encoding: str, step: int) -> bytes:
    """A sensor_msgs/Image from behind its stamp to the beginning of its pixels, little endian, `step` bytes a row."""
    head = bytearray(LITTLE_ENDIAN + bytes(8) + pack_string(frame))
    pad(head, 4)
    head += U32.pack(height) + U32.pack(width) + pack_string(encoding) + b"\x00"
    pad(head, 4)
    head += U32.pack(step) + U32.pack(step * height)
    return bytes(head[12:])


def align(offset: int, size: int) -> int:
    """Next offset, in a buffer with four bytes of encapsulation, that is a multiple of `size` after them."""
    return offset + (4 - offset) % size


def pad(data: bytearray, size: int) -> None:
    """Lengthen a message until what follows is aligned to `size`."""
    data += bytes(align(len(data), size) - len(data))


def read_string(data: bytes, offset: int) -> tuple[str, int]:
    """A string that begins at the next multiple of four, and where it ends. Raises MalformedError."""
    offset = align(offset, 4)
    try:
        (n,) = U32.unpack_from(data, offset)
        end = offset + 4 + n
        if n < 1 or end > len(data):
            raise MalformedError(f"a string of {n} bytes does not fit")
        return data[offset + 4 : end - 1].decode(), end
    except (struct.error, UnicodeDecodeError) as e:
        raise MalformedError(str(e)) from e


class _Head:
    """The strings of a message, comparable in one go: all bytes but those that only align."""

    def __init__(self, data: bytes, end: int, used: list[tuple[int, int]]) -> None:
        """`used`: spans of `data` that hold the strings and their lengths; the head is data[12:end]."""
        mask = bytearray(end - 12)
        for start, stop in used:
            mask[start - 12 : stop - 12] = b"\xff" * (stop - start)
        self.end = end
        self._mask = int.from_bytes(mask, "little")
        self._value = int.from_bytes(data[12:end], "little") & self._mask

    def fits(self, data: bytes) -> bool:
        return int.from_bytes(data[12 : self.end], "little") & self._mask == self._value


def _plain(data: bytes, message_type: Any) -> bytes:
    """The same message in little-endian CDR."""
    if data[:4] == LITTLE_ENDIAN:
        return data
    try:
        return bytes(serialize_message(deserialize_message(data, message_type)))
    except Exception as e:  # rclpy raises RMWError, or nothing better than RuntimeError
        raise MalformedError("cannot be deserialised") from e


@dataclass(frozen=True)
class Stamped:
    """A message of a header, perhaps a child frame, and doubles. `values` is a read-only view (k,)."""

    stamp_ns: int
    frame: str
    child_frame: str
    values: Array


class DoublesCodec:
    """Imu (37 doubles), WrenchStamped (6), PoseWithCovarianceStamped (43), Odometry (85, with a child frame)."""

    def __init__(self, message_type: Any, count: int, *, child_frame: bool = False) -> None:
        self._type, self._count, self._child = message_type, count, child_frame
        self._heads: list[tuple[_Head, str, str]] = []

    def read(self, data: bytes) -> Stamped:
        """Raises MalformedError when the bytes do not fit the type."""
        data = _plain(data, self._type)
        known = next((entry for entry in self._heads if entry[0].fits(data)), None)
        head, frame, child = known or self._learn(data)
        if len(data) < head.end + 8 * self._count:
            raise MalformedError(f"{len(data)} bytes instead of {head.end + 8 * self._count}")
        return Stamped(stamp_ns(data), frame, child, np.frombuffer(data, "<f8", self._count, head.end))

    def _learn(self, data: bytes) -> tuple[_Head, str, str]:
        frame, end = read_string(data, 12)
        used = [(12, end)]
        child = ""
        if self._child:
            start = align(end, 4)
            child, end = read_string(data, start)
            used.append((start, end))
        entry = (_Head(data, align(end, 8), used), frame, child)
        self._heads = [entry, *self._heads[: REMEMBERED - 1]]
        return entry

    def writer(self, frame: str, child_frame: str = "") -> DoublesWriter:
        """For messages that all have these frames."""
        head = bytearray(LITTLE_ENDIAN + bytes(8) + pack_string(frame))
        if self._child:
            pad(head, 4)
            head += pack_string(child_frame)
        pad(head, 8)
        return DoublesWriter(bytes(head[12:]), self._count)


class DoublesWriter:
    """Writes messages that differ in stamp and numbers only."""

    def __init__(self, head: bytes, count: int) -> None:
        self._head, self._count = head, count

    def write(self, stamp_ns: int, values: Array) -> bytes:
        """values: (count,)."""
        body = np.ascontiguousarray(values, dtype="<f8")
        if body.shape != (self._count,):
            raise ValueError(f"expected {self._count} values, got shape {body.shape}")
        return LITTLE_ENDIAN + pack_stamp(stamp_ns) + self._head + body.tobytes()


@dataclass(frozen=True)
class JointMessage:
    """A JointState: names and read-only views (n,) of position, velocity, effort, empty where not given."""

    stamp_ns: int
    names: tuple[str, ...]
    position: Array
    velocity: Array
    effort: Array


class JointStateCodec:
    """sensor_msgs/JointState."""

    def __init__(self, message_type: Any) -> None:
        self._type = message_type
        self._heads: list[tuple[_Head, tuple[str, ...]]] = []

    def read(self, data: bytes) -> JointMessage:
        """Raises MalformedError when the bytes do not fit the type."""
        data = _plain(data, self._type)
        names, offset = self._names(data)
        arrays = []
        for _ in range(3):
            offset = align(offset, 4)
            if offset + 4 > len(data):
                raise MalformedError("it ends too soon")
            (n,) = U32.unpack_from(data, offset)
            offset = align(offset + 4, 8) if n else offset + 4
            if offset + 8 * n > len(data):
                raise MalformedError(f"{n} numbers do not fit")
            arrays.append(np.frombuffer(data, "<f8", n, offset))
            offset += 8 * n
        return JointMessage(stamp_ns(data), names, *arrays)

    def _names(self, data: bytes) -> tuple[tuple[str, ...], int]:
        for head, names in self._heads:
            if head.fits(data):
                return names, head.end
        _, end = read_string(data, 12)
        start = align(end, 4)
        if start + 4 > len(data):
            raise MalformedError("it ends too soon")
        (n,) = U32.unpack_from(data, start)
        if n > MAX_STRINGS:
            raise MalformedError(f"{n} joint names")
        used, found, end = [(12, end), (start, start + 4)], [], start + 4
        for _ in range(n):
            start = align(end, 4)
            name, end = read_string(data, start)
            used.append((start, end))
            found.append(name)
        names = tuple(found)
        self._heads = [(_Head(data, end, used), names), *self._heads[: REMEMBERED - 1]]
        return names, end

    def writer(self, names: tuple[str, ...], frame: str = "") -> JointStateWriter:
        """For messages about these joints in this order."""
        head = bytearray(LITTLE_ENDIAN + bytes(8) + pack_string(frame))
        pad(head, 4)
        head += U32.pack(len(names))
        for name in names:
            pad(head, 4)
            head += pack_string(name)
        return JointStateWriter(bytes(head[12:]), len(names))


class JointStateWriter:
    """Writes joint states that differ in stamp and numbers only."""

    def __init__(self, head: bytes, n: int) -> None:
        self._head, self._n = head, n
        first = bytearray(LITTLE_ENDIAN + bytes(8) + head)
        pad(first, 4)
        self._lead = bytes(first[12:])

    def write(
        self, stamp_ns: int, position: Array | None, velocity: Array | None = None, effort: Array | None = None
    ) -> bytes:
        """Arrays are (n,); None leaves a field empty."""
        out = bytearray(LITTLE_ENDIAN + pack_stamp(stamp_ns) + self._lead)
        for values in (position, velocity, effort):
            if values is None:
                out += b"\x00\x00\x00\x00"
                continue
            body = np.ascontiguousarray(values, dtype="<f8")
            if body.shape != (self._n,):
                raise ValueError(f"expected {self._n} values, got shape {body.shape}")
            out += U32.pack(self._n)
            pad(out, 8)
            out += body.tobytes()
        return bytes(out)
