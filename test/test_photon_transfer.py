"""The photon transfer method finds the figures of a sensor whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest

from digital_twin.core.config import build
from digital_twin.core.sensors.camera import CameraConfig
from digital_twin.core.sensors.image_sensor import ImageSensor, SensorConfig
from digital_twin.core.sensors.photon_transfer import CONFIDENCE, PhotonTransferError, fit_camera, raw_frame

SENSOR = SensorConfig(
    dark_current=40.0, dark_doubling=8.0, temperature=25.0, full_well=10000.0, gain=0.38, black_level=60.0
)
SIZE = 128
LEVELS = np.concatenate([np.linspace(0.04, 0.7, 12), [0.8, 0.9, 1.0, 1.6]])  # of the full well
SHORT, LONG = 0.005, 2.0


def record(config, seed, mosaic=False):
    """Flat and dark frames of a sensor, and the exposures of the dark ones."""
    s = ImageSensor(config, SIZE, SIZE, seed, "c")
    channels = np.tile([[0, 1], [1, 2]], (SIZE // 2, SIZE // 2)) if mosaic else np.ones((SIZE, SIZE), dtype=int)
    colour = np.array(config.quantum_efficiency, dtype=np.float32)[channels] * s.sensitivity
    flat = []
    for level in LEVELS:
        photons = np.float32(
            level * config.full_well / min(config.quantum_efficiency if mosaic else [config.quantum_efficiency[1]])
        )
        flat += [s.read(colour * photons, SHORT) for _ in range(4)]
    dark = [s.flat(0.0, t) for t in (SHORT, LONG) for _ in range(16)]
    return flat, dark, [SHORT] * 16 + [LONG] * 16


TRUTH = {
    "gain": SENSOR.gain, "read_noise": SENSOR.read_noise, "full_well": SENSOR.full_well, "dsnu": SENSOR.dsnu,
    "prnu": SENSOR.prnu, "dark_current": SENSOR.dark_current, "black_level": SENSOR.black_level,
}  # fmt: skip


def test_it_finds_every_figure_within_five_percent_in_intervals_that_hold_the_truth():
    """99 % intervals: that one of seven quantities is missed three times in 20 has a probability of 0.7 %."""
    held, errors = dict.fromkeys(TRUTH, 0), {name: [] for name in TRUTH}
    for seed in range(20):
        flat, dark, exposures = record(SENSOR, seed)
        found = fit_camera(flat, dark=dark, dark_exposures=exposures).values()
        assert found.keys() == TRUTH.keys()
        for name, truth in TRUTH.items():
            e = found[name]
            assert e.value == pytest.approx(truth, rel=0.05), (name, seed)
            held[name] += e.low <= truth <= e.high
            errors[name].append((e.value - truth) / (e.high - e.low) * 2 * CONFIDENCE)
    assert min(held.values()) >= 18, held
    for name, z in errors.items():
        # Chi squared with 20 degrees of freedom, both tails of 1e-3: the intervals are as wide as they must be, no wider.
        assert 5.9 < np.sum(np.square(z)) < 45.3, name


def test_a_mosaic_is_fitted_colour_by_colour():
    flat, dark, exposures = record(SENSOR, 3, mosaic=True)
    found = fit_camera(flat, dark=dark, dark_exposures=exposures, mosaic=True).values()
    for name, truth in TRUTH.items():
        assert found[name].value == pytest.approx(truth, rel=0.05), name
    # Without knowing of the colours their difference passes for the pattern of the pixels.
    assert fit_camera(flat, dark=dark, dark_exposures=exposures).prnu.value > 10 * SENSOR.prnu


def test_the_darkest_frames_are_dark_when_none_are_named():
    flat, dark, _ = record(SENSOR, 4)
    found = fit_camera([*dark[:16], *flat])
    assert found.gain.value == pytest.approx(SENSOR.gain, rel=0.02) and found.dark_current is None
    assert found.read_noise.value == pytest.approx(SENSOR.read_noise, rel=0.05)
    assert np.all(np.diff(found.curve[:12, 0]) > 0), "one point for each level, in their order"


def test_what_the_frames_do_not_show_is_not_told():
    flat, dark, exposures = record(SENSOR, 5)
    found = fit_camera(flat[:40], dark=dark, dark_exposures=exposures)
    assert found.full_well is None and "full_well" not in found.values()


def test_a_noisy_eight_bit_sensor():
    config = replace(SENSOR, bits=8, gain=0.024, black_level=8.0, read_noise=40.0, dsnu=20.0, prnu=0.02)
    flat, dark, exposures = record(config, 6)
    found = fit_camera(flat, dark=dark, dark_exposures=exposures)
    assert found.gain.value == pytest.approx(config.gain, rel=0.05)
    assert found.read_noise.value == pytest.approx(40.0, rel=0.05)
    assert found.full_well.value == pytest.approx(config.full_well, rel=0.05)


def test_what_was_found_is_a_profile():
    flat, dark, exposures = record(SENSOR, 7)
    parameters = fit_camera(flat, dark=dark, dark_exposures=exposures).parameters()
    sensor = build(CameraConfig, parameters, "fitted").sensor
    assert sensor.gain == pytest.approx(SENSOR.gain, rel=0.05) and sensor.prnu == pytest.approx(SENSOR.prnu, rel=0.05)


def test_raw_frames_of_messages():
    values = np.arange(12, dtype="<u2").reshape(3, 4) * 100
    padded = np.zeros((3, 10), np.uint8)
    padded[:, :8] = values.view(np.uint8)
    frame, mosaic = raw_frame(padded.tobytes(), 3, 4, 10, "bayer_rggb16")
    assert mosaic and np.array_equal(frame, values)
    assert np.array_equal(raw_frame(values.astype(">u2").tobytes(), 3, 4, 8, "mono16", big_endian=True)[0], values)
    assert raw_frame(bytes(12), 3, 4, 4, "mono8")[0].shape == (3, 4) and not raw_frame(bytes(12), 3, 4, 4, "mono8")[1]
    for arguments, words in (
        ((bytes(36), 3, 4, 12, "rgb8"), "needs raw frames .*, got 'rgb8'"), ((bytes(11), 3, 4, 4, "mono8"), "11 bytes are no 4 x 3"),
        ((bytes(12), 3, 4, 3, "mono8"), "12 bytes are no 4 x 3"), ((bytes(12), 0, 4, 4, "mono8"), "are no 4 x 0"),
    ):  # fmt: skip
        with pytest.raises(PhotonTransferError, match=words):
            raw_frame(*arguments)


def noise(n, shape=(16, 16)):
    rng = np.random.default_rng(1)
    return [rng.normal(100.0, 3.0, shape) for _ in range(n)]


@pytest.mark.parametrize(
    ("frames", "more", "words"),
    [
        (noise(1), {}, "frames: at least two frames are needed, got 1"),
        ([*noise(2), *noise(1, (8, 8))], {}, "frames: raw frames of one size"),
        ([np.zeros((4, 4, 3))] * 2, {}, "raw frames of one size are needed, (height, width)"),
        (noise(4), {}, "no level is brighter than the dark one"),
        (noise(4), {"dark": noise(4), "dark_exposures": [1.0]}, "1 dark exposures of 4 dark frames"),
        (noise(4), {"dark": noise(2), "dark_exposures": [1.0, 2.0]}, "dark: at least two frames of one exposure"),
        (
            [f + 50 for f in noise(4)],
            {"dark": [3 * f - 200 for f in noise(4)]},
            "variance does not grow with the light",
        ),
    ],
)
def test_frames_that_do_not_do(frames, more, words):
    with pytest.raises(PhotonTransferError) as e:
        fit_camera(frames, **more)
    assert words in str(e.value) and "\n" not in str(e.value)
