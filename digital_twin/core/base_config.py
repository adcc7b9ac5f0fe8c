"""What can be set on the base estimator."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param
from digital_twin.core.contacts import ContactConfig


@dataclass(frozen=True)
class BaseEstimatorConfig:
    """Noise of legs and ground in physical units; that of the sensors is in the robot config."""

    slip: float = param(0.002, "wandering of a standing foot along the ground: it rolls, twists, slides",
                        unit="m/√s", low=1e-6, high=1)  # fmt: skip
    sink: float = param(0.001, "its wandering up and down", unit="m/√s", low=1e-6, high=1)
    askew: float = param(
        0.002, "angle by which legs are off, over the root of the time for which they are: their places wander by so much of the "
        "motion across", unit="rad·√s", low=0, high=0.1,
    )  # fmt: skip
    roll: float = param(0.001, "wandering of a standing foot's roll: it leans as the weight shifts",
                        unit="rad/√s", low=1e-6, high=1)  # fmt: skip
    pitch: float = param(
        0.0008, "and of its pitch: less, for a sole is longer than wide", unit="rad/√s", low=1e-6, high=1
    )
    twist: float = param(0.12, "wandering of its heading: it turns by degrees in single support",
                         unit="rad/√s", low=1e-6, high=10)  # fmt: skip
    flex: float = param(0.001, "white error of leg kinematics along the ground: links and gears give",
                        unit="m·√s", low=0, high=0.1)  # fmt: skip
    flex_up: float = param(0.0003, "the same upwards, where a leg gives less", unit="m·√s", low=0, high=0.1)
    flex_angle: float = param(0.0014, "the same of the foot's attitude", unit="rad·√s", low=0, high=0.1)
    calmest: float = param(
        1e-4, "the noises above, but for roll and pitch, are the most; legs that behave better are trusted more, down to this "
        "share of the variance", low=1e-6, high=1,
    )  # fmt: skip
    adaptation: float = param(0.1, "how fast that trust follows what the legs do", unit="s", low=0.01, high=100)
    correct_rate: float = param(
        100.0, "corrections by the legs a second, at most: their errors last longer, so more would tell nothing new",
        unit="Hz", low=1, high=2000,
    )  # fmt: skip
    ground: float = param(
        0.003, "unevenness of the floor from foot to foot; steps are noticed; 0: nothing is assumed", unit="m",
        low=0, high=1,
    )  # fmt: skip
    tilt0: float = param(0.2, "uncertainty of roll and pitch at the start", unit="rad", low=1e-3, high=1.5)
    speed0: float = param(0.3, "of the velocity at the start", unit="m/s", low=1e-3, high=10)
    gyro_bias0: float = param(0.01, "of the gyro's bias", unit="rad/s", low=1e-6, high=1)
    accel_bias0: float = param(0.1, "of the accelerometer's bias", unit="m/s²", low=1e-6, high=5)
    gyro_walk: float = param(2e-5, "wandering of the gyro's bias", unit="rad/s/√s", low=0, high=0.1)
    accel_walk: float = param(1.8e-3, "wandering of the accelerometer's bias", unit="m/s²/√s", low=0, high=1)
    sure_tilt: float = param(0.035, "the estimate is said to be unsure while roll or pitch are worse known than this",
                             unit="rad", low=1e-3, high=1)  # fmt: skip
    sure_speed: float = param(0.15, "or the velocity", unit="m/s", low=1e-3, high=10)
    gap: float = param(0.05, "without an IMU for so long, the base may have turned and moved freely",
                       unit="s", low=0.005, high=1)  # fmt: skip
    gap_turn: float = param(0.5, "how it turns then", unit="rad/√s", low=0, high=10)
    gap_push: float = param(3.0, "and how it is pushed", unit="m/s/√s", low=0, high=100)
    contact: ContactConfig = param(ContactConfig)
