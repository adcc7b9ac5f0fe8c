"""What the robot did and was told, put together at one rate: the blocks that residuals are computed from."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array, or_zero
from digital_twin.core.base_state import BaseState
from digital_twin.core.drift.soles import Soles
from digital_twin.core.drift.window import Past
from digital_twin.core.joint_filter import JointFilter, JointFilterConfig
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig

NS = 1_000_000_000
MEMORY = 64  # readings of a stream among which that of a stamp is looked for
LEARNING = 0.02  # share of a stream's usual pace that each message renews
SETTLING = 100_000_000  # [ns] that speeds and accelerations take after readings that were missed
HELD = 0.5  # [s] after which no command was missed: there was none, and the last one is held
STALE = 50_000_000  # [ns]; an older reading is not that of a sample


@dataclass(frozen=True)
class Block:
    """Means over one period, NaN where nothing was read. Joints (n,), IMU in its frame (3,), f feet.

    jump: readings against what was forecast one measurement earlier, the largest [rad]. command, command_rate, feed: set points in
    force [rad], how fast they change [rad/s], torque fed forward [N m]. turn_rate: change of the gyro [rad/s²].
    wrenches: (f, 6). standing: which feet lie flat under load. settled: not just after readings that were missed.
    """

    stamp_ns: int
    q: Array
    qd: Array
    qdd: Array
    jump: Array
    effort: Array
    command: Array
    command_rate: Array
    feed: Array
    gyro: Array
    accel: Array
    turn_rate: Array
    wrenches: Array
    position: Array
    rotation: Array
    velocity: Array
    angular_velocity: Array
    standing: tuple[bool, ...]
    settled: bool = True


class Pace:
    """From one message of a stream to the next [s], to tell those that follow one another from those with others missing
    in between."""

    def __init__(self) -> None:
        self._usual = self._spread = 0.0
        self._last_ns = 0

    def add(self, stamp_ns: int) -> None:
        """One came."""
        dt, self._last_ns = (stamp_ns - self._last_ns) / NS, stamp_ns
        if not 0.0 < dt < 1.0:
            return
        if not self._usual:
            self._usual, self._spread = dt, 0.5 * dt
        # Towards the medians of dt and of how far it is off, whatever is missing.
        off = abs(dt - self._usual)
        self._usual *= 1.0 + LEARNING if dt > self._usual else 1.0 - LEARNING
        self._spread *= 1.0 + LEARNING if off > self._spread else 1.0 - LEARNING

    def skipped(self, dt: float) -> bool:
        """Whether there are messages missing in dt [s]."""
        return self._usual > 0.0 and dt > 1.5 * self._usual + 4.0 * self._spread


class Command:
    """The commands of the last moments, and which was in force when."""

    def __init__(self, n: int) -> None:
        self._n, self._pace = n, Pace()
        self._given: deque[tuple[int, Array, Array, Array]] = deque(maxlen=MEMORY)

    def add(self, stamp_ns: int, position: Array, velocity: Array | None = None, effort: Array | None = None) -> None:
        """A command (n,), NaN for joints that it does not name: they keep what they were told last."""
        zero = np.zeros(self._n)
        given = [zero if x is None else or_zero(x) for x in (velocity, effort)]
        self._pace.add(stamp_ns)
        if self._given and np.isnan(position).any():
            position = np.where(np.isnan(position), self._given[-1][1], position)
        self._given.append((stamp_ns, position, given[0], given[1]))

    def at(self, stamp_ns: int) -> tuple[Array, Array, Array]:
        """Positions, speeds and torques (n,) in force at a stamp; NaN where nothing was, or what was has been missed."""
        for given in reversed(self._given):
            if given[0] <= stamp_ns:
                if self._missed(stamp_ns - given[0]):
                    break
                return given[1:]
        nothing = np.full(self._n, np.nan)
        return nothing, nothing, nothing

    def _missed(self, age_ns: int) -> bool:
        return age_ns < HELD * NS and self._pace.skipped(age_ns / NS)

    def complete(self, stamp_ns: int) -> bool:
        """Whether no command until a stamp seems to have been missed."""
        return not self._given or not self._missed(stamp_ns - self._given[-1][0])

    @property
    def newest(self) -> int | None:
        """Stamp of the last."""
        return self._given[-1][0] if self._given else None


class Sampler:
    """Feed it readings as they come; `sample` closes a joint measurement and, when a period is over, gives its block.

    Attributes:
        command: the commands. past: the last minute as it was measured, which identification works on.
    """

    def __init__(self, model: RobotModel, robot: RobotConfig, joints: Joints, rate: float, delay: float) -> None:
        """rate [Hz] of blocks. delay [s] from a command to its torque."""
        n, k = model.n, len(robot.feet)
        self._n, self._k = n, k
        self._period, self._delay = round(NS / rate), round(delay * NS)
        self._filter = JointFilter(n, joints.encoder_noise, joints.encoder_resolution, JointFilterConfig())
        self._stand = joints.stand
        self._sensed = [bool(f.wrench_topic) for f in robot.feet]
        self._soles = Soles(robot.feet, model.mass * 9.81)
        self.command = Command(n)
        self._joints: deque[tuple[int, Array, Array, Array, Array, Array]] = deque(maxlen=MEMORY)
        self._imu: deque[tuple[int, Array, Array]] = deque(maxlen=4 * MEMORY)
        self._wrench: list[deque[tuple[int, Array]]] = [deque(maxlen=4 * MEMORY) for _ in robot.feet]
        self._bases: deque[BaseState] = deque(maxlen=MEMORY)
        self._open: list[tuple[Array, ...]] = []
        self._end = 0
        self._waiting: deque[int] = deque()
        self._gyro: tuple[int, Array] | None = None
        self._pace = Pace()  # of the joints' readings
        self._imu_pace, self._wrench_pace = Pace(), [Pace() for _ in robot.feet]
        self._settled_ns = 0
        self.past = Past(n, k, WINDOW)

    # In

    def joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> None:
        """Joint readings (n,), NaN where missing."""
        if self._joints and stamp_ns <= self._joints[-1][0]:
            return  # late ones are nobody's forecast
        f = self._filter
        jump = np.full(self._n, np.nan)
        if self._joints:
            dt = (stamp_ns - self._joints[-1][0]) / NS
            missed = self._pace.skipped(dt)
            if missed:
                self.unsettle(stamp_ns)
            if dt > 0.5:
                f.reset()
            elif not missed:  # across readings that are not there a forecast is worth little
                jump = q - f.ahead(dt)[0]
        self._pace.add(stamp_ns)
        f.update(stamp_ns, q, qd)
        known = np.full(self._n, np.nan) if effort is None else effort
        position, speed, acceleration = f.q, f.qd, f.qdd
        if not f.known.all():  # joints that have never reported stand still
            position = np.where(f.known, f.q, self._stand)
            speed, acceleration = np.where(f.known, [f.qd, f.qdd], 0.0)
        self._joints.append((stamp_ns, position, speed, acceleration, jump, known))

    def unsettle(self, stamp_ns: int) -> None:
        """Something was missed at a stamp: for a moment blocks are not settled."""
        self._settled_ns = stamp_ns + SETTLING

    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None:
        """A reading of the first IMU, along its frame's axes (3,), (3,)."""
        self._imu_pace.add(stamp_ns)
        self._imu.append((stamp_ns, gyro, accel))

    def wrench(self, stamp_ns: int, foot: int, wrench: Array) -> None:
        """Force and torque of a foot on the leg, in the sole frame (6,)."""
        self._wrench_pace[foot].add(stamp_ns)
        self._wrench[foot].append((stamp_ns, wrench))

    def base(self, state: BaseState) -> None:
        """The base in odom."""
        self._bases.append(state)

    def sample(self, stamp_ns: int) -> list[Block]:
        """Joints and base of a stamp are there. Blocks whose period is over: none, one, seldom more.

        A stamp waits for the other sensors' readings of its moment, at most until the next one comes.
        """
        self._waiting.append(stamp_ns)
        blocks = []
        while self._waiting and (len(self._waiting) > 1 or self._complete(self._waiting[0])):
            block = self._take(self._waiting.popleft())
            if block is not None:
                blocks.append(block)
        return blocks

    def _complete(self, stamp_ns: int) -> bool:
        streams: list[Any] = [self._imu, *self._wrench]
        return all(not s or s[-1][0] >= stamp_ns or stamp_ns - s[-1][0] > STALE for s in streams)

    def _take(self, stamp_ns: int) -> Block | None:
        joints = _at(self._joints, stamp_ns, self._pace)
        base = next((b for b in reversed(self._bases) if b.stamp_ns == stamp_ns), None)
        if joints is None or joints[0] != stamp_ns or base is None:
            return None
        imu = _at(self._imu, stamp_ns, self._imu_pace)
        gyro, accel = imu[1:] if imu is not None else (np.full(3, np.nan), np.full(3, np.nan))
        wrenches = np.full((self._k, 6), np.nan)
        for i, (stream, pace) in enumerate(zip(self._wrench, self._wrench_pace, strict=True)):
            found = _at(stream, stamp_ns, pace)
            if found is not None:
                wrenches[i] = found[1]
        given = self.command.at(stamp_ns - self._delay)
        parts = (
            *joints[1:], *given, gyro, accel, wrenches, base.position, base.rotation, base.velocity,
            base.angular_velocity,
        )  # fmt: skip
        if self._open and stamp_ns - self._end > 10 * self._period:
            self._open.clear()
            self._gyro = None
        self._open.append(parts)
        q, qd, qdd, _, effort = joints[1:]
        self.past.add(
            stamp_ns, q, qd, qdd, effort, given[0], base.position, base.velocity, base.rotation, base.angular_velocity,
            wrenches, gyro, accel,
        )  # fmt: skip
        if stamp_ns < self._end:
            return None
        self._end = max(self._end + self._period, stamp_ns + self._period // 2)
        return self._close(stamp_ns)

    def _close(self, stamp_ns: int) -> Block:
        if len(self._open) == 1:
            means = list(self._open[0])
        else:
            means = [np.mean(column, axis=0) for column in zip(*self._open, strict=True)]
        q, qd, qdd, _, effort, command, rate, feed, gyro, accel, wrenches, *base = means
        jumps = np.array([parts[3] for parts in self._open])
        jump = jumps[np.abs(or_zero(jumps)).argmax(axis=0), np.arange(self._n)]  # a mean would blur it
        if len(self._open) > 1:
            base[1] = self._open[-1][12]  # a mean of rotations is none
        self._open.clear()
        turn_rate = np.zeros(3)
        if self._gyro is not None:
            turn_rate = (gyro - self._gyro[1]) / max((stamp_ns - self._gyro[0]) / NS, 1e-4)
        self._gyro = stamp_ns, gyro
        position, rotation, velocity, turn = base
        return Block(
            stamp_ns, q, qd, qdd, jump, effort, command, rate, feed, gyro, accel, turn_rate, wrenches, position, rotation,
            velocity, turn, self._standing(wrenches), stamp_ns >= self._settled_ns,
        )  # fmt: skip

    def _standing(self, wrenches: Array) -> tuple[bool, ...]:
        """Which feet lie flat: loaded, and not on an edge. All, where nothing is sensed."""
        if not any(self._sensed):
            return (True,) * self._k
        return tuple(self._soles.flat(wrenches).tolist())

    @property
    def newest_base(self) -> BaseState | None:
        """The last one."""
        return self._bases[-1] if self._bases else None

    @property
    def encoder_step(self) -> Array:
        """Steps of the encoders [rad] (n,), as far as they are known."""
        return self._filter.step

    @property
    def newest_state(self) -> tuple[Array, Array]:
        """Filtered positions and speeds (n,), (n,) of the last joint measurement."""
        return self._joints[-1][1], self._joints[-1][2]


WINDOW = 60.0  # [s] of the past that are kept


def _at(stream: deque, stamp_ns: int, pace: Pace):  # type: ignore[no-untyped-def, type-arg]
    """The newest entry not after a stamp; None when it is stale, or later ones were missed."""
    for entry in reversed(stream):
        if entry[0] <= stamp_ns:
            age = stamp_ns - entry[0]
            return entry if age < STALE and not pace.skipped(age / NS) else None
    return None


def finite(block: Block) -> bool:
    """Whether joints and IMU are known, without which there is no dynamics."""
    return not any(math.isnan(float(x.sum())) for x in (block.q, block.qd, block.qdd, block.gyro, block.accel))
