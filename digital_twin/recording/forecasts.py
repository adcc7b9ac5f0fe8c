"""Forecasts of joint positions against what was measured later, by horizon, beside the forecast that nothing moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from digital_twin.core.errors import TwinError
from digital_twin.recording.gather import NS, Run
from digital_twin.recording.series import Plot, Series
from digital_twin.recording.typed import deserialize

HORIZONS = (0.1, 0.25, 0.5, 1.0, 2.0)


def forecast_skill(run: Run) -> tuple[dict[str, Any], Plot] | None:
    """RMSE [rad] by horizon of virtual/prediction/joint_trajectory, of persistence, and 1 − their ratio of squares."""
    measured = run.tables.get("joint_states")
    messages = run.raw.get("virtual/prediction/joint_trajectory", [])
    if measured is None or not messages:
        return None
    names, q = measured.columns("position/")
    order = np.argsort(measured.stamps, kind="stable")
    stamps, q = measured.stamps[order], q[order].astype(float)
    errors: dict[float, list[np.ndarray]] = {h: [] for h in HORIZONS}
    still: dict[float, list[np.ndarray]] = {h: [] for h in HORIZONS}
    for _, data in messages:
        try:
            m = deserialize(data, "trajectory_msgs/msg/JointTrajectory")
        except TwinError:
            continue
        known = [(i, names.index(n)) for i, n in enumerate(m.joint_names) if n in names]
        if not known or not m.points:
            continue
        ours, theirs = [j for _, j in known], [i for i, _ in known]
        start = m.header.stamp.sec * NS + m.header.stamp.nanosec
        ahead = np.array([p.time_from_start.sec + p.time_from_start.nanosec / NS for p in m.points])
        forecast = np.array([np.asarray(p.positions)[theirs] for p in m.points])
        now = _at(stamps, q, start)[ours]
        for h in HORIZONS:
            at = start + round(h * NS)
            if h <= ahead[-1] + 1e-9 and at <= stamps[-1]:
                there = _at(stamps, q, at)[ours]
                said = np.array([np.interp(h, ahead, column) for column in forecast.T])
                errors[h].append(np.square(said - there))
                still[h].append(np.square(now - there))
    rows = []
    for h in HORIZONS:
        if errors[h]:
            mse, persistence = float(np.mean(errors[h])), float(np.mean(still[h]))
            skill = 1.0 - mse / persistence if persistence > 0.0 else float("nan")
            rows.append({"horizon_s": h, "rmse_rad": mse**0.5, "persistence_rad": persistence**0.5, "skill": skill})
    if not rows:
        return None
    x = np.array([r["horizon_s"] for r in rows])
    plot = Plot("Forecasts", "RMSE of joint forecasts by horizon (s)", "mrad")
    plot.series.append(Series("forecast", x, np.array([1e3 * r["rmse_rad"] for r in rows])))
    plot.series.append(Series("nothing moves", x, np.array([1e3 * r["persistence_rad"] for r in rows])))
    return {"by_horizon": rows, "judged": len(messages)}, plot


def reported(run: Run) -> tuple[dict[str, float], list[Plot]]:
    """What the predictor said of itself: means of its scores, and plots of them and of its spread, a line a horizon.

    Its labels are like joints_coverage@500ms and l_knee@500ms.
    """
    means: dict[str, float] = {}
    plots: dict[str, Plot] = {}
    for topic, whole in (("virtual/prediction/skill", False), ("virtual/prediction/spread", True)):
        table = run.tables.get(topic)
        if table is None:
            continue
        groups: dict[tuple[str, str], list[int]] = {}
        for i, label in enumerate(table.names):
            what, _, horizon = label.partition("@")
            if horizon:
                base = what in ("x", "y", "z", "roll", "pitch", "yaw")
                groups.setdefault((("base" if base else "joints") if whole else what, horizon), []).append(i)
        t = run.seconds(table.stamps)
        for (what, horizon), columns in groups.items():
            y = table.values[:, columns]
            there = np.isfinite(y).any(axis=1)
            if not there.any():
                continue
            line = np.nanmean(y[there], axis=1)
            if whole:
                title = f"mean half width of the 90 % intervals, {what}"
            else:
                title, means[f"{what}@{horizon}"] = what.replace("_", " "), float(line.mean())
            plot = plots.setdefault(title, Plot("Forecasts", title, "rad" if whole and what == "joints" else ""))
            plot.series.append(Series(horizon, t[there], line))
    return means, list(plots.values())


def _at(stamps: np.ndarray, q: np.ndarray, stamp: int) -> np.ndarray:
    i = int(np.clip(np.searchsorted(stamps, stamp), 1, len(stamps) - 1))
    before, after = int(stamps[i - 1]), int(stamps[i])
    w = float(np.clip((stamp - before) / max(after - before, 1), 0.0, 1.0))
    return np.asarray((1.0 - w) * q[i - 1] + w * q[i])
