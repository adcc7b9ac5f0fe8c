"""The parameters of forecasts, ensembles and warnings."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param
from digital_twin.core.fluid_config import FluidConfig

FIDELITIES = ("kinematic", "rigid_body", "contact", "multiphysics")  # from cheap to dear
PLANS = ("auto", "hold", "trend", "trajectory")


@dataclass(frozen=True)
class ForecastConfig:
    """Forecasts."""

    fidelity: str = param("contact", "of the regular forecasts", choices=FIDELITIES)
    horizon: float = param(1.0, "how far ahead", unit="s", low=0.02, high=60)
    timestep: float = param(0.002, "of the physics", unit="s", low=0.0002, high=0.01)
    resolution: float = param(0.02, "between two points of a forecast", unit="s", low=0.001, high=1)
    plan: str = param(
        "auto", "which commands are assumed: hold (the last), trend (the last goes on at its speed), trajectory (the one "
        "being executed), auto (a trajectory if there is one, else trend)", choices=PLANS,
    )  # fmt: skip
    trend_time: float = param(0.2, "for how long a command goes on at its speed", unit="s", low=0.01, high=5)
    command_delay: float = param(0.003, "from a command to its torque", unit="s", low=0, high=0.1)
    fluid: FluidConfig = param(FluidConfig)
    slope: float = param(0.003, "standard deviation of the ground's slope", unit="rad", low=0, high=0.5)


@dataclass(frozen=True)
class EnsembleConfig:
    """The ensemble. Spreads are standard deviations."""

    size: int = param(16, "members", low=2, high=1024)
    timestep: float = param(0.004, "of the physics in the ensemble", unit="s", low=0.0002, high=0.01)
    threads: int = param(1, "that simulate it", low=1, high=64)
    mass: float = param(0.02, "relative, of the whole mass", low=0, high=0.5)
    com: float = param(0.006, "of the centre of mass, to the front and to the side", unit="m", low=0, high=0.2)
    strength: float = param(0.03, "relative, of the servos' gains", low=0, high=0.5)
    friction: float = param(0.3, "relative, of the friction in the joints", low=0, high=2)
    tilt: float = param(0.02, "of the vertical against the ground, at most", unit="rad", low=0, high=0.2)
    ground_friction: float = param(0.15, "relative, of the friction of the ground", low=0, high=1)
    seed: int = param(1, "of the scrambled sequence", low=0, high=2**31)


@dataclass(frozen=True)
class ForesightConfig:
    """When to warn."""

    fall_chance: float = param(0.5, "share of the ensemble that must fall before a fall is announced", low=0.01, high=1)
    fall_confirmations: int = param(2, "ensembles in a row that must say so", low=1, high=10)
    doubt: float = param(
        0.04, "an ensemble is made at once when the capture point is less than this inside the support", unit="m", low=-1,
        high=1,
    )  # fmt: skip
    joint_margin: float = param(
        0.02, "distance from a joint's limit that counts as meeting it", unit="rad", low=0, high=1
    )
    load_margin: float = param(0.98, "share of a limit of torque or speed that counts as meeting it", low=0.1, high=1)
