"""From a topic of a recording to the profile of the sensor that it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from digital_twin.bags import Bag, Topic
from digital_twin.core.arrays import Array
from digital_twin.core.errors import BagError, unknown
from digital_twin.core.sensors.fit_cloud import CLOUD_FIELDS, fit_cloud
from digital_twin.core.sensors.fit_recording import (
    Fitted,
    fit_encoders,
    fit_imu,
    fit_magnetometer,
    fit_scan,
    fit_wrench,
)
from digital_twin.core.sensors.photon_transfer import fit_camera, raw_frame
from digital_twin.recording.typed import deserialize

MAX_MESSAGES = 20_000_000
MAX_BYTES = 2_000_000_000  # of images
VECTORS = {
    "sensor_msgs/msg/Imu": (fit_imu, ("angular_velocity", "linear_acceleration")),
    "geometry_msgs/msg/WrenchStamped": (fit_wrench, ("wrench.force", "wrench.torque")),
    "sensor_msgs/msg/MagneticField": (fit_magnetometer, ("magnetic_field",)),
}
POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # of sensor_msgs/PointField


def fit_topic(bag: str, topic: str, dark: Mapping[str, float] | None = None) -> Fitted:
    """Read one topic of a recording and fit what its type tells it is.

    `dark`: for a camera, topics of dark frames and the exposure [s] of each.

    Raises:
        BagError, FitError, PhotonTransferError: one line.
    """
    with Bag(bag) as b:
        found = _find(b, topic)
        fit = FITS.get(found.kind)
        if fit is None:
            raise BagError(f"{bag}: {topic} is of {found.kind}; fitted are {', '.join(FITS)}")
        if dark and found.kind != IMAGE:
            raise BagError(f"{bag}: {topic} is of {found.kind}; only of a camera there are dark frames")
        return _fit_images(b, found, dark or {}) if found.kind == IMAGE else fit(b, found)


def _find(b: Bag, topic: str) -> Topic:
    found = next((t for t in b.topics.values() if t.name.strip("/") == topic.strip("/")), None)
    if found is None:
        raise BagError(f"{b.path}: {unknown('topic', topic, b.topics)}")
    if found.count > MAX_MESSAGES:
        raise BagError(f"{b.path}: {topic} has {found.count} messages; {MAX_MESSAGES} are enough")
    return found


def _messages(b: Bag, topic: Topic) -> Iterator[Any]:
    """The messages of a topic. Raises BagError for one that is malformed."""
    for k, (_, _, data) in enumerate(b.messages([topic.name])):
        try:
            yield deserialize(data, topic.kind)
        except BagError as e:
            raise BagError(f"{b.path}: {topic.name}: message {k} is malformed: {e}") from e


def _stamp(m: Any) -> int:
    return int(m.header.stamp.sec) * 1_000_000_000 + int(m.header.stamp.nanosec)


def _relative(stamps: list[int]) -> Array:
    return np.array(stamps, dtype=float) - float(stamps[0])


def _fit_vectors(b: Bag, topic: Topic) -> Fitted:
    fit, paths = VECTORS[topic.kind]
    stamps, rows = [], []
    for m in _messages(b, topic):
        stamps.append(_stamp(m))
        rows.append([c for path in paths for v in (attrgetter(path)(m),) for c in (v.x, v.y, v.z)])
    return fit(_relative(stamps), np.array(rows))


def _fit_joints(b: Bag, topic: Topic) -> Fitted:
    """Joints at rest, of which the first message says the order."""
    stamps: list[int] = []
    position: list[Any] = []
    effort: list[Any] = []
    names: list[str] = []
    for m in _messages(b, topic):
        names = names or list(m.name)
        if list(m.name) != names or len(m.position) != len(names):
            raise BagError(f"{b.path}: {topic.name}: its messages differ in their joints")
        stamps.append(_stamp(m))
        position.append(m.position)
        effort.append(m.effort if len(m.effort) == len(names) else np.full(len(names), np.nan))
    return fit_encoders(_relative(stamps), np.array(position, dtype=float), np.array(effort, dtype=float))


def _fit_scans(b: Bag, topic: Topic) -> Fitted:
    stamps, ranges, first = [], [], None
    for m in _messages(b, topic):
        first = first or m
        if len(m.ranges) != len(first.ranges):
            raise BagError(f"{b.path}: {topic.name}: its scans differ in their number of rays")
        stamps.append(_stamp(m))
        ranges.append(m.ranges)
    assert first is not None  # noqa: S101  # a topic has messages
    limits = first.range_min, first.range_max
    return fit_scan(
        _relative(stamps), np.array(ranges, dtype=float), first.angle_min, first.angle_increment, limits
    )  # fmt: skip


def _fit_clouds(b: Bag, topic: Topic) -> Fitted:
    stamps, clouds = [], []
    for m in _messages(b, topic):
        stamps.append(_stamp(m))
        clouds.append(_points(m, f"{b.path}: {topic.name}"))
    return fit_cloud(_relative(stamps), clouds)


def _points(m: Any, where: str) -> Array:
    """x, y, z and ring of a PointCloud2's points (n, 4)."""
    order = ">" if m.is_bigendian else "<"
    fields = {f.name: (f.offset, order + POINT_TYPES.get(f.datatype, "f4")) for f in m.fields if f.name in CLOUD_FIELDS}
    if set(fields) != set(CLOUD_FIELDS):
        raise BagError(f"{where}: its points need the fields {', '.join(CLOUD_FIELDS)}")
    size = max(offset + np.dtype(kind).itemsize for offset, kind in fields.values())
    count = m.width * m.height
    if m.point_step < size or m.row_step != m.width * m.point_step or len(m.data) < count * m.point_step:
        raise BagError(f"{where}: {len(m.data)} bytes are not {count} points of {m.point_step}")
    layout = np.dtype(
        {"names": list(fields), "formats": [k for _, k in fields.values()], "offsets": [o for o, _ in fields.values()],
         "itemsize": m.point_step}
    )  # fmt: skip
    points = np.frombuffer(m.data.tobytes(), layout, count)
    return np.column_stack([points[name].astype(float) for name in CLOUD_FIELDS])


def _fit_images(b: Bag, topic: Topic, dark: Mapping[str, float]) -> Fitted:
    flat, mosaic = _frames(b, topic)
    black: list[Any] = []
    exposures: list[float] = []
    for name, exposure in dark.items():
        found = _find(b, name)
        if found.kind != IMAGE:
            raise BagError(f"{b.path}: {name} is of {found.kind}; dark frames are of {IMAGE}")
        frames, _ = _frames(b, found)
        black += frames
        exposures += [exposure] * len(frames)
    found = fit_camera(flat, dark=black or None, dark_exposures=exposures or None, mosaic=mosaic)
    notes = [
        f"{key} cannot be told from these frames"
        for key in ("full_well", "dark_current")
        if getattr(found, key) is None
    ]
    estimates = {f"sensor.{name}": e for name, e in found.values().items()}
    return Fitted("camera", found.parameters(), estimates, tuple(notes))


def _frames(b: Bag, topic: Topic) -> tuple[list[Any], bool]:
    """Raw images in their order, and whether their pixels have colours."""
    out, mosaic, size = [], False, 0
    for m in _messages(b, topic):
        size += len(m.data)
        if size > MAX_BYTES:
            raise BagError(f"{b.path}: {topic.name}: more than {MAX_BYTES / 1e9:g} GB of images")
        frame, mosaic = raw_frame(
            m.data.tobytes(), m.height, m.width, m.step, m.encoding, big_endian=bool(m.is_bigendian)
        )  # fmt: skip
        out.append(frame)
    return out, mosaic


IMAGE = "sensor_msgs/msg/Image"
FITS = dict.fromkeys(VECTORS, _fit_vectors) | {
    "sensor_msgs/msg/JointState": _fit_joints,
    "sensor_msgs/msg/LaserScan": _fit_scans,
    "sensor_msgs/msg/PointCloud2": _fit_clouds,
    IMAGE: lambda b, topic: _fit_images(b, topic, {}),
}
