"""A camera's figures from its own dark and flat frames: the photon transfer method of EMVA 1288 release 4.0, chapter 4.

Frames are raw: linear digital numbers, before any demosaicing or response curve. A flat frame is one of an even light
without a lens; of each brightness there are at least two. What light fell on the sensor need not be known, which leaves
the quantum efficiency alone unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Array
from digital_twin.core.errors import TwinError
from digital_twin.core.sensors.fit import Estimate

CONFIDENCE = 2.576  # of a normal distribution: 99 %
LINEAR_RANGE = 0.7  # of saturation, where the standard fits the gain
SAME_LEVEL = 0.003  # relative change of a frame's mean that begins another brightness
QUANTISATION = 1.0 / 12.0  # DN²
SETTLED = 0.05  # share of its shot noise that is left of a level where every pixel is full


class PhotonTransferError(TwinError):
    """The frames do not tell what is asked."""


@dataclass(frozen=True)
class PhotonTransfer:
    """What was found, in the units of SensorConfig. `full_well` and `dark_current` are None when no frame tells.

    Attributes:
        gain: K [DN/e-]. read_noise, dsnu: [e-]. full_well: [e-]. prnu: relative. black_level: [DN].
        dark_current: [e-/s] at the temperature of the recording.
        curve: the photon transfer curve: mean above dark [DN] and variance above dark [DN²] of each level (k, 2).
    """

    gain: Estimate
    read_noise: Estimate
    full_well: Estimate | None
    black_level: Estimate
    dark_current: Estimate | None
    dsnu: Estimate
    prnu: Estimate
    curve: Array

    def values(self) -> dict[str, Estimate]:
        """The estimates by the names of SensorConfig's keys; what is not known is left out."""
        every = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "curve"}
        return {name: e for name, e in every.items() if e is not None}

    def parameters(self) -> dict[str, dict[str, float]]:
        """What was found as the `parameters` of a camera's profile. Its dark current is that of its own temperature."""
        return {"sensor": {name: float(e.value) for name, e in self.values().items()}}


@dataclass(frozen=True)
class _Level:
    """Statistics of one brightness, over pixels of one colour."""

    mean: float
    temporal: float  # variance in time [DN²], and its degrees of freedom
    freedom: float
    spatial: float  # variance between pixels, noise taken off [DN²], and its standard error
    spatial_error: float
    pixels: int

    @property
    def temporal_error(self) -> float:
        return self.temporal * math.sqrt(2.0 / self.freedom)


def fit_camera(
    frames: Sequence[NDArray[np.number]] | NDArray[np.number],
    *,
    dark: Sequence[NDArray[np.number]] | NDArray[np.number] | None = None,
    dark_exposures: Sequence[float] | None = None,
    mosaic: bool = False,
) -> PhotonTransfer:
    """Fit a sensor's figures.

    Args:
        frames: flat frames (height, width) in the order they were taken, each brightness at least twice in a row. For
            the full well the brightest must fill every pixel; for the PRNU one must be near half of that.
        dark: dark frames; None: the darkest of `frames` are.
        dark_exposures: exposure of each dark frame [s], of which there must be two kinds for the dark current.
        mosaic: whether neighbours have different colours, as under a Bayer pattern.

    Raises:
        PhotonTransferError: too few frames, sizes that differ, or no light in them.
    """
    bright = _levels(_checked(frames, "frames"), mosaic)
    if dark is None:
        darkest = min(np.mean([part.mean for part in level]) for level in bright)
        black = next(level for level in bright if np.mean([part.mean for part in level]) == darkest)
        bright = [level for level in bright if level is not black]
        dark_levels = [(0.0, black)]
    else:
        dark_levels = _dark_levels(_checked(dark, "dark"), dark_exposures, mosaic)
    shortest, black = min(dark_levels, key=lambda entry: entry[0])
    gain, curve, full = _gain(bright, black)
    current, base = _dark_current(dark_levels, gain)
    noise = _read_noise(black, gain, shortest * current.value if current is not None else 0.0)
    full_well = None if full is None else _scaled(full, gain)
    return PhotonTransfer(
        gain, noise, full_well, base, current, _dsnu(black, gain), _prnu(bright, black, full), np.array(curve)
    )


def raw_frame(
    data: bytes, height: int, width: int, step: int, encoding: str, *, big_endian: bool = False
) -> tuple[NDArray[np.integer], bool]:
    """A raw image as sensor_msgs/Image holds it: its numbers (height, width), and whether its pixels have colours.

    Raises:
        PhotonTransferError: when it is not raw (mono8, mono16, bayer_….8, bayer_….16), or its sizes do not fit.
    """
    kind, bits = encoding.rstrip("0123456789"), encoding.lstrip("abcdefghijklmnopqrstuvwxyz_")
    if (kind != "mono" and not kind.startswith("bayer_")) or bits not in ("8", "16"):
        raise PhotonTransferError(
            f"photon transfer: needs raw frames (mono8, mono16, bayer_rggb16 …), got '{encoding}'"
        )
    size = int(bits) // 8
    if height < 1 or width < 1 or step < width * size or len(data) < step * height:
        raise PhotonTransferError(f"photon transfer: {len(data)} bytes are no {width} x {height} image of {encoding}")
    rows = np.frombuffer(data, np.uint8, step * height).reshape(height, step)[:, : width * size]
    dtype = np.dtype(np.uint8 if size == 1 else ">u2" if big_endian else "<u2")
    return np.ascontiguousarray(rows).view(dtype), kind != "mono"


def _checked(frames: Sequence[NDArray[np.number]] | NDArray[np.number], what: str) -> list[NDArray[np.number]]:
    out = [np.asarray(f) for f in frames]
    if len(out) < 2:
        raise PhotonTransferError(f"photon transfer: {what}: at least two frames are needed, got {len(out)}")
    if any(f.shape != out[0].shape or f.ndim != 2 for f in out):
        raise PhotonTransferError(f"photon transfer: {what}: raw frames of one size are needed, (height, width)")
    return out


def _levels(frames: list[NDArray[np.number]], mosaic: bool) -> list[list[_Level]]:
    """Runs of frames of one brightness, each as one level for each colour; single frames are left out."""
    runs: list[list[NDArray[np.number]]] = []
    last = math.nan
    for f in frames:
        mean = float(f.mean())
        tolerance = max(SAME_LEVEL * abs(last), 6.0 * float(f.std()) / math.sqrt(f.size), 0.05)
        if runs and abs(mean - last) <= tolerance:
            runs[-1].append(f)
        else:
            runs.append([f])
        last = mean
    return [
        [_level(part) for part in _colours(np.array(run, dtype=np.float64), mosaic)] for run in runs if len(run) > 1
    ]


def _colours(stack: Array, mosaic: bool) -> list[Array]:
    if not mosaic:
        return [stack]
    return [stack[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _level(stack: Array) -> _Level:
    """stack (m, height, width). Light that flickers moves whole frames, which is taken off first."""
    m, pixels = len(stack), stack[0].size
    steady = stack - stack.mean(axis=(1, 2), keepdims=True)
    temporal = float(steady.var(axis=0, ddof=1).mean())
    apparent = float(steady.mean(axis=0).var(ddof=1))
    spatial = apparent - temporal / m
    freedom = (m - 1.0) * (pixels - 1.0)
    error = math.hypot(apparent * math.sqrt(2.0 / (pixels - 1)), temporal / m * math.sqrt(2.0 / freedom))
    return _Level(float(stack.mean()), temporal, freedom, spatial, error, pixels)


def _dark_levels(
    frames: list[NDArray[np.number]], exposures: Sequence[float] | None, mosaic: bool
) -> list[tuple[float, list[_Level]]]:
    times = [0.0] * len(frames) if exposures is None else [float(t) for t in exposures]
    if len(times) != len(frames):
        raise PhotonTransferError(f"photon transfer: {len(times)} dark exposures of {len(frames)} dark frames")
    out = []
    for t in sorted(set(times)):
        same = [f for f, other in zip(frames, times, strict=True) if other == t]
        if len(same) > 1:
            out.append((t, [_level(part) for part in _colours(np.array(same, dtype=np.float64), mosaic)]))
    if not out:
        raise PhotonTransferError("photon transfer: dark: at least two frames of one exposure are needed")
    return out


def _gain(
    bright: list[list[_Level]], black: list[_Level]
) -> tuple[Estimate, list[tuple[float, float]], tuple[float, float] | None]:
    """K from the slope of variance over mean, the curve, and where the signal ends above dark with its error [DN]."""
    points = []
    for level in bright:
        for part, dark in zip(level, black, strict=True):
            error = math.hypot(part.temporal_error, 1e-12)
            points.append((part.mean - dark.mean, part.temporal - dark.temporal, error, dark.temporal_error, part))
    points = [p for p in points if p[0] > 0.0]
    if not points:
        raise PhotonTransferError("photon transfer: no level is brighter than the dark one")
    # The curve rises to saturation and falls to nothing beyond it.
    peak = max(points, key=lambda p: p[1])[0]
    top = max(points, key=lambda p: p[0])
    used = [p for p in points if p[0] <= LINEAR_RANGE * peak] or [min(points, key=lambda p: p[0])]
    x, y, e = (np.array([p[i] for p in used]) for i in range(3))
    w = 1.0 / e**2
    denominator = float(np.sum(w * x * x))
    k = float(np.sum(w * x * y)) / denominator
    if k <= 0.0:
        raise PhotonTransferError("photon transfer: variance does not grow with the light: these are not raw frames")
    common = float(np.sum(w * x)) / denominator * used[0][3]
    error = math.hypot(1.0 / math.sqrt(denominator), common)
    full = None
    if top[1] < SETTLED * k * top[0]:
        part = top[4]
        full = (top[0], math.sqrt((part.temporal + max(part.spatial, 0.0)) / part.pixels))
    return _interval(k, error), [(p[0], p[1]) for p in points], full


def _dark_current(levels: list[tuple[float, list[_Level]]], gain: Estimate) -> tuple[Estimate | None, Estimate]:
    """Slope of the dark mean over exposure, and the mean at none: the black level."""
    t = np.array([entry[0] for entry in levels])
    y = np.array([np.mean([part.mean for part in entry[1]]) for entry in levels])
    parts = [entry[1] for entry in levels]
    # Pixels differ by their DSNU, but by the same at every exposure: only noise in time makes the slope uncertain.
    e = np.array([math.sqrt(sum(p.temporal / p.freedom for p in level) / len(level) ** 2) for level in parts])
    if len(levels) < 2:
        spread = math.sqrt(max(parts[0][0].spatial, 0.0) / sum(p.pixels for p in parts[0]))
        return None, _interval(float(y[0]), math.hypot(float(e[0]), spread))
    design = np.column_stack([np.ones_like(t), t]) / e[:, None]
    covariance = np.linalg.inv(design.T @ design)
    base, slope = covariance @ design.T @ (y / e)
    spread = math.sqrt(max(parts[0][0].spatial, 0.0) / sum(p.pixels for p in parts[0]))
    current = _scaled((float(slope), math.sqrt(covariance[1, 1])), gain)
    return current, _interval(float(base), math.hypot(math.sqrt(covariance[0, 0]), spread))


def _read_noise(black: list[_Level], gain: Estimate, dark_electrons: float) -> Estimate:
    """Dark noise less quantisation and the dark current's own shot noise."""
    variance = float(np.mean([part.temporal for part in black]))
    error = math.sqrt(sum(part.temporal_error**2 for part in black)) / len(black)
    return _root((variance - QUANTISATION) / gain.value**2 - dark_electrons, error / gain.value**2, _relative(gain))


def _dsnu(black: list[_Level], gain: Estimate) -> Estimate:
    variance = float(np.mean([part.spatial for part in black]))
    error = math.sqrt(sum(part.spatial_error**2 for part in black)) / len(black)
    return _root(variance / gain.value**2, error / gain.value**2, _relative(gain))


def _prnu(bright: list[list[_Level]], black: list[_Level], full: tuple[float, float] | None) -> Estimate:
    """At the level nearest to half of saturation, or the brightest when there is no such."""
    means = [float(np.mean([p.mean - d.mean for p, d in zip(level, black, strict=True)])) for level in bright]
    half = 0.5 * (full[0] if full is not None else max(means))
    level = bright[int(np.argmin([abs(m - half) for m in means]))]
    values, errors = [], []
    for part, dark in zip(level, black, strict=True):
        signal = part.mean - dark.mean
        values.append((part.spatial - dark.spatial) / signal**2)
        errors.append(math.hypot(part.spatial_error, dark.spatial_error) / signal**2)
    return _root(float(np.mean(values)), math.sqrt(sum(e * e for e in errors)) / len(errors))


def _relative(e: Estimate) -> float:
    return (e.high - e.low) / (2.0 * CONFIDENCE * e.value)


def _interval(value: float, error: float) -> Estimate:
    return Estimate(value, value - CONFIDENCE * error, value + CONFIDENCE * error)


def _scaled(signal: tuple[float, float], gain: Estimate) -> Estimate:
    """A signal [DN] with its error, in electrons."""
    value = signal[0] / gain.value
    return _interval(value, math.hypot(signal[1] / gain.value, abs(value) * _relative(gain)))


def _root(variance: float, error: float, relative: float = 0.0) -> Estimate:
    """Square root of a variance with its standard error, and a relative error of the unit it is given in."""
    low, high = (math.sqrt(max(variance + s * CONFIDENCE * error, 0.0)) for s in (-1.0, 1.0))
    value = math.sqrt(max(variance, 0.0))
    own = CONFIDENCE * relative * value
    return Estimate(value, value - math.hypot(value - low, own), value + math.hypot(high - value, own))
