"""Readings to estimate from: a recording of iCub, a synthetic walk, the simulated robot that squats and sways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from benchmark.estimation_runs import Readings
from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.robot_config import imu_rotation
from digital_twin.core.rotation import matrix_from_quat
from digital_twin.core.script import Script, load_script
from digital_twin.core.synthetic_walk import WalkPlan, synthetic_walk
from digital_twin.paths import find
from digital_twin.robots import Robot, load_robot

RATE = 200  # [Hz] of the simulated robot's sensors
COMMANDS = 100  # [Hz]
TOPICS = {
    "/joint_states": "joints",
    "/imu/data": "imu",
    "/feet/left/wrench": "wrench0",
    "/feet/right/wrench": "wrench1",
    "/ground_truth/odom": "truth",
}


def icub(folder: Path) -> Readings:
    """The recorded walk; one sample has one stamp, and its messages come in the bag's order."""
    robot = load_robot(str(folder / "icub.urdf"))
    messages: dict[str, list[Any]] = {name: [] for name in TOPICS.values()}
    with AnyReader([folder]) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic in TOPICS:
                messages[TOPICS[connection.topic]].append(reader.deserialize(raw, connection.msgtype))
    order = tuple(name for name in messages if name != "truth")
    joints, imu, truth = messages["joints"], messages["imu"], messages["truth"]
    m = len(joints)
    which = [robot.model.joint_index[name] for name in joints[0].name]
    turn = imu_rotation(robot.config.imus[0]).T
    encoders, speeds = np.full((2, m, robot.model.n), np.nan)
    encoders[:, which], speeds[:, which] = [j.position for j in joints], [j.velocity for j in joints]
    poses = [x.pose.pose for x in truth]
    position = np.array([[p.position.x, p.position.y, p.position.z] for p in poses])
    quats = [[p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w] for p in poses]
    return Readings(
        robot, np.array([j.header.stamp.sec * 10**9 + j.header.stamp.nanosec for j in joints]),
        np.column_stack([[x.wrench.force.z for x in messages[f"wrench{i}"]] for i in (0, 1)]),
        np.array([[x.angular_velocity.x, x.angular_velocity.y, x.angular_velocity.z] for x in imu]) @ turn,
        np.array([[x.linear_acceleration.x, x.linear_acceleration.y, x.linear_acceleration.z] for x in imu]) @ turn,
        encoders, speeds, position, np.array([matrix_from_quat(x) for x in quats]), np.full((m, 3), np.nan),
        float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum()), order,
    )  # fmt: skip


def walk(robot: Robot, seed: int, plan: WalkPlan | None = None) -> Readings:
    """A synthetic walk of the package's humanoid."""
    w = synthetic_walk(robot.model, robot.config, seed, plan)
    return Readings(
        robot, w.stamps, w.loads, w.gyro, w.accel, w.encoders, w.speeds, w.position, w.rotation, w.velocity, w.distance
    )


def part(readings: Readings, start: float, end: float) -> Readings:
    """The samples between two times [s]; the distance stays that of the whole."""
    t = (readings.stamps - readings.stamps[0]) / 1e9
    names = ("stamps", "loads", "gyro", "accel", "encoders", "speeds", "position", "rotation", "velocity")
    return replace(readings, **{name: getattr(readings, name)[(t >= start) & (t < end)] for name in names})


def sways_and_squats(robot: Robot, seed: int, seconds: float = 60.0) -> Readings:
    """The simulated robot, another of its series for every seed, told by a script to sway and to squat.

    Each seed has an order, sizes and speeds of its own: errors that the motion causes would else come at one time in
    all, and averages over seeds would mean little.
    """
    plant = Plant(robot.description, robot.config, PlantConfig(seed=seed))
    instruments = Instruments(plant, InstrumentConfig(), float(RATE))
    path = find("humanoid.yaml", "config/scripts")
    script = load_script(path)
    rng = np.random.default_rng(seed)
    steps = [s for s in script.steps if s.hold == "stand"]
    for step in rng.permutation([s for s in script.steps if s.swing or s.cycle] * 3):
        period, size = step.period * rng.uniform(0.8, 1.5), rng.uniform(0.6, 1.0)
        swing = {joint: size * angle for joint, angle in step.swing.items()}
        steps.append(replace(step, period=period, seconds=2.0 * period, swing=swing))
    script_ = Script(replace(script, steps=steps), robot.model, robot.joints.stand, str(path))
    steps_per_tick = round(1.0 / (RATE * plant.config.timestep))
    turn = imu_rotation(robot.config.imus[0]).T
    rows = []
    for tick in range(round(seconds * RATE)):
        if tick % (RATE // COMMANDS) == 0:
            plant.command(*script_.sample(tick / RATE))
        plant.advance(steps_per_tick)
        forces = [instruments.wrench(f.name)[0][2] for f in robot.config.feet]
        truth = *plant.frame_pose(robot.model.base_frame), plant.base_twist()[0]
        rows.append(
            (plant.time_ns, forces, *(x @ turn for x in instruments.imu(0)), *instruments.joint_states()[:2], *truth)
        )
    stamps, loads, gyro, accel, q, qd, position, rotation, velocity = (np.array(c) for c in zip(*rows, strict=True))
    distance = float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())
    return Readings(robot, stamps, loads, gyro, accel, q, qd, position, rotation, velocity, distance)


def standing(robot: Robot, seconds: float, rate: int) -> Readings:
    """A robot that stands still, with the noise of its sensors."""
    rng, m, joints, imu = np.random.default_rng(0), round(seconds * rate), robot.joints, robot.config.imus[0]
    load = 9.81 * robot.model.mass / 2.0
    wide = np.sqrt(rate)
    encoders = joints.stand + joints.encoder_noise * rng.standard_normal((m, robot.model.n))
    return Readings(
        robot, (np.arange(m) * round(1e9 / rate)).astype(np.int64), load + rng.standard_normal((m, 2)),
        imu.gyro_noise * wide * rng.standard_normal((m, 3)),
        [0.0, 0.0, 9.81] + imu.accel_noise * wide * rng.standard_normal((m, 3)), encoders,
        0.01 * rng.standard_normal((m, robot.model.n)), np.zeros((m, 3)), np.tile(np.eye(3), (m, 1, 1)),
        np.zeros((m, 3)), 0.0,
    )  # fmt: skip
