"""Pictures of benchmark.state_estimation: truth against each method with its band of two sigma, and consistency."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmark.estimation_cases import DEGREES, FILTERS, SPEED_END, TILT_END, Case
from benchmark.estimation_runs import Track
from benchmark.estimation_scores import attitude_errors, band
from digital_twin.core.arrays import Array

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

QUANTITIES = ("x [m]", "y [m]", "z [m]", "yaw [deg]")
COLOURS = ("tab:blue", "tab:orange", "tab:green")
DPI = 90


def draw(case: Case, folder: Path) -> None:
    """Write NAME.png, and NAME_nees.png where consistency was judged."""
    folder.mkdir(parents=True, exist_ok=True)
    if case.tracks:
        _save(_tracks(case), folder / f"{case.name}.png")
    if case.nees:
        _save(_nees(case), folder / f"{case.name}_nees.png")
    if case.errors:
        _save(_convergence(case), folder / f"{case.name}.png")
    if case.times is not None:
        _save(_times(case.times), folder / f"{case.name}.png")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _values(k: Track) -> tuple[Array, Array, Array, Array]:
    """Of x, y, z [m] and yaw [deg]: truth, estimate, error and sigma, each (k, 4)."""
    yaw = np.degrees(np.unwrap(np.arctan2(k.true_rotation[:, 1, 0], k.true_rotation[:, 0, 0])))
    truth = np.column_stack([k.true_position, yaw])
    error = np.column_stack([k.position - k.true_position, np.degrees(attitude_errors(k)[:, 2])])
    sigma = np.sqrt(np.diagonal(k.covariance, axis1=1, axis2=2)[:, [0, 1, 2, 5]])
    sigma[:, 3] = np.degrees(sigma[:, 3])
    return truth, truth + error, error, sigma


def _tracks(case: Case) -> Figure:
    """Left: truth and all methods. Then for each method its error in its band; one scale for each row."""
    columns = 1 + len(case.tracks)
    figure, axes = plt.subplots(4, columns, figsize=(5 * columns, 11), sharex=True, layout="constrained")
    figure.suptitle(f"{case.name}: truth and estimates; errors with ±2 σ" + (" (seed 0)" if case.seeds > 1 else ""))
    for column, (method, track) in enumerate(case.tracks.items(), start=1):
        truth, estimate, error, sigma = _values(track)
        colour = COLOURS[column - 1]
        for row, name in enumerate(QUANTITIES):
            left, own = axes[row, 0], axes[row, column]
            if column == 1:
                left.plot(track.t, truth[:, row], "k", lw=2, label="truth")
                left.set_ylabel(name)
            left.plot(track.t, estimate[:, row], color=colour, lw=1, label=method)
            _banded(own, track.t, error[:, row], sigma[:, row], colour)
        axes[0, column].set_title(f"{method}: error")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=columns)
    for row in range(4):
        reach = max(1.2 * float(np.abs(_values(k)[2][:, row]).max()) for k in case.tracks.values())
        for a in axes[row, 1:]:
            a.set_ylim(-reach, reach)
    for a in axes[-1]:
        a.set_xlabel("t [s]")
    return figure


def _banded(axes: Axes, t: Array, error: Array, sigma: Array, colour: str) -> None:
    axes.fill_between(t, -2.0 * sigma, 2.0 * sigma, color=colour, alpha=0.2, lw=0)
    axes.plot(t, error, color=colour, lw=1)
    axes.axhline(0.0, color="k", lw=0.5)
    axes.grid(alpha=0.3)


def _nees(case: Case) -> Figure:
    """NEES over time, averaged over seeds, with its 95 % band."""
    figure, axes = plt.subplots(len(DEGREES), 1, figsize=(12, 12), sharex=True, layout="constrained")
    figure.suptitle(f"{case.name}: NEES averaged over {case.seeds} seeds, and its 95 % band")
    for a, (quantity, degrees) in zip(axes, DEGREES.items(), strict=True):
        low, high = band(degrees, case.seeds)
        a.axhspan(low, high, color="0.85")
        for method, colour in zip(FILTERS, COLOURS, strict=False):
            values = case.nees[quantity][method]
            t = case.tracks[method].t[-len(values) :]
            a.plot(t, values, color=colour, lw=0.8, label=method)
        a.set_yscale("log")
        a.set_ylim(0.05 * degrees, 20.0 * degrees)
        a.set_ylabel(f"{quantity} ({degrees})")
    axes[0].legend()
    axes[-1].set_xlabel("t [s]")
    return figure


def _convergence(case: Case) -> Figure:
    """Errors of tilt and speed since the wrong start, one line for each seed."""
    figure, axes = plt.subplots(2, len(case.errors), figsize=(13, 8), sharex=True, sharey="row", layout="constrained")
    for column, (method, runs) in enumerate(case.errors.items()):
        for t, tilt, speed in runs:
            axes[0, column].semilogy(t - t[0], np.degrees(tilt), color=COLOURS[column], lw=0.6)
            axes[1, column].semilogy(t - t[0], speed, color=COLOURS[column], lw=0.6)
        axes[0, column].axhline(np.degrees(TILT_END), color="k", ls="--")
        axes[1, column].axhline(SPEED_END, color="k", ls="--")
        axes[0, column].set_title(f"{method}: 30° and 0.5 m/s wrong at first")
        axes[1, column].set_xlabel("t [s]")
    axes[0, 0].set_ylabel("tilt error [deg]")
    axes[1, 0].set_ylabel("speed error [m/s]")
    return figure


def _times(times: Array) -> Figure:
    """What each step took, over the run."""
    figure, axes = plt.subplots(figsize=(12, 5), layout="constrained")
    axes.plot(times, ".", ms=1)
    axes.axhline(float(np.median(times)), color="k", lw=1)
    axes.set_ylim(0.0, 3.0 * float(np.median(times)))
    axes.set_xlabel("sample")
    axes.set_ylabel("one IMU propagation and two feet [us]")
    return figure
