"""The motion between the twin's states: speeds and accelerations at the states, poses in between."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import exp_so3, log_so3

NS = 1_000_000_000


@dataclass(frozen=True)
class Motion:
    """A state of the twin and how it moves.

    position [m] (3,), rotation R_world_base (3, 3) of the base frame; velocity [m/s], turn [rad/s] and their rates
    acceleration [m/s²], turn_rate [rad/s²] (3,), all along the world's axes; q, qd, qdd, effort of the joints (n,).
    """

    stamp_ns: int
    position: Array
    rotation: Array
    velocity: Array
    turn: Array
    q: Array
    qd: Array
    effort: Array
    acceleration: Array
    turn_rate: Array
    qdd: Array


def state(
    stamp_ns: int, position: Array, rotation: Array, velocity: Array, turn: Array, q: Array, qd: Array, effort: Array
) -> Motion:
    """A state as the synchronizer gives it: velocity and turn in the base frame, accelerations not known yet."""
    zero = np.zeros(3)
    return Motion(
        stamp_ns, position, rotation, rotation @ velocity, rotation @ turn, q, qd, effort, zero, zero, np.zeros_like(q)
    )


class Smoother:
    """Accelerations from a few states on either side: parabolas through their speeds (Savitzky & Golay 1964).

    The parabola is centred, so nothing lags behind; instead the motion comes `side` states late.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._states: deque[Motion] = deque(maxlen=2 * side + 1)

    def feed(self, s: Motion) -> Motion | None:
        """One more state, later than the last. Returns the motion `side` states ago, once there are enough."""
        self._states.append(s)
        states, side = self._states, self._side
        if len(states) < 2 * side + 1:
            return None
        middle = states[side]
        t = np.array([(x.stamp_ns - middle.stamp_ns) for x in states]) * 1e-9
        span = t[-1] - t[0]
        basis = np.column_stack([np.ones_like(t), t / span, (t / span) ** 2])
        rows = np.linalg.solve(basis.T @ basis, basis.T)
        speeds = np.array([np.concatenate([x.velocity, x.turn, x.qd]) for x in states])
        value, slope = rows[0] @ speeds, rows[1] @ speeds / span
        return replace(
            middle, velocity=value[:3], turn=value[3:6], acceleration=slope[:3], turn_rate=slope[3:6],
            qdd=slope[6:],
        )  # fmt: skip

    def clear(self) -> None:
        """Forget: there was a gap."""
        self._states.clear()


@dataclass(frozen=True)
class Pose:
    """Where a frame and the robot's base are in the world at a time [s]: [m] (3,), (3, 3); and the joints (n,)."""

    t: float
    position: Array
    rotation: Array
    base_position: Array
    base_rotation: Array
    q: Array

    @cached_property
    def numbers(self) -> Array:
        """Time, position, and rotation of the frame row by row (13,)."""
        return np.concatenate([[self.t], self.position, self.rotation.ravel()])


class Track:
    """The poses of a frame over the last moments."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._poses: deque[Pose] = deque()

    def add(self, pose: Pose) -> None:
        """One more, later than the last."""
        self._poses.append(pose)
        while len(self._poses) > 2 and self._poses[1].t < pose.t - self._seconds:
            self._poses.popleft()

    def clear(self) -> None:
        """Forget: there was a gap."""
        self._poses.clear()

    @property
    def start(self) -> float:
        """The first time [s]; infinite when there is none."""
        return self._poses[0].t if self._poses else np.inf

    def since(self, t: float) -> tuple[Pose, ...]:
        """The poses from the last one before t [s] on."""
        poses = tuple(self._poses)
        first = max((i for i, p in enumerate(poses) if p.t <= t), default=0)
        return poses[first:]


def poses_at(poses: tuple[Pose, ...], times: Array) -> list[Pose]:
    """Poses at rising times [s] (k,): between those given straight from one to the next, turning evenly."""
    out: list[Pose] = []
    i, turns = -1, (np.zeros(3), np.zeros(3))
    for t in times.tolist():
        before = i
        i = max(i, 0)
        while i < len(poses) - 2 and poses[i + 1].t < t:
            i += 1
        a, b = poses[i], poses[min(i + 1, len(poses) - 1)]
        if i != before:
            turns = log_so3(a.rotation.T @ b.rotation), log_so3(a.base_rotation.T @ b.base_rotation)
        s = min(max((t - a.t) / (b.t - a.t), 0.0), 1.0) if b.t > a.t else 0.0
        out.append(
            Pose(
                t, a.position + s * (b.position - a.position), a.rotation @ exp_so3(s * turns[0]),
                a.base_position + s * (b.base_position - a.base_position), a.base_rotation @ exp_so3(s * turns[1]),
                a.q + s * (b.q - a.q),
            )
        )  # fmt: skip
    return out
