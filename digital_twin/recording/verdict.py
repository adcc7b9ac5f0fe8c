"""One paragraph in words: was it a good run, and what should be looked at?"""

from __future__ import annotations

from digital_twin.recording.findings import Analysis


def verdict(a: Analysis) -> tuple[int, str]:
    """Level (0 good, 1 to be looked at, 2 bad) and the paragraph."""
    n, run = a.numbers, a.run
    name = run.metadata.get("robot") or (run.robot.description.name if run.robot else "") or "a robot"
    minutes = f"{run.duration / 60:.1f} minutes" if run.duration > 120 else f"{run.duration:.1f} s"
    said, level = [f"{minutes} of {name}."], 0
    errors, warnings = (sum(e.level == k for e in a.events) for k in (2, 1))
    falls = [e for e in a.events if "fallen" in e.what]
    if falls:
        level = 2
        said.append(f"The robot fell at {falls[0].t:.1f} s.")
    level, text = _drift(a, level)
    said += text
    said += _accuracy(a)
    tracking = n.get("tracking", {}).get("command_error_rad")
    if tracking:
        said.append(
            f"The joints were {1e3 * tracking['rms']:.1f} mrad RMS from their commands, {tracking['worst_joint']} the farthest "
            f"with {1e3 * tracking['worst_rms']:.1f} mrad."
        )
    if "latency" in n:
        said.append(f"The twin answered in {n['latency']['p50_ms']:.1f} ms (p99 {n['latency']['p99_ms']:.1f} ms).")
    skill = [r for r in n.get("forecast", {}).get("by_horizon", []) if r["horizon_s"] >= 0.5]
    if skill:
        better = "better" if skill[0]["skill"] > 0 else "no better"
        said.append(
            f"Forecasts {skill[0]['horizon_s']:g} s ahead were {better} than to say that nothing moves (skill {skill[0]['skill']:.2f})."
        )
    if "energy" in n:
        said.append(f"The motors did {n['energy']['work_j']:.0f} J of work.")
    trouble = _trouble(a)
    if trouble or errors:
        level = max(level, 2 if errors else 1)
    happened = (
        f"{errors} error{'s' * (errors != 1)} and {warnings} warning{'s' * (warnings != 1)} were told"
        if errors or warnings
        else ""
    )
    if happened or trouble:
        sentence = "; ".join([happened, *trouble][not happened :])
        said.append(sentence[0].upper() + sentence[1:] + ".")
    else:
        said.append("The data are whole: no gaps, no steps of clocks, nothing refused that matters.")
    return level, " ".join(said)


def _drift(a: Analysis, level: int) -> tuple[int, list[str]]:
    drift = a.numbers.get("drift")
    if drift is None:
        return level, []
    if drift["worst"] == "ok":
        return level, ["It behaved like its model all along."]
    level = max(level, 2 if drift["worst"] == "error" else 1)
    return level, [f"It did not always behave like its model: {drift['words']}."]


def _accuracy(a: Analysis) -> list[str]:
    found = a.numbers.get("estimation", {})
    out = []
    if "base" in found:
        b = found["base"]
        share = f", {100 * b['position_end_m'] / b['distance_m']:.1f} % of the way" if b["distance_m"] > 0.5 else ""
        out.append(
            f"Against the truth the virtual base was {100 * b['position_rms_m']:.1f} cm and {b['attitude_rms_deg']:.2f} deg RMS off over "
            f"{b['distance_m']:.2f} m, {100 * b['position_end_m']:.1f} cm at the end{share}."
        )
    if "joints_rad" in found:
        j = found["joints_rad"]
        out.append(f"Its joints were {1e3 * j['rms']:.2f} mrad RMS off, {j['worst_joint']} the most.")
    return out


def _trouble(a: Analysis) -> list[str]:
    quality, out = a.numbers["quality"], []
    joints = next((t for t in quality["topics"] if t["topic"] == "joint_states"), None)
    if joints is None:
        out.append("there are no joint states in the recording")
    elif "joint_states" not in a.run.tables:
        out.append(f"the joint states cannot be read: they are {joints['type'] or 'of no known type'}")
    elif joints["gaps"]:
        gaps = f"{joints['gaps']} gap{'s' * (joints['gaps'] != 1)}, the longest"
        out.append(f"joint states have {gaps} {1e3 * joints['longest_gap_s']:.0f} ms")
    bad = quality.get("joint_states", {})
    for key, words in (
        ("not_finite", "are not numbers"),
        ("duplicate_stamps", "repeat a stamp"),
        ("late_stamps", "come late"),
    ):
        if bad.get(key):
            out.append(f"{bad[key]} joint states {words}")
    back = sum(t["backwards"] for t in quality["topics"])
    if back:
        out.append(f"the recorder's clock went back ({back} time{'s' * (back != 1)} between messages)")
    damage = [note for note in quality["notes"] if "breaks off" in note or "damaged" in note or "missing" in note]
    if damage:
        out.append("the recording is not whole: " + "; ".join(damage))
    return out
