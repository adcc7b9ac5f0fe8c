"""digital-twin record, replay, report, compare, export: their arguments, and what they call."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from digital_twin.cli.page_arguments import add_dashboard, run_with_page, wants_dashboard

Commands = Any  # argparse names the type of its subparsers for itself only


def add_recordings(commands: Commands) -> None:
    """Add the commands."""
    record = commands.add_parser("record", help="write a recording of a robot and its twin that run already")
    record.add_argument("topics", nargs="*", metavar="TOPIC", help="patterns of topics (default: what is needed to run "
                        "the twin again, and what it gave out)")  # fmt: skip
    record.add_argument("--folder", default="recordings", help="where recordings are made (default: recordings)")
    record.add_argument("--name", default="", help="of this one (default: date and time)")
    record.add_argument(
        "--snapshots", action="store_true", help="keep the last minute, and write it when asked (~/snapshot)"
    )
    record.add_argument("--namespace", metavar="NS", default="")
    record.add_argument("--config", metavar="FILE", default="", help="ROS parameter file")
    _robot(record)

    replay = commands.add_parser("replay", help="run the twin over a recording")
    replay.add_argument("bag", metavar="BAG")
    replay.add_argument(
        "--fast", action="store_true", help="in one process, as fast as it goes, the same bytes every time"
    )
    replay.add_argument("--recorded-order", action="store_true", help="fast: leave the journals of the nodes aside")
    replay.add_argument(
        "--forecasts", action="store_true", help="fast: make the forecasts again from what they started from"
    )
    replay.add_argument("--write", metavar="FOLDER", default="", help="fast: write the outputs as a recording")
    replay.add_argument("--json", metavar="FILE", default="", help="fast: write what came of it")
    replay.add_argument("--config", metavar="FILE", default="", help="ROS parameter file with settings of the nodes")
    replay.add_argument("--headless", action="store_true", help="no status table")
    add_dashboard(replay)
    replay.add_argument("--report", metavar="FILE.json", default="", help="live-paced: write what was measured")
    _robot(replay)

    report = commands.add_parser("report", help="what a run was like, as one HTML file to send to somebody")
    report.add_argument("bag", metavar="BAG")
    report.add_argument("--html", metavar="FILE", default="", help="where to (default: BAG_report.html)")
    report.add_argument("--json", metavar="FILE", default="", help="the numbers (default: BAG_report.json)")
    _robot(report)

    compare = commands.add_parser("compare", help="two runs side by side: what differs, and whether that is chance")
    compare.add_argument("a", metavar="A")
    compare.add_argument("b", metavar="B")
    compare.add_argument("--json", metavar="FILE", default="", help="write the numbers")
    _robot(compare)

    export = commands.add_parser("export", help="a recording as a table: aligned, resampled columns")
    export.add_argument("bag", metavar="BAG")
    export.add_argument("--to", choices=("parquet", "hdf5"), required=True)
    export.add_argument("--output", metavar="FILE", default="", help="where to (default: BAG.parquet or BAG.h5)")
    export.add_argument(
        "--rate", metavar="HZ", type=float, default=0.0, help="rows a second (default: one for each joint state)"
    )
    export.add_argument("--topics", nargs="*", metavar="TOPIC", default=None, help="only these")


def _robot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot-description", metavar="FILE", default="", help="URDF or xacro (default: the one in the "
                        "recording, else the humanoid)")  # fmt: skip
    parser.add_argument("--robot-config", metavar="FILE", default="", help="what the URDF does not say")


def run_recordings(a: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code. Raises TwinError."""
    return {"record": _record, "replay": _replay, "report": _report, "compare": _compare, "export": _export}[a.command](
        a
    )


def _record(a: argparse.Namespace) -> int:
    from digital_twin.cli.supervisor import command, prepare_environment
    from digital_twin.recording.recording import check_writable_folder
    from digital_twin.system import NodeSpec, check_parameter_file

    prepare_environment()
    check_writable_folder(Path(a.folder).expanduser())
    if a.config:
        check_parameter_file(a.config)
    parameters: dict[str, Any] = {"folder": a.folder, "name": a.name, "continuous": not a.snapshots}
    parameters |= {"robot_description": a.robot_description, "robot_config": a.robot_config}
    if a.topics:
        parameters["topics"] = a.topics
    sys.stdout.flush()
    arguments = command(NodeSpec("recorder", parameters), a.namespace, a.config)
    os.execv(arguments[0], arguments)  # noqa: S606


def _replay(a: argparse.Namespace) -> int:
    if a.fast:
        from digital_twin.cli.replay import replay_fast

        return replay_fast(a)
    from digital_twin.cli.terminal import Ending, ctrl_c_is_ours
    from digital_twin.options import Options

    with ctrl_c_is_ours(), Ending() as ending:
        options = Options(
            simulator="none",
            bag=a.bag,
            robot_description=a.robot_description,
            robot_config=a.robot_config,
            config=a.config,
            dashboard=wants_dashboard(a),
            dashboard_port=a.dashboard_port,
        )
        run_with_page(options, ending, duration=0.0, headless=a.headless, report=a.report)
    return 0


def _report(a: argparse.Namespace) -> int:
    from digital_twin.cli.bag_report import write_bag_report

    return write_bag_report(a)


def _compare(a: argparse.Namespace) -> int:
    from digital_twin.cli.bag_report import compare_bags

    return compare_bags(a)


def _export(a: argparse.Namespace) -> int:
    from digital_twin.recording.export import export

    export(a.bag, a.to, a.output, a.rate, a.topics)
    return 0
