"""What a run was like, in numbers, events and plots: each section appears when the recording holds what it needs."""

from __future__ import annotations

import re

from digital_twin.recording import accuracy, sections
from digital_twin.recording.findings import Analysis, Event
from digital_twin.recording.gather import NS, Run

MOST_EVENTS = 500
SECTIONS = (
    sections.quality, accuracy.tracking, accuracy.estimation, accuracy.latency, sections.motion, sections.feet,
    sections.energy, sections.temperatures, sections.drift, sections.forecasts, sections.each_joint,
)  # fmt: skip


def analyse(run: Run) -> Analysis:
    """All sections, in the order in which a report shows them."""
    a = Analysis(run)
    for section in SECTIONS:
        section(a)
    events(a)
    return a


def events(a: Analysis) -> None:
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
