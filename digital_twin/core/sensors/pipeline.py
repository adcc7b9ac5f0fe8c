"""A sensor as a chain of stages, each of which can be switched off and has its own generator.

Rows are samples (or the rays of a sweep) in the order of time, columns are channels. A stage keeps what it must
remember between calls, so samples may come one by one or by the thousand: the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.sensors.seeds import stage_generator


class Stage(Protocol):
    """One thing that happens to a measurement."""

    def __call__(self, x: Array, t: Array) -> Array:
        """Readings x (k, n) at times t [s] (k,), as this stage leaves them. x may be written to."""
        ...


class Pipeline:
    """The stages of one sensor, in order. `names` are all that were added, those switched off included."""

    def __init__(self, sensor: str, seed: int, off: Collection[str] = ()) -> None:
        self.sensor, self.seed, self.off = sensor, seed, frozenset(off)
        self.names: list[str] = []
        self._stages: list[Stage] = []

    def add(self, name: str, make: Callable[[np.random.Generator], Stage] | None = None) -> None:
        """Append a stage, made with a generator of its own, unless it is switched off. None: it is done elsewhere."""
        self.names.append(name)
        if make is not None and name not in self.off:
            self._stages.append(make(stage_generator(self.seed, self.sensor, name)))

    def check(self) -> None:
        """After the last stage was added: raises ConfigError when a stage was switched off that is not there."""
        for name in self.off:
            if name not in self.names:
                raise ConfigError(f"sensor '{self.sensor}': off: {unknown('stage', name, self.names)}")

    def __call__(self, x: Array, t: Array) -> Array:
        """From ideal readings x (k, n) at times t [s] (k,), which may be written to, to what the sensor says."""
        for stage in self._stages:
            x = stage(x, t)
        return x
