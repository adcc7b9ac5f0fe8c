"""digital-twin fit-sensor: the profile of a sensor from a recording of it at rest."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from rosbags.typesys import Stores, get_typestore

from digital_twin.bags import Bag
from digital_twin.core.errors import BagError, TwinError, one_line, unknown
from digital_twin.core.sensors.fit_recording import SCAN, VECTORS, Fitted, fit_scan

MAX_MESSAGES = 20_000_000


def fit_sensor(bag: str, topic: str, write: str = "") -> None:
    """Print what was found, and the profile as YAML; write that to a file when asked.

    Raises:
        BagError, FitError: one line. TwinError: when the file cannot be written.
    """
    fitted = fit_topic(bag, topic)
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("parameter", "value", "99 % interval"):
        table.add_column(column, justify="left" if column == "parameter" else "right")
    for name, e in fitted.estimates.items():
        table.add_row(name, f"{e.value:.4g}", f"{e.low:.4g} … {e.high:.4g}")
    console = Console(soft_wrap=True)
    console.print(table)
    for note in fitted.notes:
        console.print(note, highlight=False)
    text = as_yaml(fitted, f"{bag}, {topic}")
    if not write:
        console.print(text, highlight=False, end="")
        return
    try:
        with Path(write).expanduser().open("x", encoding="utf-8") as f:
            f.write(text)
    except FileExistsError as e:
        raise TwinError(f"{write}: already there; choose another name or remove it first") from e
    except OSError as e:
        raise TwinError(f"{write}: cannot write the profile: {e.strerror}") from e
    console.print(f"wrote {write}", highlight=False)


def as_yaml(fitted: Fitted, source: str) -> str:
    """A profile as config/sensors holds them, its intervals as comments."""
    comments = "".join(f"# {name}: {e.low:.4g} … {e.high:.4g}\n" for name, e in fitted.estimates.items())
    head = f"# Fitted by `digital-twin fit-sensor`; 99 % intervals:\n{comments}"
    body = {
        "kind": fitted.kind,
        "device": "fitted to a recording at rest",
        "source": source,
        "parameters": fitted.parameters,
    }
    return head + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)


def fit_topic(bag: str, topic: str) -> Fitted:
    """Read one topic of a recording and fit what its type tells it is. Raises BagError, FitError."""
    with Bag(bag) as b:
        found = next((t for t in b.topics.values() if t.name.strip("/") == topic.strip("/")), None)
        if found is None:
            raise BagError(f"{bag}: {unknown('topic', topic, b.topics)}")
        if found.kind not in VECTORS and found.kind != SCAN:
            raise BagError(f"{bag}: {topic} is of {found.kind}; fitted are {', '.join([*VECTORS, SCAN])}")
        if found.count > MAX_MESSAGES:
            raise BagError(f"{bag}: {topic} has {found.count} messages; {MAX_MESSAGES} are enough")
        store = get_typestore(Stores.ROS2_JAZZY)
        messages = []
        for name, _, data in b.messages():
            if name == found.name:
                try:
                    messages.append(_numbers(store.deserialize_cdr(data, found.kind), found.kind))
                except Exception as e:  # whatever bytes that are no such message make the library raise
                    raise BagError(f"{bag}: {topic}: message {len(messages)} is malformed: {one_line(e)}") from e
    stamps = np.array([m[0] for m in messages], dtype=float) - float(messages[0][0])
    if found.kind == SCAN:
        first = messages[0][2]
        if any(len(m[1]) != len(messages[0][1]) for m in messages):
            raise BagError(f"{bag}: {topic}: its scans differ in their number of rays")
        return fit_scan(
            stamps, np.array([m[1] for m in messages], dtype=float), first.angle_min, first.angle_increment,
            (first.range_min, first.range_max),
        )  # fmt: skip
    return VECTORS[found.kind][0](stamps, np.array([m[1] for m in messages]))


def _numbers(m: Any, kind: str) -> tuple[int, Any, Any]:
    stamp = m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec
    if kind == SCAN:
        return stamp, m.ranges, m
    vectors = [attrgetter(path)(m) for path in VECTORS[kind][1]]
    return stamp, [c for v in vectors for c in (v.x, v.y, v.z)], None
