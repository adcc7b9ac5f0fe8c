"""Clouds of a lidar of several lines, put back into its lines and rays, and its profile."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.sensors.fit import FitError
from digital_twin.core.sensors.fit_recording import Fitted, fit_lines

CLOUD_FIELDS = ("x", "y", "z", "ring")
MAX_RAYS = 200_000


def fit_cloud(stamps_ns: Array, clouds: Sequence[Array]) -> Fitted:
    """A LidarProfile from clouds of a scene at rest: points x, y, z [m] in the sensor's frame and ring, (n, 4) each.

    Raises:
        FitError: when they are no lines of rays, or too few.
    """
    if len(clouds) < 20:
        raise FitError(f"{len(clouds)} clouds are too few; at least 20 are needed")
    points = np.concatenate(clouds)
    which = np.repeat(np.arange(len(clouds)), [len(c) for c in clouds])
    r = np.linalg.norm(points[:, :3], axis=1)
    there = np.isfinite(points).all(axis=1) & (r > 0.0)
    points, which, r = points[there], which[there], r[there]
    if not len(r):
        raise FitError("there is no point in these clouds")
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    rings, line = np.unique(points[:, 3], return_inverse=True)
    start, step, rays = _columns(azimuth[(which == which[0]) & (line == np.bincount(line).argmax())], azimuth)
    if rays * len(rings) > MAX_RAYS:
        raise FitError(f"{rays} rays in {len(rings)} lines are not those of a lidar; at most {MAX_RAYS} are read")
    column = np.clip(np.rint((azimuth - start) / step).astype(int), 0, rays - 1)
    ranges = np.full((len(clouds), len(rings), rays), np.inf)
    ranges[which, line, column] = r
    elevation = np.arcsin(np.clip(points[:, 2] / r, -1.0, 1.0))
    elevations = [float(np.median(elevation[line == k])) for k in range(len(rings))]
    limits = 0.0, math.ceil(float(r.max()))
    return fit_lines(stamps_ns, ranges, start, step, limits, elevations)


def _columns(one: Array, every: Array) -> tuple[float, float, int]:
    """First azimuth, step [rad] and number of the rays of a line, from the azimuths of one line and of all points."""
    steps = np.diff(np.unique(np.round(one, 7)))
    steps = steps[steps > 1e-5]
    if len(steps) < 20:
        raise FitError(f"{len(one)} points in a line are too few")
    step = float(np.median(steps))
    k = np.rint((one - one.min()) / step)
    step, start = np.polyfit(k, one, 1)
    first = start + step * np.rint((every.min() - start) / step)
    return float(first), float(step), int(np.rint((every.max() - first) / step)) + 1
