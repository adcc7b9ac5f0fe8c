"""Writes the tables of README.md and of documents from the settings: python docs/make_tables.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digital_twin.core.config import flatten, span
from digital_twin.core.contact_config import ContactConfig
from digital_twin.core.motor_config import BatteryConfig, MotorConfig
from digital_twin.core.sensors.camera import CameraConfig
from digital_twin.settings import SETTINGS

README = Path(__file__).parents[1] / "README.md"
ROBOTS = Path(__file__).parent / "robots.md"
CAMERAS = Path(__file__).parent / "sensors_camera.md"
# Parts of a robot config that are explained by tables; the rest of docs/robots.md is prose.
PARTS = {"motor": MotorConfig, "battery": BatteryConfig, "contact": ContactConfig}
BEGIN, END = "<!-- parameters: written by docs/make_tables.py -->", "<!-- end of parameters -->"


def cell(value: Any) -> str:
    """A default as the tables show it."""
    if value in ("", []):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(name: str, settings: type) -> str:
    """The table of a node, or of a part of the robot config."""
    lines = [f"#### {name}", "", "| parameter | default | unit | allowed | what and why |", "|---|---|---|---|---|"]
    for p in flatten(settings):
        doc = p.meta.doc.replace("|", "\\|")
        lines.append(f"| `{p.name}` | {cell(p.default)} | {p.meta.unit or '–'} | {span(p.meta) or '–'} | {doc} |")
    return "\n".join(lines)


def write(path: Path, tables: dict[str, type]) -> None:
    """Replace what stands between the two marks."""
    text = path.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(head + BEGIN + "\n\n" + "\n\n".join(table(n, s) for n, s in tables.items()) + "\n\n" + END + tail)


if __name__ == "__main__":
    write(README, SETTINGS)
    write(ROBOTS, PARTS)
    write(CAMERAS, {"camera": CameraConfig})
