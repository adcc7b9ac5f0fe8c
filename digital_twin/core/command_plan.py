"""Which commands a forecast assumes: those given, the trajectory being executed, or what a source would go on to do.

Time is in integer nanoseconds; a command given at t acts from t + delay on.
"""

from __future__ import annotations

import bisect
import copy
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from digital_twin.core.arrays import Array, Index, Mask

NS = 1_000_000_000
STEADY = 6  # commands from which a source's period is known
MEMORY = 128  # commands remembered: a tenth of a second at 1 kHz
Controller = Callable[[float, Array, Array], tuple[Array, Array, Array]]
"""From time from now [s], joint positions [rad] and speeds [rad/s] (n,) to set points of position, speed, torque."""


class SetPoints(NamedTuple):
    """Of the servos: positions [rad], speeds [rad/s], feed-forward torques [N m], (k, n) each."""

    position: Array
    velocity: Array
    effort: Array


class _Trajectory(NamedTuple):
    times: Index  # [ns] (m,)
    position: Array
    velocity: Array


class CommandPlan:
    """The commands in force and to come.

    Plans: `hold` keeps the last command; `trend` lets its positions go on at its speeds for `trend_time`, slowing down
    evenly; `trajectory` follows a trajectory while there is one, then holds its end; `auto` takes a trajectory if there
    is one, else the trend.
    """

    def __init__(self, n: int, plan: str = "auto", delay: float = 0.0, trend_time: float = 0.2) -> None:
        self.n, self.plan = n, plan
        self.delay_ns, self._trend = round(delay * NS), trend_time
        self._commands: deque[tuple[int, Array, Array, Array]] = deque(maxlen=MEMORY)
        self._trajectory: _Trajectory | None = None

    def copy(self) -> CommandPlan:
        """As it is now, to be used in another thread."""
        other = copy.copy(self)
        other._commands = self._commands.copy()
        return other

    def to_plain(self, now_ns: int, code: Callable[[Array], Any]) -> dict[str, Any]:
        """What matters of it from now on, as plain data; `code` makes such of an array."""
        stamps = [c[0] for c in self._commands]
        # The period of the source is known from its last commands.
        first = max(0, min(bisect.bisect_right(stamps, now_ns - self.delay_ns) - 1, len(stamps) - STEADY))
        path = self._trajectory
        return {
            "plan": self.plan, "delay_ns": self.delay_ns, "trend": self._trend,
            "commands": [[c[0], *map(code, c[1:])] for c in list(self._commands)[first:]],
            "trajectory": None if path is None else [path.times.tolist(), code(path.position), code(path.velocity)],
        }  # fmt: skip

    @staticmethod
    def from_plain(n: int, plain: dict[str, Any], read: Callable[[Any], Array]) -> CommandPlan:
        """The opposite of `to_plain`. Raises ValueError, KeyError, TypeError when it is none."""
        plan = CommandPlan(n, str(plain["plan"]), 0.0, float(plain["trend"]))
        plan.delay_ns = int(plain["delay_ns"])
        for stamp, *arrays in plain["commands"]:
            position, velocity, effort = (read(x) for x in arrays)
            plan._commands.append((int(stamp), position, velocity, effort))
        if plain["trajectory"] is not None:
            times, position, velocity = plain["trajectory"]
            plan._trajectory = _Trajectory(np.array(times, dtype=np.int64), read(position), read(velocity))
        return plan

    def last(self) -> Array | None:
        """The positions commanded last [rad] (n,), NaN where never; None: nothing was ever commanded."""
        return self._commands[-1][1] if self._commands else None

    def clear(self) -> None:
        """Forget everything: time was turned back, or the source has gone."""
        self._commands.clear()
        self._trajectory = None

    def command(
        self, stamp_ns: int, position: Array, velocity: Array | None = None, effort: Array | None = None
    ) -> None:
        """A command (n,), NaN for joints that it does not name: they keep what they were told last."""
        zero = np.zeros(self.n)
        if self._commands:
            if stamp_ns < self._commands[-1][0]:
                self._commands.clear()
            elif np.isnan(position).any():
                position = np.where(np.isnan(position), self._commands[-1][1], position)
        given = [zero if x is None else np.where(np.isfinite(x), x, 0.0) for x in (velocity, effort)]
        self._commands.append((stamp_ns, position, given[0], given[1]))

    def trajectory(self, start_ns: int, times: Array, position: Array, velocity: Array | None = None) -> None:
        """A trajectory that begins at `start_ns`: times from there [s] (m,), positions (m, n), speeds (m, n) or None.

        Raises:
            ValueError: fewer than one point, times that do not rise, numbers that are not finite.
        """
        if position.ndim != 2 or position.shape != (len(times), self.n) or not len(times):
            raise ValueError(f"a trajectory needs times (m,) and positions (m, {self.n})")
        if not (np.isfinite(position).all() and np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise ValueError("a trajectory needs finite positions at rising times")
        if velocity is None:
            velocity = np.gradient(position, times, axis=0) if len(times) > 1 else np.zeros_like(position)
        self._trajectory = _Trajectory(start_ns + np.round(times * NS).astype(np.int64), position, velocity)

    def sample(self, now_ns: int, times: Array, q: Array) -> tuple[SetPoints, str]:
        """Set points in force at `times` [s] (k,) from now, and in words what was assumed.

        `q` (n,) [rad]: where the joints are; joints that were never told anything are taken to hold that.
        """
        t = now_ns + np.round(times * NS).astype(np.int64) - self.delay_ns
        past = self._held(t, q)
        ahead = t > (self._commands[-1][0] if self._commands else -(2**62))
        path = self._trajectory if self.plan in ("auto", "trajectory") else None
        if path is not None and path.times[-1] > now_ns - NS:
            return self._follow(path, self._in_steps(t), past, ahead), "the trajectory being executed"
        if not self._commands:
            return past, "no commands: the joints hold where they are"
        if self.plan in ("auto", "trend") and np.any(self._commands[-1][2]):
            return self._go_on(t, past, ahead), f"the last command going on for {self._trend:g} s"
        return past, "the last command held"

    def _in_steps(self, t: Index) -> Index:
        """When what is in force at times [ns] was or will be commanded: a source holds each command for its period."""
        if len(self._commands) < STEADY:
            return t
        stamps = np.array([self._commands[i][0] for i in range(-STEADY, 0)])
        period, last = int(np.median(np.diff(stamps))), int(stamps[-1])
        if not 0 < period < NS // 10:
            return t
        return np.where(t > last, last + (t - last) // period * period, t)

    def _held(self, t: Index, q: Array) -> SetPoints:
        k = len(t)
        if not self._commands:
            return SetPoints(np.tile(q, (k, 1)), np.zeros((k, self.n)), np.zeros((k, self.n)))
        stamps = np.array([c[0] for c in self._commands])
        first = max(0, int(np.searchsorted(stamps, t[0], side="right")) - 1)
        which = np.clip(np.searchsorted(stamps[first:], t, side="right") - 1, 0, None)
        recent = [self._commands[i] for i in range(first, len(self._commands))]
        position = np.array([c[1] for c in recent])
        position = np.where(np.isnan(position), q, position)
        return SetPoints(
            position[which], np.array([c[2] for c in recent])[which], np.array([c[3] for c in recent])[which]
        )

    def _follow(self, trajectory: _Trajectory, t: Index, past: SetPoints, ahead: Mask) -> SetPoints:
        times, position, velocity = trajectory
        s, seconds = (t - times[0]) / NS, (times - times[0]) / NS
        at = np.clip(np.searchsorted(seconds, s, side="right") - 1, 0, max(len(seconds) - 2, 0))
        nxt = np.minimum(at + 1, len(seconds) - 1)
        span = np.maximum(seconds[nxt] - seconds[at], 1e-9)[:, None]
        w = np.clip((s - seconds[at])[:, None] / span, 0.0, 1.0)
        # Cubic Hermite: positions and speeds as the points say.
        p0, p1, m0, m1 = position[at], position[nxt], velocity[at] * span, velocity[nxt] * span
        p = (1 + 2 * w) * (1 - w) ** 2 * p0 + w * (1 - w) ** 2 * m0 + w**2 * (3 - 2 * w) * p1 + w**2 * (w - 1) * m1
        v = (6 * w * (w - 1) * (p0 - p1) + (1 - w) * (1 - 3 * w) * m0 + w * (3 * w - 2) * m1) / span
        v = np.where((s[:, None] < 0) | (s[:, None] > seconds[-1]), 0.0, v)
        told = ahead[:, None]
        return SetPoints(np.where(told, p, past.position), np.where(told, v, past.velocity), past.effort)

    def _go_on(self, t: Index, past: SetPoints, ahead: Mask) -> SetPoints:
        stamp, _, velocity, _ = self._commands[-1]
        dt = np.clip((t - stamp) / NS, 0.0, self._trend)[:, None]
        slowing = 1.0 - dt / self._trend
        told = ahead[:, None]
        moved = past.position + np.where(told, velocity * dt * (1.0 - 0.5 * dt / self._trend), 0.0)
        return SetPoints(moved, np.where(told, velocity * slowing, past.velocity), past.effort)
