"""Rotations: SO(3), unit quaternions in ROS order (x, y, z, w), and MuJoCo's order at its border.

A rotation R_a_b takes coordinates in frame b to coordinates in frame a.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from digital_twin.core.arrays import Array

_SMALL = 1e-8


def skew(v: ArrayLike) -> Array:
    """The matrix of the cross product: skew(v) @ u = v × u. v: (3,); returns (3, 3)."""
    x, y, z = np.asarray(v, dtype=float).tolist()
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def cross(a: Array, b: Array) -> Array:
    """a × b of two vectors (3,); many times faster than numpy's general one."""
    ax, ay, az = a.tolist()
    bx, by, bz = b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def exp_so3(phi: ArrayLike) -> Array:
    """Rodrigues' formula: rotation vector [rad] (3,) to matrix (3, 3)."""
    return np.array(_rodrigues(*np.asarray(phi, dtype=float).tolist()))


def exp_so3_each(phi: Array) -> Array:
    """Of rotation vectors [rad] (m, 3) the matrices (m, 3, 3)."""
    return np.array([_rodrigues(x, y, z) for x, y, z in phi.tolist()])


def _rodrigues(x: float, y: float, z: float) -> tuple[tuple[float, float, float], ...]:
    a2 = x * x + y * y + z * z
    angle = math.sqrt(a2)
    if angle < 1e-4:  # Taylor: exact to double precision here
        s, c = 1.0 - a2 / 6.0, 0.5 - a2 / 24.0
    else:
        s, c = math.sin(angle) / angle, (1.0 - math.cos(angle)) / a2
    xx, yy, zz, xy, xz, yz = c * x * x, c * y * y, c * z * z, c * x * y, c * x * z, c * y * z
    return (
        (1.0 - yy - zz, xy - s * z, xz + s * y),
        (xy + s * z, 1.0 - xx - zz, yz - s * x),
        (xz - s * y, yz + s * x, 1.0 - xx - yy),
    )


def log_so3(R: Array) -> Array:
    """Rotation matrix (3, 3) to rotation vector [rad] (3,), angle in [0, π]."""
    return np.array(_rotation_vector(R.tolist()))


def log_so3_each(R: Array) -> Array:
    """Of rotation matrices (m, 3, 3) the rotation vectors [rad] (m, 3)."""
    return np.array([_rotation_vector(rows) for rows in R.tolist()]).reshape(-1, 3)


def _rotation_vector(rows: list[list[float]]) -> list[float]:
    (a, b, c), (d, e, f), (g, h, i) = rows
    if a + e + i > 2.0:  # below 60°: R − Rᵀ is 2 sin(angle) times the axis, well conditioned here
        x, y, z = 0.5 * (h - f), 0.5 * (c - g), 0.5 * (d - b)
        s = math.sqrt(x * x + y * y + z * z)
        factor = 1.0 if s < _SMALL else math.asin(min(1.0, s)) / s
        return [x * factor, y * factor, z * factor]
    vector: list[float] = rotvec_from_quat(quat_from_matrix(np.array(rows))).tolist()
    return vector


def rotvec_from_quat(q: ArrayLike) -> Array:
    """Unit quaternion xyzw (4,) to rotation vector [rad] (3,), angle in [0, π]."""
    x, y, z, w = np.asarray(q, dtype=float).tolist()
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    n = math.sqrt(x * x + y * y + z * z)
    factor = 2.0 / w if n < _SMALL else 2.0 * math.atan2(n, w) / n
    return np.array([x * factor, y * factor, z * factor])


def quat_from_matrix(R: Array) -> Array:
    """Rotation matrix (3, 3) to unit quaternion xyzw (4,), by the largest component (Shepperd 1978)."""
    (a, b, c), (d, e, f), (g, h, i) = R.tolist()
    trace = a + e + i
    best = max(trace, a, e, i)
    if best == trace:
        q = (h - f, c - g, d - b, 1.0 + trace)
    elif best == a:
        q = (1.0 + a - e - i, b + d, c + g, h - f)
    elif best == e:
        q = (b + d, 1.0 - a + e - i, f + h, c - g)
    else:
        q = (c + g, f + h, 1.0 - a - e + i, d - b)
    n = math.sqrt(sum(x * x for x in q))
    return np.array(q) / n


def matrix_from_quat(q: ArrayLike) -> Array:
    """Quaternion xyzw (4,), normalised here, to rotation matrix (3, 3).

    Raises:
        ValueError: when the quaternion has no direction (zero norm or not finite).
    """
    x, y, z, w = np.asarray(q, dtype=float).tolist()
    n = x * x + y * y + z * z + w * w
    if not n > 1e-12 or not math.isfinite(n):
        raise ValueError(f"quaternion [{x}, {y}, {z}, {w}] has no direction")
    s = 2.0 / n
    return np.array(
        [
            [1.0 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1.0 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1.0 - s * (x * x + y * y)],
        ]
    )


def rpy_matrix(rpy: ArrayLike) -> Array:
    """Fixed-axis roll, pitch, yaw [rad] (3,), as in URDF, to a rotation matrix (3, 3)."""
    roll, pitch, yaw = (float(c) for c in np.asarray(rpy, dtype=float))
    return rot_z(yaw) @ exp_so3([0.0, pitch, 0.0]) @ exp_so3([roll, 0.0, 0.0])


def rpy_from_matrix(R: Array) -> Array:
    """Rotation matrix to fixed-axis roll, pitch, yaw [rad]; roll is 0 where pitch is ±90°."""
    pitch = math.asin(max(-1.0, min(1.0, -float(R[2, 0]))))
    if abs(R[2, 0]) > 1.0 - 1e-9:
        return np.array([0.0, pitch, math.atan2(-float(R[0, 1]), float(R[1, 1]))])
    return np.array([math.atan2(R[2, 1], R[2, 2]), pitch, math.atan2(R[1, 0], R[0, 0])])


def yaw_of(R: Array) -> float:
    """Heading [rad] of a body with attitude R_world_body: where its x axis points in the plane."""
    return math.atan2(R[1, 0], R[0, 0])


def rot_z(yaw: float) -> Array:
    """Rotation by yaw [rad] about z."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def wxyz_from_xyzw(q: ArrayLike) -> Array:
    """ROS quaternions (…, 4), x y z w, to MuJoCo's (w, x, y, z)."""
    return np.asarray(q, dtype=float)[..., [3, 0, 1, 2]]


def xyzw_from_wxyz(q: ArrayLike) -> Array:
    """MuJoCo quaternions (…, 4), w x y z, to ROS's (x, y, z, w)."""
    return np.asarray(q, dtype=float)[..., [1, 2, 3, 0]]


def gravity_tilt(accel: ArrayLike) -> Array:
    """Attitude R_world_body with zero heading of a body at rest whose accelerometer reads `accel` (3,).

    At rest an accelerometer reads +g along the world's z axis (REP-145).

    Raises:
        ValueError: when the reading has no direction.
    """
    a = np.asarray(accel, dtype=float)
    n = float(np.linalg.norm(a))
    if not n > 1e-6 or not math.isfinite(n):
        raise ValueError(f"an accelerometer reading of {a} has no direction")
    up = a / n
    roll = math.atan2(up[1], up[2])
    pitch = math.atan2(-up[0], math.hypot(up[1], up[2]))
    return rpy_matrix([roll, pitch, 0.0])
