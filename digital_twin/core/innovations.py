"""Whitened innovations: each measurement against what was forecast before it, in standard deviations.

If the filter is right they are independent N(0, 1), and the mean of their squares over a window (NIS) stays inside the
chi-square band printed beside it (Bar-Shalom, Li, Kirubarajan 2001, 5.4).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from scipy.special import chdtri

from digital_twin.core.arrays import Array
from digital_twin.core.invariant_ekf import Correction

WINDOW = 400
AXES = ("x", "y", "z", "roll", "pitch", "yaw")


class Innovations:
    """The latest ones, and NIS over a window.

    Attributes:
        labels: what each number of `latest` is.
        outliers: of each foot, how often it was beyond the gate.
    """

    def __init__(self, feet: list[str], joints: list[str]) -> None:
        self._feet = feet
        self.labels = [f"{foot}/{axis}" for foot in feet for axis in AXES] + list(joints)
        self._last: tuple[list[tuple[int, Correction]], Array] = [], np.full(len(joints), np.nan)
        self._nis: list[deque[float]] = [deque(maxlen=WINDOW) for _ in feet]
        self._joints: deque[float] = deque(maxlen=WINDOW)
        self.outliers = [0] * len(feet)

    def add(self, corrections: list[tuple[int, Correction]], joints: Array) -> None:
        """What one joint measurement did: feet corrected, and whitened joint errors (n,)."""
        self._last = corrections, joints
        for i, c in corrections:
            self._nis[i].append(c.nis)
            self.outliers[i] += c.weight < 1.0
        square = float(joints @ joints)
        if not math.isnan(square):
            self._joints.append(square / len(joints))

    @property
    def corrections(self) -> list[tuple[int, Correction]]:
        """What the last joint measurement did to the base, foot by foot."""
        return self._last[0]

    @property
    def latest(self) -> Array:
        """Of the last joint measurement (6 k + n,): of the feet's places and attitudes along odom's axes, then of the
        joints' positions; NaN where there was no measurement."""
        corrections, joints = self._last
        latest = np.full(len(self.labels), np.nan)
        for i, c in corrections:
            latest[6 * i : 6 * i + 6] = c.whitened
        latest[6 * len(self._feet) :] = joints
        return latest

    def values(self) -> dict[str, float]:
        """Mean NIS of each foot and of a joint over the window, with the 95 % band in which it should be."""
        out: dict[str, float] = {}
        for name, nis, outliers in zip(self._feet, self._nis, self.outliers, strict=True):
            if nis:
                out[f"nis/{name}"] = float(np.mean(np.minimum(nis, 1e6)))
                low, high = band(6, len(nis))
                out |= {f"nis/{name}/low": low, f"nis/{name}/high": high, f"outliers/{name}": outliers}
        if self._joints:
            out["nis/joint"] = float(np.mean(self._joints))
        return out


def band(dimension: int, count: int) -> tuple[float, float]:
    """The 95 % interval of the mean of `count` chi-square variables of `dimension`."""
    n = dimension * count
    return float(chdtri(n, 0.975)) / count, float(chdtri(n, 0.025)) / count
