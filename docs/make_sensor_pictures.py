"""Draws the pictures of docs/sensors.md: python docs/make_sensor_pictures.py (needs matplotlib and pillow)."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from digital_twin.core.arrays import Array
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.sensors.allan import allan_variance, band, octaves, times
from digital_twin.core.sensors.imu import Imu, noise_of
from digital_twin.core.sensors.lidar_stages import directions
from digital_twin.core.sensors.motion import state
from digital_twin.core.sensors.profiles import load_profile
from digital_twin.core.sensors.robot_sensors import robot_sensors, shared_errors
from digital_twin.core.sensors.sources import Sources
from digital_twin.core.sensors.suite import SensorSuite
from digital_twin.core.world import World, load_world
from digital_twin.paths import find, share
from digital_twin.robots import Robot, load_robot

HERE = Path(__file__).parent
GREY, BLUE, RED = "0.65", "tab:blue", "tab:red"


def room() -> World:
    """Walls, crates and columns as high as the robot's eyes, of several greys."""
    shapes = [("floor", "<plane><size>40 40</size></plane>", "0 0 0", 0.5)]
    for i, (x, y, sx, sy, sz, grey) in enumerate((
        (5.1, 0, 0.2, 8, 2.5, 0.8), (-3.1, 0, 0.2, 8, 2.5, 0.8), (1, 4.1, 8, 0.2, 2.5, 0.3), (1, -4.1, 8, 0.2, 2.5, 0.8),
        (2.5, 1.2, 0.6, 0.6, 1.9, 0.6), (2.0, -1.5, 0.15, 0.15, 2.2, 0.9), (3.5, -0.8, 0.5, 0.9, 1.8, 0.2), (-1.5, 2.0, 0.8, 0.4, 2.0, 0.7),
    )):  # fmt: skip
        shapes.append((f"box{i}", f"<box><size>{sx} {sy} {sz}</size></box>", f"{x} {y} {sz / 2}", grey))
    models = "".join(
        f'<model name="{name}"><pose>{at} 0 0 0</pose><link name="l"><collision name="c"><geometry>{shape}</geometry></collision>'
        f'<visual name="v"><material><diffuse>{grey} {grey} {grey} 1</diffuse></material></visual></link></model>'
        for name, shape, at, grey in shapes
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "room.sdf"
        path.write_text(f'<sdf version="1.9"><world name="room">{models}</world></sdf>')
        return load_world(path)


def save(figure: Any, name: str) -> None:
    """As a small PNG."""
    figure.savefig(HERE / name, dpi=75)
    plt.close(figure)
    with Image.open(HERE / name) as image:
        small = image.convert("RGB").quantize(48, dither=Image.Dither.NONE)
    small.save(HERE / name, optimize=True)


def played(robot: Robot, off: bool) -> tuple[dict[str, list[Array]], dict[str, Any], SensorSuite]:
    """All readings of a squat of four seconds, with the humanoid's sensors, or with ideal ones."""
    world = room()
    specs, _ = robot_sensors(robot.description.tree(), robot.config, lambda n: find(n, "config/sensors"))
    errors, _ = shared_errors(robot.config, specs)
    if off:
        with_all = SensorSuite(robot.model, robot.config, robot.joints, specs, world, 1, errors)
        names = {n: _stages(i.device) for n, i in with_all.instruments.items()} | {
            n: tuple(s.lidar.pipeline.names) for n, s in with_all.scanners.items()
        }
        specs = [replace(s, off=names[s.name]) for s in specs]
    suite = SensorSuite(robot.model, robot.config, robot.joints, specs, world, 1, errors)
    plant = Plant(robot.description, robot.config, PlantConfig(), world)
    bend = {
        "l_knee": 0.4,
        "r_knee": 0.4,
        "l_hip_pitch": -0.2,
        "r_hip_pitch": -0.2,
        "l_ankle_pitch": -0.2,
        "r_ankle_pitch": -0.2,
        "waist_yaw": 0.4,
    }
    readings: dict[str, list[Array]] = {}
    scans: dict[str, Any] = {}
    for k in range(800):
        q = plant.joints.stand.copy()
        for name, a in bend.items():
            q[robot.model.joint_index[name]] += a * (1 - np.cos(2 * np.pi * 0.5 * k * 0.005)) / 2
        plant.command(position=q)
        plant.advance(5)
        (p, R), (v, w) = plant.frame_pose("base_link"), plant.base_twist()
        found, jobs = suite.feed(
            state(plant.time_ns, p, R, v, w, plant.joint_positions, plant.joint_velocities, plant.joint_efforts)
        )
        for r in found:
            readings.setdefault(r.sensor, []).append(np.concatenate([[r.stamp_ns / 1e9], r.values]))
        for job in jobs[:1] if k < 300 else []:
            scans[job.sensor] = job.run()
        for job in jobs[1:] if k < 300 else []:
            scans[job.sensor] = job.run()
    return readings, scans, suite


def _stages(device: Any) -> tuple[str, ...]:
    if hasattr(device, "pipeline"):
        return tuple(device.pipeline.names)
    return (*device.positions.names, *device.torques.names)


def series(ax: Any, ideal: list[Array], real: list[Array], column: int, title: str) -> None:
    """A channel as it is read, and as it should be."""
    for rows, colour, name, width in ((real, BLUE, "virtual sensor", 0.6), (ideal, RED, "ideal", 1.0)):
        x = np.array(rows)
        ax.plot(x[:, 0] - x[0, 0], x[:, 1 + column], colour, lw=width, label=name)
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=8)


def draw_series(ideal: dict[str, list[Array]], real: dict[str, list[Array]], robot: Robot) -> None:
    """IMU, sole, encoder and compass during the squat."""
    knee = robot.model.joint_index["l_knee"]
    n = robot.model.n
    figure, axes = plt.subplots(2, 4, figsize=(13, 5), layout="constrained")
    series(axes[0, 0], ideal["imu"], real["imu"], 2, "IMU: gyro z [rad/s]")
    series(axes[1, 0], ideal["imu"], real["imu"], 5, "IMU: accelerometer z [m/s²]")
    series(axes[0, 1], ideal["feet/left"], real["feet/left"], 2, "left sole: force z [N]")
    series(axes[1, 1], ideal["feet/left"], real["feet/left"], 4, "left sole: torque y [N·m]")
    series(axes[0, 2], ideal["encoders"], real["encoders"], n + knee, "left knee: speed [rad/s]")
    series(axes[1, 2], ideal["encoders"], real["encoders"], 2 * n + knee, "left knee: torque [N·m]")
    series(axes[0, 3], ideal["compass"], real["compass"], 0, "compass: x [T]")
    x, y = np.array(ideal["encoders"]), np.array(real["encoders"])
    k = min(len(x), len(y))
    axes[1, 3].plot(x[:k, 1 + knee], 1e3 * (y[:k, 1 + knee] - x[:k, 1 + knee]), BLUE, lw=0.6)
    axes[1, 3].set_title("left knee: error [mrad] over angle [rad]", fontsize=9)
    axes[0, 0].legend(fontsize=8)
    save(figure, "sensors_series.png")


def draw_allan() -> None:
    """Allan deviation of an hour of the MEMS IMU in the band of its curve."""
    profile = load_profile(share("config/sensors/bosch_bmi088.yaml"), "imu")
    rate, n = 100.0, 360_000
    profile = replace(profile, timing=replace(profile.timing, rate=rate))
    t = np.arange(n) / rate
    x = Imu("imu", profile, 1, Sources({}, 1)).read(np.tile([0, 0, 0, 0, 0, 9.81], (n, 1)), t)
    lengths = octaves(n)
    tau = times(lengths, 1 / rate)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for ax, part, config, unit in (
        (axes[0], slice(0, 3), profile.gyro, "gyro [rad/s]"),
        (axes[1], slice(3, 6), profile.accel, "accelerometer [m/s²]"),
    ):
        model = noise_of(config)
        low, high = band(model, lengths, 1 / rate, n)
        ax.fill_between(tau, low, high, color=GREY, alpha=0.5, label="95 % of the profile's curve")
        ax.loglog(tau, np.sqrt(allan_variance(x[:, part], lengths, 1 / rate)), ".-", lw=0.8, ms=4)
        ax.set_title(f"Allan deviation: {unit}", fontsize=9)
        ax.set_xlabel("averaging time [s]", fontsize=8)
        ax.grid(alpha=0.3, which="both")
        ax.tick_params(labelsize=8)
    axes[0].legend(fontsize=8)
    save(figure, "sensors_allan.png")


def draw_scans(ideal: dict[str, Any], real: dict[str, Any], suite: SensorSuite) -> None:
    """The planar scan from above, with its errors, and the cloud."""
    lidar = suite.scanners["lidar"].lidar
    scan, cloud = real["lidar"], real["points"]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    there = np.isfinite(scan.ranges[0])
    d = lidar.directions[:, 0]
    xy = scan.ranges[0][there, None] * d[there, :2]
    axes[0].scatter(xy[:, 0], xy[:, 1], s=3, c=scan.intensity[0][there], cmap="viridis")
    axes[0].set_title("virtual/scan from above [m], by intensity", fontsize=9)
    axes[0].set_aspect("equal")
    both = there & np.isfinite(ideal["lidar"].ranges[0])
    error = 1e3 * (np.where(both, scan.ranges[0], np.nan) - np.where(both, ideal["lidar"].ranges[0], np.nan))
    axes[1].plot(np.degrees(lidar.angles), error, ".", ms=2)
    axes[1].set_ylim(-80, 80)
    axes[1].set_title("range error [mm] over angle [deg]: noise, motion, edges", fontsize=9)
    points = suite.scanners["points"].lidar
    rays = directions(points.angles, np.array(points.profile.elevations)).transpose(1, 0, 2)
    there = np.isfinite(cloud.ranges) & (cloud.ranges < 7.0) & (rays[..., 0] > 0.3)
    xyz = cloud.ranges[there][:, None] * rays[there]
    order = np.argsort(xyz[:, 0])[::-1]
    axes[2].scatter(-xyz[order, 1], xyz[order, 2], s=1, c=xyz[order, 0], cmap="turbo", vmin=0, vmax=5)
    axes[2].set_title("virtual/points seen from behind [m], by distance ahead", fontsize=9)
    axes[2].set_aspect("equal")
    for ax in axes:
        ax.tick_params(labelsize=8)
    save(figure, "sensors_lidar.png")


def main() -> None:
    """All pictures."""
    robot = load_robot()
    ideal, ideal_scans, _ = played(robot, True)
    real, scans, suite = played(robot, False)
    draw_series(ideal, real, robot)
    draw_scans(ideal_scans, scans, suite)
    draw_allan()


if __name__ == "__main__":
    main()
