"""The parameters of the renewal of models."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class HoldoutConfig:
    """When a model counts as better."""

    horizon: float = param(0.2, "of the forecasts that are compared", unit="s", low=0.02, high=2)
    margin: float = param(0.05, "by which the error must be less, with 95 % confidence", low=0, high=0.9)
    share: float = param(0.3, "of a window that is kept for the proof", low=0.1, high=0.7)
    spacing: float = param(0.05, "between two forecasts", unit="s", low=0.01, high=2)
    timestep: float = param(0.002, "of the physics", unit="s", low=0.0005, high=0.01)


@dataclass(frozen=True)
class UpdateConfig:
    """How models are renewed."""

    holdout: HoldoutConfig = param(HoldoutConfig)
    command_delay: float = param(
        0.003, "from a command to its torque, where no version says", unit="s", low=0, high=0.1
    )
    residual: bool = param(False, "after a full calibration, learn what no parameter explains (needs scikit-learn)")
