"""The arguments of the live page, of all commands that start the twin's nodes."""

from __future__ import annotations

import argparse


def add_dashboard(command: argparse.ArgumentParser) -> None:
    """Give a command these arguments."""
    command.add_argument("--dashboard", action=argparse.BooleanOptionalAction, default=None,
                         help="serve a live page for a browser (default: yes, but not with --headless)")  # fmt: skip
    command.add_argument("--dashboard-port", metavar="PORT", type=int, default=0, help="its port (default: 8090)")


def wants_dashboard(a: argparse.Namespace) -> bool:
    """Whether there shall be a page."""
    return not a.headless if a.dashboard is None else bool(a.dashboard)
