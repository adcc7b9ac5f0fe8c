"""Virtual sensors: their cost beside the bare engine, their noise against its curves, fits that give parameters back."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np

from benchmark.table import Row, main
from digital_twin.core.arrays import Array
from digital_twin.core.rotation import exp_so3
from digital_twin.core.sensors.allan import allan_variance, band, times
from digital_twin.core.sensors.fit import Estimate, fit_ranges
from digital_twin.core.sensors.fit_recording import fit_imu, fit_wrench
from digital_twin.core.sensors.imu import AccelConfig, GyroConfig, Imu, ImuProfile, noise_of
from digital_twin.core.sensors.lidar import Lidar
from digital_twin.core.sensors.lidar_stages import LidarProfile
from digital_twin.core.sensors.motion import Pose, state
from digital_twin.core.sensors.noise import NoiseModel, NoiseSource
from digital_twin.core.sensors.profiles import load_profile
from digital_twin.core.sensors.robot_sensors import SensorSpec
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.suite import SensorSuite
from digital_twin.core.sensors.sweep_motion import Sweep
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.twin_scene import TwinScene
from digital_twin.core.sensors.two_sample import same_channel
from digital_twin.core.sensors.wrench import Wrench, WrenchProfile
from digital_twin.core.world import load_world
from digital_twin.paths import share
from digital_twin.robots import Robot, load_robot

HOURS = 3.0
NONE = Sources({}, 0)
# Instability and walk that three hours can tell apart.
FITTED = ImuProfile(
    TimingConfig(100.0), GyroConfig(2.44e-4, 4.8e-5, 2e-5, 0.01, resolution=1e-4),
    AccelConfig(1.72e-3, 3e-4, 1.5e-4, 0.1, resolution=1e-3),
)  # fmt: skip


def measure(a: argparse.Namespace) -> list[Row]:
    """Cost first, then statistics."""
    robot = load_robot()
    scene = TwinScene(robot.model, robot.config, robot.joints, load_world(share("worlds/humanoid_world.sdf")))
    return [*_cost(robot, scene), *_allan(), *_imu_fits(a.seeds), *_other_fits(robot, a.seeds), *_two_samples()]


# Cost


def _lidars(scene: TwinScene) -> tuple[Lidar, Lidar]:
    planar = load_profile(share("config/sensors/hokuyo_utm30lx.yaml"), "lidar")
    planar = replace(planar, rays=720, angle_min=-np.pi, angle_max=np.pi, sweep_share=1.0)
    cloud: LidarProfile = load_profile(share("config/sensors/velodyne_vlp16.yaml"), "lidar")
    return Lidar("scan", planar, "lidar_link", scene, 1), Lidar("cloud", cloud, "lidar_link", scene, 1)


def _walking(robot: Robot) -> tuple[Pose, ...]:
    """Two tenths of a second of a robot that walks: it nods, rolls, and goes up and down."""
    q = robot.joints.stand

    def pose(t: float) -> Pose:
        place = np.array([0.5 * t, 0.02 * np.sin(6.0 * t), 1.6 + 0.015 * np.cos(12.0 * t)])
        turned = exp_so3(np.array([0.03 * np.sin(6.0 * t), 0.04 * np.sin(12.0 * t), 0.0]))
        return Pose(t, place, turned, place, turned, q)

    return tuple(pose(t) for t in np.arange(0, 0.2, 0.005).tolist())


def _bare(scene: TwinScene, lidar: Lidar) -> Callable[[], None]:
    """The engine's own call for as many rays from one place."""
    d = lidar.directions.reshape(-1)
    n = len(d) // 3
    data = mujoco.MjData(scene.mj)
    mujoco.mj_kinematics(scene.mj, data)
    groups = np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)
    distance, geom, at = np.empty(n), np.empty(n, dtype=np.int32), np.array([0.0, 0.0, 1.6])
    far = lidar.profile.range_max
    return lambda: mujoco.mj_multiRay(scene.mj, data, at, d, groups, 1, -1, geom, distance, None, n, far)


def _beside(ours: Callable[[], object], bare: Callable[[], object], count: int) -> tuple[float, float]:
    """Times [ms] of two calls that take turns, by the thread's own time: others run on these machines too.

    Medians of means of 44 calls each: what is done once for many sweeps has its share in each.
    """
    took = np.empty((count, 44, 2))
    for row in took.reshape(-1, 2):
        for i, call in enumerate((ours, bare)):
            start = time.thread_time_ns()
            call()
            row[i] = (time.thread_time_ns() - start) / 1e6
    ms = np.median(took[1:].mean(axis=1), axis=0)
    return float(ms[0]), float(ms[1])


def _cost(robot: Robot, scene: TwinScene) -> list[Row]:
    scan, cloud = _lidars(scene)
    track = _walking(robot)
    rows = []
    for name, lidar, count, target in (
        ("scan of 720 rays, all stages", scan, 21, 2.5),
        ("cloud of 16 x 1800 rays, all stages", cloud, 5, None),
    ):
        numbers = iter(range(10**6))
        ours, bare = _beside(
            lambda d=lidar, k=numbers: d.measure(Sweep(next(k), 0.0, track)), _bare(scene, lidar), count
        )  # type: ignore[misc]
        rows.append(Row(name, ours, "ms", target, bare, "bare mj_multiRay in the twin's scene"))
    rows.append(Row("the same, of its 100 ms", rows[-1].value, "ms", 100.0))
    spec = SensorSpec(
        "imu",
        "imu",
        "imu_link",
        "imu",
        {"timing": {"rate": 500.0}, "gyro": {"white_noise": 2e-4, "bias_instability": 2e-5}},
    )
    suite = SensorSuite(robot.model, robot.config, robot.joints, [spec], None, 1)
    q, still = robot.joints.stand, np.zeros(3)
    n = 5000
    start = time.thread_time_ns()
    for k in range(n):
        suite.feed(state(k * 2_000_000, np.array([0, 0, 0.83]), np.eye(3), still, still, q, 0 * q, 0 * q))
    us = (time.thread_time_ns() - start) / n / 1e3
    return [*rows, Row("IMU at 500 Hz, physics of the twin included", us, "µs", 2000.0)]


# Statistics


def _allan() -> list[Row]:
    """Three hours at 200 Hz of the MEMS IMU, from 0.01 s to 100 s."""
    profile: ImuProfile = load_profile(share("config/sensors/bosch_bmi088.yaml"), "imu")
    rate = 200.0
    profile = replace(profile, timing=replace(profile.timing, rate=rate))
    n, dt = round(HOURS * 3600 * rate), 1.0 / rate
    imu = Imu("imu", profile, 1, NONE)
    x = _read(imu.read, n, dt, np.array([0, 0, 0, 0, 0, 9.81]))
    lengths = 2 * 2 ** np.arange(14)
    lengths = lengths[lengths * dt <= 100.0]
    rows = []
    for name, columns, config in (("gyro", slice(0, 3), profile.gyro), ("accelerometer", slice(3, 6), profile.accel)):
        model = noise_of(config)
        got = np.sqrt(allan_variance(x[:, columns], lengths, dt))
        each = band(model, lengths, dt, n)
        # All points of three axes together stay inside with 95 %.
        together = band(model, lengths, dt, n, 0.95 ** (1.0 / got.size))
        rows += [
            Row(
                f"Allan deviation of the {name} outside the 95 % band of the whole curve",
                float(_outside(got, together).sum()),
                "points",
                0.0,
            ),
            Row(
                f"  outside the 95 % bands of single points, of {got.size}",
                100 * float(_outside(got, each).mean()),
                "%",
            ),
            Row(
                "  farthest from the curve",
                100 * float(np.abs(got / np.sqrt(model.allan_variance(times(lengths, dt), dt))[:, None] - 1).max()),
                "%",
            ),
        ]
    return rows


def _outside(got: Array, limits: tuple[Array, Array]) -> Array:
    return np.asarray((got < limits[0][:, None]) | (got > limits[1][:, None]))


def _read(read: Callable[[Array, Array], Array], n: int, dt: float, ideal: Array) -> Array:
    """A device at rest for n samples, in parts that fit the memory."""
    parts = []
    for begin in range(0, n, 200_000):
        t = np.arange(begin, min(n, begin + 200_000)) * dt
        parts.append(read(np.tile(ideal, (len(t), 1)), t))
    return np.concatenate(parts)


class _Score:
    """How often intervals held the truth, and the worst error of the values."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.worst: dict[str, float] = {}

    def add(self, name: str, e: Estimate, truth: float) -> None:
        self.held[name] = self.held.get(name, 0) + int(e.low <= truth <= e.high)
        self.worst[name] = max(self.worst.get(name, 0.0), 100 * abs(e.value / truth - 1.0))

    def rows(self, seeds: int, limits: dict[str, float]) -> list[Row]:
        out = []
        for name, held in self.held.items():
            out.append(
                Row(f"{name}: interval holds the truth, of {seeds} seeds", held, "", round(0.9 * seeds), at_least=True)
            )
            out.append(Row("  largest error", self.worst[name], "%", limits.get(name)))
        return out


def _imu_fits(seeds: int) -> list[Row]:
    rate = FITTED.timing.rate
    n = round(HOURS * 3600 * rate)
    stamps = np.arange(n) * 1e9 / rate
    score, limits = _Score(), {}
    for seed in range(seeds):
        x = _read(Imu("imu", FITTED, seed, NONE).read, n, 1 / rate, np.array([0, 0, 0, 0, 0, 9.81]))
        e = fit_imu(stamps, x).estimates
        for part, c in (("gyro", FITTED.gyro), ("accel", FITTED.accel)):
            for key in ("white_noise", "bias_instability", "random_walk"):
                score.add(f"{part}.{key}", e[f"{part}.{key}"], getattr(c, key))
                limits |= {} if key == "bias_instability" else {f"{part}.{key}": 10.0}
    return score.rows(seeds, limits)


def _hall(robot: Robot) -> TwinScene:
    """Four walls, 2, 4, 8 and 12 m away: ranges that tell noise from noise that grows."""
    walls = ((12.5, 2, 1, 14), (-2.5, 2, 1, 14), (5, 8.5, 16, 1), (5, -4.5, 16, 1))
    models = "".join(
        f'<model name="w{i}"><pose>{x} {y} 1 0 0 0</pose><link name="l"><collision name="c"><geometry><box><size>{sx} {sy} 4</size></box>'
        f"</geometry></collision></link></model>"
        for i, (x, y, sx, sy) in enumerate(walls)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hall.sdf"
        path.write_text(f'<sdf version="1.9"><world name="hall">{models}</world></sdf>')
        return TwinScene(robot.model, robot.config, robot.joints, load_world(path))


def _other_fits(robot: Robot, seeds: int) -> list[Row]:
    truth = {"noise": 0.008, "noise_per_metre": 0.003, "dropout": 0.02}
    scene, pose = _hall(robot), _walking(robot)[0]
    track = (pose, replace(pose, t=0.2))
    score = _Score()
    for seed in range(seeds):
        lidar = Lidar(
            "lidar", LidarProfile(TimingConfig(10.0), rays=720, resolution=0.001, **truth), "lidar_link", scene, seed
        )  # type: ignore[arg-type]
        found = fit_ranges(np.array([lidar.measure(Sweep(k, 0.0, track)).ranges[0] for k in range(600)]), lidar.step)
        for key, value in truth.items():
            score.add(f"lidar {key}", getattr(found, key), value)
        c = WrenchProfile(TimingConfig(100.0), 0.5, 0.01, 0.05, 0.001, 3.0, 0.1, force_resolution=0.25)
        n = 120_000
        x = _read(Wrench("w", c, seed, NONE).read, n, 0.01, np.array([0, 0, 260.0, 0, 2.0, 0]))
        e = fit_wrench(np.arange(n) * 1e7, x).estimates
        for key in ("force_noise", "force_drift", "torque_drift"):
            score.add(f"wrench {key}", e[key], getattr(c, key))
    return score.rows(seeds, dict.fromkeys(score.held, 5.0))


def _two_samples(pairs: int = 400) -> list[Row]:
    model = NoiseModel(2.44e-4, 1e-5, 2e-6)

    def share(other: NoiseModel) -> float:
        def draw(m: NoiseModel, key: list[int]) -> Array:
            return NoiseSource(m, 1, 0.01, np.random.default_rng(key)).next(4096)[:, 0]

        return 100 * float(
            np.mean([same_channel(draw(model, [k, 0]), draw(other, [k, 1])).p < 0.05 for k in range(pairs)])
        )

    return [
        Row("two-sample test at 5 %: same pairs called different", share(model), "%", 7.2),
        Row("  pairs of 15 % more noise called different", share(replace(model, white=1.15 * model.white)), "%", 95.0, at_least=True),
        Row("  pairs whose bias wanders called different", share(replace(model, walk=2e-3)), "%", 95.0, at_least=True),
    ]  # fmt: skip


if __name__ == "__main__":
    main("virtual sensors", measure, ("seeds", 20, "of the fits"))
