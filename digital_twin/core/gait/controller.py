"""The gait controller: from a velocity asked for and the twin's state to set points of all joints, once per state."""

from __future__ import annotations

from typing import NamedTuple

from digital_twin.core.arrays import Array
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.synchronizer import VirtualState

PHASES = ("stand", "walk", "recover", "fall", "sit")


class GaitCommand(NamedTuple):
    """Set points of all joints in the model's order: q [rad], qd [rad/s], effort [N m], each (n,)."""

    q: Array
    qd: Array
    effort: Array


class GaitController:
    """Walks, stands, catches itself, falls softly. Feed it each state of the twin; it reads no clock.

    Attributes:
        phase: one of PHASES.
        why: what it does and why, in words, when that needs saying ("" else).
        velocity: what it walks by now, (vx, vy, wz) [m/s], [m/s], [rad/s].
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, gait: Gait) -> None:
        """
        Raises:
            ConfigError: the robot has no two legs to walk on; says what is missing.
        """
        raise NotImplementedError

    def request(self, vx: float, vy: float, wz: float, stamp_ns: int | None = None) -> str:
        """Ask for a velocity in the base's frame: [m/s] ahead, [m/s] to the left, [rad/s] to the left.

        Returns "" or what was wrong with it, in words: numbers that are none stop the robot, too high ones are lowered.
        stamp_ns: when; after `command_timeout` it is stale. None: it holds until the next.
        """
        raise NotImplementedError

    def sit(self) -> None:
        """Stop, and go down on bent knees."""
        raise NotImplementedError

    def stand(self) -> None:
        """Stop; stand up from `sit`, or after a fall when put back on the feet."""
        raise NotImplementedError

    def step(self, state: VirtualState, wrenches: Array) -> GaitCommand:
        """One command for each state of the twin.

        wrenches (2, 6): force [N] and torque [N m] on the left and the right sole in its own frame, about its origin,
        force z positive under load, as the robot config orders its feet; NaN where there is no sensor.
        """
        raise NotImplementedError

    def lost(self, stamp_ns: int) -> GaitCommand:
        """The command while no state comes: stops walking, stands on what it has, goes limp slowly when that lasts."""
        raise NotImplementedError

    def snapshot(self) -> object:
        """All that changes, as a value; `restore` takes it back. So a rollout can begin in mid-step."""
        raise NotImplementedError

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot (of this controller or of another with the same robot and gait)."""
        raise NotImplementedError
