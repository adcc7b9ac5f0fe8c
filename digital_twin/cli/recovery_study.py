"""digital-twin recovery-study: what pushes the robot survives, as tables and a map."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from digital_twin.cli.fusion_study import can_draw
from digital_twin.core.config import to_plain
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.gait.gait_config import load_gait, robot_gait
from digital_twin.core.gait.recovery import SERVOS, Design, Push, share, surely
from digital_twin.gait_runs import PushTrials, cache_folder
from digital_twin.parallel import Workers
from digital_twin.robots import Robot, load_robot

DEFAULT = "gait"  # the controller with the robot's own gait
ASKED = 0.25  # [N s/kg] that is always told


def recovery_study(
    robot_description: str, robot_config: str, design: Design, controllers: list[str], frame: str, plot: str = "",
    json_file: str = "", world: str = "", processes: int = 0, cache: str | None = None,
) -> dict[str, list[bool]]:  # fmt: skip
    """Push, print what was survived, draw the map when asked. Returns, by controller, what was survived of each push.

    Raises:
        DescriptionError, ConfigError, WorldError: one line. TwinError: nowhere to write, an unknown frame.
    """
    if plot:
        can_draw(plot)
    robot = load_robot(robot_description, robot_config)
    frame = frame or robot.model.base_frame
    if frame not in robot.model.frames:
        raise TwinError(unknown("frame", frame, robot.model.frames))
    gaits: dict[str, Any] = {name: _gait(name, robot) for name in controllers}
    pushes = list(design.pushes())
    jobs, places = [], []
    for name, gait in gaits.items():
        for i, push in enumerate(pushes):
            if gait is not None or not push.speed:  # servos alone do not walk
                jobs.append((gait, push))
                places.append((name, i))
    survived = {name: [False] * len(pushes) for name in gaits}
    folder = str(cache_folder()) if cache is None else cache
    columns = (TextColumn("pushing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Workers(PushTrials, (robot_description, robot_config, frame, world, folder), processes) as workers,
        Progress(*columns, console=Console(stderr=True), transient=True) as bar,
    ):
        row = bar.add_task("", total=len(jobs))
        for k, result in workers.each(jobs):
            name, i = places[k]
            survived[name][i] = result
            bar.advance(row)
    console = Console(soft_wrap=True)
    console.print(_table(pushes, survived, frame))
    if json_file:
        _write_json(pushes, survived, json_file)
        console.print(f"wrote {json_file}", highlight=False)
    if plot:
        draw(pushes, survived, plot)
        console.print(f"wrote {plot}", highlight=False)
    return survived


def _gait(name: str, robot: Robot) -> dict[str, Any] | None:
    if name == SERVOS:
        return None
    plain: dict[str, Any] = to_plain(robot_gait(robot.config, robot.where) if name == DEFAULT else load_gait(name))
    return plain


def _situations(pushes: list[Push]) -> list[tuple[float, float]]:
    """(speed, phase) of the pushes, in order."""
    return sorted({(p.speed, p.phase) for p in pushes})


def _say(speed: float, phase: float) -> str:
    return f"walking at {speed:g} m/s, {100 * phase:.0f} % of a step" if speed else "standing"


def _table(pushes: list[Push], survived: dict[str, list[bool]], frame: str) -> Table:
    t = Table(box=None, header_style="bold", padding=(0, 1), title_justify="left")
    t.title = f"pushes on {frame}: share that is survived, and the impulse below which all are [N s/kg]"
    t.add_column("controller")
    t.add_column("when")
    impulses = sorted({p.impulse for p in pushes})
    for impulse in impulses:
        t.add_column(f"{impulse:g}", justify="right")
    t.add_column("all up to", justify="right")
    for name, results in survived.items():
        for speed, phase in _situations(pushes):
            if name == SERVOS and speed:
                continue
            only = {"speed": speed, "phase": phase}
            shares = [f"{100 * share(pushes, results, impulse=i, **only):.0f} %" for i in impulses]
            t.add_row(name, _say(speed, phase), *shares, f"{surely(pushes, results, **only):g}")
    return t


def _write_json(pushes: list[Push], survived: dict[str, list[bool]], path: str) -> None:
    text = json.dumps({"pushes": [to_plain(p) for p in pushes], "survived": survived}, indent=1)
    try:
        Path(path).expanduser().write_text(text, encoding="utf-8")
    except OSError as e:
        raise TwinError(f"{path}: cannot write: {e.strerror}") from e


def draw(pushes: list[Push], survived: dict[str, list[bool]], path: str) -> None:
    """A map for each controller and situation: whereto and how hard, green where it is survived.

    Raises:
        TwinError: nowhere to write.
    """
    import matplotlib.pyplot as plt

    shown = [
        (name, *situation)
        for name in survived
        for situation in _situations(pushes)
        if name != SERVOS or not situation[0]
    ]
    columns = min(len(shown), 5)
    rows = math.ceil(len(shown) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(max(3.1 * columns, 5.0), 3.4 * rows), subplot_kw={"projection": "polar"}, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    impulses = np.array(sorted({p.impulse for p in pushes}))
    directions = np.array(sorted({p.direction for p in pushes}))
    edges = np.concatenate([[0.0], (impulses[:-1] + impulses[1:]) / 2, [impulses[-1] + 0.05]])
    width = 2.0 * math.pi / len(directions)
    colours = plt.get_cmap("RdYlGn")
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax, (name, speed, phase) in zip(axes.flat, shown, strict=False):
        for impulse, low, high in zip(impulses, edges[:-1], edges[1:], strict=True):
            only = {"impulse": impulse, "speed": speed, "phase": phase}
            values = [share(pushes, survived[name], direction=d, **only) for d in directions]
            ax.bar(directions, high - low, width, low, color=[colours(v) for v in values], linewidth=0)
        ax.plot(np.linspace(0, 2 * math.pi, 100), np.full(100, ASKED), "k--", linewidth=0.8)
        ax.set_theta_zero_location("N")  # ahead is up, left is left
        ax.set_xticks(np.arange(4) * math.pi / 2, ["ahead", "left", "back", "right"], fontsize=7)
        ax.set_yticks(impulses, [f"{i:g}" for i in impulses], fontsize=6)
        ax.grid(alpha=0.3)
        ax.set_title(f"{Path(name).stem}: {_say(speed, phase)}", fontsize=8)
    figure.colorbar(plt.cm.ScalarMappable(cmap=colours), ax=axes, label="share survived", shrink=0.6)
    figure.suptitle(f"pushed whereto, and how hard [N s/kg]; dashed: {ASKED:g}", fontsize=10)
    try:
        figure.savefig(Path(path).expanduser(), dpi=110)
    except (OSError, ValueError) as e:
        raise TwinError(f"{path}: cannot write the plot: {e}") from e
    plt.close(figure)
