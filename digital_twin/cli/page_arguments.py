"""The live page and the commands that start the twin's nodes: its arguments, and its head start."""

from __future__ import annotations

import argparse
from typing import Any

from digital_twin.cli.fork_server import ForkServer
from digital_twin.cli.supervisor import launch, prepare_environment, start_page
from digital_twin.cli.terminal import Ending
from digital_twin.options import Options


def add_dashboard(command: argparse.ArgumentParser) -> None:
    """Give a command these arguments."""
    command.add_argument("--dashboard", action=argparse.BooleanOptionalAction, default=None,
                         help="serve a live page for a browser (default: yes, but not with --headless)")  # fmt: skip
    command.add_argument("--dashboard-port", metavar="PORT", type=int, default=0, help="its port (default: 8090)")


def wants_dashboard(a: argparse.Namespace) -> bool:
    """Whether there shall be a page."""
    return not a.headless if a.dashboard is None else bool(a.dashboard)


def run_with_page(options: Options, ending: Ending, **how: Any) -> None:
    """Start the page, then all that takes a second to import, then the twin. `how`: as of Run."""
    prepare_environment()
    page = start_page(options)
    server = ForkServer(launch)
    try:
        run = _prepare(options, ending, page=page, server=server, **how)
        if run is not None:
            run.execute()
    finally:
        server.close()
        if page is not None and page.poll() is None:  # it did not come to a run
            page.kill()
            page.wait()


def _prepare(options: Options, ending: Ending, **how: Any) -> Any:
    """The run, or None when its end was asked for meanwhile."""
    try:
        with ending.at_once():
            from digital_twin.cli.run import Run

            return Run(options, ending, **how)
    except BaseException:
        if not ending.asked:  # whatever an import that was broken off made of it
            raise
        return None
