"""The simulated sensors err as much as they are told to, and each by a generator of its own."""

import numpy as np
import pytest
from scipy.stats import kstest

from digital_twin.core.instruments import InstrumentConfig, Instruments
from digital_twin.core.plant import Plant
from digital_twin.core.plant_model import PlantConfig

RATE = 200.0
PERFECT = dict.fromkeys(InstrumentConfig.__dataclass_fields__, 0.0)


@pytest.fixture(scope="module")
def plant(robot):
    p = Plant(robot.description, robot.config, PlantConfig())
    p.advance(2000)
    return p


def draw(plant, read, n=2000, **config):
    sensors = Instruments(plant, InstrumentConfig(**(PERFECT | config)), RATE)
    return np.array([read(sensors) for _ in range(n)]), sensors


def test_imu_noise_is_its_density_times_the_root_of_the_rate(plant):
    samples, _ = draw(plant, lambda s: np.concatenate(s.imu(0)))
    imu = plant.robot.imus[0]
    gyro, accel = plant.imu(0)
    for columns, ideal, density in ((slice(0, 3), gyro, imu.gyro_noise), (slice(3, 6), accel, imu.accel_noise)):
        z = (samples[:, columns] - ideal) / (density * np.sqrt(RATE))
        assert kstest(z.ravel(), "norm").pvalue > 1e-3


def test_biases_are_constant_and_drawn_anew_for_each_robot(robot, plant):
    samples, sensors = draw(plant, lambda s: np.concatenate(s.imu(0)), gyro_bias=0.01, accel_bias=0.2)
    mean = samples.mean(axis=0) - np.concatenate(plant.imu(0))
    assert np.allclose(mean[:3], sensors.gyro_bias[0], atol=1e-3)
    assert np.allclose(mean[3:], sensors.accel_bias[0], atol=1e-2)
    other = Plant(robot.description, robot.config, PlantConfig(seed=7))
    assert not np.allclose(Instruments(other, InstrumentConfig(), RATE).gyro_bias, sensors.gyro_bias)


def test_new_noise_leaves_what_is_constant(plant):
    def readings(number):
        sensors = Instruments(plant, InstrumentConfig(), RATE)
        biases = sensors.gyro_bias.copy(), sensors.accel_bias.copy(), sensors.encoder_offset.copy()
        if number:
            sensors.new_noise(number)
        assert all(map(np.array_equal, biases, (sensors.gyro_bias, sensors.accel_bias, sensors.encoder_offset)))
        wrench = np.concatenate(sensors.wrench("left"))
        return [np.concatenate([*sensors.imu(0), *sensors.joint_states(), wrench]) for _ in range(2)]

    first, second, third = readings(0), readings(1), readings(2)
    assert np.array_equal(second, readings(1)), "the same number, the same noise"
    for a, b in ((first, second), (second, third)):
        assert (np.abs(a[0] - b[0]) > 0.0).mean() > 0.5


def test_encoders_are_quantised(plant):
    samples, _ = draw(plant, lambda s: s.joint_states()[0], n=20)
    steps = samples / plant.joints.encoder_resolution
    assert np.allclose(steps, np.round(steps), atol=1e-6)
    assert np.abs(samples - plant.joint_positions).max() < 1e-3


def test_sensors_do_not_disturb_each_other(plant):
    """The same seed gives the same bytes of one sensor, whatever the others do."""
    a = Instruments(plant, InstrumentConfig(), RATE)
    b = Instruments(plant, InstrumentConfig(), RATE)
    for _ in range(3):
        b.wrench("left"), b.external_pose(), b.imu(0)
    first = [np.concatenate(a.joint_states()) for _ in range(3)]
    second = [np.concatenate(b.joint_states()) for _ in range(3)]
    assert np.array_equal(first, second)


def test_the_tracker_scatters_as_its_covariance_says(plant):
    position, rotation = plant.frame_pose("base_link")
    samples, sensors = draw(plant, lambda s: s.external_pose()[0] - position, pose_noise=0.003)
    covariance = sensors.external_pose()[2]
    assert samples.std(axis=0) == pytest.approx([0.003] * 3, rel=0.1)
    assert np.allclose(np.diag(covariance)[:3], 0.003**2)


def test_a_scan_says_when_nothing_is_in_reach(plant):
    s = Instruments(plant, InstrumentConfig(**PERFECT), RATE)
    ranges = s.scan("lidar_link", np.linspace(-np.pi, np.pi, 16), 0.1, 20.0)
    assert np.isinf(ranges).all()  # a bare floor, seen from above
