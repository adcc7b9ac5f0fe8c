"""digital-twin optimize-gait: a better gait for a speed and a terrain, found in the twin."""

from __future__ import annotations

import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from digital_twin.cli.fusion_study import can_draw
from digital_twin.core.config import to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.gait_config import Gait, load_gait
from digital_twin.core.gait.trial import SPACE, Task, front
from digital_twin.gait_runs import GaitTrials, cache_folder, terrain
from digital_twin.gait_search import Candidate, Search, natural_values
from digital_twin.parallel import Workers
from digital_twin.robots import load_robot

MARK = "# Found by `digital-twin optimize-gait`"
SEARCHING = 0.85  # share of the time; the rest is for judging the best with robots that the search has not seen


def optimize_gait(
    robot_description: str, robot_config: str, task: Task, search: Search, minutes: float, write: str, plot: str,
    finalists: int = 3, judges: int = 8, processes: int = 0, cache: str | None = None, of_cores: bool = False,
) -> tuple[Candidate, Candidate]:  # fmt: skip
    """Search, print what came of it, write the best gait and a plot. Returns the best and the start, judged alike.

    of_cores: minutes are those that each process really had of a core, whatever else the machine does.

    Raises:
        DescriptionError, ConfigError, WorldError: one line. TwinError: nowhere to write, packages that are not there.
    """
    check_output(write)
    if plot:
        can_draw(plot)
    terrain(task.terrain)
    robot = load_robot(robot_description, robot_config)
    natural = natural_values(robot)
    folder = str(cache_folder()) if cache is None else cache
    console = Console(soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Workers(GaitTrials, (robot_description, robot_config, task, folder), processes) as workers,
        Progress(*columns, console=Console(stderr=True), transient=True) as bar,
    ):
        began, searching = time.monotonic(), SEARCHING * 60.0 * minutes
        row = bar.add_task("the gait to start from", total=60.0 * minutes)
        for generation in search.run(workers, natural):
            spent = workers.cpu / workers.processes if of_cores else time.monotonic() - began
            bar.update(row, completed=spent, description=_progress(search, generation))
            if spent >= searching:
                break
        bar.update(row, description="judging the best with other robots")
        best, start = search.decide(workers, finalists, judges)
    console.print(_table(best, start, judges))
    console.print(f"{search.episodes} episodes, {search.remembered} of them remembered", highlight=False)
    write_gait(best.gait, task, write)
    console.print(f"wrote {write}: use it with the gait_controller's parameter gait:={write}", highlight=False)
    if plot:
        draw(search, best, start, plot)
        console.print(f"wrote {plot}", highlight=False)
    return best, start


def _progress(search: Search, generation: int) -> str:
    s = search.best()[0].score
    return (
        f"generation {generation}: transport {s.energy:.3f}, stability {s.stability:.3f}, falls {100 * s.falls:.0f} %"
    )


def _table(best: Candidate, start: Candidate, robots: int) -> Table:
    t = Table(box=None, header_style="bold", padding=(0, 1), title_justify="left")
    t.title = f"with {robots} robots that the search had not seen"
    for name in ("", "start", "best", "change"):
        t.add_column(name, justify="left" if not name else "right")
    for name, what in (
        ("cost of transport", "energy"), ("restlessness and falls", "stability"), ("error of the speed", "accuracy"),
        ("share of falls", "falls"),
    ):  # fmt: skip
        a, b = getattr(start.score, what), getattr(best.score, what)
        t.add_row(name, f"{a:.3f}", f"{b:.3f}", f"{100 * (b / a - 1):+.0f} %" if a else "–")
    for name in SPACE:
        a, b = _value(start.gait, name), _value(best.gait, name)
        if a != b:
            t.add_row(name, f"{a:.3g}", f"{b:.3g}", "")
    return t


def _value(gait: Gait, name: str) -> float:
    value: object = gait
    for part in name.split("."):
        value = getattr(value, part)
    return float(str(value))


def check_output(path: str) -> None:
    """An own earlier result may be written over; anything else not.

    Raises:
        TwinError: one line.
    """
    p = Path(path).expanduser()
    if not p.resolve().parent.is_dir():
        raise TwinError(f"{path}: cannot write the gait: no such folder")
    try:
        if p.exists() and not p.read_text(encoding="utf-8").startswith(MARK):
            raise TwinError(f"{path}: already there, and not by optimize-gait; choose another name or remove it first")
    except (OSError, UnicodeDecodeError) as e:
        raise TwinError(f"{path}: already there, and cannot be read; choose another name") from e


def write_gait(gait: Gait, task: Task, path: str) -> None:
    """Write a gait as YAML.

    Raises:
        TwinError: when that fails.
    """
    head = f"{MARK} for {task.speed:g} m/s on {task.terrain} ground. Units are SI.\n"
    try:
        Path(path).expanduser().write_text(head + yaml.safe_dump(to_plain(gait), sort_keys=False), encoding="utf-8")
    except OSError as e:
        raise TwinError(f"{path}: cannot write the gait: {e.strerror}") from e
    load_gait(path)


def draw(search: Search, best: Candidate, start: Candidate, path: str) -> None:
    """All gaits that were tried: cost of transport against stability, and those that none beats.

    Raises:
        TwinError: nowhere to write.
    """
    import matplotlib.pyplot as plt

    scores = [c.score for c in search.tried]
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    falling = [s for s in scores if s.falls > 0.0]
    standing = [s for s in scores if s.falls == 0.0]
    axis.scatter([s.energy for s in falling], [s.stability for s in falling], s=10, c="0.8", label="fell at least once")
    dots = axis.scatter(
        [s.energy for s in standing], [s.stability for s in standing], s=14, c=[100 * s.accuracy for s in standing],
        cmap="viridis", label="never fell",
    )  # fmt: skip
    figure.colorbar(dots, label="error of the speed [%]")
    pareto = sorted((scores[i] for i in front(scores)), key=lambda s: s.energy)
    axis.plot(
        [s.energy for s in pareto], [s.stability for s in pareto], "o", mfc="none", mec="tab:red", ms=9,
        label="none is better in all three",
    )  # fmt: skip
    for c, marker, name in ((start, "s", "start, by other robots"), (best, "*", "best, by other robots")):
        axis.plot(c.score.energy, c.score.stability, marker, ms=13, mec="k", label=name)
    shown = [s.energy for s in standing] or [s.energy for s in scores]
    axis.set_xlim(0.9 * min(*shown, best.score.energy), 1.1 * max(*shown, start.score.energy))
    axis.set_yscale("log")
    axis.set_xlabel("cost of transport")
    axis.set_ylabel("restlessness, and falls")
    axis.set_title(f"{search.task.speed:g} m/s on {search.task.terrain} ground, {search.robots} robots each")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    try:
        figure.savefig(Path(path).expanduser(), dpi=110)
    except (OSError, ValueError) as e:
        raise TwinError(f"{path}: cannot write the plot: {e}") from e
    plt.close(figure)
