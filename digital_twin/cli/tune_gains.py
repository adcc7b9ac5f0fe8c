"""digital-twin tune-gains: gains of the servos, tuned in the twin and written to a robot config."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from digital_twin.balance_search import BalanceSearch, SwayTrials
from digital_twin.core.config import load_yaml, to_plain
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.gains import GainsConfig, JointBench, Response, Tuned, least_stiffness, mates, tune
from digital_twin.core.gait.balance import SPACE, BalanceConfig
from digital_twin.core.gait.gait_config import robot_gait
from digital_twin.gait_search import natural_values
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
    robot_description: str, robot_config: str, joint_config: GainsConfig | None, balance: BalanceConfig | None,
    joints: str = "*", write: str = "", processes: int = 0,
) -> tuple[list[Tuned], BalanceSearch | None]:  # fmt: skip
    """Tune the joints that match a pattern, then the balance with them, print tables, and write a robot config.

    joint_config, balance: None leaves these as they are.

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
    if balance is not None:
        natural_values(robot)  # two feet to stand on
    console = Console(soft_wrap=True)
    results: list[Tuned] = []
    if joint_config is not None:
        groups = [g for g in mates(names) if wanted & {names[i] for i in g}]
        results = _tune_joints(robot_description, robot_config, joint_config, groups, processes)
        console.print(table(results, joint_config))
    search = None
    with tempfile.TemporaryDirectory() as folder:
        if balance is not None:
            tuned = str(Path(folder) / "tuned.yaml")
            write_config(robot, results, None, tuned)  # the balance is tuned with the joints as they will be
            search = _tune_balance(robot, robot_description, tuned, balance, processes)
            console.print(balance_table(search))
    if write:
        write_config(robot, results, search, write)
        console.print(f"wrote {write}: look it over, then use it with --robot-config", highlight=False)
    return results, search


def _tune_joints(
    robot_description: str, robot_config: str, config: GainsConfig, groups: list[list[int]], processes: int
) -> list[Tuned]:
    found: dict[int, Tuned] = {}
    with Workers(Tuner, (robot_description, robot_config, config), processes) as workers:
        for i, tuned in track(
            workers.each(groups), "joints", total=len(groups), console=Console(stderr=True), transient=True
        ):
            found[i] = tuned
    return [found[i] for i in range(len(groups))]


def _tune_balance(
    robot: Robot, robot_description: str, robot_config: str, config: BalanceConfig, processes: int
) -> BalanceSearch:
    search = BalanceSearch(robot_gait(robot.config, robot.where), config)
    with Workers(SwayTrials, (robot_description, robot_config, config), processes) as workers:
        for _ in track(
            search.run(workers), "balance", total=config.generations + 1, console=Console(stderr=True), transient=True
        ):
            pass
    return search


def balance_table(search: BalanceSearch) -> Table:
    """Gains of the balance and what a push does, before and after."""
    c = search.config
    t = Table(box=None, header_style="bold", padding=(0, 1), title_justify="left")
    t.title = f"after pushes of {c.impulse:g} N s/kg: the worst of {c.models} robots, {c.directions} directions"
    for name in ("balance", "before", "after"):
        t.add_column(name, justify="left" if name == "balance" else "right")
    (_, was), (_, gait, now) = search.first, search.best
    for words, key, scale, unit in (
        ("at rest after", "settle", 1.0, "s"), ("capture point moved by", "peak", 100.0, "cm"),
        ("and swung back by", "back", 100.0, "%"),
    ):  # fmt: skip
        t.add_row(words, *(f"{scale * max(getattr(s, key) for s in sways):.2f} {unit}" for sways in (was, now)))
    t.add_row("falls", *(f"{sum(not s.upright for s in sways)} of {len(sways)}" for sways in (was, now)))
    for name in SPACE:
        key = name.removeprefix("gains.")
        t.add_row(name, f"{getattr(search.start.gains, key):.3g}", f"{getattr(gait.gains, key):.3g}")
    return t


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


def with_gains(robot: Robot, results: list[Tuned], search: BalanceSearch | None = None) -> dict[str, Any]:
    """The robot config as plain data, new gains of joints after all else, so that they win."""
    path = Path(robot.where)
    plain: dict[str, Any] = load_yaml(path, "robot config") if path.is_file() else to_plain(robot.config)
    joints = {name: dict(values) for name, values in (plain.get("joints") or {}).items()}
    for r in results:
        for name in r.joints:
            # Taken out and put at the end: a pattern that stands later would win otherwise.
            joints[name] = {**joints.pop(name, {}), "kp": r.after[0], "kd": r.after[1]}
    plain = {**plain, "joints": joints}
    if search is not None:
        found = to_plain(search.best[1].gains)
        gait = dict(plain.get("gait") or {})
        gait["gains"] = {
            **(gait.get("gains") or {}),
            **{key: found[key] for key in (n.removeprefix("gains.") for n in SPACE)},
        }
        plain["gait"] = gait
    return plain


def write_config(robot: Robot, results: list[Tuned], search: BalanceSearch | None, path: str) -> None:
    """Write a robot config with the new gains; never over a file that is there.

    Raises:
        TwinError: the file exists or cannot be written.
    """
    head = f"# {robot.where} with the gains that `digital-twin tune-gains` found. Units are SI.\n"
    text = yaml.safe_dump(with_gains(robot, results, search), sort_keys=False, default_flow_style=None, width=110)
    try:
        with Path(path).expanduser().open("x", encoding="utf-8") as f:
            f.write(head + text)
    except FileExistsError as e:
        raise TwinError(f"{path}: already there; choose another name or remove it first") from e
    except OSError as e:
        raise TwinError(f"{path}: cannot write the robot config: {e.strerror}") from e
