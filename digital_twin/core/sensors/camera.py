"""A camera as a whole: rendered pinhole images in, what the device would deliver out.

Each stage can be left out by its name in `off`, and draws from a generator of its own, made from the seed, the sensor's
name and the stage's: the same seed and the same renders give the same bytes, whatever other sensors do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Array
from digital_twin.core.config import build, load_yaml, param
from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.bayer import LUMINANCE, demosaic, site_colours
from digital_twin.core.sensors.depth_camera import Depth, DepthCamera, DepthConfig
from digital_twin.core.sensors.image_sensor import Image32, ImageSensor, Raw, SensorConfig, photons_per_lux_second
from digital_twin.core.sensors.optics import LensConfig, Optics, full_coefficients, pinhole_of
from digital_twin.core.sensors.seeds import stage_generator

Render = NDArray[np.uint8]
KINDS = ("camera", "depth_camera", "rgbd_camera")
STAGES = (
    "distortion", "vignetting", "motion_blur", "fixed_pattern", "shot_noise", "dark_current", "read_noise", "saturation",
    "quantisation", "response", "stereo_noise", "edge_holes", "jitter", "dropout", "latency",
)  # fmt: skip
# The renderer's colours are meant for a screen: what light they stand for follows from a screen's own curve.
SCREEN_GAMMA = 2.2
MAX_PIXELS = 5_000_000
AUTO_SPEED = 0.7  # share of the way, in logarithm, that exposure control goes with each frame


@dataclass(frozen=True)
class ExposureConfig:
    """How long, and how bright the scene is."""

    time: float = param(0.005, "exposure, or where its control begins", unit="s", low=1e-6, high=10)
    auto: bool = param(True, "let the camera choose its exposure")
    shortest: float = param(2e-5, "of automatic exposure", unit="s", low=1e-6, high=10)
    longest: float = param(0.02, "of automatic exposure", unit="s", low=1e-6, high=10)
    target: float = param(0.2, "mean of the image that automatic exposure wants, of full scale", low=0.01, high=0.9)
    illuminance: float = param(400.0, "on the scene, whose white is a white wall under it", unit="lx", low=0, high=2e5)
    shutter: str = param("global", "whether all rows are exposed together", choices=("global", "rolling"))
    line_time: float = param(0.0, "from one row's beginning to the next's, when rolling", unit="s", low=0, high=1e-3)
    renders: int = param(4, "most renders that make one moving image; 1: no motion blur", low=1, high=64)


@dataclass(frozen=True)
class CameraConfig:
    """A camera. A URDF's <sensor> says how it is mounted and what it covers, a profile how good it is."""

    kind: str = param("camera", "what it delivers: colour, depth, or both", choices=KINDS)
    width: int = param(320, "of the image", unit="px", low=8, high=4096)
    height: int = param(240, "of the image", unit="px", low=8, high=4096)
    horizontal_fov: float = param(1.2, "from the left to the right edge", unit="rad", low=0.02, high=3.0)
    near: float = param(0.05, "nothing nearer is seen", unit="m", low=1e-3, high=10)
    far: float = param(50.0, "nothing farther has a depth", unit="m", low=0.1, high=10000)
    rate: float = param(30.0, "images a second", unit="Hz", low=0.01, high=1000)
    jitter: float = param(0.0, "standard deviation of the time of an image", unit="s", low=0, high=1)
    latency: float = param(0.0, "from the middle of the exposure to the message, at least", unit="s", low=0, high=5)
    dropout: float = param(0.0, "share of images that get lost", low=0, high=1)
    off: list[str] = param([], "stages that are left out", choices=STAGES)
    lens: LensConfig = param(LensConfig)
    exposure: ExposureConfig = param(ExposureConfig)
    sensor: SensorConfig = param(SensorConfig)
    depth: DepthConfig = param(DepthConfig)


class CameraInfo(NamedTuple):
    """As sensor_msgs/CameraInfo: d of the model's length, k and r (3, 3), p (3, 4)."""

    width: int
    height: int
    model: str
    d: Array
    k: Array
    r: Array
    p: Array


def load_profile(path: Path | str) -> CameraConfig:
    """Read a device's profile from YAML: its kind, device, source, and below `parameters` a CameraConfig.

    Raises:
        ConfigError: one line naming the file, the key and what is allowed.
    """
    tree = load_yaml(path, "camera profile")
    if not isinstance(tree, Mapping) or not isinstance(tree.get("parameters"), Mapping):
        raise ConfigError(f"{path}: a camera profile has kind, device, source and parameters")
    if tree.get("kind") not in KINDS:
        raise ConfigError(f"{path}: kind: '{tree.get('kind')}' is not one of {', '.join(KINDS)}")
    return build(CameraConfig, {**tree["parameters"], "kind": tree["kind"]}, str(path))


def _check(config: CameraConfig) -> None:
    """Raises ConfigError when values contradict each other, or ask for too much memory."""
    for low, high, values in (("near", "far", config), ("shortest", "longest", config.exposure)):
        if getattr(values, low) >= getattr(values, high):
            raise ConfigError(f"{low} {getattr(values, low):g} is not below {high} {getattr(values, high):g}")
    if config.width * config.height > MAX_PIXELS:
        raise ConfigError(f"{config.width} x {config.height} are too many pixels; {MAX_PIXELS} can be")


class Camera:
    """One camera with its seed.

    Attributes:
        optics: what it must be given: an RGB render of `optics.source`, whose middle is the camera's axis.
        exposure: duration of the next exposure [s].
        encoding, raw_encoding: of colour and raw images, as sensor_msgs/Image names them.
    """

    def __init__(self, config: CameraConfig, name: str, seed: int) -> None:
        """Raises ConfigError, in one line that names the camera."""
        self.config, self.name = config, name
        off = self.off = frozenset(config.off)
        lens = replace(config.lens, model="none", coefficients=[]) if "distortion" in off else config.lens
        where = f"camera '{name}'"
        image = pinhole_of(lens.model, config.width, config.height, config.horizontal_fov)
        self._lens = lens
        try:
            _check(config)
            self.optics = Optics(lens, image, vignetting="vignetting" not in off)
            self.sensor = ImageSensor(config.sensor, config.height, config.width, seed, name, off)
            self._stereo = DepthCamera(config.depth, image.focal, seed, name, off)
        except ConfigError as e:
            raise ConfigError(f"{where}: {e}") from e
        self.exposure = config.exposure.time
        self._timing = stage_generator(seed, name, "timing")
        depth = "8" if config.sensor.bits <= 8 else "16"
        self._mosaic = config.sensor.pattern != "mono"
        self.raw_encoding = (f"bayer_{config.sensor.pattern}" if self._mosaic else "mono") + depth
        self.encoding = "rgb8" if self._mosaic else "mono8"
        self._light = np.linspace(0.0, 1.0, 256, dtype=np.float32) ** np.float32(SCREEN_GAMMA)
        if config.kind != "depth_camera":
            self._electrons = self.optics.matrix(self._site_weights())
            self._response = self._response_curves()

    def info(self, *, rectified: bool = False) -> CameraInfo:
        """What calibration would find; `rectified`: of an image without distortion, as depth images are."""
        k = self.optics.image.matrix
        plain = rectified or self._lens.model == "none"
        d = np.zeros(5) if plain else full_coefficients(self._lens)
        model = "plumb_bob" if plain else self._lens.model
        return CameraInfo(
            self.config.width, self.config.height, model, d, k, np.eye(3), np.hstack([k, np.zeros((3, 1))])
        )

    # When

    def span(self) -> float:
        """From the beginning of the first row's exposure to the end of the last row's [s]."""
        c = self.config
        rolling = c.exposure.shutter == "rolling"
        return self.exposure + (c.exposure.line_time * (c.height - 1) if rolling else 0.0)

    def render_times(self, motion: float) -> list[float]:
        """When to render, relative to the middle of the exposure [s], for an image that moves by `motion` [px] in it."""
        n = 1 if "motion_blur" in self.off else int(np.clip(np.ceil(motion), 1, self.config.exposure.renders))
        return [self.span() * ((k + 0.5) / n - 0.5) for k in range(n)]

    def next_frame(self) -> tuple[float, bool]:
        """Deviation of the next image's time [s], and whether it gets lost."""
        error, chance = self._timing.standard_normal(), self._timing.random()
        c = self.config
        return (0.0 if "jitter" in self.off else c.jitter * error), ("dropout" not in self.off and chance < c.dropout)

    def _row_weights(self, n: int) -> Image32:
        """Share of each of n equal parts of the span in the exposure of each row: (n, height), columns sum to 1."""
        begin = np.linspace(0.0, self.span() - self.exposure, self.config.height)
        edges = np.linspace(0.0, self.span(), n + 1)[:, None]
        covered = np.clip(edges, begin, begin + self.exposure)
        return (np.diff(covered, axis=0) / self.exposure).astype(np.float32)

    # Light to numbers

    def _site_weights(self) -> Image32:
        """Electrons that each colour of light sets free in each photosite, for one photon (height * width, 3)."""
        c = self.config.sensor
        efficiency = np.asarray(c.quantum_efficiency)
        if self._mosaic:
            colours = site_colours(c.pattern, self.config.height, self.config.width).ravel()
            weights = np.eye(3)[colours] * efficiency
        else:
            weights = np.tile(np.asarray(LUMINANCE) * efficiency, (self.config.height * self.config.width, 1))
        out: Image32 = (weights * self.sensor.sensitivity.reshape(-1, 1)).astype(np.float32)
        return out

    def white(self) -> float:
        """Photons on a pixel in the middle of the image that sees white, in one exposure.

        A white wall under an illuminance E has the luminance E/π; a lens of f-number N makes τ E / (4 N²) of it.
        """
        c, lens = self.config, self.config.lens
        on_sensor = c.exposure.illuminance * lens.transmittance / (4.0 * lens.f_number**2)
        return photons_per_lux_second(c.sensor.pixel_size) * on_sensor * self.exposure

    def raw(self, renders: Sequence[Render]) -> Raw | Image32:
        """One exposure.

        Args:
            renders: images (source height, source width, 3) at the times that `render_times` gave.

        Returns:
            Digital numbers (height, width): uint16; float32 when quantisation is off.
        """
        shape = (self.config.height, self.config.width)
        parts = [(self._electrons @ self._light.take(r.reshape(-1))).reshape(shape) for r in renders]
        mean: Image32 = parts[0]
        if len(parts) > 1:
            weights = self._row_weights(len(parts))[:, :, None]
            mean = sum((w * part for w, part in zip(weights, parts, strict=True)), np.zeros(shape, dtype=np.float32))
        raw = self.sensor.read(mean * np.float32(self.white()), self.exposure)
        if self.config.exposure.auto:
            self._adjust(float(raw.mean()))
        return raw

    def _white_level(self) -> float:
        c = self.config.sensor
        return min(float(self.sensor.full_scale), c.black_level + c.gain * c.full_well)

    def _adjust(self, mean: float) -> None:
        """Choose the next exposure, as a camera's own control does: from the last image alone."""
        c, black = self.config.exposure, self.config.sensor.black_level
        level = max((mean - black) / (self._white_level() - black), 1e-3)
        wanted = self.exposure * (c.target / level) ** AUTO_SPEED
        self.exposure = float(np.clip(wanted, c.shortest, min(c.longest, 1.0 / self.config.rate)))

    def _response_curves(self) -> list[NDArray[np.uint8]]:
        """Digital number to 8 bits, for each colour: black level, white balance, response curve."""
        c = self.config.sensor
        gamma = 1.0 if "response" in self.off else c.response
        level = (np.arange(self.sensor.full_scale + 1) - c.black_level) / (self._white_level() - c.black_level)
        balance = [c.quantum_efficiency[1] / q for q in c.quantum_efficiency] if self._mosaic else [1.0]
        return [np.rint(255.0 * np.clip(level * b, 0.0, 1.0) ** (1.0 / gamma)).astype(np.uint8) for b in balance]

    def colour(self, raw: Raw | Image32) -> Render:
        """The image that most users want: (height, width, 3) RGB, or (height, width) of a sensor without filters."""
        whole = self._whole(raw)
        if not self._mosaic:
            return self._response[0].take(whole)
        rgb = demosaic(whole, self.config.sensor.pattern)
        out = np.empty(rgb.shape, dtype=np.uint8)
        for c, curve in enumerate(self._response):
            out[..., c] = curve.take(rgb[..., c])
        return out

    def packed(self, raw: Raw | Image32) -> NDArray[np.uint8] | Raw:
        """A raw image as its encoding wants it: uint8 of up to 8 bits, else uint16."""
        whole = self._whole(raw)
        return whole.astype(np.uint8) if self.raw_encoding.endswith("8") else whole

    def _whole(self, raw: Raw | Image32) -> Raw:
        """As integers of the converter's range, which they are unless quantisation is off."""
        if raw.dtype == np.uint16:
            return raw.astype(np.uint16, copy=False)
        return np.clip(np.rint(raw), 0, self.sensor.full_scale).astype(np.uint16)

    def depth(self, rendered: Depth) -> Depth:
        """Depth [m] as the camera reports it, from true depth (source height, source width); see DepthCamera."""
        return self._stereo.measure(self.optics.crop(rendered))
