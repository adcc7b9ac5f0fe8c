"""digital-twin tune-gains: gains of the servos, tuned in the twin and written to a robot config."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from digital_twin.core.config import load_yaml, to_plain
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.gains import GainsConfig, JointBench, Response, Tuned, least_stiffness, mates, tune
from digital_twin.parallel import Workers
from digital_twin.robots import Robot, load_robot

UNSTABLE = 10.0


class Tuner:
    """Tunes one group of joints after another; one for each process."""

    def __init__(self, robot_description: str, robot_config: str, config: GainsConfig) -> None:
        robot = load_robot(robot_description, robot_config)
        self._bench = JointBench(robot.model, robot.config, robot.joints, config)
        self._least = least_stiffness(robot.model, robot.config, robot.joints.stand)

    def __call__(self, group: Sequence[int]) -> Tuned:
        return tune(self._bench, group, float(self._least[list(group)].max()))


def tune_gains(
    robot_description: str,
    robot_config: str,
    config: GainsConfig,
    joints: str = "*",
    write: str = "",
    processes: int = 0,
) -> list[Tuned]:
    """Tune the joints that match a pattern, print a table, and write a robot config with the new gains when asked.

    Raises:
        DescriptionError, ConfigError: one line. TwinError: no such joints, nowhere to write, gains that cannot be found.
    """
    robot = load_robot(robot_description, robot_config)
    names = robot.model.joint_names
    wanted = set(fnmatch.filter(names, joints))
    if not wanted:
        raise TwinError(unknown("joint", joints, names))
    if write and Path(write).expanduser().exists():
        raise TwinError(f"{write}: already there; choose another name or remove it first")
    groups = [g for g in mates(names) if names[g[0]] in wanted or wanted & {names[i] for i in g}]
    console = Console(soft_wrap=True)
    found: dict[int, Tuned] = {}
    with Workers(Tuner, (robot_description, robot_config, config), processes) as workers:
        for i, tuned in track(
            workers.each(groups), "tuning", total=len(groups), console=Console(stderr=True), transient=True
        ):
            found[i] = tuned
    results = [found[i] for i in range(len(groups))]
    console.print(table(results, config))
    if write:
        write_gains(robot, results, write)
        console.print(f"wrote {write}: look it over, then use it with --robot-config", highlight=False)
    return results


def table(results: list[Tuned], config: GainsConfig) -> Table:
    """Gains and answers before and after."""
    t = Table(box=None, header_style="bold", padding=(0, 1), title_justify="left")
    t.title = (
        f"90 % of a step within {1000 * config.response:g} ms, overshoot below {100 * config.overshoot:g} %: the worst "
        f"of {config.models} robots"
    )
    t.add_column("joints")
    for name in ("kp", "kd", "response [ms]", "overshoot", "error"):
        t.add_column(name, justify="right")
    for r in results:
        pairs = [(f"{a:.4g}", f"{b:.4g}") for a, b in zip(r.before, r.after, strict=True)]
        pairs += list(zip(_words(r.was), _words(r.now), strict=True))
        short = r.joints[0] if len(r.joints) == 1 else f"{r.joints[0]} (and {len(r.joints) - 1} like it)"
        t.add_row(short, *(f"{a} → {b}" for a, b in pairs))
    return t


def _words(r: Response) -> tuple[str, str, str]:
    if r.rise >= UNSTABLE:
        return ("never", "–", "–")
    return f"{1000 * r.rise:.0f}", f"{100 * r.overshoot:.0f} %", f"{100 * r.error:.0f} %"


def with_gains(robot: Robot, results: list[Tuned]) -> dict[str, Any]:
    """The robot config as plain data, new gains after all else, so that they win."""
    path = Path(robot.where)
    plain: dict[str, Any] = load_yaml(path, "robot config") if path.is_file() else to_plain(robot.config)
    joints = {name: dict(values) for name, values in (plain.get("joints") or {}).items()}
    for r in results:
        for name in r.joints:
            # Taken out and put at the end: a pattern that stands later would win otherwise.
            joints[name] = {**joints.pop(name, {}), "kp": r.after[0], "kd": r.after[1]}
    return {**plain, "joints": joints}


def write_gains(robot: Robot, results: list[Tuned], path: str) -> None:
    """Write a robot config with the new gains; never over a file that is there.

    Raises:
        TwinError: the file exists or cannot be written.
    """
    head = f"# {robot.where} with the gains that `digital-twin tune-gains` found. Units are SI.\n"
    text = yaml.safe_dump(with_gains(robot, results), sort_keys=False, default_flow_style=None, width=110)
    try:
        with Path(path).expanduser().open("x", encoding="utf-8") as f:
            f.write(head + text)
    except FileExistsError as e:
        raise TwinError(f"{path}: already there; choose another name or remove it first") from e
    except OSError as e:
        raise TwinError(f"{path}: cannot write the robot config: {e.strerror}") from e
