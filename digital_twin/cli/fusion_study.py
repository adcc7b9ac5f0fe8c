"""digital-twin fusion-study: what each of a robot's sensors adds to a fused estimate, as a table and a plot."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from digital_twin.core.config import build, load_yaml
from digital_twin.core.errors import TwinError
from digital_twin.core.sensors.fusion_study import (
    QUANTITIES,
    RATE,
    UNITS,
    SetResult,
    StudyConfig,
    check,
    improvement,
    study,
)
from digital_twin.core.sensors.robot_sensors import robot_sensors, shared_errors
from digital_twin.paths import find
from digital_twin.robots import load_robot


def fusion_study(config: str, plot: str = "") -> None:
    """Run a study and print its tables; draw the errors over time when asked.

    Raises:
        ConfigError, DescriptionError: one line. TwinError: no matplotlib to draw with, or nowhere to write.
    """
    path = find(config, "config")
    c = build(StudyConfig, load_yaml(path, "fusion study"), str(path))
    check(c)
    if plot:
        can_draw(plot)
    robot = load_robot(c.robot_description, c.robot_config)
    specs, problems = robot_sensors(robot.description.tree(), robot.config, lambda n: find(n, "config/sensors"))
    sources, more = shared_errors(robot.config, specs)
    console = Console()
    for line in problems + more:
        console.print(f"[yellow]left out[/]  {line}", highlight=False)
    with Console(stderr=True).status("") as status:
        results = study(c, robot.model, robot.config, specs, sources, status.update)
    for table in (_errors(results), _consistency(results)):
        console.print(table)
    if plot:
        _draw(results, plot)
        console.print(f"wrote {plot}", highlight=False)


def _errors(results: list[SetResult]) -> Table:
    table = Table(title="RMSE over all runs", title_justify="left", box=None, header_style="bold", padding=(0, 1))
    table.add_column("sensors")
    for q in QUANTITIES:
        table.add_column(f"{q} [{UNITS[q]}]", justify="right")
    for r in results:
        table.add_row(r.name, *(f"{r.rmse[q]:.4g}" for q in QUANTITIES))
    if len(results) > 1:
        table.add_row("the last against the best other", *(f"{improvement(results, q):+.1f} %" for q in QUANTITIES))
    return table


def _consistency(results: list[SetResult]) -> Table:
    table = Table(
        title="consistency: mean, 95 % band", title_justify="left", box=None, header_style="bold", padding=(0, 1)
    )
    for name in ("sensors", "NEES velocity", "NEES tilt", "NIS feet"):
        table.add_column(name, justify="left" if name == "sensors" else "right")
    for r in results:
        figures = (r.nees["velocity"], r.nees["tilt"], r.nis)
        table.add_row(r.name, *("–" if m != m else f"{m:.2f}  {low:.2f} … {high:.2f}" for m, low, high in figures))
    return table


def can_draw(plot: str) -> None:
    """Raises TwinError when a plot cannot be drawn there."""
    try:
        import matplotlib as mpl
    except ImportError as e:
        raise TwinError("--plot needs matplotlib: pip install 'digital_twin[plot]'") from e
    if not Path(plot).expanduser().resolve().parent.is_dir():
        raise TwinError(f"{plot}: cannot write the plot: no such folder")
    mpl.use("Agg")


def _draw(results: list[SetResult], plot: str) -> None:
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    for ax, q in zip(axes.flat, QUANTITIES, strict=True):
        for r in results:
            rms = np.sqrt(np.mean(r.errors[q] ** 2, axis=0))
            ax.semilogy(np.arange(len(rms)) / RATE, np.maximum(rms, 1e-9), label=r.name)
        ax.set_title(f"{q} [{UNITS[q]}]", fontsize=10)
        ax.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    for ax in axes[1]:
        ax.set_xlabel("time [s]")
    figure.suptitle("RMS error over all runs")
    try:
        figure.savefig(Path(plot).expanduser(), dpi=90)
    except (OSError, ValueError) as e:
        raise TwinError(f"{plot}: cannot write the plot: {e}") from e
    plt.close(figure)
