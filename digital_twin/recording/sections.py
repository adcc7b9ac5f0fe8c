"""Sections of a report: each takes what it needs from the recording, and is silent when that is not there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from digital_twin.recording.accuracy import add_signal, joint_columns
from digital_twin.recording.findings import LEVELS, Analysis, Event
from digital_twin.recording.forecasts import forecast_skill, reported
from digital_twin.recording.gather import NS
from digital_twin.recording.series import Plot, Series

GAP = 5.0  # times the usual spacing of messages, and at least this long:
LEAST_GAP = 0.05  # [s]
LONG_GAP = 0.5  # [s], worth an event
MOST_PLOTS = 12  # of one topic
MAIN = ("joint_states", "imu/data", "virtual/joint_states", "physical/joint_states", "joint_commands")


def quality(a: Analysis) -> None:
    """Rates, gaps, what was refused, what is not a number."""
    rows, plot = [], Plot("Data quality", "messages a second", "Hz")
    for name, times in sorted(a.run.times.items()):
        t = np.sort(times)
        spacing = np.diff(t) / NS
        usual = float(np.median(spacing)) if len(spacing) else math.nan
        limit = max(GAP * usual, LEAST_GAP) if len(spacing) else math.inf
        gaps = spacing[spacing > limit]
        backwards = int((np.diff(times) < 0).sum())
        rows.append({
            "topic": name, "type": a.run.kinds.get(name, ""), "messages": len(times),
            "rate_hz": (len(t) - 1) / ((t[-1] - t[0]) / NS) if len(t) > 1 and t[-1] > t[0] else math.nan,
            "gaps": len(gaps), "longest_gap_s": float(spacing.max()) if len(spacing) else math.nan, "backwards": backwards,
        })  # fmt: skip
        regular = len(spacing) > 20 and usual < 0.2
        if regular and name in MAIN:
            edges = np.arange(t[0], t[-1], NS)
            if len(edges) > 2:
                counts = np.histogram(t, edges)[0]
                plot.series.append(Series(name, (edges[:-1] - a.run.start_ns) / NS, counts.astype(float)))
        if regular and name == "joint_states":
            for at in np.flatnonzero(spacing > LONG_GAP)[:50]:
                text = f"no joint_states for {spacing[at]:.2f} s"
                a.events.append(Event((t[at] - a.run.start_ns) / NS, 1, "recording", text))
    rejected: dict[str, int] = {}
    for s in a.run.statuses:
        for key, value in s.values.items():
            if key.startswith("rejected/") and value.isdigit():
                rejected[f"{s.node}: {key[9:]}"] = int(value)
    joints = a.run.tables.get("joint_states")
    numbers: dict[str, Any] = {"topics": rows, "rejected": rejected, "notes": a.run.notes}
    if joints is not None:
        _, q = joint_columns(joints)
        step = np.diff(joints.stamps)
        numbers["joint_states"] = {
            "not_finite": int((~np.isfinite(q)).any(axis=1).sum()), "duplicate_stamps": int((step == 0).sum()),
            "late_stamps": int((step < 0).sum()),
        }  # fmt: skip
    a.numbers["quality"] = numbers
    if plot.series:
        a.plots.append(plot)


def motion(a: Analysis) -> None:
    """The base: its way and its lean."""
    odom = a.run.tables.get("virtual/odom")
    if odom is None or len(odom) < 2:
        return
    t, v = a.run.seconds(odom.stamps), odom.values
    plot = Plot("Motion", "position of the base in odom", "m")
    plot.series += [Series(axis, t, v[:, i]) for i, axis in enumerate("xyz")]
    tilt = np.degrees(np.arccos(np.clip(1.0 - 2.0 * (v[:, 3] ** 2 + v[:, 4] ** 2), -1.0, 1.0)))
    lean = Plot("Motion", "lean of the base from upright", "deg", [Series("lean", t, tilt)])
    a.plots += [plot, lean]
    a.numbers["motion"] = {
        "distance_m": float(
            np.linalg.norm(np.diff(v[:: max(1, len(v) // 5000), :2].astype(float), axis=0), axis=1).sum()
        ),
        "largest_lean_deg": float(np.nanmax(tilt)),
    }
    fallen = np.flatnonzero((tilt[1:] > 60.0) & (tilt[:-1] <= 60.0))
    a.events += [
        Event(float(t[i + 1]), 2, "robot", f"the base leans {tilt[i + 1]:.0f} deg: it has fallen") for i in fallen[:20]
    ]


def feet(a: Analysis) -> None:
    """The forces under them."""
    plot = Plot("Motion", "force under the feet (z)", "N")
    for name, table in a.run.tables.items():
        if name.endswith("wrench") and not name.startswith(("physical/", "virtual/")):
            plot.series.append(Series(name.removesuffix("/wrench"), a.run.seconds(table.stamps), table.column("2")))
    if plot.series:
        a.plots.append(plot)


def energy(a: Analysis) -> None:
    """Mechanical power and work of the joints, where torques are known."""
    for topic, whose in (("joint_states", "reported by the robot"), ("virtual/joint_states", "of the virtual robot")):
        table = a.run.tables.get(topic)
        if table is None or len(table) < 10:
            continue
        names, effort = joint_columns(table, "effort")
        speeds, qd = joint_columns(table, "velocity")
        if not names or names != speeds or not np.isfinite(effort).any():
            continue
        t = a.run.seconds(table.stamps)
        power = np.nan_to_num(effort * qd).astype(float)
        dt = np.clip(np.diff(t, prepend=t[0]), 0.0, 0.1)
        positive, negative = np.maximum(power, 0.0).sum(axis=1), np.minimum(power, 0.0).sum(axis=1)
        work, back = float(positive @ dt), float(negative @ dt)
        each = np.abs(power).T @ dt
        numbers: dict[str, Any] = {
            "torques": whose, "work_j": work, "absorbed_j": -back, "mean_power_w": work / max(dt.sum(), 1e-9),
            "peak_power_w": float(positive.max()), "busiest_joint": names[int(each.argmax())],
        }  # fmt: skip
        distance = a.numbers.get("motion", {}).get("distance_m", 0.0)
        if a.run.robot is not None and distance > 0.5:
            numbers["cost_of_transport"] = work / (a.run.robot.model.mass * 9.81 * distance)
        a.numbers["energy"] = numbers
        plot = Plot("Energy", f"mechanical power of all joints (torques {whose})", "W")
        add_signal(a, plot, "positive power", "W", t, positive)
        plot.series.append(Series("negative power", t, negative))
        a.plots.append(plot)
        return


def temperatures(a: Analysis) -> None:
    """Whatever reports one."""
    plot = Plot("Temperatures", "reported", "°C")
    for name, kind in a.run.kinds.items():
        table = a.run.tables.get(name)
        if kind == "sensor_msgs/msg/Temperature" and table is not None:
            plot.series.append(Series(name, a.run.seconds(table.stamps), table.values[:, 0]))
    if plot.series:
        a.plots.append(plot)
        a.numbers["temperatures"] = {s.name: {"max_c": float(np.nanmax(s.y))} for s in plot.series}


def _labelled_plots(a: Analysis, section: str, fits: Callable[[str], bool]) -> None:
    """Numbers with names become plots, one for each kind of name ("spread/l_knee" is of kind "spread")."""
    for name, table in a.run.tables.items():
        if not fits(name):
            continue
        groups: dict[str, Plot] = {}
        for i, label in enumerate(table.names):
            if label.startswith("stamp_") or "@" in label:
                continue
            kind, _, rest = label.partition("/")
            if len(groups) == MOST_PLOTS and kind not in groups:
                continue
            plot = groups.setdefault(kind, Plot(section, f"{name}: {kind}", ""))
            if len(plot.series) < 12:
                plot.series.append(Series(rest or kind, a.run.seconds(table.stamps), table.values[:, i]))
        a.plots += groups.values()


def drift(a: Analysis) -> None:
    """The verdict over time."""
    drift = [s for s in a.run.statuses if "drift" in s.node]
    _labelled_plots(a, "Drift", lambda name: name.startswith("twin/drift"))
    if not drift:
        return
    t = np.array([(s.time_ns - a.run.start_ns) / NS for s in drift])
    levels = np.array([float(s.level) for s in drift])
    a.plots.append(
        Plot("Drift", "verdict: 0 as its model says, 1 suspected, 2 drifted", "", [Series("level", t, levels)])
    )
    worst = max(drift, key=lambda s: s.level)
    a.numbers["drift"] = {
        "worst": LEVELS[min(worst.level, 2)], "words": worst.words, "share_in_error": float((levels >= 2).mean()),
        "last": drift[-1].words,
    }  # fmt: skip


def forecasts(a: Analysis) -> None:
    """How good forecasts were, measured and as the predictor says."""
    found = forecast_skill(a.run)
    if found is not None:
        a.numbers["forecast"], plot = found
        a.plots.append(plot)
    means, plots = reported(a.run)
    if means:
        a.numbers.setdefault("forecast", {})["reported"] = means
    a.plots += plots
    _labelled_plots(a, "Forecasts", lambda name: name.startswith("virtual/prediction/"))


def each_joint(a: Analysis) -> None:
    """Each joint, measured and virtual, for whoever wants to look."""
    for topic, name in (("joint_states", "measured"), ("virtual/joint_states", "virtual")):
        table = a.run.tables.get(topic)
        if table is None:
            continue
        joints, q = joint_columns(table)
        for i, joint in enumerate(joints):
            plot = next((p for p in a.plots if p.section == "Joints" and p.title == joint), None)
            if plot is None:
                plot = Plot("Joints", joint, "rad")
                a.plots.append(plot)
            plot.series.append(Series(name, a.run.seconds(table.stamps), q[:, i]))
