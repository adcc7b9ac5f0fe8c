"""digital-twin identify: the robot's parameters from a recording of it, proved on a part that identification has not seen."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from rich.console import Console
from rich.progress import Progress

from digital_twin.bags import Bag
from digital_twin.core.drift.estimate import names_of
from digital_twin.core.drift.identification import SUSPICIONS
from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.model_version import ModelVersion, flat, nominal
from digital_twin.core.drift.update import Outcome, propose
from digital_twin.core.drift.update_config import UpdateConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import BagError
from digital_twin.nodes.drift_monitor import DriftMonitor
from digital_twin.recording.replay import Replay
from digital_twin.robots import Robot
from digital_twin.ros.model_keeper import store_of
from digital_twin.ros.model_loop import LONGEST

NS = 1_000_000_000


def run_identify(a: argparse.Namespace) -> int:
    """Do it. Returns 0 when the new model is better, 1 when there is none or it is not. Raises TwinError: one line."""
    suspicion = suspicion_of(a.only)
    with Bag(a.bag) as bag, Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("running the twin over it", total=1.0)
        robot, window = window_of(
            bag, a.robot_description, a.robot_config, a.seconds, a.until,
            lambda share: progress.update(task, completed=share),
        )  # fmt: skip
        progress.update(task, total=None, description="identifying")
        store = store_of(a.store, robot.description.name) if a.store else None
        service = store.get("in_service") if store is not None and store.in_service() else nominal(robot.description)
        settings = UpdateConfig(residual=a.residual)
        outcome = propose(window, robot.description, robot.config, service, suspicion, settings, time.time_ns())
    _print(outcome, window, missing(window, robot.model.joint_names, [f.name for f in robot.config.feet]))
    if store is not None and outcome.adopt and outcome.version is not None:
        _put(store, service, outcome.version)
    return 0 if outcome.adopt else 1


def suspicion_of(text: str) -> dict[str, str]:
    """What is suspected, as of `identify`: by kind its target. Raises BagError for an unknown kind."""
    if not text:
        return {}
    kind, _, target = text.partition(":")
    if kind not in SUSPICIONS:
        raise BagError(f"--only {text}: unknown kind '{kind}'; allowed: {', '.join(SUSPICIONS)}")
    return {kind: target}


def window_of(
    bag: Bag, robot_description: str = "", robot_config: str = "", seconds: float = LONGEST, until: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Robot, Window]:  # fmt: skip
    """The robot of a recording as it was brought, and what it did in the `seconds` before `until` [s].

    Raises:
        BagError: nothing can be identified from it.
    """
    if not 0.0 < seconds <= LONGEST:
        raise BagError(f"--seconds {seconds:g}: expected more than 0 and at most {LONGEST:g}")
    length = (bag.end_ns - bag.start_ns) / NS
    if until is not None and not 0.0 < until <= length + 1.0:
        raise BagError(f"--until {until:g}: the recording has {length:.1f} s")
    end = None if until is None else bag.start_ns + round(until * NS)
    replay = Replay(bag, robot_description, robot_config, exact=False, until_ns=end)
    replay.run(progress=progress)
    window = cast("DriftMonitor", replay.nodes["drift_monitor"]).window(seconds)
    if window is None:
        raise BagError(f"{bag.path}: joints and the robot's base are never known together; nothing can be identified")
    return replay.robot, window


def missing(w: Window, joints: Sequence[str], feet: Sequence[str]) -> list[str]:
    """What the window never holds, in words."""
    out = []
    for what, values, names in (
        ("positions", w.q, joints), ("torques", w.effort, joints), ("commands", w.command, joints),
        ("sole forces", w.wrenches[:, :, 2], feet),
    ):  # fmt: skip
        never = [name for name, seen in zip(names, np.isfinite(values).any(axis=0), strict=True) if not seen]
        if never:
            out.append(f"no {what} of {'any' if len(never) == len(names) else names_of(never)}")
    return out


def _print(outcome: Outcome, window: Window, lacking: list[str]) -> None:
    console = Console(soft_wrap=True)
    console.print(f"{window.duration:.1f} s, {len(window)} samples", highlight=False)
    if lacking:
        console.print(f"not in them: {'; '.join(lacking)}", highlight=False, style="yellow")
    if outcome.version is not None:
        for name, value in flat(outcome.version).items():
            error = outcome.version.errors.get(name)
            spread = "" if error is None else f" ± {1.96 * error:.2g}"
            console.print(f"  {name}: {value:.5g}{spread}", highlight=False)
    console.print(outcome.words, highlight=False)


def _put(store: ModelStore, service: ModelVersion, version: ModelVersion) -> None:
    if not store.in_service():
        store.put_in_service(service)
    store.put_in_service(version)
    Console(soft_wrap=True).print(f"in service: {version.short}, after {service.short}", highlight=False)
