"""The parameters of the gate."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class GateConfig:
    """How a command is tried. Errors are standard deviations."""

    horizon: float = param(5.0, "how far ahead", unit="s", low=0.5, high=60)
    members: int = param(16, "robots that try it at most", low=1, high=256)
    limit: float = param(0.5, "chance of a fall from which on a command is refused", low=0.01, high=0.99)
    doubt: float = param(0.02, "chance of a wrong verdict by which a trial may end early", low=1e-6, high=0.4)
    rate: float = param(200.0, "of sensors and controller in the rollout", unit="Hz", low=50, high=1000)
    delay: float = param(0.0075, "from a state to its command's torque", unit="s", low=0, high=0.05)
    slope: float = param(0.003, "of a floor that is said to be level", unit="rad", low=1e-4, high=0.5)
    gyro_bias: float = param(0.001, "of the gyro's bias, constant", unit="rad/s", low=1e-6, high=0.1)
    accel_bias: float = param(0.02, "of the accelerometer's bias, constant", unit="m/s²", low=1e-5, high=2)
    encoder: float = param(0.001, "of the joints' zeros, constant", unit="rad", low=0, high=0.05)
    joint_speed: float = param(0.01, "of the joints' reported speeds, each time", unit="rad/s", low=0, high=1)
    force: float = param(1.0, "of the soles' forces, each time", unit="N", low=0, high=50)
    seed: int = param(1, "of all that is random", low=0, high=2**31)
