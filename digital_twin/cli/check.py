"""digital-twin check: what the twin makes of a robot description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from digital_twin.core.config import to_plain
from digital_twin.core.description import load_description
from digital_twin.core.errors import TwinError
from digital_twin.core.guess import Guess, guess_robot_config
from digital_twin.core.model import RobotModel
from digital_twin.paths import find


def check_robot(path: str, write: str = "") -> None:
    """Print what is in a robot description and what is missing; write the guessed robot config when asked.

    Raises:
        DescriptionError: when it cannot be used at all. TwinError: when the config cannot be written.
    """
    description = load_description(find(path, "urdf"))
    model = RobotModel(description)
    guess = guess_robot_config(description, model)
    console = Console(soft_wrap=True)
    console.print(_facts(model, guess))
    console.print(_joints(model))
    for note in guess.notes:
        console.print(f"guessed  {note}", highlight=False)
    for what in guess.missing:
        console.print(f"[yellow]missing[/]  {what}", highlight=False)
    if write:
        write_config(guess, write)
        console.print(f"wrote {write}: look it over, then use it with --robot-config", highlight=False)


def _facts(model: RobotModel, guess: Guess) -> Table:
    d = model.description
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    rows = [
        ("robot", f"{d.name or '(no name)'}, {d.source}"),
        ("joints", f"{model.n} that move, {len(d.joints)} in all"),
        ("links", f"{len(d.links)}, {sum(d.links.values())} with an inertia"),
        ("mass", f"{model.mass:.2f} kg"),
        ("height", f"{height(model):.2f} m at all-zero joints"),
        ("base frame", model.base_frame),
        ("feet", ", ".join(f"{f.name}: {f.frame}" for f in guess.config.feet) or "none found"),
        ("IMUs", ", ".join(i.frame for i in guess.config.imus) or "none found"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def height(model: RobotModel) -> float:
    """From the lowest to the highest frame [m], with all joints at zero."""
    k = model.kinematics(model.frames)
    k.update(np.zeros(model.n))
    return float(np.ptp(k.position[:, 2]))


def _joints(model: RobotModel) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name in ("joint", "from", "to", "speed", "torque"):
        table.add_column(name, justify="left" if name == "joint" else "right")
    for i, name in enumerate(model.joint_names):
        limits = (model.lower[i], model.upper[i], model.max_velocity[i], model.max_effort[i])
        table.add_row(name, *(f"{x:.2f}" if np.isfinite(x) else "–" for x in limits))
    return table


def write_config(guess: Guess, path: str) -> None:
    """Write the guessed robot config as YAML; never over a file that is there.

    Raises:
        TwinError: when the file exists or cannot be written.
    """
    plain: dict[str, Any] = to_plain(guess.config)
    head = (
        "# A guess by `digital-twin check`. Units are SI. Correct what is wrong; docs/robots.md explains every key.\n"
    )
    notes = "".join(f"# missing: {what}\n" for what in guess.missing)
    try:
        with Path(path).expanduser().open("x", encoding="utf-8") as f:
            f.write(head + notes + yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=110))
    except FileExistsError as e:
        raise TwinError(f"{path}: already there; choose another name or remove it first") from e
    except OSError as e:
        raise TwinError(f"{path}: cannot write the robot config: {e.strerror}") from e
