"""How well the twin follows its robot, judged and put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from digital_twin.core.sync_config import SynchronizerConfig


@dataclass(frozen=True)
class SyncStatus:
    """How well the twin follows, in numbers and in words.

    level: 0 OK, 1 warning, 2 error. sync_error [m]: from the last external pose; joint_error [rad]: the largest between
    a filtered and a measured position; age [s] of the last joint states. values: everything else, by name.
    """

    level: int
    words: tuple[str, ...]
    sync_error: float
    joint_error: float
    age: float
    contacts: dict[str, bool]
    silent_joints: tuple[str, ...]
    missing_joints: tuple[str, ...]
    values: dict[str, float]


@dataclass(frozen=True)
class Facts:
    """What is judged: ages [s] of joint states, external pose and IMU (infinite: never seen), sync_error [m]."""

    age: float
    sync_error: float
    pose_age: float
    silent_joints: tuple[str, ...]
    sure: bool
    doubted_feet: tuple[str, ...]
    imu_age: float


def judge(f: Facts, c: SynchronizerConfig) -> tuple[int, tuple[str, ...]]:
    """The level (0 OK, 1 warning, 2 error) and what there is to say."""
    found: list[tuple[int, str]] = []
    if f.sync_error > c.sync_error_threshold:
        found.append((
            2, f"out of step: the virtual pose is {100 * f.sync_error:.1f} cm from the external one "
            f"(limit {100 * c.sync_error_threshold:.1f} cm); call ~/resync to start again from it",
        ))  # fmt: skip
    if f.pose_age > c.pose_age:
        found.append((1, f"no external pose for {f.pose_age:.1f} s"))
    if f.age > c.silent_after:
        found.append((2, f"no joint states for {f.age:.1f} s"))
    elif f.silent_joints:
        found.append((1, f"silent joints, held where they were: {', '.join(f.silent_joints)}"))
    if not f.sure:
        found.append((1, "unsure: attitude or velocity are not known well (yet)"))
    if f.age <= c.silent_after:
        found += [
            (1, f"the {name} foot slips, or does not stand although its sensor says so") for name in f.doubted_feet
        ]
        if f.imu_age > c.silent_after:
            since = f" for {f.imu_age:.1f} s" if math.isfinite(f.imu_age) else ""
            found.append((1, f"no IMU{since}: the legs alone carry the base"))
    return max((level for level, _ in found), default=0), tuple(text for _, text in found)
