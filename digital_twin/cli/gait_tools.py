"""digital-twin tune-gains, optimize-gait, recovery-study: their arguments, and what they call."""

from __future__ import annotations

import argparse
from typing import Any

GAIT_TOOLS = ("tune-gains",)
Commands = Any  # argparse names the type of its subparsers for itself only


def add_gait_tools(commands: Commands) -> None:
    """Add the commands."""
    tune = commands.add_parser("tune-gains", help="gains of the servos, tuned in the twin, as a robot config")
    tune.formatter_class = argparse.RawDescriptionHelpFormatter
    tune.description = (
        "Find the softest gains with which every joint answers a step fast enough and without overshoot, on any of\n"
        "several robots that differ from their description (docs/gait_tools.md)."
    )
    tune.epilog = (
        "examples:\n"
        "  digital-twin tune-gains                                        (shows what it would change)\n"
        "  digital-twin tune-gains --response 0.04 --write stiff.yaml     (then: digital-twin run --robot-config stiff.yaml)\n"
        "  digital-twin tune-gains --joints '*_ankle_*' --overshoot 0.02\n"
    )
    _robot(tune)
    tune.add_argument("--joints", metavar="PATTERN", default="*", help="which joints (default: all)")
    tune.add_argument("--response", metavar="S", type=float, default=0.05,
                      help="time in which a joint shall have made 90 %% of a step (default: 0.05)")  # fmt: skip
    tune.add_argument("--overshoot", metavar="SHARE", type=float, default=0.05,
                      help="most overshoot, as a share of the step (default: 0.05)")  # fmt: skip
    tune.add_argument("--delay", metavar="S", type=float, default=0.002,
                      help="of a servo's loop, from reading to torque (default: 0.002)")  # fmt: skip
    tune.add_argument("--models", metavar="N", type=int, default=6, help="robots to judge by (default: 6)")
    tune.add_argument("--seed", metavar="N", type=int, default=1, help="of these robots (default: 1)")
    tune.add_argument("--write", metavar="NAME.yaml", default="", help="write the robot config with the new gains")
    _processes(tune)


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


def run_gait_tools(a: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code. Raises TwinError."""
    return {"tune-gains": _tune_gains}[a.command](a)


def _tune_gains(a: argparse.Namespace) -> int:
    from digital_twin.cli.tune_gains import tune_gains
    from digital_twin.core.config import build
    from digital_twin.core.gains import GainsConfig

    values = {key: getattr(a, key) for key in ("response", "overshoot", "delay", "models", "seed")}
    tune_gains(
        a.robot_description, a.robot_config, build(GainsConfig, values, "tune-gains"), a.joints, a.write, a.processes
    )
    return 0
