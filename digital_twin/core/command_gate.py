"""What may go down to the robot: one source, within limits, while everything is alive, and never after a stop.

The gate lets commands through only while it is open. Whatever leaves it is finite, within the position limits, moves
no faster than the joints may, and asks for no more torque than the motors have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.config import param
from digital_twin.core.model import RobotModel

NS = 1_000_000_000
MAX_STEP_TIME = 0.05  # a pause in the commands does not entitle the next one to a leap


@dataclass(frozen=True)
class CommandGateConfig:
    """When commands pass, and what happens when they stop coming."""

    gate: str = param(
        "auto", "auto: open by itself while source and twin are alive (simulation); manual: closed until ~/enable_commands",
        choices=("auto", "manual"),
    )  # fmt: skip
    when_silent: str = param(
        "hold", "what the joints do when the source falls silent: hold their last set points, or damp (go limp slowly)",
        choices=("hold", "damp"),
    )  # fmt: skip
    when_stopped: str = param("hold", "and on an emergency stop", choices=("hold", "damp"))
    source_timeout: float = param(0.2, "a source this long without a command is silent", unit="s", low=0.01, high=10)
    twin_timeout: float = param(2.0, "a twin this long without a status is stale", unit="s", low=0.1, high=60)
    speed_scale: float = param(1.0, "share of the joints' top speed that commands may use", low=0.01, high=1)


@dataclass(frozen=True)
class Command:
    """What the robot shall do: set points of the joints in `index` (k,).

    q: positions [rad] (k,), or None to damp only. qd, effort: feed-forward [rad/s], [N m] (k,).
    """

    index: Index
    q: Array | None
    qd: Array
    effort: Array


class CommandGate:
    """State of the way down. Times are nanoseconds of one clock that never goes back.

    Attributes:
        stopped: an emergency stop is in force; only `enable` lifts it.
        reason: why the gate is closed, in words; empty while it is open.
    """

    def __init__(self, model: RobotModel, config: CommandGateConfig) -> None:
        self._model, self.config = model, config
        self._enabled = config.gate == "auto"
        self.stopped = False
        self._others: tuple[str, ...] = ()
        self._measured = np.full(model.n, np.nan)
        self._q = np.full(model.n, np.nan)
        self._qd, self._effort = np.zeros(model.n), np.zeros(model.n)
        self._used = np.zeros(model.n, dtype=bool)
        self._limp = False
        self._sent_ns: int | None = None
        self._source_ns: int | None = None
        self._twin_ns: int | None = None

    # What happens around

    def measured(self, index: Index, q: Array) -> None:
        """Latest positions [rad] (k,) of some joints: where a first command starts from."""
        self._measured[index] = q

    def twin_alive(self, now_ns: int) -> None:
        """The twin gave a sign of life."""
        self._twin_ns = now_ns

    def sources(self, names: tuple[str, ...]) -> None:
        """Who publishes commands now; more than one, and none is obeyed."""
        self._others = names if len(names) > 1 else ()

    def enable(self, on: bool) -> str:
        """Open (which also lifts an emergency stop) or close by hand; returns what was done in words."""
        self._enabled = on
        if on:
            self.stopped = False
            return "commands enabled"
        return "commands disabled"

    def emergency_stop(self) -> Command | None:
        """Stop at once: returns the command to send now, None when no joint was ever commanded or measured."""
        self.stopped, self._enabled = True, False
        return self._stand_still(self.config.when_stopped)

    def why_closed(self, now_ns: int) -> str:
        """Why commands do not pass now, in words; empty when they do."""
        c = self.config
        if self.stopped:
            return "emergency stop; ~/enable_commands lifts it"
        if not self._enabled:
            return "closed; ~/enable_commands opens it"
        if self._others:
            return f"more than one source publishes commands: {', '.join(self._others)}"
        if self._twin_ns is None or now_ns - self._twin_ns > c.twin_timeout * NS:
            return "the twin is stale"
        return ""

    # Commands

    def accept(
        self, index: Index, q: Array, qd: Array | None, effort: Array | None, now_ns: int,
        veto: Callable[[Command], str] | None = None,
    ) -> Command | str:  # fmt: skip
        """A command of the source for some joints (k,). Returns what to send, or the reason to refuse it.

        veto: looks at the command as it would go down, within limits; a reason of its own refuses it.
        """
        for x in (q, qd, effort):
            if x is not None and not np.isfinite(x).all():
                return "non_finite"
        self._source_ns = now_ns
        if self.why_closed(now_ns):
            return "gate_closed"
        start = self._start(index)
        if not np.isfinite(start).all():
            return "no_measurement"
        m = self._model
        dt = 0.0 if self._sent_ns is None else min(max(now_ns - self._sent_ns, 0) / NS, MAX_STEP_TIME)
        reach = m.max_velocity[index] * (self.config.speed_scale * dt) if dt else 0.0
        # The speed limit comes last: a joint found outside its range is led back into it, not thrown.
        target = np.clip(q, m.lower[index], m.upper[index])
        zero = np.zeros(len(index))
        limited = Command(
            index,
            np.clip(target, start - reach, start + reach),
            zero if qd is None else np.clip(qd, -m.max_velocity[index], m.max_velocity[index]),
            zero if effort is None else np.clip(effort, -m.max_effort[index], m.max_effort[index]),
        )
        if veto is not None and (reason := veto(limited)):
            return reason
        self._q[index], self._used[index] = limited.q, True
        self._qd[index], self._effort[index] = limited.qd, limited.effort
        self._sent_ns, self._limp = now_ns, False
        return self._all()

    def tick(self, now_ns: int) -> Command | None:
        """To be called often: what to send because the source is silent or the gate closed, None when nothing."""
        if not self._used.any():
            return None
        silent = self._source_ns is None or now_ns - self._source_ns > self.config.source_timeout * NS
        if not self.stopped:
            if not silent and not self.why_closed(now_ns):
                return None
            if self.config.gate == "manual":
                self._enabled = False
        self._sent_ns = now_ns
        return self._stand_still(self.config.when_stopped if self.stopped else self.config.when_silent)

    def _start(self, index: Index) -> Array:
        """Where the joints' set points are: where they were put last, or, after going limp or at first, where they are."""
        if self._limp:
            return np.asarray(self._measured[index])
        return np.asarray(np.where(self._used[index], self._q[index], self._measured[index]))

    def _all(self) -> Command:
        used = np.flatnonzero(self._used)
        return Command(used, self._q[used], self._qd[used], self._effort[used])

    def _stand_still(self, how: str) -> Command | None:
        everything = np.arange(self._model.n)
        q = self._start(everything)
        index = np.flatnonzero(np.isfinite(q))
        if not len(index):
            return None
        zero = np.zeros(len(index))
        if how == "damp":
            self._limp = True
            return Command(index, None, zero, zero)
        self._q[index], self._used[index] = q[index], True
        self._qd[:], self._effort[:], self._limp = 0.0, 0.0, False
        return self._all()
