"""How near: the robot to its commands, the virtual robot to the measured and to the true one; and how soon."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from digital_twin.core.arrays import Array
from digital_twin.recording.findings import Analysis
from digital_twin.recording.gather import NS, Run
from digital_twin.recording.series import Plot, Series
from digital_twin.recording.tables import Table


def joint_columns(table: Table, kind: str = "position") -> tuple[tuple[str, ...], Array]:
    """Names of joints and their columns (n, k)."""
    return table.columns(f"{kind}/")


def paired(a: Table, b: Table, kind: str = "position") -> tuple[Array, Array, Array, tuple[str, ...]] | None:
    """Joints of two tables at the stamps of the second: stamps (n,), values of a and of b (n, k), names.

    Stamps that both have are matched; where few are, a is interpolated.
    """
    names_a, values_a = joint_columns(a, kind)
    names_b, values_b = joint_columns(b, kind)
    names = tuple(n for n in names_b if n in names_a)
    if not names:
        return None
    ia, ib = [names_a.index(n) for n in names], [names_b.index(n) for n in names]
    common, at_a, at_b = np.intersect1d(a.stamps, b.stamps, return_indices=True)
    if len(common) > 0.5 * min(len(a), len(b)):
        return common, values_a[at_a][:, ia], values_b[at_b][:, ib], names
    order = np.argsort(a.stamps, kind="stable")
    stamps = a.stamps[order]
    inside = (b.stamps >= stamps[0]) & (b.stamps <= stamps[-1])
    if inside.sum() < 2:
        return None
    t = (b.stamps[inside] - stamps[0]) / NS
    x = (stamps - stamps[0]) / NS
    values = np.column_stack([np.interp(t, x, values_a[order, i]) for i in ia])
    return b.stamps[inside], values, values_b[inside][:, ib], names


def _rms(x: Array) -> float:
    return float(np.sqrt(np.nanmean(np.square(x)))) if x.size and np.isfinite(x).any() else math.nan


def _row_rms(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        count = np.maximum(np.isfinite(x).sum(axis=1), 1)
        return np.asarray(np.sqrt(np.nansum(np.square(x), axis=1) / count))


def _worst(error: Array, names: tuple[str, ...]) -> tuple[str, float]:
    each = np.array([_rms(error[:, i]) for i in range(error.shape[1])])
    if not np.isfinite(each).any():
        return "", math.nan
    i = int(np.nanargmax(each))
    return names[i], float(each[i])


def add_signal(a: Analysis, plot: Plot, name: str, unit: str, t: Array, y: Array, line: str = "") -> None:
    """A line of a plot that runs are also compared by."""
    plot.series.append(Series(line or name, t, y))
    a.signals[name] = (unit, t, y)


def tracking(a: Analysis) -> None:
    """The robot against its commands; the virtual joints against the measured ones."""
    tables = a.run.tables
    numbers: dict[str, Any] = {}
    measured = tables.get("joint_states")
    commands = tables.get("joint_commands", tables.get("virtual/joint_commands"))
    for key, words, one, other in (
        ("command_error_rad", "measured − commanded", commands, measured),
        ("residual_rad", "virtual − measured", tables.get("virtual/joint_states"), measured),
    ):
        pair = paired(one, other) if one is not None and other is not None else None
        if pair is None:
            continue
        stamps, x, y, names = pair
        error = y - x
        worst, most = _worst(error, names)
        numbers[key] = {
            "rms": _rms(error),
            "worst_joint": worst,
            "worst_rms": most,
            "largest": float(np.nanmax(np.abs(error))),
        }
        plot = Plot("Tracking", f"joints, {words}, RMS over all of them", "mrad")
        add_signal(a, plot, f"joints: {words}", "mrad", a.run.seconds(stamps), 1e3 * _row_rms(error), words)
        a.plots.append(plot)
    if numbers:
        a.numbers["tracking"] = numbers


def estimation(a: Analysis) -> None:
    """The virtual robot against the truth."""
    tables, numbers = a.run.tables, {}
    virtual, true = tables.get("virtual/joint_states"), tables.get("ground_truth/joint_states")
    pair = paired(virtual, true) if virtual is not None and true is not None else None
    if pair is not None:
        stamps, x, y, names = pair
        worst, most = _worst(x - y, names)
        numbers["joints_rad"] = {"rms": _rms(x - y), "worst_joint": worst, "worst_rms": most}
        plot = Plot("Estimation error against the truth", "joints, RMS over all of them", "mrad")
        add_signal(
            a, plot, "joints: virtual − true", "mrad", a.run.seconds(stamps), 1e3 * _row_rms(x - y), "virtual − true"
        )
        a.plots.append(plot)
    odom, truth = tables.get("virtual/odom"), tables.get("ground_truth/odom")
    found = _base_errors(a.run, odom, truth) if odom is not None and truth is not None else None
    if found is not None:
        stamps, position, attitude, distance = found
        t = a.run.seconds(stamps)
        numbers["base"] = {
            "position_rms_m": _rms(position), "position_end_m": float(position[-1]), "attitude_rms_deg": _rms(attitude),
            "position_max_m": float(position.max()), "distance_m": distance,
        }  # fmt: skip
        for name, unit, y in (("base position", "cm", 100 * position), ("base attitude", "deg", attitude)):
            plot = Plot("Estimation error against the truth", f"{name}, laid on the truth at the start", unit)
            add_signal(a, plot, f"{name}: virtual − true", unit, t, y, "virtual − true")
            a.plots.append(plot)
    if numbers:
        a.numbers["estimation"] = numbers


def _base_errors(run: Run, odom: Table, truth: Table) -> tuple[Array, Array, Array, float] | None:
    """Stamps, position errors [m], attitude errors [deg], and the distance gone [m]; laid on each other at the start."""
    good = np.isfinite(truth.values).all(axis=1)
    common, i, j = np.intersect1d(odom.stamps, truth.stamps[good], return_indices=True)
    if len(common) < 2:
        j = np.flatnonzero((truth.stamps[good] >= odom.stamps.min()) & (truth.stamps[good] <= odom.stamps.max()))
        order = np.argsort(odom.stamps)
        i = order[np.minimum(np.searchsorted(odom.stamps[order], truth.stamps[good][j]), len(order) - 1)]
        common = truth.stamps[good][j]
    if len(common) < 2:
        return None
    x, y = odom.values[i].astype(float), truth.values[good][j].astype(float)
    R, R_true = Rotation.from_quat(x[:, 3:7]), Rotation.from_quat(y[:, 3:7])
    p, p_true = x[:, :3], y[:, :3]
    if run.robot is not None:
        model, frame = run.robot.model, run.true_frame.rsplit("/", 1)[-1]
        k = model.kinematics([frame if frame in model.frames else model.base_frame])
        k.update(np.zeros(model.n))
        p, R = p + R.apply(k.position[0]), R * Rotation.from_matrix(k.rotation[0])
    heading = lambda r: r[0].as_euler("ZYX")[0]  # noqa: E731
    turn = Rotation.from_euler("z", heading(R_true) - heading(R))
    p, R = turn.apply(p), turn * R
    error = np.linalg.norm(p - p[0] - (p_true - p_true[0]), axis=1)
    attitude = np.degrees((R.inv() * R_true).magnitude())
    return common, error, attitude, float(np.linalg.norm(np.diff(p_true, axis=0), axis=1).sum())


def latency(a: Analysis) -> None:
    """From the bridge to the recorder."""
    virtual = a.run.tables.get("virtual/joint_states")
    if virtual is None or not a.run.arrivals or a.run.replayed:
        return
    pairs = [
        (s, r - a.run.arrivals[s])
        for s, r in zip(virtual.stamps.tolist(), virtual.received.tolist(), strict=True)
        if s in a.run.arrivals
    ]
    ms = np.array([d for _, d in pairs]) / 1e6
    if len(ms) < 10 or not (0.0 <= np.median(ms) < 1e4):  # the recorder's clock is not the bridge's
        return
    p50, p99 = np.percentile(ms, (50, 99))
    a.numbers["latency"] = {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(ms.max())}
    plot = Plot(
        "Latency", "from the arrival of joint_states at the bridge to virtual/joint_states at the recorder", "ms"
    )
    add_signal(a, plot, "sync latency", "ms", a.run.seconds(np.array([s for s, _ in pairs])), ms)
    a.plots.append(plot)
