"""What an analysis finds: numbers, plots, events, and signals that runs are compared by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from digital_twin.core.arrays import Array
from digital_twin.recording.gather import Run
from digital_twin.recording.series import Plot

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
