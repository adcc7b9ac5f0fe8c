"""One moment of the twin as the page shows it, in the map frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from digital_twin.core.arrays import Array
from digital_twin.core.view import View

T = TypeVar("T")


@dataclass(frozen=True)
class Ahead:
    """A forecast: times [s] (k,), joints (k, n), base in odom: position (k, 3), quaternion xyzw (k, 4)."""

    times: Array
    q: Array
    position: Array
    quaternion: Array


@dataclass(frozen=True)
class Scan:
    """A planar scan in the frame of its sensor: frame, points (k, 3)."""

    frame: str
    points: Array


class Later(Generic[T]):
    """Made of bytes when it is first asked for; None when they make no sense."""

    def __init__(self, make: Callable[[], T | None]) -> None:
        self._make: Callable[[], T | None] | None = make
        self._value: T | None = None

    def get(self) -> T | None:
        """The thing itself."""
        if self._make is not None:
            self._value, self._make = self._make(), None
        return self._value


@dataclass(frozen=True)
class Moment:
    """What is shown together. Forecast and scan are read when they are first looked at.

    spread: times [s] (k,) and half widths [m] (k, 3) of the base's 90 % intervals.
    """

    stamp_ns: int
    view: View
    ahead: Later[Ahead] | None = None
    scan: Later[Scan] | None = None
    spread: tuple[Array, Array] | None = None
