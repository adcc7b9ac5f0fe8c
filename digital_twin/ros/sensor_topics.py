"""Readings of the virtual sensors as messages."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu, JointState, LaserScan, MagneticField, PointCloud2, PointField

from digital_twin.core.arrays import Array, Index
from digital_twin.core.sensors.imu import Imu as ImuDevice
from digital_twin.core.sensors.lidar import Lidar, Scan
from digital_twin.core.sensors.magnetometer import Magnetometer
from digital_twin.core.sensors.suite import Instrument, Scanner
from digital_twin.ros.cdr import DoublesCodec, JointMessage, JointStateCodec, JointStateWriter

NS = 1_000_000_000
Write = Callable[[int, Array], bytes]
_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2"), ("time", "<f4")])


def instrument_topic(i: Instrument, frame: str, joints: JointTable) -> tuple[Any, Write]:
    """The message type of an instrument, and what writes its readings: (stamp [ns], values) to bytes."""
    if i.spec.kind == "imu":
        return Imu, _imu(i.device, frame)  # type: ignore[arg-type]
    if i.spec.kind == "wrench":
        return WrenchStamped, DoublesCodec(WrenchStamped, 6).writer(frame).write
    if i.spec.kind == "magnetometer":
        return MagneticField, _magnetic_field(i.device, frame)  # type: ignore[arg-type]
    return JointState, joints.write


class JointTable:
    """From joint states as the twin has them to all joints of the model, and back to messages.

    Attributes:
        missing: joints that no message was about. They are taken to stand at ease, and no encoder speaks of them.
    """

    def __init__(self, names: list[str], stand: Array) -> None:
        self.missing: list[str] = []
        self._names, self._stand = np.array(names), stand
        self._index_of = {name: i for i, name in enumerate(names)}
        self._order: tuple[tuple[str, ...], Index] = ((), np.zeros(0, dtype=np.intp))
        self._codec = JointStateCodec(JointState)
        self._writers: dict[tuple[str, ...], JointStateWriter] = {}

    def read(self, m: JointMessage) -> tuple[Array, Array, Array] | str:
        """Positions, speeds and torques (n,), torques 0 where none is known; or why the message cannot be used."""
        if not len(m.names) == len(m.position) == len(m.velocity) > 0:
            return "size"
        if m.names != self._order[0]:
            if not all(name in self._index_of for name in m.names):
                return "unknown_joint"
            self._order = m.names, np.array([self._index_of[name] for name in m.names], dtype=np.intp)
            self.missing = [name for name in self._names.tolist() if name not in m.names]
        if not (np.isfinite(m.position).all() and np.isfinite(m.velocity).all()):
            return "non_finite"
        order, q = self._order[1], self._stand.copy()
        qd, effort = np.zeros_like(q), np.zeros_like(q)
        q[order], qd[order] = m.position, m.velocity
        if len(m.effort) == len(order):
            effort[order] = np.nan_to_num(m.effort)
        return q, qd, effort

    def write(self, stamp: int, v: Array) -> bytes:
        """Positions, speeds and torques (3 n,) as a message, in the order of the last one that was read."""
        names, order = self._order
        if names not in self._writers:
            self._writers[names] = self._codec.writer(names)
        return self._writers[names].write(stamp, *v.reshape(3, -1)[:, order])


def _imu(device: ImuDevice, frame: str) -> Write:
    writer = DoublesCodec(Imu, 37).writer(frame)
    values = np.zeros(37)
    values[3], values[4] = 1.0, -1.0  # no attitude (REP-145)
    values[16:25:4], values[28:37:4] = device.gyro_variance, device.accel_variance

    def write(stamp: int, v: Array) -> bytes:
        values[13:16], values[25:28] = v[:3], v[3:]
        return writer.write(stamp, values)

    return write


def _magnetic_field(device: Magnetometer, frame: str) -> Write:
    writer = DoublesCodec(MagneticField, 12).writer(frame)
    values = np.zeros(12)
    values[3:12:4] = device.variance

    def write(stamp: int, v: Array) -> bytes:
        values[:3] = v
        return writer.write(stamp, values)

    return write


def scanner_topic(s: Scanner, frame: str) -> tuple[Any, Callable[[int, Scan], bytes]]:
    """The message type of a lidar: LaserScan for one level line, else PointCloud2; and what writes its sweeps."""
    planar = len(s.lidar.profile.elevations) == 1 and s.lidar.profile.elevations[0] == 0.0
    return (LaserScan, _laser_scan(s.lidar, frame)) if planar else (PointCloud2, _cloud(s.lidar, frame))


def _laser_scan(lidar: Lidar, frame: str) -> Callable[[int, Scan], bytes]:
    c = lidar.profile
    m = LaserScan(
        angle_min=float(lidar.angles[0]), angle_max=float(lidar.angles[-1]), angle_increment=float(lidar.step),
        time_increment=float(lidar.time_step), scan_time=1.0 / c.timing.rate, range_min=c.range_min,
        range_max=c.range_max,
    )  # fmt: skip
    m.header.frame_id = frame

    def write(stamp: int, scan: Scan) -> bytes:
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(stamp, NS)
        m.ranges = array("f", scan.ranges[0].astype("<f4").tobytes())
        m.intensities = array("f", scan.intensity[0].astype("<f4").tobytes())
        return bytes(serialize_message(m))

    return write


def _cloud(lidar: Lidar, frame: str) -> Callable[[int, Scan], bytes]:
    """An unordered cloud of what came back: x, y, z, intensity, ring, time since the stamp; as the device measured."""
    types = {"<f4": PointField.FLOAT32, "<u2": PointField.UINT16}
    fields = [
        PointField(name=n, offset=_POINT.fields[n][1], datatype=types[_POINT.fields[n][0].str], count=1)
        for n in _POINT.names or ()
    ]
    m = PointCloud2(height=1, fields=fields, is_bigendian=False, point_step=_POINT.itemsize, is_dense=True)
    m.header.frame_id = frame
    d = lidar.directions.transpose(1, 0, 2)  # (lines, rays, 3)
    times = np.broadcast_to(lidar.time_step * np.arange(d.shape[1]), d.shape[:2])
    rings = np.broadcast_to(np.arange(d.shape[0])[:, None], d.shape[:2])

    def write(stamp: int, scan: Scan) -> bytes:
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(stamp, NS)
        there = np.isfinite(scan.ranges)
        points = np.zeros(int(there.sum()), dtype=_POINT)
        xyz = scan.ranges[there][:, None] * d[there]
        points["x"], points["y"], points["z"] = xyz.T
        points["intensity"], points["ring"], points["time"] = scan.intensity[there], rings[there], times[there]
        m.width, m.row_step = len(points), points.nbytes
        m.data = array("B", points.tobytes())
        return bytes(serialize_message(m))

    return write
