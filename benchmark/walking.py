"""Walking on the simulated robot with its seeded differences: does it arrive, how fast, at what cost, what does it survive?

    python -m benchmark.walking [--seeds 10] [--only walk,speed,turn,side,slope,rough,stand,push,ik] [--json OUT]

The controller sees the twin's estimate only, its commands pass the bridge's limits; who counts falls and metres sees the
truth. A seed is another robot: other masses, friction, rotors, motors, and other noise.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmark.table import Row, main
from digital_twin.core.base_state import BaseState
from digital_twin.core.gait.body import Body
from digital_twin.core.gait.episode import Episode, EpisodeConfig, ScheduledPush
from digital_twin.core.gait.gait_config import Gait
from digital_twin.core.gait.ik import WholeBody
from digital_twin.core.world import World, load_world
from digital_twin.paths import share
from digital_twin.robots import Robot, load_robot

Velocity = tuple[float, float, float]
LEAD_IN = 0.5  # [s] that it stands at first
IMPULSE, PUSH_TIME = 0.25, 0.1  # [N s for each kg], [s]
BODY = "torso"  # what is pushed
AFTER = 3.0  # [s] that it must stay up after a push
PHASES = 4  # times within a step at which it is pushed


def episode(robot: Robot, seed: int, seconds: float, world: str = "") -> Episode:
    """One robot of the series."""
    ground: World | None = load_world(share(f"worlds/{world}")) if world else None
    return Episode(robot.description, robot.config, Gait(), EpisodeConfig(seed=seed, seconds=seconds), ground)


def walk(e: Episode, velocity: Velocity, done: Callable[[Episode], bool]) -> bool:
    """Walk until it is done, falls or runs out of time; whether it was done."""
    position, heading = e.plant.frame_pose(e.model.base_frame)
    e.start = position, heading  # type: ignore[attr-defined]
    while e.result.seconds < e.config.seconds and e.result.upright:
        e.advance(velocity if e.result.seconds >= LEAD_IN else (0.0, 0.0, 0.0))
        if done(e):
            e.finish()
            return e.result.upright
    e.finish()
    return False


def gone(e: Episode, axis: int = 0) -> float:
    """Metres along (0) or across (1) the heading at the start."""
    position, heading = e.start  # type: ignore[attr-defined]
    return float(heading[:, axis] @ (e.plant.frame_pose(e.model.base_frame)[0] - position))


def walks(robot: Robot, seeds: range, velocity: Velocity, metres: float, seconds: float, world: str = "") -> Iterator[
    tuple[bool, Episode]
]:  # fmt: skip
    """Each seed: whether it came so far, and the episode."""
    for seed in seeds:
        e = episode(robot, seed, seconds, world)
        yield walk(e, velocity, lambda e: abs(gone(e, 0 if velocity[0] else 1)) >= metres), e


def share_of(results: list[bool]) -> float:
    """In percent."""
    return 100.0 * sum(results) / len(results)


def straight(robot: Robot, seeds: range) -> list[Row]:
    """10 m at 0.5 m/s."""
    done, cost, ms = [], [], []
    for ok, e in walks(robot, seeds, (0.5, 0.0, 0.0), 10.0, 26.0):
        done.append(ok)
        cost.append(e.result.cost_of_transport)
        ms.append(e.result.step_ms)
    times = np.concatenate(ms)
    return [
        Row(f"10 m at 0.5 m/s without a fall, {len(done)} seeds", share_of(done), "%", 95.0, at_least=True),
        Row("cost of transport at 0.5 m/s, median", float(np.median(cost)), "", 1.0),
        Row("step of the controller, median", float(np.median(times)), "ms", 1.0),
        Row("step of the controller, p99", float(np.percentile(times, 99)), "ms", 2.0),
    ]


def speed(robot: Robot, seeds: range) -> list[Row]:
    """What it keeps for six seconds when asked for 0.85 m/s."""
    found = []
    for seed in seeds:
        e = episode(robot, seed, 9.0)
        walk(e, (0.85, 0.0, 0.0), lambda e: False)
        r = e.result
        late = r.track[r.track[:, 0] > 3.0]
        found.append(float(np.hypot(*(late[-1, 1:3] - late[0, 1:3])) / np.ptp(late[:, 0])) if r.upright else 0.0)
    return [
        Row(
            f"speed over 6 s when asked for 0.85 m/s, {len(found)} seeds",
            float(np.median(found)),
            "m/s",
            0.8,
            at_least=True,
        ),
        Row("of these without a fall", share_of([f > 0.0 for f in found]), "%"),
    ]


def turn(robot: Robot, seeds: range) -> list[Row]:
    """Once around on the spot."""
    done = []
    for seed in seeds:
        e = episode(robot, seed, 14.0)
        turned = [0.0, 0.0]

        def around(e: Episode, turned: list[float] = turned) -> bool:
            yaw = e._track[-1][4]
            turned[0] += math.remainder(yaw - turned[1], math.tau)
            turned[1] = yaw
            return turned[0] >= math.tau

        done.append(walk(e, (0.0, 0.0, 0.6), around))
    return [Row(f"360° on the spot at 0.6 rad/s, {len(done)} seeds", share_of(done), "%", 95.0, at_least=True)]


def sideways(robot: Robot, seeds: range) -> list[Row]:
    """2 m to the side."""
    done = [ok for ok, _ in walks(robot, seeds, (0.0, 0.2, 0.0), 2.0, 14.0)]
    return [Row(f"2 m sideways at 0.2 m/s, {len(done)} seeds", share_of(done), "%", 95.0, at_least=True)]


def ground(robot: Robot, seeds: range, world: str, what: str, metres: float) -> list[Row]:
    """Uneven or sloping ground."""
    done = [ok for ok, _ in walks(robot, seeds, (0.4, 0.0, 0.0), metres, metres / 0.4 + 8.0, world)]
    return [Row(f"{what}, {len(done)} seeds", share_of(done), "%", 90.0, at_least=True)]


def pushes(robot: Robot, seeds: range, velocity: Velocity, what: str) -> list[Row]:
    """From eight directions, at times spread over a step; the seeds take turns."""
    done = []
    for k in range(8 * max(1, len(seeds) // 2)):
        seed, angle = seeds[k % len(seeds)], k % 8 * math.pi / 4
        at = 3.0 + 0.5 * ((k * 0.618) % 1.0)
        e = episode(robot, seed, at + AFTER)
        force = IMPULSE * float(e.plant.mj.body_mass.sum()) / PUSH_TIME
        push = ScheduledPush(at, BODY, (force * math.cos(angle), force * math.sin(angle), 0.0), PUSH_TIME)
        done.append(e.run(lambda t: velocity if t >= LEAD_IN else (0.0, 0.0, 0.0), [push]).upright)
    return [Row(f"0.25 N s/kg from 8 directions, {what}, {len(done)} pushes", share_of(done), "%", 90.0, at_least=True)]


def inverse_kinematics(robot: Robot) -> list[Row]:
    """One step of ours, and one of mink with the same tasks."""
    body = Body(robot.model, robot.config, robot.joints)
    zero, none = np.zeros(3), np.zeros((6, 6))
    base = BaseState(0, np.array([0.0, 0.0, 0.8]), np.eye(3), zero, zero, none, none, (True, True), True)
    q, qd, upper = robot.joints.stand, np.zeros(robot.model.n), np.zeros(len(body.upper))
    whole = WholeBody(body)

    def ours() -> None:
        body.update(base, q, qd)
        whole.accelerations(np.zeros((2, 6)), zero, zero, upper, (True, True))

    rows = [Row("whole-body step of our own (kinematics, inertia, one solve), median", median_ms(ours), "ms")]
    try:
        import mink
    except ImportError:
        return rows
    m = robot.model.mj
    configuration = mink.Configuration(m)
    qpos = m.qpos0.copy()
    robot.model.write_joints(qpos, q)
    feet = [mink.FrameTask(f.frame, "site", position_cost=1.0, orientation_cost=1.0) for f in robot.config.feet]
    trunk = mink.FrameTask(robot.model.base_frame, "site", position_cost=0.0, orientation_cost=1.0)
    tasks = [*feet, trunk, mink.ComTask(cost=1.0), mink.PostureTask(m, cost=1e-2)]
    configuration.update(qpos)
    for task in tasks:
        task.set_target_from_configuration(configuration)
    limits = [mink.ConfigurationLimit(m)]

    def theirs() -> None:
        configuration.update(qpos)
        mink.solve_ik(configuration, tasks, 0.005, "daqp", limits=limits)

    return [*rows, Row("one step of mink with daqp, the same tasks, median", median_ms(theirs), "ms")]


def median_ms(work: Callable[[], None]) -> float:
    """Of 300 times."""
    found = []
    for _ in range(300):
        start = time.perf_counter_ns()
        work()
        found.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(found))


def measure(a: argparse.Namespace) -> list[Row]:
    """All that is asked for."""
    robot, seeds = load_robot(), range(a.first, a.first + a.seeds)
    few = seeds[: max(1, a.seeds // 2)]
    parts: dict[str, Callable[[], list[Row]]] = {
        "walk": lambda: straight(robot, seeds), "speed": lambda: speed(robot, few), "turn": lambda: turn(robot, few),
        "side": lambda: sideways(robot, few), "slope": lambda: ground(robot, few, "slope.sdf", "6 m up a slope of 5°", 6.0),
        "rough": lambda: ground(robot, seeds, "rough.sdf", "6 m on 2 cm of random unevenness", 6.0),
        "stand": lambda: pushes(robot, few, (0.0, 0.0, 0.0), "standing"),
        "push": lambda: pushes(robot, seeds, (0.5, 0.0, 0.0), "walking at 0.5 m/s"),
        "ik": lambda: inverse_kinematics(robot),
    }  # fmt: skip
    chosen = a.only.split(",") if a.only else list(parts)
    return [row for name in chosen for row in parts[name]()]


if __name__ == "__main__":
    main(
        "Walking", measure, ("seeds", 8, "robots of the series"), ("first", 1, "the first of them"),
        ("only", "", "parts, separated by commas: walk, speed, turn, side, slope, rough, stand, push, ik"),
    )  # fmt: skip
