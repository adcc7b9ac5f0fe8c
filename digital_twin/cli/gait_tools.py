"""digital-twin tune-gains, optimize-gait, recovery-study: their arguments, and what they call."""

from __future__ import annotations

import argparse
from typing import Any

GAIT_TOOLS = ("tune-gains", "optimize-gait", "recovery-study")
TERRAINS = ("flat", "rough", "slope", "stairs", "low_friction")
Commands = Any  # argparse names the type of its subparsers for itself only


def add_gait_tools(commands: Commands) -> None:
    """Add the commands."""
    tune = commands.add_parser("tune-gains", help="gains of the servos, tuned in the twin, as a robot config")
    tune.formatter_class = argparse.RawDescriptionHelpFormatter
    tune.description = (
        "Find the softest gains with which every joint answers a step fast enough and without overshoot, then those of\n"
        "the balance with which a standing robot is soonest at rest after a push, on any of several robots that differ\n"
        "from their description (docs/gait_tools.md)."
    )
    tune.epilog = (
        "examples:\n"
        "  digital-twin tune-gains                                        (shows what it would change)\n"
        "  digital-twin tune-gains --response 0.04 --write stiff.yaml     (then: digital-twin run --robot-config stiff.yaml)\n"
        "  digital-twin tune-gains --only joints --joints '*_ankle_*' --overshoot 0.02\n"
    )
    _robot(tune)
    tune.add_argument("--only", choices=("joints", "balance"), default="", help="tune only these (default: both)")
    tune.add_argument("--joints", metavar="PATTERN", default="*", help="which joints (default: all)")
    tune.add_argument("--response", metavar="S", type=float, default=0.05,
                      help="time in which a joint shall have made 90 %% of a step (default: 0.05)")  # fmt: skip
    tune.add_argument("--overshoot", metavar="SHARE", type=float, default=0.05,
                      help="most overshoot, as a share of the step (default: 0.05)")  # fmt: skip
    tune.add_argument("--delay", metavar="S", type=float, default=0.002,
                      help="of a servo's loop, from reading to torque (default: 0.002)")  # fmt: skip
    tune.add_argument("--models", metavar="N", type=int, default=6, help="robots to judge joints by (default: 6)")
    tune.add_argument("--generations", metavar="N", type=_count, default=6, help="of the balance's search (default: 6)")
    tune.add_argument("--seed", metavar="N", type=int, default=1, help="of these robots (default: 1)")
    tune.add_argument("--write", metavar="NAME.yaml", default="", help="write the robot config with the new gains")
    _processes(tune)
    _add_optimize(commands)
    _add_recovery(commands)


def _add_optimize(commands: Commands) -> None:
    best = commands.add_parser("optimize-gait", help="a better gait for a speed and a terrain, found in the twin")
    best.formatter_class = argparse.RawDescriptionHelpFormatter
    best.description = (
        "Search step time, step height, stance width, sway and gains with CMA-ES: episodes with robots that differ from\n"
        "their description, for stability, cost of transport and speed (docs/gait_tools.md). Finished episodes are\n"
        "remembered: the same command, run again, goes on where it was."
    )
    best.epilog = (
        "examples:\n"
        "  digital-twin optimize-gait --speed 0.5 --terrain flat\n"
        "  digital-twin optimize-gait --speed 0.3 --terrain stairs --minutes 30 --write stairs.yaml --plot stairs.png\n"
        "  digital-twin optimize-gait --weights 1 3 1            (energy counts three times)\n"
    )
    _robot(best)
    best.add_argument("--speed", metavar="M/S", type=float, default=0.5, help="to walk at (default: 0.5)")
    best.add_argument("--terrain", choices=TERRAINS, default="flat", help="to walk on (default: flat)")
    best.add_argument("--minutes", type=_positive, default=10.0, help="that it may take (default: 10)")
    best.add_argument("--start", metavar="GAIT.yaml", default="", help="gait to start from (default: the robot's)")
    best.add_argument("--weights", metavar=("STABILITY", "ENERGY", "SPEED"), nargs=3, type=_weight,
                      default=(1.0, 1.0, 1.0), help="of what counts (default: 1 1 1)")  # fmt: skip
    best.add_argument("--robots", metavar="N", type=_count, default=2, help="that try each gait (default: 2)")
    best.add_argument("--population", metavar="N", type=_count, default=8, help="gaits of a generation (default: 8)")
    best.add_argument("--seconds", metavar="S", type=_positive, default=8.0, help="of an episode (default: 8)")
    best.add_argument(
        "--judges", metavar="N", type=_count, default=8, help="other robots that judge the best (default: 8)"
    )
    best.add_argument("--seed", metavar="N", type=_count, default=1, help="of the search (default: 1)")
    best.add_argument("--write", metavar="NAME.yaml", default="", help="the gait (default: gait_TERRAIN_SPEED.yaml)")
    best.add_argument("--plot", metavar="OUT.png", default="", help="all gaits tried, and the best trade-offs "
                      "(needs matplotlib)")  # fmt: skip
    best.add_argument("--no-cache", action="store_true", help="remember no episodes, and use none remembered")
    _processes(best)


def _add_recovery(commands: Commands) -> None:
    study = commands.add_parser("recovery-study", help="what pushes the robot survives, as a map")
    study.formatter_class = argparse.RawDescriptionHelpFormatter
    study.description = (
        "Push the robot, standing and in several phases of its step, whereto and how hard one likes, under one or more\n"
        "controllers, and tell what it survives (docs/gait_tools.md). Finished episodes are remembered."
    )
    study.epilog = (
        "examples:\n"
        "  digital-twin recovery-study --plot map.png\n"
        "  digital-twin recovery-study --controller servos --controller gait --speeds 0\n"
        "  digital-twin recovery-study --controller gait --controller best.yaml --impulses 0.25 --robots 3\n"
    )
    _robot(study)
    study.add_argument("--controller", metavar="NAME", action="append", default=[], help="gait (the robot's own), a "
                       "GAIT.yaml, or servos (none: the joints hold); may be given several times (default: gait)")  # fmt: skip
    study.add_argument("--directions", metavar="N", type=_count, default=8, help="around the robot (default: 8)")
    study.add_argument("--impulses", metavar="NS/KG", type=_positive, nargs="+", default=(0.1, 0.2, 0.25, 0.3, 0.4, 0.5),
                       help="for each kg of the robot (default: 0.1 0.2 0.25 0.3 0.4 0.5)")  # fmt: skip
    study.add_argument("--durations", metavar="S", type=_positive, nargs="+", default=(0.1,), help="(default: 0.1)")
    study.add_argument("--speeds", metavar="M/S", type=_weight, nargs="+", default=(0.0, 0.5),
                       help="at which it walks; 0: it stands (default: 0 0.5)")  # fmt: skip
    study.add_argument("--phases", metavar="N", type=_count, default=4, help="of a step (default: 4)")
    study.add_argument("--robots", metavar="N", type=_count, default=1, help="of the series (default: 1)")
    study.add_argument("--frame", default="", help="where it is pushed (default: the base)")
    study.add_argument("--terrain", choices=TERRAINS, default="flat", help="on which it is (default: flat)")
    study.add_argument("--plot", metavar="OUT.png", default="", help="draw the map (needs matplotlib)")
    study.add_argument("--json", metavar="FILE", default="", help="write what came of each push")
    study.add_argument("--no-cache", action="store_true", help="remember no episodes, and use none remembered")
    _processes(study)


def _robot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot-description", metavar="FILE", default="", help="URDF or xacro (default: the humanoid)")
    parser.add_argument("--robot-config", metavar="FILE", default="", help="what the URDF does not say (default: found "
                        "by the robot's name, else guessed)")  # fmt: skip


def _processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes", metavar="N", type=_count, default=0, help="to run on (default: one for each core)"
    )


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 1024")
    return int(text)


def _positive(text: str) -> float:
    value = _number(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is out of range: expected more than 0")
    return value


def _weight(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is out of range: expected 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from e


def run_gait_tools(a: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code. Raises TwinError."""
    return {"tune-gains": _tune_gains, "optimize-gait": _optimize_gait, "recovery-study": _recovery_study}[a.command](a)


def _tune_gains(a: argparse.Namespace) -> int:
    from digital_twin.cli.tune_gains import tune_gains
    from digital_twin.core.config import build
    from digital_twin.core.gains import GainsConfig
    from digital_twin.core.gait.balance import BalanceConfig

    values = {key: getattr(a, key) for key in ("response", "overshoot", "delay", "models", "seed")}
    joints = build(GainsConfig, values, "tune-gains") if a.only != "balance" else None
    balance = BalanceConfig(seed=a.seed, generations=a.generations) if a.only != "joints" else None
    tune_gains(a.robot_description, a.robot_config, joints, balance, a.joints, a.write, a.processes)
    return 0


def _optimize_gait(a: argparse.Namespace) -> int:
    from digital_twin.cli.optimize_gait import optimize_gait
    from digital_twin.core.config import build
    from digital_twin.core.gait.gait_config import load_gait, robot_gait
    from digital_twin.core.gait.trial import Task
    from digital_twin.gait_search import Search
    from digital_twin.robots import load_robot

    values = {"speed": a.speed, "terrain": a.terrain, "seconds": a.seconds}
    task = build(Task, values, "optimize-gait")
    robot = load_robot(a.robot_description, a.robot_config)
    start = load_gait(a.start) if a.start else robot_gait(robot.config, robot.where)
    search = Search(start, task, tuple(a.weights), a.robots, a.population, a.seed)
    write = a.write or f"gait_{a.terrain}_{a.speed:g}.yaml"
    optimize_gait(
        a.robot_description, a.robot_config, task, search, a.minutes, write, a.plot, judges=a.judges,
        processes=a.processes, cache="" if a.no_cache else None,
    )  # fmt: skip
    return 0


def _recovery_study(a: argparse.Namespace) -> int:
    from digital_twin.cli.recovery_study import recovery_study
    from digital_twin.core.gait.recovery import Design

    design = Design(a.directions, tuple(sorted(a.impulses)), tuple(a.durations), tuple(a.speeds), a.phases, a.robots)
    recovery_study(
        a.robot_description, a.robot_config, design, a.controller or ["gait"], a.frame, a.plot, a.json,
        "" if a.terrain == "flat" else a.terrain, a.processes, "" if a.no_cache else None,
    )  # fmt: skip
    return 0
