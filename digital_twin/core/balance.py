"""Where a robot must step or push to stay up: capture point, zero moment point, and the support between its feet.

Capture point: Pratt, Carff, Drakunov, Goswami 2006. ZMP of a point mass: Vukobratović, Borovac 2004.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from digital_twin.core.arrays import Array

GRAVITY = 9.81
LEAST_HEIGHT = 0.05  # [m] of the centre of mass, where the pendulum is no model any more


def capture_point(com: Array, velocity: Array, floor: float) -> Array:
    """Where (2,) an inverted pendulum would come to rest above: com [m], velocity [m/s] (3,), floor [m]."""
    height = max(float(com[2]) - floor, LEAST_HEIGHT)
    return np.asarray(com[:2] + velocity[:2] * math.sqrt(height / GRAVITY))


def zero_moment_point(com: Array, acceleration: Array, floor: float) -> Array:
    """Where (2,) the ground's force acts on a point mass at com [m] (3,) that accelerates [m/s²] (3,)."""
    height = max(float(com[2]) - floor, LEAST_HEIGHT)
    return np.asarray(com[:2] - height / max(GRAVITY + float(acceleration[2]), 1.0) * acceleration[:2])


def support_polygon(corners: Array) -> Array:
    """The convex hull (k, 2) of corners (m, 2), counter-clockwise; empty when they span no area."""
    try:
        return np.asarray(corners[ConvexHull(corners).vertices])
    except (QhullError, ValueError):
        return np.zeros((0, 2))
