"""All sensors of a robot (cameras aside), fed with the twin's states.

Each sensor samples at its own rate between the states it is given. Nothing is read beyond the last state, and nothing
across a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.rotation import rot_z, rpy_matrix, yaw_of
from digital_twin.core.sensors.encoders import Encoders
from digital_twin.core.sensors.imu import Imu
from digital_twin.core.sensors.lidar import Lidar, Scan
from digital_twin.core.sensors.magnetometer import Magnetometer
from digital_twin.core.sensors.motion import NS, Motion, Pose, Smoother, Track
from digital_twin.core.sensors.robot_sensors import SensorSpec
from digital_twin.core.sensors.sources import SourceConfig, Sources
from digital_twin.core.sensors.sweep_motion import Sweep
from digital_twin.core.sensors.timing import Sampler, Tick
from digital_twin.core.sensors.twin_scene import TwinScene
from digital_twin.core.sensors.wrench import Wrench
from digital_twin.core.world import World

Device = Imu | Wrench | Encoders | Magnetometer


@dataclass(frozen=True)
class Reading:
    """One reading: of which sensor, its stamp [ns], its values (n,), and after how long [s] its message comes."""

    sensor: str
    stamp_ns: int
    values: Array
    delay: float


@dataclass(frozen=True)
class SweepJob:
    """A sweep to be cast, which takes a while, and what becomes of it. `run` may be called in another thread."""

    sensor: str
    stamp_ns: int
    delay: float
    lidar: Lidar
    sweep: Sweep

    def run(self) -> Scan:
        """Cast it."""
        return self.lidar.measure(self.sweep)


@dataclass
class Instrument:
    """A sensor that reads numbers: `ideal` says what it should read in the scene as it stands (n,)."""

    spec: SensorSpec
    device: Device
    sampler: Sampler
    ideal: Callable[[Motion], Array]
    last: Array | None = None


@dataclass
class Scanner:
    """A lidar, where it has been, and the sweep that is being made."""

    spec: SensorSpec
    lidar: Lidar
    sampler: Sampler
    track: Track
    started: deque[Tick]


class SensorSuite:
    """The sensors of one robot. Those that cannot be are left out, and `problems` has a line for each."""

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, specs: Sequence[SensorSpec], world: World | None,
        seed: int, sources: Mapping[str, SourceConfig] = MappingProxyType({}), *, smoothing: int = 3, gap: float = 0.1,
    ) -> None:  # fmt: skip
        """`sources`: errors that they share. `smoothing`: states on either side that make an acceleration. `gap` [s]: longer ones are not bridged."""
        self.model, self.seed = model, seed
        self.problems: list[str] = []
        self.instruments: dict[str, Instrument] = {}
        self.scanners: dict[str, Scanner] = {}
        self._scene = TwinScene(model, robot, joints, world)
        self._world, self._gap = world, round(gap * NS)
        self._smoother = Smoother(smoothing)
        self._sources = Sources(sources, seed)
        for spec in specs:
            try:
                self._add(spec)
            except ConfigError as e:
                self.problems.append(str(e) if spec.name in str(e) else f"sensor '{spec.name}': {e}")
        self._forces = any(i.spec.kind == "wrench" for i in self.instruments.values())
        self._epoch: int | None = None
        self._newest = self._t = 0
        self._recent: deque[Motion] = deque(maxlen=200)
        self._map = np.zeros(3), np.eye(3)

    # The sensors

    def _add(self, spec: SensorSpec) -> None:
        if spec.kind != "encoders" and spec.frame not in self.model.frames:
            raise ConfigError(f"sensor '{spec.name}': {unknown('frame', spec.frame, self.model.frames)}")
        if any(spec.topic == other for other in self._topics()):
            raise ConfigError(f"sensor '{spec.name}': another one has the topic '{spec.topic}'")
        c = spec.profile()
        sampler = Sampler(spec.name, c.timing, self.seed, self._sources.signal(spec.name, "time_offset"))
        if spec.kind == "lidar":
            if self._world is None:
                raise ConfigError(f"sensor '{spec.name}': there is no world to see")
            lidar = Lidar(spec.name, c, spec.frame, self._scene, self.seed, spec.off)
            track = Track(2.0 / c.timing.rate + 0.5)
            self.scanners[spec.name] = Scanner(spec, lidar, sampler, track, deque())
            return
        device, ideal = getattr(self, f"_{spec.kind}")(spec, c)
        self.instruments[spec.name] = Instrument(spec, device, sampler, ideal)

    def _topics(self) -> list[str]:
        return [i.spec.topic for i in self.instruments.values()] + [s.spec.topic for s in self.scanners.values()]

    def _imu(self, spec: SensorSpec, c: object) -> tuple[Device, Callable[[Motion], Array]]:
        turn = np.kron(np.eye(2), rpy_matrix(spec.rpy).T)
        straight, xyz = not any(spec.rpy), np.array(spec.xyz)

        def ideal(_: Motion) -> Array:
            reading = self._scene.inertial(spec.frame, xyz)
            return reading if straight else turn @ reading

        return Imu(spec.name, c, self.seed, self._sources, spec.off), ideal  # type: ignore[arg-type]

    def _wrench(self, spec: SensorSpec, c: object) -> tuple[Device, Callable[[Motion], Array]]:
        device = Wrench(spec.name, c, self.seed, self._sources, spec.off)  # type: ignore[arg-type]
        return device, lambda _: self._scene.wrench(spec.frame)

    def _encoders(self, spec: SensorSpec, c: object) -> tuple[Device, Callable[[Motion], Array]]:
        device = Encoders(spec.name, c, self.model.n, self.seed, self._sources, spec.off)  # type: ignore[arg-type]
        return device, lambda m: np.concatenate([m.q, m.qd, np.nan_to_num(m.effort)])

    def _magnetometer(self, spec: SensorSpec, c: object) -> tuple[Device, Callable[[Motion], Array]]:
        device = Magnetometer(spec.name, c, self.model.n, self.seed, self._sources, spec.off)  # type: ignore[arg-type]
        field, mount = np.array(c.field), rpy_matrix(spec.rpy)  # type: ignore[attr-defined]

        def ideal(m: Motion) -> Array:
            _, R = self._scene.pose(spec.frame)
            return np.concatenate([field @ R @ mount, np.nan_to_num(m.effort)])

        return device, ideal

    def use(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> None:
        """Another model of the same robot; the instruments stay as they are.

        Raises:
            ConfigError: when it lacks the frame of a sensor; the old model stays.
        """
        for spec in [i.spec for i in self.instruments.values()] + [s.spec for s in self.scanners.values()]:
            if spec.frame and spec.frame not in model.frames:
                raise ConfigError(f"sensor '{spec.name}': {unknown('frame', spec.frame, model.frames)}")
        self.model, self._scene = model, TwinScene(model, robot, joints, self._world)
        for s in self.scanners.values():
            s.lidar.use(self._scene)

    # Time

    def map_pose(self, stamp_ns: int, position: Array, rotation: Array) -> None:
        """The base in the map at the stamp of a state: where in the world odom is."""
        at = next((m for m in reversed(self._recent) if m.stamp_ns == stamp_ns), None)
        if at is not None:
            R = rot_z(yaw_of(rotation @ at.rotation.T))
            self._map = position - R @ at.position, R

    def feed(self, state: Motion) -> tuple[list[Reading], list[SweepJob]]:
        """One more state. Returns the readings since the last one, and the sweeps that were completed."""
        if self._epoch is None or not 0 < state.stamp_ns - self._newest <= self._gap:
            if self._epoch is not None and -self._gap < state.stamp_ns - self._newest <= 0:
                return [], []  # an old one
            self._start_anew(state.stamp_ns)
        self._newest = state.stamp_ns
        self._recent.append(state)
        m = self._smoother.feed(state)
        return ([], []) if m is None else self._advance(self._in_map(m))

    def _start_anew(self, stamp_ns: int) -> None:
        """After a gap. The instruments' own time goes on where it was."""
        self._smoother.clear()
        self._epoch = stamp_ns - round(self._t)
        for i in self.instruments.values():
            i.last = None
        for s in self.scanners.values():
            s.track.clear()
            s.started.clear()

    def _in_map(self, m: Motion) -> Motion:
        p, R = self._map
        return replace(
            m, position=R @ m.position + p, rotation=R @ m.rotation, velocity=R @ m.velocity, turn=R @ m.turn,
            acceleration=R @ m.acceleration, turn_rate=R @ m.turn_rate,
        )  # fmt: skip

    def _advance(self, m: Motion) -> tuple[list[Reading], list[SweepJob]]:
        assert self._epoch is not None  # noqa: S101  # feed() has set it
        before, self._t = self._t / NS, m.stamp_ns - self._epoch
        now = self._t / NS
        self._scene.place(m, forces=self._forces)
        readings = [r for i in self.instruments.values() for r in self._read(i, before, now, i.ideal(m))]
        jobs = [j for s in self.scanners.values() for j in self._sweeps(s, m, now)]
        return readings, jobs

    def _read(self, i: Instrument, before: float, now: float, ideal: Array) -> list[Reading]:
        last, i.last = i.last, ideal
        if last is None:
            i.sampler.skip(now)
            return []
        ticks = i.sampler.until(now)
        if not ticks:
            return []
        t = np.array([tick.t for tick in ticks])
        part = np.clip((t - before) / (now - before), 0.0, 1.0)[:, None]
        values = i.device.read(last + part * (ideal - last), t)
        return [
            Reading(i.spec.name, self._stamp(tick), v, tick.delay + self._age(tick, now))
            for tick, v in zip(ticks, values, strict=True)
            if not tick.lost
        ]

    def _sweeps(self, s: Scanner, m: Motion, now: float) -> list[SweepJob]:
        position, rotation = self._scene.pose(s.spec.frame)
        at, turned = position + rotation @ np.array(s.spec.xyz), rotation @ rpy_matrix(s.spec.rpy)
        s.track.add(Pose(now, at, turned, m.position, m.rotation, m.q))
        s.started.extend(t for t in s.sampler.until(now) if t.t >= s.track.start)
        jobs = []
        while s.started and s.started[0].t + s.lidar.duration <= now:
            tick = s.started.popleft()
            if tick.lost:
                continue
            sweep = Sweep(tick.number, tick.t, s.track.since(tick.t))
            jobs.append(SweepJob(s.spec.name, self._stamp(tick), tick.delay + self._age(tick, now), s.lidar, sweep))
        return jobs

    def _stamp(self, tick: Tick) -> int:
        return (self._epoch or 0) + round((tick.t + tick.stamp_error) * NS)

    def _age(self, tick: Tick, now: float) -> float:
        """By how much the sample is already late [s], as a negative delay."""
        return tick.t - now
