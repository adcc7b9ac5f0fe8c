"""Renders the pictures of sensors_camera.md: python docs/make_camera_pictures.py (needs EGL or OSMesa, and matplotlib)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from scipy.ndimage import map_coordinates

from digital_twin.cameras import make_cameras, robot_cameras
from digital_twin.core.sensors.camera import Camera, CameraConfig, load_profile
from digital_twin.core.sensors.camera_scene import SHOWN, CameraScene, TwinPose
from digital_twin.core.sensors.image_sensor import ImageSensor
from digital_twin.core.sensors.optics import distort
from digital_twin.core.sensors.photon_transfer import fit_camera
from digital_twin.core.sensors.rendering import Renderer
from digital_twin.core.world import load_world
from digital_twin.paths import share
from digital_twin.robots import load_robot

HERE = Path(__file__).parent
mpl.use("Agg")
plt.rcParams |= {"font.size": 8, "axes.titlesize": 8, "savefig.dpi": 110}


class Studio:
    """The package's humanoid in its world, looking at the crate past its raised arm."""

    def __init__(self) -> None:
        self.robot = load_robot()
        self.mounts, _ = robot_cameras()
        self.world = load_world(share("worlds/humanoid_world.sdf"))
        model = self.robot.model
        q = self.robot.joints.stand.copy()
        wanted = (
            ("neck_pitch", 0.25), ("neck_yaw", 0.15), ("l_shoulder_pitch", -1.25), ("l_elbow", -0.5), ("l_shoulder_roll", 0.0),
        )  # fmt: skip
        for name, angle in wanted:
            q[model.joint_index[name]] = angle
        self.q = q

    def config(self, **changes: object) -> CameraConfig:
        """The default camera with changes."""
        (entry,), _ = make_cameras(self.mounts, self.robot.model, {}, seed=1)
        return replace(entry[1].config, **changes)

    def pose(self, turn: float = 0.0) -> TwinPose:
        """Standing, turning about the vertical [rad/s]."""
        zero = np.zeros(3)
        return TwinPose(
            0, self.q, np.zeros_like(self.q), np.array([0.3, 0.2, 0.82]), np.eye(3), zero, np.array([0.0, 0.0, turn])
        )

    def shoot(self, config: CameraConfig, turn: float = 0.0, frames: int = 8) -> tuple[Camera, np.ndarray, np.ndarray]:
        """The camera, its image and the true depth, when its exposure has settled."""
        camera = Camera(config, "camera", 1)
        scene = CameraScene(self.robot.model, self.world, [(self.mounts[0], camera)])
        source = camera.optics.source
        renderer = Renderer(scene.mj, source.width, source.height)
        renderer.show(SHOWN)
        for _ in range(frames):
            motion = scene.motion(0, source, self.pose(turn), camera.span())
            renders = []
            for t in camera.render_times(motion):
                data = scene.place(self.pose(turn), t)
                rgb, z = renderer.render(data, 0, source, config.near, config.far, colour=True, depth=True)
                renders.append(rgb)
            image = camera.colour(camera.raw(renders))
        renderer.close()
        return camera, image, z


def panels(name: str, images: list[tuple[str, np.ndarray]], **more: object) -> None:
    """Images in a row, with a title each."""
    figure, axes = plt.subplots(1, len(images), figsize=(2.45 * len(images), 2.12), layout="constrained")
    for axis, (title, image) in zip(axes, images, strict=True):
        axis.imshow(image, interpolation="antialiased", **more)
        axis.set_title(title)
        axis.axis("off")
    save(figure, name)


def save(figure: plt.Figure, name: str) -> None:
    """As a PNG of few colours."""
    path = HERE / name
    figure.savefig(path)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


def lens(studio: Studio) -> None:
    """The pinhole's image, two lenses, and what undistorting by CameraInfo gives."""
    off = ["shot_noise", "read_noise", "fixed_pattern"]
    base = studio.config(off=off)
    barrel = replace(base, lens=replace(base.lens, model="plumb_bob", coefficients=[-0.35, 0.12, 0.0, 0.0, 0.0]))
    fisheye = replace(
        base, horizontal_fov=2.4, lens=replace(base.lens, model="equidistant", coefficients=[-0.02, 0.002]),
    )  # fmt: skip
    plain = replace(base, lens=replace(base.lens, model="none", coefficients=[]))
    camera, bent, _ = studio.shoot(barrel)
    images = [
        ("pinhole", studio.shoot(plain)[1]),
        ("plumb_bob, k1 = −0.35", bent),
        ("the same, undistorted", undone(camera, bent)),
    ]
    panels("camera_lens.png", [*images, ("equidistant, 137°", studio.shoot(fisheye)[1])])


def undone(camera: Camera, image: np.ndarray) -> np.ndarray:
    """As an image pipeline rectifies, from CameraInfo alone."""
    info = camera.info()
    v, u = np.mgrid[: info.height, : info.width]
    f, cx, cy = info.k[0, 0], info.k[0, 2], info.k[1, 2]
    xd, yd = distort(info.model, info.d, (u - cx) / f, (v - cy) / f)
    at = [f * yd + cy, f * xd + cx]
    return np.stack([map_coordinates(image[..., c], at, order=1) for c in range(3)], axis=-1)


def light(studio: Studio) -> None:
    """Light, darkness, motion and a rolling shutter."""
    base = studio.config()
    e = base.exposure
    dim = replace(base, exposure=replace(e, illuminance=20.0, longest=0.005))
    much = replace(base, exposure=replace(e, auto=False, time=0.12))
    slow = replace(base, exposure=replace(e, auto=False, time=0.02, renders=12))
    rolling = replace(
        base,
        exposure=replace(
            e, auto=False, time=0.004, illuminance=2000.0, shutter="rolling", line_time=1.5e-4, renders=32
        ),
    )
    panels(
        "camera_light.png",
        [
            ("400 lx, automatic exposure", studio.shoot(base)[1]), ("20 lx, 5 ms", studio.shoot(dim)[1]),
            ("overexposed: full well", studio.shoot(much)[1]), ("turning at 2 rad/s, 20 ms", studio.shoot(slow, 2.0, 1)[1]),
            ("the same, rolling shutter", studio.shoot(rolling, 2.0, 1)[1]),
        ],
    )  # fmt: skip


def depth(studio: Studio) -> None:
    """True depth, what the stereo camera reports, and the difference."""
    profile = load_profile(share("config/sensors/camera_realsense_d435.yaml"))
    camera, _, z = studio.shoot(profile)
    true = camera.optics.crop(z)
    got = camera.depth(z)
    known = np.where(np.isfinite(got), got, np.nan)
    error = 1000.0 * (known - np.where(np.isfinite(true), true, np.nan))
    figure, axes = plt.subplots(1, 3, figsize=(10.0, 2.3), layout="constrained")
    for axis, title, image, limits, colours in (
        (axes[0], "true depth [m]", true, (0, 5), "viridis"), (axes[1], "reported [m]; white: holes", known, (0, 5), "viridis"),
        (axes[2], "error [mm]", error, (-150, 150), "RdBu"),
    ):  # fmt: skip
        shown = axis.imshow(image, vmin=limits[0], vmax=limits[1], cmap=colours, interpolation="antialiased")
        figure.colorbar(shown, ax=axis)
        axis.set_title(title)
        axis.axis("off")
    save(figure, "camera_depth.png")


def transfer() -> None:
    """The photon transfer curve of the default camera's sensor, and what is found from it."""
    config = load_profile(share("config/sensors/camera_bvs_ca_sf2_0016zc.yaml")).sensor
    sensor = ImageSensor(config, 200, 200, 1, "c")
    levels = np.concatenate([np.linspace(0.01, 0.95, 24), [0.98, 1.0, 1.03, 1.1, 1.5]])
    photons = levels * config.full_well / config.quantum_efficiency[1]
    found = fit_camera(
        [sensor.flat(p, 0.005) for p in photons for _ in range(2)], dark=[sensor.flat(0.0, 0.005) for _ in range(16)]
    )
    x, y = found.curve.T
    figure, axis = plt.subplots(figsize=(4.6, 2.8), layout="constrained")
    axis.plot(x, y, "o", ms=3, label="pairs of frames")
    line = np.array([0.0, x.max()])
    axis.plot(
        line, found.gain.value * line, "-", lw=1, label=f"K = {found.gain.value:.4f} DN/e- (given: {config.gain})"
    )
    axis.axvline(found.full_well.value * found.gain.value, color="grey", lw=1, ls=":")
    axis.set_xlabel("mean above dark [DN]")
    axis.set_ylabel("variance above dark [DN²]")
    axis.set_ylim(0, 1.15 * y.max())
    axis.legend()
    save(figure, "camera_photon_transfer.png")


def main() -> None:
    """All of them."""
    studio = Studio()
    lens(studio)
    light(studio)
    depth(studio)
    transfer()


if __name__ == "__main__":
    main()
