"""Which feet stand: from the forces on their soles, and from kinematics where there is no force sensor (any more)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param

NS = 1_000_000_000


@dataclass(frozen=True)
class ContactConfig:
    """A Schmitt trigger on the load of each foot, with times."""

    on: float = param(0.35, "share of the weight above which a foot stands", low=0.01, high=1)
    off: float = param(0.25, "share below which it stands no longer: a foot that bears less rolls", low=0.0, high=1)
    on_time: float = param(0.02, "for which it must be loaded to stand", unit="s", low=0, high=1)
    stale: float = param(0.1, "a force older than this is not believed; kinematics decide", unit="s", low=0.01, high=5)
    height: float = param(0.01, "without forces, feet this close to the lowest may stand", unit="m", low=0, high=0.2)
    speed: float = param(0.1, "and so slow, against the lowest", unit="m/s", low=0, high=5)


class ContactState(NamedTuple):
    """What is known of the feet; never changed in place.

    load [N] and its stamp of each foot (stamp −1: never reported); stands; since when a foot has been loaded (−1: it
    is not).
    """

    load: tuple[float, ...]
    stamp: tuple[int, ...]
    stands: tuple[bool, ...]
    since: tuple[int, ...]

    @staticmethod
    def unknown(feet: int) -> ContactState:
        """Nothing has been heard yet."""
        return ContactState((0.0,) * feet, (-1,) * feet, (False,) * feet, (-1,) * feet)


class Contacts:
    """Decides for each foot. Holds no state: each method takes one and returns the next."""

    def __init__(self, config: ContactConfig, weight: float) -> None:
        """`weight` [N] of the robot."""
        self.config, self._weight = config, weight
        self._stale, self._on_time = round(config.stale * NS), round(config.on_time * NS)

    def load(self, s: ContactState, stamp_ns: int, foot: int, load: float) -> ContactState:
        """A reading [N] of a foot's sensor, positive under load."""
        return s._replace(load=_put(s.load, foot, load), stamp=_put(s.stamp, foot, stamp_ns))

    def blind(self, s: ContactState, foot: int, stamp_ns: int) -> bool:
        """Whether no force tells about a foot at this stamp."""
        return s.stamp[foot] < 0 or stamp_ns - s.stamp[foot] > self._stale

    def changing(self, s: ContactState) -> bool:
        """Whether the load of a foot does not fit what was decided about it last."""
        c, full = self.config, self._weight
        return any((load > (c.off if was else c.on) * full) != was for load, was in zip(s.load, s.stands, strict=True))

    def decide(self, s: ContactState, stamp_ns: int, height: Array, speed: Array) -> ContactState:
        """Which feet stand at this stamp.

        Args:
            height: of each sole along the vertical [m] (k,). speed: of each sole [m/s] (k,), as far as known.
        """
        c = self.config
        stands, since = list(s.stands), list(s.since)
        low = int(np.argmin(height)) if len(height) else 0
        for i, was in enumerate(s.stands):
            if not self.blind(s, i, stamp_ns):
                loaded = s.load[i] / self._weight > (c.off if was else c.on)
            else:
                close, slow = (2.0, 2.0) if was else (1.0, 1.0)
                loaded = i == low or bool(
                    height[i] < height[low] + close * c.height and abs(speed[i] - speed[low]) < slow * c.speed
                )
            if loaded and since[i] < 0:
                since[i] = stamp_ns
            elif not loaded:
                since[i] = -1
            stands[i] = loaded and (was or stamp_ns - since[i] >= self._on_time)
        return s._replace(stands=tuple(stands), since=tuple(since))


def _put(values: tuple, i: int, value: float) -> tuple:  # type: ignore[type-arg]
    return (*values[:i], value, *values[i + 1 :])
