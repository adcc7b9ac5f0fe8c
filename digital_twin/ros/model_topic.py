"""The model in service, announced on twin/model (std_msgs/String, latched) as JSON: file, hash, parent.

The file is a version of the model (core/drift/model_version.py), or a URDF or xacro.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from digital_twin.core.drift.model_version import parse_version
from digital_twin.core.errors import TwinError
from digital_twin.robots import Robot, load_robot, with_version

MAX_BYTES = 10_000_000


def file_hash(path: Path | str) -> str:
    """SHA-256 of a model's file, in hex.

    Raises:
        TwinError: it cannot be read, or is too large.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TwinError(f"{path}: too large for a model")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise TwinError(f"{path}: cannot read the model: {e.strerror}") from e


class ModelTopic:
    """Turns announcements into robots; those that cannot be used are refused."""

    def __init__(self, robot: Robot, robot_config: str) -> None:
        self._robot, self._config = robot, robot_config
        self._hash = ""

    def take(self, text: str) -> Robot | None:
        """The robot that an announcement names; None when it is the one in service.

        `file` is a version of the model (.json), or a URDF or xacro with the same joints; `hash` the SHA-256 of that
        file. Versions are relative to the robot that the node started with.

        Raises:
            TwinError: one line: no JSON, no such file, another hash, other joints, not a robot.
        """
        try:
            said = json.loads(text)
            path, expected = str(said["file"]), str(said["hash"])
        except (ValueError, KeyError, TypeError) as e:
            raise TwinError('expected JSON like {"file": "robot.urdf", "hash": "…", "parent": "…"}') from e
        if expected == self._hash:
            return None
        found = file_hash(path)
        if found != expected:
            raise TwinError(f"{path}: its hash is {found[:12]}…, announced was {expected[:12]}…")
        robot = self._read(path)
        if robot.model.joint_names != self._robot.model.joint_names:
            raise TwinError(f"{path}: it has other joints than the robot in service")
        self._hash = expected
        return robot

    def _read(self, path: str) -> Robot:
        if not path.endswith(".json"):
            return load_robot(path, self._config)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise TwinError(f"{path}: cannot read the model version: {e}") from e
        return with_version(self._robot, parse_version(text, path))
