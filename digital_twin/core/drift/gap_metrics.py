"""Measures of how far a model is from what was measured, each with an interval over stretches of time.

A stretch (a window of the report) gives one value of a measure; their mean has a Student interval. R² is cross-validated:
what it is compared with, the mean, is taken from the other stretches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import csd, welch
from scipy.stats import energy_distance, ks_2samp
from scipy.stats import t as student

from digital_twin.core.arrays import Array, Index
from digital_twin.core.drift.estimate import correlation_time

STEP_TIME = 0.3  # [s] of a step response
COHERENT = 0.8  # squared coherence of command and position from which a response is known


@dataclass(frozen=True)
class Measure:
    """A value with its 95 % interval over the stretches, NaN where there are fewer than two."""

    value: float
    low: float
    high: float
    unit: str = ""

    def to_plain(self) -> dict[str, object]:
        """For JSON: what is not finite is null."""
        numbers = {k: getattr(self, k) for k in ("value", "low", "high")}
        return {k: float(v) if np.isfinite(v) else None for k, v in numbers.items()} | {"unit": self.unit}


def over_stretches(values: Array, unit: str = "") -> Measure:
    """Mean and Student's interval of one value for each stretch (k,); those that are not finite are left out."""
    x = values[np.isfinite(values)]
    if not len(x):
        return Measure(np.nan, np.nan, np.nan, unit)
    half = float(student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else np.nan
    return Measure(float(x.mean()), float(x.mean() - half), float(x.mean() + half), unit)


def errors(measured: Array, said: Array, parts: list[Index], unit: str) -> dict[str, Measure]:
    """RMSE, MAE and cross-validated R² of series (T, k)."""
    rmse, mae, r2 = [], [], []
    for part in parts:
        rest = np.setdiff1d(np.concatenate(parts), part)
        y, x = measured[part], said[part]
        ok = np.isfinite(y + x).all(axis=1)
        if not ok.any():
            continue
        e = (x - y)[ok]
        rmse.append(np.sqrt((e**2).mean()))
        mae.append(np.abs(e).mean())
        others = measured[rest] if len(rest) else y
        about = ((y[ok] - np.nanmean(others, axis=0)) ** 2).sum()
        r2.append(1.0 - (e**2).sum() / about if about > 0.0 else np.nan)
    return {
        "rmse": over_stretches(np.array(rmse), unit), "mae": over_stretches(np.array(mae), unit),
        "r2": over_stretches(np.array(r2)),
    }  # fmt: skip


def distributions(measured: Array, said: Array, parts: list[Index], unit: str, rate: float) -> dict[str, Measure]:
    """Of one channel (T,): Kolmogorov's and Smirnov's statistic with its p, the energy distance, and the spectra.

    Samples in a row say the same; the p value is of as many as say something of their own.
    """
    ks, p, energy, spectra = [], [], [], []
    for part in parts:
        a, b = measured[part], said[part]
        ok = np.isfinite(a + b)
        if ok.sum() < 32:
            continue
        a, b = a[ok], b[ok]
        every = max(1, round(max(correlation_time(a), correlation_time(b))))
        ks.append(ks_2samp(a, b, method="asymp").statistic)
        if len(a[::every]) > 4:
            p.append(ks_2samp(a[::every], b[::every], method="asymp").pvalue)
        energy.append(energy_distance(a, b))
        spectra.append(spectral_distance(a, b, rate))
    return {
        "ks": over_stretches(np.array(ks)), "ks_p": over_stretches(np.array(p)),
        "energy_distance": over_stretches(np.array(energy), f"√({unit})"),
        "spectral_distance": over_stretches(np.array(spectra), "dB"),
    }  # fmt: skip


def spectral_distance(a: Array, b: Array, rate: float) -> float:
    """Root mean square difference of two power spectra [dB], over frequencies above the resolution's first bin."""
    n = min(len(a), 256)
    spectra = [welch(x - x.mean(), rate, nperseg=n)[1][1:] for x in (a, b)]
    floor = 1e-9 * max(s.max() for s in spectra)
    if floor <= 0.0:
        return 0.0
    return float(np.sqrt(np.mean((10.0 * np.log10((spectra[0] + floor) / (spectra[1] + floor))) ** 2)))


def frequency_response(command: Array, q: Array, rate: float) -> tuple[Array, Array, Array]:
    """Of one joint from command (T,) to position (T,): frequencies [Hz], H = S_cq / S_cc, and squared coherence."""
    n = min(len(q), round(4.0 * rate))
    c, y = command - command.mean(), q - q.mean()
    f, scc = welch(c, rate, nperseg=n)
    cross, syy = csd(c, y, rate, nperseg=n)[1], welch(y, rate, nperseg=n)[1]
    product = scc * syy
    return f[1:], (cross / np.maximum(scc, 1e-300))[1:], (np.abs(cross) ** 2 / np.maximum(product, 1e-300))[1:]


def step_response(command: Array, q: Array, rate: float) -> Array:
    """Position after a unit step of the command (k,), from the least squares response to changes of the command.

    Regularised towards no response: what was never excited is not there, in the model's response neither.
    """
    taps = round(STEP_TIME * rate)
    dc, dq = np.diff(command), np.diff(q)
    if len(dc) < 3 * taps:
        return np.full(taps, np.nan)
    columns = np.lib.stride_tricks.sliding_window_view(dc, taps)[:, ::-1]
    A, b = columns.T @ columns, columns.T @ dq[taps - 1 :]
    scale = np.trace(A) / taps
    if scale <= 1e-14:
        return np.full(taps, np.nan)
    return np.asarray(np.cumsum(np.linalg.solve(A + 1e-3 * scale * np.eye(taps), b)))


def responses(command: Array, measured: Array, said: Array, parts: list[Index], rate: float) -> dict[str, Measure]:
    """How gain, phase and step response of joints (T, n) differ: model less robot, joints that were commanded only."""
    gain, phase, step = [], [], []
    for part in parts:
        g, ph, st = [], [], []
        for c, y, x in zip(command[part].T, measured[part].T, said[part].T, strict=True):
            if np.ptp(c) < 1e-2 or not np.isfinite(c + y + x).all():
                continue
            _, H, known = frequency_response(c, y, rate)
            _, G, also = frequency_response(c, x, rate)
            both = (known > COHERENT) & (also > COHERENT) & (np.abs(H) > 1e-3) & (np.abs(G) > 1e-3)
            g += (20.0 * np.log10(np.abs(G[both] / H[both]))).tolist()
            ph += np.degrees(np.angle(G[both] / H[both])).tolist()
            st.append(np.sqrt(np.mean((step_response(c, x, rate) - step_response(c, y, rate)) ** 2)))
        gain.append(_rms(g))
        phase.append(_rms(ph))
        step.append(np.nanmean(st) if np.isfinite(st).any() else np.nan)
    return {
        "gain_difference": over_stretches(np.array(gain), "dB"), "phase_difference": over_stretches(np.array(phase), "deg"),
        "step_difference": over_stretches(np.array(step)),
    }  # fmt: skip


def _rms(x: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if x else np.nan
