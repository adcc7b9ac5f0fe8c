"""What a run was like, in numbers, events and plots: each section appears when the recording holds what it needs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from digital_twin.core.arrays import Array
from digital_twin.recording.forecasts import forecast_skill, reported
from digital_twin.recording.gather import NS, Run
from digital_twin.recording.series import Plot, Series
from digital_twin.recording.tables import Table

GAP = 5.0  # times the usual spacing of messages, and at least this long:
LEAST_GAP = 0.05  # [s]
LONG_GAP = 0.5  # [s], worth an event
MOST_EVENTS = 500
MOST_PLOTS = 12  # of one topic
LEVELS = {0: "ok", 1: "warning", 2: "error", 3: "error"}


@dataclass(frozen=True)
class Event:
    """Something that happened: t [s] since the start, level 0 to 2."""

    t: float
    level: int
    who: str
    what: str


@dataclass
class Analysis:
    """numbers: by section. signals: series that runs are compared by: name, unit, t, y. events in the order of time."""

    run: Run
    numbers: dict[str, Any] = field(default_factory=dict)
    plots: list[Plot] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    signals: dict[str, tuple[str, Array, Array]] = field(default_factory=dict)


def analyse(run: Run) -> Analysis:
    """All sections."""
    a = Analysis(run)
    for section in (
        _quality,
        _tracking,
        _estimation,
        _latency,
        _base,
        _feet,
        _energy,
        _warmth,
        _drift,
        _forecasts,
        _joints,
    ):
        section(a)
    _events(a)
    return a


# Pairs of tables


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


# Sections


def _quality(a: Analysis) -> None:
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
        if regular and name in (
            "joint_states",
            "imu/data",
            "virtual/joint_states",
            "physical/joint_states",
            "joint_commands",
        ):
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


def _signal(a: Analysis, plot: Plot, name: str, unit: str, t: Array, y: Array, line: str = "") -> None:
    """A line of a plot that runs are also compared by."""
    plot.series.append(Series(line or name, t, y))
    a.signals[name] = (unit, t, y)


def _tracking(a: Analysis) -> None:
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
        _signal(a, plot, f"joints: {words}", "mrad", a.run.seconds(stamps), 1e3 * _row_rms(error), words)
        a.plots.append(plot)
    if numbers:
        a.numbers["tracking"] = numbers


def _estimation(a: Analysis) -> None:
    """The virtual robot against the truth."""
    tables, numbers = a.run.tables, {}
    virtual, true = tables.get("virtual/joint_states"), tables.get("ground_truth/joint_states")
    pair = paired(virtual, true) if virtual is not None and true is not None else None
    if pair is not None:
        stamps, x, y, names = pair
        worst, most = _worst(x - y, names)
        numbers["joints_rad"] = {"rms": _rms(x - y), "worst_joint": worst, "worst_rms": most}
        plot = Plot("Estimation error against the truth", "joints, RMS over all of them", "mrad")
        _signal(
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
            _signal(a, plot, f"{name}: virtual − true", unit, t, y, "virtual − true")
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


def _latency(a: Analysis) -> None:
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
    _signal(a, plot, "sync latency", "ms", a.run.seconds(np.array([s for s, _ in pairs])), ms)
    a.plots.append(plot)


def _base(a: Analysis) -> None:
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


def _feet(a: Analysis) -> None:
    plot = Plot("Motion", "force under the feet (z)", "N")
    for name, table in a.run.tables.items():
        if name.endswith("wrench") and not name.startswith(("physical/", "virtual/")):
            plot.series.append(Series(name.removesuffix("/wrench"), a.run.seconds(table.stamps), table.column("2")))
    if plot.series:
        a.plots.append(plot)


def _energy(a: Analysis) -> None:
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
        _signal(a, plot, "positive power", "W", t, positive)
        plot.series.append(Series("negative power", t, negative))
        a.plots.append(plot)
        return


def _warmth(a: Analysis) -> None:
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


def _drift(a: Analysis) -> None:
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


def _forecasts(a: Analysis) -> None:
    found = forecast_skill(a.run)
    if found is not None:
        a.numbers["forecast"], plot = found
        a.plots.append(plot)
    means, plots = reported(a.run)
    if means:
        a.numbers.setdefault("forecast", {})["reported"] = means
    a.plots += plots
    _labelled_plots(a, "Forecasts", lambda name: name.startswith("virtual/prediction/"))


def _joints(a: Analysis) -> None:
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


# Events


def _events(a: Analysis) -> None:
    """When a node's level or words changed (numbers in them aside), a clock stepped, a counter began again."""
    last: dict[str, tuple[int, str]] = {}
    counts: dict[str, dict[str, int]] = {}
    for s in a.run.statuses:
        t = (s.time_ns - a.run.start_ns) / NS
        words = re.sub(r"[-+]?\d[\d.]*", "#", s.words)
        if last.get(s.node, (0, "")) != (s.level, words):
            a.events.append(Event(t, min(s.level, 2), s.node, s.words or "all well again"))
            last[s.node] = (s.level, words)
        before = counts.setdefault(s.node, {})
        for key, value in s.values.items():
            if key.startswith(("clock_steps/", "resyncs", "sent/", "written")) and value.isdigit():
                n, was = int(value), before.get(key, 0)
                if key.startswith("clock_steps/") and n > was:
                    a.events.append(Event(t, 1, s.node, f"{key[12:]}: the clock of its stamps was stepped"))
                elif key == "resyncs" and n > was:
                    a.events.append(Event(t, 1, s.node, "resync"))
                elif key.startswith("sent/") and n < was:
                    a.events.append(Event(t, 2, s.node, "was started again"))
                    before.clear()
                before[key] = n
        faults = s.values.get("faults", "").strip("0")
        if faults != before.get("faults", ""):
            a.events.append(Event(t, 1, s.node, f"faults in force: {faults or 'none'}"))
            before["faults"] = faults  # type: ignore[assignment]
    a.events.sort(key=lambda e: e.t)
    if len(a.events) > MOST_EVENTS:
        more = len(a.events) - MOST_EVENTS
        a.events = [*a.events[:MOST_EVENTS], Event(a.run.duration, 0, "report", f"{more} events more are not shown")]
