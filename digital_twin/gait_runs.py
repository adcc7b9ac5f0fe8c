"""Episodes on demand: what the optimiser and the studies run in their processes, remembered by the hash of its inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import mujoco

from digital_twin import core
from digital_twin.core.config import build, to_plain
from digital_twin.core.errors import TwinError
from digital_twin.core.gait.episode import Episode, EpisodeConfig
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.recovery import Push, survives
from digital_twin.core.gait.trial import Outcome, Task, run_trial
from digital_twin.core.world import World, load_world
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot

FIRST_SEED = 1000  # robots of a search; those of tests and studies are others


def cache_folder() -> Path:
    """Where finished episodes are kept: $XDG_CACHE_HOME/digital_twin/episodes."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "digital_twin" / "episodes"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Of all that an episode runs on: the core's sources and MuJoCo."""
    digest = hashlib.sha256(mujoco.__version__.encode())
    folder = Path(str(core.__file__)).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def robot_version(robot: Robot) -> str:
    """Of its description and config."""
    text = robot.description.urdf + json.dumps(to_plain(robot.config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Results by the hash of what they follow from. A file each, written whole or not at all."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: None remembers nothing."""
        self._folder = folder

    @staticmethod
    def key(**inputs: Any) -> str:
        """Of inputs that JSON can hold."""
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """What is remembered; None when nothing is, or what is there cannot be read."""
        if self._folder is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self._folder / key[:2] / f"{key}.json").read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Remember; where that cannot be written, go on without."""
        if self._folder is None:
            return
        path = self._folder / key[:2] / f"{key}.json"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(value), encoding="utf-8")
            part.replace(path)


def terrain(name: str) -> World:
    """A world of the package by its name, with or without .sdf, or one by its path.

    Raises:
        WorldError: one line.
    """
    return load_world(find(name if "." in name or "/" in name else f"{name}.sdf", "worlds"))


class GaitTrials:
    """Called with (gait as plain data, seed), runs a task or remembers what came of it. One for each process."""

    def __init__(self, robot_description: str, robot_config: str, task: Task, cache: str = "") -> None:
        """cache: folder of finished episodes; empty: none are remembered."""
        self._robot, self._task = load_robot(robot_description, robot_config), task
        self._world = terrain(task.terrain)
        self._cache = Cache(Path(cache) if cache else None)
        self._same = {
            "code": code_version(),
            "robot": robot_version(self._robot),
            "world": hashlib.sha256(self._world.source.read_bytes()).hexdigest(),
            "task": {k: v for k, v in to_plain(task).items() if k != "terrain"},
        }

    def __call__(self, job: tuple[dict[str, Any], int]) -> tuple[Outcome, bool]:
        """What came of it, and whether it was remembered."""
        plain, seed = job
        key = Cache.key(gait=plain, seed=seed, **self._same)
        known = self._cache.get(key)
        if known is not None:
            with contextlib.suppress(TwinError):
                return build(Outcome, {k: math.inf if v is None else v for k, v in known.items()}, key), True
        outcome = self._run(build(Gait, plain, "gait"), seed)
        self._cache.put(key, {k: v if math.isfinite(v) else None for k, v in to_plain(outcome).items()})
        return outcome, False

    def _run(self, gait: Gait, seed: int) -> Outcome:
        r = self._robot
        config = EpisodeConfig(seed=seed, seconds=self._task.seconds)
        try:
            return run_trial(Episode(r.description, r.config, gait, config, self._world), self._task)
        except TwinError:  # the simulation diverged: this gait shook the robot to pieces
            return Outcome(0.0, 0.0, math.inf, math.pi / 4, 1.0)


def seeds(count: int, first: int = FIRST_SEED) -> Iterator[int]:
    """Robots of the series."""
    return iter(range(first, first + count))


class PushTrials:
    """Called with (gait as plain data, or None for servos alone; Push), tells whether the robot survives."""

    def __init__(self, robot_description: str, robot_config: str, frame: str, world: str = "", cache: str = "") -> None:
        """frame: where it is pushed. world: empty: a bare floor. cache: folder of finished episodes; empty: none."""
        self._robot, self._frame = load_robot(robot_description, robot_config), frame
        self._world = terrain(world) if world else None
        self._cache = Cache(Path(cache) if cache else None)
        around = self._world.source.read_bytes() if self._world else b""
        self._same = {
            "code": code_version(), "robot": robot_version(self._robot), "frame": frame,
            "world": hashlib.sha256(around).hexdigest(),
        }  # fmt: skip

    def __call__(self, job: tuple[dict[str, Any] | None, Push]) -> bool:
        plain, push = job
        key = Cache.key(gait=plain, push=to_plain(push), **self._same)
        known = self._cache.get(key)
        if known is not None and isinstance(known.get("survived"), bool):
            return bool(known["survived"])
        r = self._robot
        gait = None if plain is None else build(Gait, plain, "gait")
        try:
            survived = survives(r.description, r.config, gait, push, self._frame, r.model.mass, self._world)
        except TwinError:  # it diverged
            survived = False
        self._cache.put(key, {"survived": survived})
        return survived
