"""When faults of the simulated robot come and go: in its body, its sensors and its topics. Time is the plant's."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError
from digital_twin.core.faults import Fault
from digital_twin.core.instruments import Instruments
from digital_twin.core.plant import Plant

NS = 1_000_000_000


class Topics(Protocol):
    """What faults do to topics."""

    def check(self, topic: str) -> None: ...
    def drop(self, topic: str, on: bool) -> None: ...
    def freeze(self, topic: str, on: bool) -> None: ...
    def delay(self, topic: str, seconds: float) -> None: ...


class FaultSchedule:
    """Injects faults into a plant, its instruments and its topics when they are due, and takes them back."""

    def __init__(self, plant: Plant, instruments: Instruments, topics: Topics) -> None:
        self._plant, self._instruments, self._topics = plant, instruments, topics
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.active: dict[int, Fault] = {}
        self._undo: dict[int, Callable[[], None]] = {}

    def add(self, fault: Fault) -> None:
        """Schedule a fault; one that starts in the past starts now.

        Raises:
            TwinError: when its target does not exist.
        """
        self._check(fault)
        start = max(round(fault.start * NS), self._plant.time_ns)
        self._at(start, lambda: self._start(fault))

    def _check(self, fault: Fault) -> None:
        if fault.kind in ("payload", "push"):
            self._plant.body_of(fault.target)
        elif fault.kind in ("friction", "motor", "encoder"):
            self._plant.joint_of(fault.target)
        elif fault.kind == "imu_bias":
            if not self._plant.robot.imus:
                raise ConfigError(f"fault '{fault}': the robot has no IMU")
        else:
            self._topics.check(fault.target)

    def _at(self, time_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time_ns, next(self._order), action))

    def update(self) -> None:
        """Do what has become due at the plant's time."""
        while self._due and self._due[0][0] <= self._plant.time_ns:
            heapq.heappop(self._due)[2]()

    def clear(self) -> None:
        """Take back all faults in force, and forget those to come."""
        for number in list(self.active):
            self._end(number)
        self._due.clear()
        self._plant.heal()

    def _start(self, fault: Fault) -> None:
        number = next(self._order)
        self._undo[number] = self._apply(fault)
        self.active[number] = fault
        if math.isfinite(fault.duration):
            self._at(self._plant.time_ns + round(fault.duration * NS), lambda: self._end(number))

    def _end(self, number: int) -> None:
        if number in self.active:
            del self.active[number]
            self._undo.pop(number)()

    def _apply(self, f: Fault) -> Callable[[], None]:
        """Put a fault in force; returns how to take it back."""
        p, sensors, topics, target = self._plant, self._instruments, self._topics, f.target
        value = f.values[0] if f.values else 0.0
        if f.kind == "payload":
            p.set_payload(target, value)
            return lambda: p.set_payload(target, 0.0)
        if f.kind == "friction":
            p.set_joint_friction(target, value)
            return lambda: p.set_joint_friction(target, 1.0)
        if f.kind == "motor":
            p.set_motor_strength(target, value)
            return lambda: p.set_motor_strength(target, 1.0)
        if f.kind == "push":
            p.push(target, np.array(f.values), f.duration)
            return lambda: None
        if f.kind == "imu_bias":
            bias = sensors.gyro_bias if target == "gyro" else sensors.accel_bias
            return _add(bias, (0,), np.array(f.values))
        if f.kind == "encoder":
            return _add(sensors.encoder_offset, (p.joint_of(target),), value)
        if f.kind == "delay":
            topics.delay(target, value)
            return lambda: topics.delay(target, 0.0)
        switch = topics.drop if f.kind == "drop" else topics.freeze
        switch(target, True)
        return lambda: switch(target, False)


def _add(values: Array, at: tuple[int, ...], amount: Array | float) -> Callable[[], None]:
    """Add to a part of an array; returns how to take it away again."""

    def change(sign: float) -> None:
        values[at] += sign * amount

    change(1.0)
    return lambda: change(-1.0)
