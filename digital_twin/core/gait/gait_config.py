"""A gait: how the robot steps, how stiffly it balances, and what it is asked for at most. Loaded from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from digital_twin.core.config import build, load_yaml, param
from digital_twin.core.robot_config import RobotConfig


@dataclass(frozen=True)
class BalanceGains:
    """Gains of the balance. Frequencies are those of a critically damped error: stiffness w², damping 2 w."""

    dcm: float = param(2.0, "rate at which an error of the capture point is to fade while a foot's sole allows", unit="1/s",
                       low=0.1, high=20)  # fmt: skip
    height: float = param(10.0, "of the centre of mass's height", unit="rad/s", low=1, high=40)
    torso: float = param(12.0, "of the base's attitude", unit="rad/s", low=1, high=40)
    swing: float = param(25.0, "of the swinging foot on its path", unit="rad/s", low=2, high=60)
    stance: float = param(
        10.0, "damping of the standing foot against twisting and slipping", unit="1/s", low=0, high=60
    )
    servo: float = param(
        0.3, "share of the servos' stiffness that the legs keep about the planned posture", low=0, high=1
    )
    margin: float = param(0.25, "share of a sole's half length and width that the centre of pressure keeps from its edges",
                          low=0, high=0.8)  # fmt: skip
    adjust: float = param(1.0, "share of the capture point's expected error by which a step is moved", low=0, high=1.5)
    hip: float = param(1.5, "share of what soles cannot answer that the trunk's turning does", low=0, high=2)


@dataclass(frozen=True)
class Gait:
    """How the robot walks. The default suits the package's humanoid; lengths are for a leg of 0.8 m."""

    step_time: float = param(0.5, "from one touchdown to the next", unit="s", low=0.2, high=1.5)
    double_support: float = param(0.2, "share of it in which both feet bear weight", low=0.05, high=0.5)
    step_height: float = param(0.06, "by which the swinging foot is lifted", unit="m", low=0.01, high=0.2)
    stance_width: float = param(0.195, "between the soles' centres; 0: that of the stand", unit="m", low=0, high=0.6)
    crouch: float = param(0.08, "by which the body walks lower than it stands", unit="m", low=0, high=0.3)
    sway: float = param(0.01, "how far inside of the standing sole's centre the weight passes", unit="m",
                        low=-0.03, high=0.06)  # fmt: skip
    lean: float = param(-0.01, "how far before the standing sole's centre the weight passes", unit="m",
                        low=-0.06, high=0.06)  # fmt: skip
    arm_swing: float = param(0.6, "angle of the shoulders for each of the opposite hip", low=0, high=1.5)
    max_forward: float = param(1.0, "speed that is asked for at most", unit="m/s", low=0, high=3)
    max_sideways: float = param(0.3, "speed that is asked for at most", unit="m/s", low=0, high=1.5)
    max_turn: float = param(0.8, "rate that is asked for at most", unit="rad/s", low=0, high=3)
    stride: float = param(0.42, "longest step that is taken in this time; above, steps become quicker", unit="m",
                          low=0.05, high=1)  # fmt: skip
    max_step: float = param(0.5, "a foot is put at most so far before or behind the other", unit="m", low=0.05, high=1)
    max_spread: float = param(0.5, "and so far beside it", unit="m", low=0.1, high=1)
    min_spread: float = param(0.11, "and no nearer than this, lest they meet", unit="m", low=0.02, high=0.5)
    acceleration: float = param(0.5, "at which the speed asked for is approached", unit="m/s²", low=0.05, high=5)
    command_timeout: float = param(0.5, "a cmd_vel older than this is stale: the robot stops", unit="s", low=0.05,
                                   high=10)  # fmt: skip
    gains: BalanceGains = param(BalanceGains)


def robot_gait(robot: RobotConfig, where: str = "robot config") -> Gait:
    """The gait of a robot that is told no other: what its config says, the rest by default.

    Raises:
        ConfigError: one line naming the config, the key and what is allowed.
    """
    return build(Gait, robot.gait, f"{where}: gait")


def load_gait(path: Path | str) -> Gait:
    """Read a gait.

    Raises:
        ConfigError: one line naming the file, the key and what is allowed.
    """
    return build(Gait, load_yaml(path, "gait"), str(path))
