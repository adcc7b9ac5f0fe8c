"""When a sensor samples, and when its message arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.sensors.seeds import stage_generator

_BLOCK = 256


@dataclass(frozen=True)
class TimingConfig:
    """Rate, jitter, latency and losses of a sensor."""

    rate: float = param(100.0, "samples a second", unit="Hz", low=0.01, high=10000)
    jitter: float = param(0.0, "standard deviation of the moment of sampling", unit="s", low=0, high=1)
    latency: float = param(0.0, "from the sample to its message", unit="s", low=0, high=2)
    latency_jitter: float = param(0.0, "mean of the exponential delay that adds to it", unit="s", low=0, high=2)
    dropout: float = param(0.0, "probability that a message is lost", low=0, high=1)
    stamp_offset: float = param(0.0, "stamp minus the moment of sampling", unit="s", low=-1, high=1)


class Tick(NamedTuple):
    """One sample: its number, moment [s], error of its stamp [s], delay of its message [s], whether that is lost."""

    number: int
    t: float
    stamp_error: float
    delay: float
    lost: bool


class Sampler:
    """The ticks of one sensor."""

    def __init__(
        self, sensor: str, config: TimingConfig, seed: int, offset: Callable[[Array], Array] | None = None
    ) -> None:
        """`offset`: a clock offset that it shares with others [s], as a function of time."""
        self._c, self._offset = config, offset
        self._rng = stage_generator(seed, sensor, "timing")
        self._ahead: list[Tick] = []
        self._count = 0

    def until(self, t: float) -> list[Tick]:
        """The ticks since the last call, up to and including t [s]."""
        found: list[Tick] = []
        while True:
            if not self._ahead:
                self._draw()
            if self._ahead[-1].t > t + 1e-9:
                return found
            found.append(self._ahead.pop())

    def skip(self, t: float) -> None:
        """Forget the ticks before t [s]: there was nothing to measure."""
        self.until(t)

    def _draw(self) -> None:
        c, k = self._c, np.arange(self._count, self._count + _BLOCK)
        self._count += _BLOCK
        early_or_late = np.clip(c.jitter * self._rng.standard_normal(_BLOCK), -0.4 / c.rate, 0.4 / c.rate)
        delay = c.latency + c.latency_jitter * self._rng.standard_exponential(_BLOCK)
        lost = self._rng.random(_BLOCK) < c.dropout
        t = k / c.rate + early_or_late
        error = np.full(_BLOCK, c.stamp_offset) if self._offset is None else c.stamp_offset + self._offset(t)
        self._ahead = [
            Tick(*row)
            for row in zip(k.tolist(), t.tolist(), error.tolist(), delay.tolist(), lost.tolist(), strict=True)
        ][::-1]
