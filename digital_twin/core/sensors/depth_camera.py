"""A stereo depth camera: depth from disparity, with its noise, its steps, and its holes.

A point at depth z has the disparity d = f b / z between two pinholes a baseline b apart. All that goes wrong goes wrong
with d; so the noise of z is z² σ_d / (f b), as data sheets of stereo cameras have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Mask
from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.seeds import stage_generator

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class DepthConfig:
    """Stereo matching, as a left camera sees it whose partner is to its right."""

    baseline: float = param(0.05, "between the two imagers", unit="m", low=0.001, high=2)
    subpixel: float = param(0.08, "standard deviation of the disparity", unit="px", low=0, high=5)
    step: float = param(0.03125, "smallest step of the disparity; 0: continuous", unit="px", low=0, high=2)
    disparities: int = param(126, "disparities that are searched, from 0 on; 0: all", unit="px", low=0, high=2000)
    min_range: float = param(0.2, "nothing nearer is reported", unit="m", low=0.01, high=100)
    max_range: float = param(10.0, "nothing farther is reported", unit="m", low=0.1, high=1000)
    edge_jump: float = param(0.05, "relative step in depth that makes an edge", low=1e-3, high=10)
    edge_width: int = param(3, "pixels at each side of an edge where matching may fail", unit="px", low=0, high=20)
    edge_loss: float = param(0.5, "probability that it does", low=0, high=1)
    speckle_loss: float = param(0.002, "probability that it fails anywhere", low=0, high=1)


class DepthCamera:
    """Measures depth images of one pinhole."""

    def __init__(
        self, config: DepthConfig, focal: float, seed: int, name: str, off: frozenset[str] = frozenset()
    ) -> None:
        """`focal` [px]. `off`: names of the stages that are left out. Raises ConfigError when the ranges cross."""
        if config.min_range >= config.max_range:
            raise ConfigError(f"depth: min_range {config.min_range:g} m is not below max_range {config.max_range:g} m")
        self.config, self.off = config, off
        self._fb = np.float32(focal * config.baseline)
        self._noise = stage_generator(seed, name, "stereo_noise")
        self._loss = stage_generator(seed, name, "edge_holes")

    def measure(self, depth: Depth) -> Depth:
        """What the camera reports (REP-118).

        Args:
            depth: true depth along the axis [m] (height, width); inf where there is nothing.

        Returns:
            Depth [m] (height, width): +inf where it is too far, -inf where it is too near, NaN where matching fails.
        """
        c, off = self.config, self.off
        disparity = self._fb / depth
        missing = np.zeros(depth.shape, dtype=bool) if "edge_holes" in off else self._holes(depth, disparity)
        if c.subpixel > 0.0 and "stereo_noise" not in off:
            noise = self._noise.standard_normal(depth.shape, dtype=np.float32)
            measured = disparity + np.float32(c.subpixel) * noise
        else:
            measured = disparity.copy()
        if c.step > 0.0 and "quantisation" not in off:
            measured = np.rint(measured / np.float32(c.step)) * np.float32(c.step)
        with np.errstate(divide="ignore"):
            out: Depth = np.where(measured > 0.0, self._fb / measured, np.float32(np.inf))
        nearest = max(c.min_range, float(self._fb) / c.disparities) if c.disparities else c.min_range
        out[out > c.max_range] = np.inf
        out[out < nearest] = -np.inf
        out[missing] = np.nan
        return out

    def _holes(self, depth: Depth, disparity: Depth) -> Mask:
        """Where no match is found: what one imager alone sees, some of the pixels at edges, and a few anywhere."""
        c = self.config
        width = depth.shape[1]
        columns = np.arange(width, dtype=np.float32)
        # Where the right imager sees each pixel; what it sees further left, or behind something nearer, it sees not.
        there = columns - disparity
        hidden_by = np.full(depth.shape, np.inf, dtype=np.float32)
        hidden_by[:, :-1] = np.minimum.accumulate(there[:, :0:-1], axis=1)[:, ::-1]
        missing: Mask = (there < 0.0) | (hidden_by < there - 0.5)
        draw = self._loss.random(depth.shape, dtype=np.float32)
        missing |= draw < c.speckle_loss
        if c.edge_width and c.edge_loss > 0.0:
            missing |= self._near_edges(disparity) & (draw < c.edge_loss)
        return missing

    def _near_edges(self, disparity: Depth) -> Mask:
        """Pixels within the matching window of a step in depth, to the left and right of it."""
        c = self.config
        with np.errstate(invalid="ignore"):
            a, b = disparity[:, :-1], disparity[:, 1:]
            step = np.abs(a - b) > np.float32(c.edge_jump) * np.minimum(a, b)
        near = np.zeros(disparity.shape, dtype=bool)
        for k in range(c.edge_width):
            near[:, : -1 - k] |= step[:, k:]
            near[:, 1 + k :] |= step[:, : step.shape[1] - k]
        return near


def millimetres(depth: Depth) -> NDArray[np.uint16]:
    """As 16UC1 (REP-118): whole millimetres, 0 where nothing is known."""
    known = np.isfinite(depth) & (depth < 65.5355) & (depth > 0.0)
    return np.where(known, np.rint(np.where(known, depth, 0.0) * 1000.0), 0).astype(np.uint16)
