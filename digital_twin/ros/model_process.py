"""The process in which models are renewed, so that no callback of a node ever waits for it.

    python -m digital_twin.ros.model_process

It reads the name of a folder, one line, from its standard input. The folder holds request.json and a file for each field of the
window; outcome.json is written into it. The process ends with its standard input, which is the life of whoever started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from digital_twin.core.config import build, to_plain
from digital_twin.core.description import Description, parse_description
from digital_twin.core.drift.model_version import ModelVersion, parse_version
from digital_twin.core.drift.update import Outcome, candidate, propose, review
from digital_twin.core.drift.update_config import UpdateConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError, one_line
from digital_twin.core.robot_config import RobotConfig

REQUEST, OUTCOME = "request.json", "outcome.json"


def write_request(
    folder: Path, window: Window, description: Description, config: RobotConfig, service: ModelVersion,
    settings: UpdateConfig, now_ns: int, suspicion: dict[str, str], parent: ModelVersion | None = None,
    kind: str = "identification",
) -> None:  # fmt: skip
    """Put all that the process needs into a folder.

    kind: identification; review: of the model in service beside its parent; gap: the reality gap report.
    """
    for f in fields(window):
        # One array at a time: a large write lets other threads run.
        np.save(folder / f"{f.name}.npy", getattr(window, f.name), allow_pickle=False)
    (folder / "robot.urdf").write_text(description.urdf, encoding="utf-8")
    said = {
        "source": str(description.source), "config": to_plain(config), "service": service.to_json(),
        "settings": to_plain(settings), "now_ns": now_ns, "suspicion": suspicion,
        "parent": "" if parent is None else parent.to_json(), "kind": kind,
    }  # fmt: skip
    (folder / REQUEST).write_text(json.dumps(said), encoding="utf-8")


def read_window(folder: Path) -> Window:
    """The window of a request."""
    return Window(*(np.load(folder / f"{f.name}.npy", allow_pickle=False) for f in fields(Window)))


def work(folder: Path) -> Outcome:
    """Do what the request asks for."""
    said = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    description = parse_description((folder / "robot.urdf").read_text(encoding="utf-8"), said["source"])
    config = build(RobotConfig, said["config"], "robot config")
    service = parse_version(said["service"], "model in service")
    settings = build(UpdateConfig, said["settings"], "settings")
    window = read_window(folder)
    if said["kind"] == "gap":
        # It brings scipy.signal along, which takes longer to import than all else here, and a change waits for it.
        from digital_twin.core.drift.reality_gap import reality_gap

        now = candidate(service, description, config, settings)
        report = reality_gap(window, now, feeds_speed=service.data.feeds_speed) | {"model": service.hash}
        return Outcome(True, json.dumps(report, allow_nan=False))
    if said["kind"] == "review":
        return review(window, description, config, service, parse_version(said["parent"], "parent"), settings)
    return propose(window, description, config, service, said["suspicion"], settings, said["now_ns"])


def outcome_to_plain(o: Outcome) -> dict[str, Any]:
    """As outcome.json holds it."""
    return {"adopt": o.adopt, "words": o.words, "version": "" if o.version is None else o.version.to_json()}


def main() -> None:
    """Entry point."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return
    folder = Path(line[:-1].decode())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = work(folder)
    except TwinError as e:
        outcome = Outcome(False, f"{one_line(e)}; the model in service stays")
    temporary = folder / "outcome.writing"
    temporary.write_text(json.dumps(outcome_to_plain(outcome)), encoding="utf-8")
    temporary.replace(folder / OUTCOME)
    sys.stdout.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
