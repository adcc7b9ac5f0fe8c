"""Virtual cameras: what an image costs, beside the bare renderer; what photon transfer finds; whom they disturb."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # for the bare renderer, which reads it when MuJoCo is imported

import mujoco
import numpy as np

from benchmark.table import Row, main
from benchmark.twin_run import helper, twin
from digital_twin.cameras import make_cameras, robot_cameras
from digital_twin.core.sensors.camera import Camera, load_profile
from digital_twin.core.sensors.camera_scene import SHOWN, CameraScene, TwinPose
from digital_twin.core.sensors.image_sensor import ImageSensor
from digital_twin.core.sensors.photon_transfer import fit_camera
from digital_twin.core.sensors.rendering import Renderer
from digital_twin.core.world import load_world
from digital_twin.paths import share
from digital_twin.robots import load_robot

CHAIN_MS = 6.0
SETTLE = 4.0  # [s] until readers and writers have found each other
BUSY = "/**/virtual_camera_publisher: {ros__parameters: {rate: 30.0}}\n"
IMAGE = "virtual/camera/camera/image_raw:sensor_msgs/Image"


def measure(a: argparse.Namespace) -> list[Row]:
    """Chain and renderer, photon transfer, and the synchronizer beside a camera at work."""
    rows = cost(a.images)
    rows += transfer(a.seeds)
    if a.seconds > 0:
        rows += beside(a.seconds, a.rounds)
    return rows


def cost(n: int) -> list[Row]:
    """Medians over n images of 320x240, both in turn."""
    robot = load_robot()
    mounts, _ = robot_cameras()
    cameras, _ = make_cameras(mounts, robot.model, {}, seed=1)
    camera = cameras[0][1]
    scene = CameraScene(robot.model, load_world(share("worlds/humanoid_world.sdf")), cameras)
    zero = np.zeros(3)
    pose = TwinPose(0, robot.joints.stand, np.zeros(robot.model.n), np.array([0, 0, 0.82]), np.eye(3), zero, zero)
    c, source = camera.config, camera.optics.source
    renderer = Renderer(scene.mj, source.width, source.height)
    renderer.show(SHOWN)
    last = {}

    def ours() -> None:
        last["rgb"], last["z"] = renderer.render(scene.place(pose), 0, source, c.near, c.far, colour=True, depth=False)

    times = alternate(n, ours, bare(scene, source.width, source.height, scene.place(pose)))
    rgb = last["rgb"]
    dim = dim_camera(camera)
    # Work of one thread: its own time does not count what others do on the machine.
    chain = time.thread_time
    bright_ms, dim_ms = alternate(
        n, lambda: camera.colour(camera.raw([rgb])), lambda: dim.colour(dim.raw([rgb])), clock=chain
    )
    both, alone = alternate(n, lambda: (ours(), camera.colour(camera.raw([last["rgb"]]))), ours)
    z = renderer.render(scene.place(pose), 0, source, c.near, c.far, colour=False, depth=True)[1]
    stereo = alternate(n, lambda: camera.depth(z), clock=chain)[0]
    renderer.close()
    size = f"{source.width}x{source.height}"
    return [
        Row("EMVA chain, 320x240, mosaic to RGB (CPU)", bright_ms, "ms", CHAIN_MS),
        Row("the same, 16 electrons and fewer on each pixel (CPU)", dim_ms, "ms", CHAIN_MS),
        Row(f"render {size} with {renderer.backend}", times[0], "ms", None, times[1], "bare mujoco.Renderer"),
        Row("image: render and chain", both, "ms", None, alone, "our render alone"),
        Row("stereo depth, 320x240 (CPU)", stereo, "ms"),
    ]


def bare(scene: CameraScene, width: int, height: int, data: mujoco.MjData) -> Callable[[], None]:
    """MuJoCo's own renderer with the same scene, size and lack of shadows."""
    renderer = mujoco.Renderer(scene.mj, height, width, max_geom=1000)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    option = mujoco.MjvOption()
    option.geomgroup[:] = [i in SHOWN for i in range(6)]
    option.sitegroup[:] = 0

    def render() -> None:
        renderer.update_scene(data, 0, option)
        renderer.render()

    return render


def dim_camera(camera: Camera) -> Camera:
    """In so little light that every photon is counted: the slowest case."""
    c = camera.config
    e = replace(c.exposure, auto=False, time=0.005, illuminance=c.exposure.illuminance * 12.0 / 2000.0)
    return Camera(replace(c, exposure=e), camera.name, 1)


def alternate(n: int, *works: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median duration of each [ms], one after the other in each round, so that all see the same machine."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(n):
        for work, own in zip(works, taken, strict=True):
            begin = clock()
            work()
            own.append(1e3 * (clock() - begin))
    return [statistics.median(own) for own in taken]


def transfer(seeds: int) -> list[Row]:
    """The largest error over seeds of what photon transfer finds, and how often its intervals hold the truth."""
    config = load_profile(share("config/sensors/camera_bvs_ca_sf2_0016zc.yaml")).sensor
    levels = np.concatenate([np.linspace(0.04, 0.7, 12), [0.8, 0.9, 1.0, 1.6]])
    names = ("gain", "read_noise", "full_well", "dark_current", "dsnu", "prnu")
    worst, held = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for seed in range(seeds):
        s = ImageSensor(config, 200, 200, seed, "c")
        photons = levels * config.full_well / config.quantum_efficiency[1]
        flat = [s.flat(p, 0.005) for p in photons for _ in range(4)]
        exposures = [0.005] * 16 + [5.0] * 16
        dark = [s.flat(0.0, t) for t in exposures]
        found = fit_camera(flat, dark=dark, dark_exposures=exposures).values()
        for name in names:
            truth = s.dark_current() if name == "dark_current" else getattr(config, name)
            e = found[name]
            worst[name] = max(worst[name], 100.0 * abs(e.value / truth - 1.0))
            held[name] += e.low <= truth <= e.high
    rows = [Row(f"photon transfer: {name}, worst of {seeds} seeds", worst[name], "%", 5.0) for name in names]
    target = 18.0 * seeds / 20.0
    return rows + [Row(f"seeds whose interval holds {n}", held[n], "", target, at_least=True) for n in names]


def beside(seconds: float, rounds: int) -> list[Row]:
    """Age of virtual states at 200 Hz on arrival, by turns while nobody looks at the camera and while somebody does.

    In one run, so that both see the same machine; a state's age begins at its measurement.
    """
    spans: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "arrivals.json"
        with twin(200.0, others=BUSY) as run, helper("sink", "virtual/joint_states", str(notes)):
            for _ in range(rounds):
                for looked_at in (False, True):
                    with helper("listen", IMAGE) if looked_at else nullcontext():
                        time.sleep(SETTLE)
                        begin = time.time()
                        time.sleep(seconds)
                        spans[looked_at].append((1e9 * begin, 1e9 * time.time()))
        arrivals = {int(k): v for k, v in json.loads(notes.read_text()).items()}

    def age(looked_at: bool, percentile: float) -> float:
        found = [t - s for s, t in arrivals.items() if any(a < t < b for a, b in spans[looked_at])]
        return float(np.percentile(found, percentile)) / 1e6

    hz = run.report["rates_hz"].get("virtual/camera/camera/image_raw", 0.0)
    rows = [Row("images a second over all, of 30 that are wanted half of the time", hz, "Hz")]
    return rows + [
        Row(f"age of states p{p}, 200 Hz, with images", age(True, p), "ms", None, age(False, p), "without")
        for p in (50, 99)
    ]


if __name__ == "__main__":
    main(
        "virtual cameras", measure, ("images", 100, "of which medians are shown"), ("seeds", 20, "of the photon transfer"),
        ("seconds", 8.0, "of each turn beside the twin; 0: none"), ("rounds", 4, "of these turns"),
    )  # fmt: skip
