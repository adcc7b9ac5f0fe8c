"""The image sensor: EMVA 1288 release 4.0 (Linear), from photons to digital numbers.

    μ_e = η μ_p (1 + PRNU) + μ_I t + DSNU,   electrons ~ Poisson,   y = K (min(electrons, full well) + read noise) + black

Quantities have the standard's names and units: electrons (e-) and digital numbers (DN).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.config import param
from digital_twin.core.errors import ConfigError
from digital_twin.core.sensors.bayer import PATTERNS
from digital_twin.core.sensors.seeds import stage_generator

Image32 = NDArray[np.float32]
Raw = NDArray[np.uint16]
# Above this mean a Poisson number is drawn from a normal one, corrected for skewness and kurtosis; below, exactly.
GAUSSIAN_ABOVE = 16.0
MAX_COUNT = 64  # at a mean of 16, larger numbers have a probability of 1e-18
PIECE = 8192

PLANCK, LIGHT_SPEED = 6.62607015e-34, 299792458.0
LUMENS_PER_WATT, GREEN = 683.0, 555e-9  # of light at 555 nm


@dataclass(frozen=True)
class SensorConfig:
    """An image sensor by its EMVA 1288 figures."""

    pattern: str = param("rggb", "colour filter array: the upper left four, or mono", choices=PATTERNS)
    pixel_size: float = param(3.45, "side of a pixel", unit="µm", low=0.3, high=100)
    quantum_efficiency: tuple[float, float, float] = param(
        (0.5, 0.65, 0.55), "electrons for a photon in red, green and blue", unit="e-/photon", low=0.001, high=1
    )
    full_well: float = param(10500.0, "electrons that a pixel can hold", unit="e-", low=10, high=1e7)
    read_noise: float = param(2.3, "temporal dark noise without quantisation", unit="e-", low=0, high=1000)
    dark_current: float = param(2.0, "at the reference temperature", unit="e-/s", low=0, high=1e6)
    dark_reference: float = param(25.0, "reference temperature of the dark current", unit="°C", low=-100, high=150)
    dark_doubling: float = param(8.0, "warming that doubles the dark current", unit="K", low=1, high=100)
    temperature: float = param(45.0, "of the sensor in use", unit="°C", low=-100, high=150)
    dsnu: float = param(1.0, "spread of the dark signal between pixels", unit="e-", low=0, high=1e4)
    prnu: float = param(0.005, "spread of the sensitivity between pixels", low=0, high=0.5)
    gain: float = param(0.37, "overall system gain K", unit="DN/e-", low=1e-4, high=1000)
    black_level: float = param(60.0, "digital number without light", unit="DN", low=0, high=10000)
    bits: int = param(12, "of the analogue to digital converter", low=6, high=14)
    response: float = param(2.2, "exponent γ of the response curve (y^1/γ) of an 8 bit image; 1: linear", low=1, high=4)


def photons_per_lux_second(pixel_size: float) -> float:
    """Photons at 555 nm that fall on a pixel of this side [µm] in a second at one lux."""
    area = (pixel_size * 1e-6) ** 2
    return area / LUMENS_PER_WATT * GREEN / (PLANCK * LIGHT_SPEED)


def poisson(mean: Image32, rng: np.random.Generator) -> Image32:
    """Poisson numbers (whole, float32) of the same shape as their means.

    From GAUSSIAN_ABOVE on by Cornish and Fisher's (1938) expansion of the quantile to second order, rounded: the
    distribution function is off by less than 2e-4, mean and variance by 3e-5 of them. Below it exactly, by inversion.
    """
    few = np.flatnonzero(mean < GAUSSIAN_ABOVE)
    if len(few) == mean.size:
        return _small_poisson(mean.reshape(-1), rng).reshape(mean.shape)
    out = _large_poisson(mean, rng)
    out.reshape(-1)[few] = _small_poisson(mean.reshape(-1).take(few), rng)
    return out


def _large_poisson(mean: Image32, rng: np.random.Generator) -> Image32:
    z = rng.standard_normal(mean.shape, dtype=np.float32)
    # Rounding adds a variance of 1/12.
    root = np.sqrt(np.maximum(mean, np.float32(1.0)) - np.float32(1.0 / 12.0))
    z2 = z * z
    out: Image32 = z * root
    out += mean
    # z (1 − z²) / (72 root) + (z² − 1) / 6 = (1 − z²) (z / (72 root) − 1/6)
    np.subtract(np.float32(1.0), z2, out=z2)
    z /= root
    z *= np.float32(1 / 72)
    z -= np.float32(1 / 6)
    z *= z2
    out += z
    np.rint(out, out=out)
    np.maximum(out, np.float32(0.0), out=out)
    return out


def _small_poisson(mean: Image32, rng: np.random.Generator) -> Image32:
    """Inversion of the distribution function, of (n,) means, in pieces that fit a cache: as many steps as counts."""
    left = rng.random(mean.shape, dtype=np.float32)
    counts = np.zeros(mean.shape, dtype=np.uint8)
    for begin in range(0, mean.size, PIECE):
        m, u, count = (a[begin : begin + PIECE] for a in (mean, left, counts))
        p = np.exp(-m)
        for k in range(1, MAX_COUNT):
            u -= p
            more = u >= 0.0
            if not more.any():
                break
            count += more.view(np.uint8)
            p *= m
            p *= np.float32(1.0 / k)
    return counts.astype(np.float32)


class ImageSensor:
    """One sensor: its pattern of pixels is drawn once from the seed, its noise anew for each frame.

    Attributes:
        signal: electrons that the pattern adds to every exposure (height, width), the DSNU.
        sensitivity: relative sensitivity of each pixel (height, width), of mean 1, the PRNU.
    """

    def __init__(
        self, config: SensorConfig, height: int, width: int, seed: int, name: str, off: frozenset[str] = frozenset()
    ) -> None:
        """`off`: names of the stages that are left out. Raises ConfigError when the black level leaves no range."""
        self.config, self.off = config, off
        self.full_scale = 2**config.bits - 1
        if config.black_level >= self.full_scale:
            raise ConfigError(f"sensor: black_level: {config.black_level:g} DN leaves nothing of {config.bits} bits")
        pattern = stage_generator(seed, name, "fixed_pattern")
        shape = (height, width)
        dsnu, prnu = (0.0, 0.0) if "fixed_pattern" in off else (config.dsnu, config.prnu)
        self.signal = np.float32(dsnu) * pattern.standard_normal(shape, dtype=np.float32)
        self.sensitivity = np.float32(1.0) + np.float32(prnu) * pattern.standard_normal(shape, dtype=np.float32)
        np.maximum(self.sensitivity, np.float32(0.0), out=self.sensitivity)
        self._shot = stage_generator(seed, name, "shot_noise")
        self._read = stage_generator(seed, name, "read_noise")

    def dark_current(self, temperature: float | None = None) -> float:
        """[e-/s] at a temperature [°C]; None: the one in use."""
        if "dark_current" in self.off:
            return 0.0
        c = self.config
        warmer = (c.temperature if temperature is None else temperature) - c.dark_reference
        return c.dark_current * float(2.0 ** (warmer / c.dark_doubling))

    def read(self, electrons: Image32, exposure: float, temperature: float | None = None) -> Image32 | Raw:
        """What the sensor puts out for an exposure.

        Args:
            electrons: mean number that light sets free in each pixel, its sensitivity included (height, width).
            exposure: its duration [s], for the dark current.
            temperature: [°C]; None: the config's.

        Returns:
            Digital numbers (height, width), uint16; float32 when quantisation is off.
        """
        c, off = self.config, self.off
        mean = electrons + np.float32(self.dark_current(temperature) * exposure)
        x: Image32 = mean if "shot_noise" in off else poisson(mean, self._shot)
        # What a pixel's electronics add is no light: it is not counted by the photon.
        x += self.signal
        if "saturation" not in off:
            np.minimum(x, np.float32(c.full_well), out=x)
        x *= np.float32(c.gain)
        if c.read_noise > 0.0 and "read_noise" not in off:
            x += np.float32(c.gain * c.read_noise) * self._read.standard_normal(x.shape, dtype=np.float32)
        x += np.float32(c.black_level)
        if "quantisation" in off:
            return x
        np.rint(x, out=x)
        np.clip(x, np.float32(0.0), np.float32(self.full_scale), out=x)
        out: Raw = x.astype(np.uint16)
        return out

    def flat(
        self, photons: float, exposure: float, channel: int = 1, temperature: float | None = None
    ) -> Image32 | Raw:
        """A frame under even light: `photons` on every pixel, all converted as in one colour channel; 0: a dark frame."""
        mean: Image32 = np.float32(photons * self.config.quantum_efficiency[channel]) * self.sensitivity
        return self.read(mean, exposure, temperature)
