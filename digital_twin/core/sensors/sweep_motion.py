"""Where a lidar is at each of its rays, while it sweeps and moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv

from digital_twin.core.arrays import Array
from digital_twin.core.sensors.motion import Pose

ORDER = 4  # terms of a cubic
_EXPONENTS = np.arange(ORDER)
# What a cubic may miss the twin's states by: 1 mm, and 0.2 mrad, which is 6 mm at 30 m.
OFF = np.array([1e-3] * 3 + [2e-4] * 9)


@dataclass(frozen=True)
class Sweep:
    """What a sweep starts from: its number, its first moment [s], and where the sensor is from before it to after its end."""

    number: int
    t: float
    track: tuple[Pose, ...]


class Stretch(NamedTuple):
    """A part of a sweep, and how the sensor moves in it: by cubics of a ray's moment, given as what its powers multiply.

    powers (…, 4) @ places (4, 3): where it is [m]. with_powers (…, 12) @ turns (12, 3): a direction in the world. That
    takes rotations for nine numbers like others, which of turns of a tenth of a radian loses some millionths.
    """

    rays: slice
    places: Array
    turns: Array


def powers_of(moments: Array) -> Array:
    """1, s, s², s³ of moments (k,), of which 1 is the end of the sweep: (k, 4)."""
    return np.asarray(moments[:, None] ** np.arange(ORDER))


def with_powers(d: Array, powers: Array) -> Array:
    """Directions in the sensor's frame (…, 3), each times its powers (…, 4): (…, 12)."""
    return np.asarray((powers[..., None] * d[..., None, :]).reshape(*d.shape[:-1], 3 * ORDER))


def stretches(sweep: Sweep, span: float, moments: Array, most: int) -> list[Stretch]:
    """A sweep of `span` [s] in as few parts as cubics follow the track in, `most` at most; moments (k,) of its rays."""
    track, end = sweep.track, sweep.t + span * float(moments[-1])
    last = 1
    while last < len(track) - 1 and track[last].t < end:
        last += 1
    states = np.array([p.numbers for p in track[: last + 1]])
    t = (states[:, 0] - sweep.t) / span
    parts = list(_parts(t, states[:, 1:], most))
    inner = np.searchsorted(moments, [t[a] for a, _, _ in parts[1:]]).tolist() if len(parts) > 1 else []
    bounds = pairwise([0, *inner, len(moments)])
    return [_stretch(a, b, terms) for (a, b), (_, _, terms) in zip(bounds, parts, strict=True) if b > a]


def _stretch(a: int, b: int, terms: Array) -> Stretch:
    """Of rays a to b. In one piece, which matrix products take several times as fast."""
    turns = terms[:, 3:].reshape(ORDER, 3, 3).transpose(0, 2, 1).reshape(-1, 3)
    return Stretch(slice(a, b), terms[:, :3].copy(), turns)


def _parts(t: Array, states: Array, most: int) -> Iterator[tuple[int, int, Array]]:
    """From which state to which, and the cubic there, halved until it fits."""
    todo = [(0, len(t) - 1, most)]
    while todo:
        a, b, most = todo.pop()
        terms, misses = _cubic(t[a : b + 1], states[a : b + 1])
        if misses and most > 1:
            middle = (a + b) // 2
            todo += [(middle, b, most // 2), (a, middle, most - most // 2)]
        else:
            yield a, b, terms


def _cubic(t: Array, x: Array) -> tuple[Array, bool]:
    """The terms of a cubic, or of what fewer than four times (m,) determine, nearest to x (m, n); whether it misses x."""
    n = min(len(t), ORDER)
    powers = np.power.outer(t, _EXPONENTS[:n])
    terms = np.zeros((ORDER, x.shape[1]))
    if len(t) <= ORDER:
        terms[:n] = np.linalg.solve(powers, x)
        return terms, False
    _, terms[:], _ = dposv(powers.T @ powers, powers.T @ x)
    off = powers @ terms
    off -= x
    return terms, bool((np.abs(off, out=off) > OFF).any())
