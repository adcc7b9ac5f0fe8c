"""Which of the velocities that are asked for may pass: only those that the twin has tried and that did not end in a fall.

A trial takes seconds. Meanwhile the robot goes on as it was allowed to last. Stopping is never refused.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

from digital_twin.core.gait.gate import Verdict

NS = 1_000_000_000
SAME = (0.05, 0.03, 0.08)  # [m/s], [m/s], [rad/s] by which two velocities are the same to the gate
REMEMBERED = 32
Asked = tuple[float, float, float]
STOP: Asked = (0.0, 0.0, 0.0)


class Trials(Protocol):
    """What tries a velocity, elsewhere and in its own time."""

    def begin(self, velocity: Asked) -> None:
        """Start a trial; there is none under way."""

    def done(self) -> Verdict | None:
        """The verdict of the trial under way, once; None while there is none."""


class Answer(NamedTuple):
    """The velocity that may be walked now, and why it is not the one that was asked for ("" when it is)."""

    velocity: Asked
    words: str


class TryFirst:
    """Feed it each velocity that is asked for; it answers with the one that may pass.

    Attributes:
        passed, refused: how many velocities were.
    """

    def __init__(self, trials: Trials, patience: float = 10.0) -> None:
        """patience [s]: after so long a verdict is out of date, and the velocity is tried again when asked for anew."""
        self._trials, self._patience = trials, round(patience * NS)
        self._allowed = STOP
        self._trying: Asked | None = None
        self._outdated = False  # what tries it is a model that is no longer in service
        self._known: OrderedDict[Asked, tuple[int, Verdict]] = OrderedDict()
        self.passed = self.refused = 0

    def ask(self, velocity: Asked, now_ns: int) -> Answer:
        """A velocity is asked for; finite numbers."""
        self._collect(now_ns)
        if _same(velocity, STOP):
            self._allowed = velocity
            return Answer(velocity, "")
        if _same(velocity, self._allowed):
            return Answer(velocity, "")
        known = next((k for k in reversed(self._known) if _same(k, velocity)), None)
        if known is not None:
            at, verdict = self._known[known]
            if now_ns - at <= self._patience:
                if not verdict.passes:
                    return Answer(self._allowed, f"refused: {verdict.words}")
                self._allowed = velocity
                return Answer(velocity, "")
            del self._known[known]
        if self._trying is None:
            self._trials.begin(velocity)
            self._trying = velocity
        return Answer(self._allowed, "the twin tries it first")

    def forget(self) -> None:
        """Another model is in service: what was tried is tried again when asked for anew. What is walked now goes on."""
        self._known.clear()
        self._outdated = self._trying is not None

    def _collect(self, now_ns: int) -> None:
        verdict = self._trials.done() if self._trying is not None else None
        if verdict is None or self._trying is None:
            return
        if self._outdated:
            self._trying, self._outdated = None, False
            return
        self._known[self._trying] = (now_ns, verdict)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._trying = None
        self.passed += verdict.passes
        self.refused += not verdict.passes


def _same(a: Asked, b: Asked) -> bool:
    return all(abs(x - y) <= tolerance for x, y, tolerance in zip(a, b, SAME, strict=True))
