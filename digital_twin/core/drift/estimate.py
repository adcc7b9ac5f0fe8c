"""Linear least squares with priors: estimates, their intervals, and what the data cannot tell.

A parameter whose standard error is hardly less than before the data is not told by them (the data are not exciting for
it): it is refused by name and stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from digital_twin.core.arrays import Array, Mask

TOLD = 0.7  # posterior over prior standard deviation below which the data have told something
CONFIDENCE = 1.96  # standard deviations on either side of an estimate that hold it 95 times in 100


@dataclass(frozen=True)
class Estimate:
    """A parameter: value and its standard error, and both before the data."""

    value: float
    error: float
    before: float
    prior: float
    unit: str = ""

    @property
    def told(self) -> bool:
        """Whether the data said something about it."""
        return bool(self.error < TOLD * self.prior)

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % confidence."""
        return self.value - CONFIDENCE * self.error, self.value + CONFIDENCE * self.error

    @property
    def moved(self) -> bool:
        """Whether it has changed by more than chance explains."""
        return self.told and abs(self.value - self.before) > CONFIDENCE * self.error

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {CONFIDENCE * self.error:.2g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Excitation:
    """What the data can tell.

    singular: of the regressor with each column in units of its prior standard deviation and each row in those of its
    noise (p,), largest first: directions with less than 1 are left to the prior. told, refused: names of parameters; of
    the refused ones also why.
    """

    singular: Array = field(default_factory=lambda: np.zeros(0))
    told: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        """How many combinations of parameters the data tell more of than the priors."""
        return int((self.singular > 1.0).sum())

    def joined(self, other: Excitation) -> Excitation:
        """Of two sets of parameters that have nothing in common."""
        return Excitation(
            np.sort(np.concatenate([self.singular, other.singular]))[::-1],
            self.told + other.told,
            self.refused | other.refused,
        )


def excitation(information: Array, prior: Array, estimates: dict[str, Estimate]) -> Excitation:
    """From the information matrix (p, p) of the data and the priors' standard deviations (p,) of all coordinates."""
    scaled = information * np.outer(prior, prior)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(0.5 * (scaled + scaled.T)), 0.0))[::-1]
    refused = {
        name: f"its standard error is {e.error:.2g} {e.unit}".rstrip() + f" after the data and {e.prior:.2g} before"
        for name, e in estimates.items()
        if not e.told
    }
    return Excitation(np.asarray(singular), tuple(n for n, e in estimates.items() if e.told), refused)


def correlation_time(residual: Array) -> float:
    """How many samples (K,) in a row say the same: 1 + 2 Σ ρ_k over the first that are positive (Geyer 1992)."""
    x = residual[np.isfinite(residual)]
    n = len(x)
    if n < 8 or not np.any(x != x[0]):
        return 1.0
    x = x - x.mean()
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    rho = np.fft.irfft(spectrum)[: n // 2]
    rho = rho / rho[0]
    ends = np.flatnonzero(rho < 0.0)
    last = int(ends[0]) if len(ends) else len(rho)
    return float(max(1.0, 1.0 + 2.0 * rho[1:last].sum()))


def robust_deviation(x: Array) -> float:
    """Standard deviation from the median of the deviations from zero; 0 for nothing."""
    x = x[np.isfinite(x)]
    return float(1.4826 * np.median(np.abs(x))) if len(x) else 0.0


def solve(information: Array, vector: Array, prior: Array, least: Array | None = None) -> tuple[Array, Array]:
    """The x (p,) that minimises ½ xᵀ A x − bᵀ x + ½ Σ (x / prior)², none below `least`; and its covariance (p, p).

    Args:
        information, vector: A (p, p) and b (p,) of the data, already divided by the variance of the noise.
        prior: standard deviations (p,) about zero; 0 fixes a parameter.
        least: bounds (p,), −inf where there is none.
    """
    n = len(prior)
    free: Mask = prior > 0.0
    x = np.zeros(n)
    inverse = np.where(free, 1.0 / np.maximum(prior, 1e-300), 0.0) ** 2
    held = np.zeros(n, dtype=bool)
    for _ in range(n):
        f = free & ~held
        H = information[np.ix_(f, f)] + np.diag(inverse[f])
        x[f] = np.linalg.solve(H, vector[f] - information[np.ix_(f, held)] @ x[held])
        if least is None or not (x[f] < least[f] - 1e-12).any():
            break
        below = f & (x < least - 1e-12)
        x[below] = least[below]
        held |= below
    covariance = np.zeros((n, n))
    H = information[np.ix_(free, free)] + np.diag(inverse[free])
    covariance[np.ix_(free, free)] = np.linalg.inv(H)
    return x, covariance


def label(kind: str, name: str) -> str:
    """What a parameter is called: "friction of l_knee"."""
    return f"{kind} of {name}" if name else kind


def names_of(told: Sequence[str], most: int = 6) -> str:
    """A short list in words."""
    shown = ", ".join(told[:most])
    return shown + (f" and {len(told) - most} more" if len(told) > most else "") if told else "nothing"
