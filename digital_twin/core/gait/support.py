"""The ground that the robot can press on: convex polygons of complex points, x + iy."""

from __future__ import annotations

import cmath
from collections.abc import Sequence

from digital_twin.core.arrays import Array


def sole_corners(point: complex, yaw: float, polygon: Array, margin: float) -> list[complex]:
    """Corners of a rectangle about a sole's middle, in odom: the extent of a polygon (k, 2), less a share `margin`."""
    keep = 1.0 - margin
    (x0, y0), (x1, y1) = (keep * polygon.min(axis=0)).tolist(), (keep * polygon.max(axis=0)).tolist()
    turn = cmath.rect(1.0, yaw)
    return [point + turn * complex(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]


def hull(points: Sequence[complex]) -> list[complex]:
    """Convex hull, counterclockwise (Andrew's monotone chain)."""
    ordered = sorted(points, key=lambda p: (p.real, p.imag))
    halves = []
    for run in (ordered, ordered[::-1]):
        chain: list[complex] = []
        for p in run:
            while len(chain) > 1 and _left(chain[-2], chain[-1], p) <= 0.0:
                chain.pop()
            chain.append(p)
        halves += chain[:-1]
    return halves


def nearest_inside(point: complex, corners: Sequence[complex]) -> complex:
    """The point itself when it is inside of a convex polygon (counterclockwise), else the nearest on its edge."""
    best, least, outside = point, float("inf"), False
    for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
        if _left(a, b, point) >= 0.0:
            continue
        outside = True
        edge = b - a
        along = ((point - a) * edge.conjugate()).real / max(abs(edge) ** 2, 1e-12)
        near = a + edge * min(max(along, 0.0), 1.0)
        if abs(point - near) < least:
            best, least = near, abs(point - near)
    return best if outside else point


def depth_inside(point: complex, corners: Sequence[complex]) -> float:
    """How far a point lies inside of a convex polygon (counterclockwise) [m]; negative: outside of an edge's line."""
    return min(
        _left(a, b, point) / max(abs(b - a), 1e-9) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
    )


def _left(a: complex, b: complex, p: complex) -> float:
    """Twice the area of a, b, p: positive when p is to the left of the way from a to b."""
    return ((b - a).conjugate() * (p - a)).imag
