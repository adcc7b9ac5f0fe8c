"""Faults of the simulated robot, written as one line each.

    payload l_gripper 2.0            hang 2 kg at a frame
    friction l_knee 2.0              multiply a joint's friction
    motor l_knee 0.8                 scale a motor's strength; 0 is dead
    push torso 30 0 0 for 0.2        push a link with a force [N] in the world frame
    imu_bias gyro 0.01 0 0           add to the gyro's bias [rad/s], or the accelerometer's: accel [m/s²]
    encoder l_knee 0.0175            add to a joint's zero [rad]
    drop|freeze imu/data             stop a topic, or repeat its last message
    delay joint_states 0.05          send a topic late [s]

"for S" undoes a fault after S seconds. "at T: …" starts it at T seconds of simulated time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from digital_twin.core.errors import ConfigError, unknown

# kind: what the target is called, how many numbers follow
KINDS: dict[str, tuple[str, int]] = {
    "payload": ("frame", 1),
    "friction": ("joint", 1),
    "motor": ("joint", 1),
    "push": ("frame", 3),
    "imu_bias": ("sensor", 3),
    "encoder": ("joint", 1),
    "drop": ("topic", 0),
    "freeze": ("topic", 0),
    "delay": ("topic", 1),
}
_RANGES = {"payload": (0.0, 500.0), "friction": (0.0, 1000.0), "motor": (0.0, 10.0), "delay": (0.0, 5.0)}
DEFAULT_PUSH_SECONDS = 0.2


@dataclass(frozen=True)
class Fault:
    """One fault: what, where, how much, from when [s] and for how long [s] (infinite: until cleared)."""

    kind: str
    target: str
    values: tuple[float, ...]
    start: float = 0.0
    duration: float = math.inf

    def __str__(self) -> str:
        numbers = " ".join(f"{v:g}" for v in self.values)
        span = f" for {self.duration:g}" if math.isfinite(self.duration) else ""
        return f"{self.kind} {self.target} {numbers}".rstrip() + span


def parse_fault(text: str) -> Fault:
    """Read one line of the grammar above.

    Raises:
        ConfigError: naming the word that is wrong and what is allowed.
    """
    where = f"fault '{text}'"
    start, body = 0.0, text
    if text.strip().startswith("at "):
        head, colon, body = text.strip()[3:].partition(":")
        if not colon:
            raise ConfigError(f"{where}: expected 'at SECONDS: …'")
        start = _number(head, where, 0.0, 1e6)
    words = body.split()
    duration = math.inf
    if len(words) > 2 and words[-2] == "for":
        duration = _number(words[-1], where, 0.0, 1e6)
        words = words[:-2]
    if not words or words[0] not in KINDS:
        raise ConfigError(f"{where}: {unknown('kind', words[0] if words else '', KINDS)}")
    kind, (target_kind, count) = words[0], KINDS[words[0]]
    if len(words) != 2 + count:
        numbers = f" and {count} number{'s' if count > 1 else ''}" if count else ""
        raise ConfigError(f"{where}: '{kind}' wants a {target_kind}{numbers}")
    if kind == "imu_bias" and words[1] not in ("gyro", "accel"):
        raise ConfigError(f"{where}: {unknown('sensor', words[1], ('gyro', 'accel'))}")
    low, high = _RANGES.get(kind, (-1e5, 1e5))
    values = tuple(_number(w, where, low, high) for w in words[2:])
    if kind == "push" and math.isinf(duration):
        duration = DEFAULT_PUSH_SECONDS
    return Fault(kind, words[1], values, start, duration)


def _number(text: str, where: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as e:
        raise ConfigError(f"{where}: '{text.strip()}' is not a number") from e
    if not low <= value <= high:
        raise ConfigError(f"{where}: {value:g} is out of range [{low:g}, {high:g}]")
    return value
