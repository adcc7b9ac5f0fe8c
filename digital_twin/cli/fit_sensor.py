"""digital-twin fit-sensor: the profile of a sensor from a recording of it at rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from digital_twin.core.errors import TwinError
from digital_twin.core.sensors.fit_recording import Fitted
from digital_twin.fit_recordings import fit_topic


def fit_sensor(bag: str, topic: str, write: str = "", dark: Sequence[str] = ()) -> None:
    """Print what was found, and the profile as YAML; write that to a file when asked.

    `dark`: for a camera, TOPIC=SECONDS of dark frames and their exposure.

    Raises:
        BagError, FitError: one line. TwinError: when the file cannot be written, or `dark` is not of this form.
    """
    fitted = fit_topic(bag, topic, dict(_dark(entry) for entry in dark))
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


def _dark(entry: str) -> tuple[str, float]:
    topic, _, seconds = entry.partition("=")
    try:
        exposure = float(seconds)
    except ValueError:
        exposure = math.nan
    if not topic or not 0.0 <= exposure < math.inf:
        raise TwinError(f"--dark {entry}: expected TOPIC=SECONDS, like /camera/dark=0.005")
    return topic, exposure


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
