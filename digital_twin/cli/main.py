"""The digital-twin command: arguments, errors, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from digital_twin import __version__
from digital_twin.cli.gait_tools import GAIT_TOOLS, add_gait_tools, run_gait_tools
from digital_twin.cli.page_arguments import add_dashboard, run_with_page, wants_dashboard
from digital_twin.cli.recordings import add_recordings, run_recordings
from digital_twin.cli.terminal import Ending, ctrl_c_is_ours
from digital_twin.core.errors import TwinError
from digital_twin.options import CONTROLLERS, GATES, MODELS, RECORD, Options


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    p = argparse.ArgumentParser(
        prog="digital-twin",
        description="A living virtual counterpart of a humanoid robot.",
        epilog="Start with:  digital-twin run          (a simulated humanoid and its twin; Ctrl-C ends it)",
    )
    p.add_argument("--version", action="version", version=f"digital-twin {__version__}")
    commands = p.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_run(commands)
    check = commands.add_parser("check", help="what the twin makes of a robot description")
    check.description = (
        "Show what the twin makes of a URDF or xacro: joints, mass, height, feet, IMUs, what is missing."
    )
    check.add_argument("robot", metavar="ROBOT.urdf")
    check.add_argument("--write", metavar="NAME.yaml", default="", help="write the robot config that it guesses")
    _add_sensor_commands(commands)
    add_recordings(commands)
    _add_models(commands)
    _add_identify(commands)
    add_gait_tools(commands)
    return p


def _add_sensor_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fit = commands.add_parser("fit-sensor", help="the profile of a sensor from a recording of it at rest")
    fit.description = (
        "Fit noise to an IMU, lidar, force sensor, magnetometer or joint states that were recorded at rest, or a camera's "
        "figures to raw frames of an even light (docs/sensors.md)."
    )
    fit.add_argument("bag", metavar="BAG", help="rosbag2: a folder, an .mcap or a .db3")
    fit.add_argument("topic", metavar="TOPIC")
    fit.add_argument("--write", metavar="NAME.yaml", default="", help="write the profile")
    fit.add_argument(
        "--dark", metavar="TOPIC=SECONDS", action="append", default=[],
        help="dark frames of a camera and their exposure; give two exposures for the dark current",
    )  # fmt: skip
    study = commands.add_parser("fusion-study", help="what each of a robot's sensors adds to a fused estimate")
    study.description = "Run an estimator over simulated runs with several sets of sensors (docs/sensors.md)."
    study.add_argument("config", metavar="CONFIG.yaml", help="or the name of one of the package's (fusion_study.yaml)")
    study.add_argument("--plot", metavar="OUT.png", default="", help="draw the errors (needs matplotlib)")


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("models", help="versions of the robot's model: list, show, diff, rollback")
    p.description = "The model store: every model that was in service, how it proved itself, and back (docs/models.md)."
    what = p.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = what.add_parser("list", help="all versions, oldest first")
    show = what.add_parser("show", help="one version: where it comes from, its scores, its parameters")
    show.add_argument("version", nargs="?", default="", help="beginning of its hash (default: the one in service)")
    diff = what.add_parser("diff", help="the parameters in which two versions differ")
    diff.add_argument("version", help="beginning of its hash")
    diff.add_argument("other", nargs="?", default="", help="the other one (default: the one in service)")
    back = what.add_parser("rollback", help="put the version before, or another one, into service")
    back.add_argument("version", nargs="?", default="", help="beginning of its hash (default: the parent)")
    for each in (listing, show, diff, back):
        each.add_argument("--store", metavar="FOLDER", default=MODELS, help=f"the model store (default: {MODELS})")
        each.add_argument("--robot", metavar="NAME", default="", help="whose, when the store is of several robots")


def _add_identify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = commands.add_parser("identify", help="the robot's masses, friction, motors, delay and zeros from a recording")
    p.description = (
        "Run the twin over a recording, identify the robot's parameters from a minute of it, and prove them on the part "
        "kept back, beside the model in service. What the data cannot tell is refused by name (docs/models.md)."
    )
    p.epilog = "exit code: 0 when the new model is better, 1 when there is none or it is not, 2 when the input is bad"
    p.add_argument("bag", metavar="BAG", help="rosbag2: a folder, an .mcap or a .db3")
    p.add_argument(
        "--until", metavar="S", type=_seconds, default=None, help="where the minute ends (default: at the bag's end)"
    )
    p.add_argument("--seconds", metavar="S", type=_seconds, default=60.0, help="that are used, 60 at most")
    p.add_argument(
        "--only", metavar="KIND[:TARGET]", default="", help="what is suspected, like payload:l_gripper; payload, friction, "
        "motor, encoder, delay or armature (default: everything)",
    )  # fmt: skip
    p.add_argument("--residual", action="store_true", help="also learn what no parameter explains (needs scikit-learn)")
    p.add_argument(
        "--store", metavar="FOLDER", default="", help="a model store: begin with the model in service there, and put the "
        f"new one into service when it is better ({MODELS} is the nodes')",
    )  # fmt: skip
    p.add_argument("--robot-description", metavar="FILE", default="", help="URDF or xacro (default: the recording's)")
    p.add_argument("--robot-config", metavar="FILE", default="", help="what the URDF does not say")


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="start a robot side and the twin's nodes, with a live status")
    run.description = "Start the twin's nodes and, unless told otherwise, a simulated humanoid for them to follow."
    run.epilog = (
        "examples:\n"
        "  digital-twin run\n"
        "  digital-twin run --simulator none --bag walk/ --robot-description robot.urdf\n"
        "  digital-twin run --headless --duration 15 --report report.json\n"
    )
    run.formatter_class = argparse.RawDescriptionHelpFormatter
    # Gazebo is started by the launch file, which needs a ROS installation.
    run.add_argument("--simulator", choices=("mujoco", "none"), default=None,
                     help="what plays the robot: mujoco (default), or none: a real robot or a bag")  # fmt: skip
    run.add_argument("--bag", metavar="PATH", default="", help="a recording plays the robot (rosbag2: mcap or sqlite)")
    run.add_argument("--robot-description", metavar="FILE", default="", help="URDF or xacro (default: the humanoid)")
    run.add_argument("--robot-config", metavar="FILE", default="", help="what the URDF does not say (default: found "
                     "by the robot's name, else guessed)")  # fmt: skip
    run.add_argument("--world", metavar="FILE", default="", help="SDF world (default: humanoid_world.sdf)")
    run.add_argument("--namespace", metavar="NS", default="", help="to have several robots in one ROS domain")
    run.add_argument("--config", metavar="FILE", default="", help="ROS parameter file with settings of the nodes")
    run.add_argument(
        "--controller", choices=CONTROLLERS, default="script", help="who moves the robot (default: script)"
    )
    run.add_argument("--gate", choices=GATES, default="off",
                     help="twin: what the gait controller is asked for is tried in the twin first (default: off)")  # fmt: skip
    run.add_argument("--record", choices=RECORD, default="false", nargs="?", const="true",
                     help="write a recording; snapshots: only keep the last minute in memory")  # fmt: skip
    add_dashboard(run)
    run.add_argument("--duration", metavar="S", type=_seconds, default=0.0, help="end after S seconds")
    run.add_argument("--headless", action="store_true", help="no status table")
    run.add_argument("--report", metavar="FILE.json", default="", help="write what was measured")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds") from e
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is out of range: expected more than 0 seconds")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 well, 1 a node failed, 2 bad input."""
    a = parser().parse_args(arguments)
    try:
        if a.command == "check":
            from digital_twin.cli.check import check_robot

            check_robot(a.robot, a.write)
            return 0
        if a.command == "fit-sensor":
            from digital_twin.cli.fit_sensor import fit_sensor

            fit_sensor(a.bag, a.topic, a.write, a.dark)
            return 0
        if a.command == "fusion-study":
            from digital_twin.cli.fusion_study import fusion_study

            fusion_study(a.config, a.plot)
            return 0
        if a.command == "models":
            from digital_twin.cli.models import run_models

            return run_models(a)
        if a.command == "identify":
            from digital_twin.cli.identify import run_identify

            return run_identify(a)
        if a.command == "run":
            return _run(a)
        if a.command in GAIT_TOOLS:
            return run_gait_tools(a)
        return run_recordings(a)
    except TwinError as e:
        print(f"digital-twin: {e}", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130


def _run(a: argparse.Namespace) -> int:
    with ctrl_c_is_ours(), Ending() as ending:
        # What follows takes a second to import; Ctrl-C in the meantime is an end like any other.
        options = Options(
            simulator=a.simulator or ("none" if a.bag else "mujoco"), robot_description=a.robot_description,
            robot_config=a.robot_config, world=a.world, namespace=a.namespace, config=a.config, bag=a.bag,
            controller=a.controller, gate=a.gate, record=a.record, dashboard=wants_dashboard(a),
            dashboard_port=a.dashboard_port,
        )  # fmt: skip
        run_with_page(options, ending, duration=a.duration, headless=a.headless, report=a.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
