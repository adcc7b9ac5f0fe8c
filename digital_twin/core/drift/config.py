"""The parameters of the drift monitor."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class DriftConfig:
    """What is judged, and how soon."""

    rate: float = param(100.0, "of residuals; measurements that come faster are averaged", unit="Hz", low=10, high=500)
    calibration: float = param(
        60.0, "of healthy motion that the robot's ordinary differences are learned from", unit="s", low=2, high=3600
    )
    false_alarm: float = param(
        1.0, "mean time between false alarms of the whole system, shared by all channels", unit="h", low=0.01, high=1e5
    )
    command_delay: float = param(
        0.003, "from a command to its torque; what it differs by is learned", unit="s", low=0.0, high=0.2
    )
    forecast_rate: float = param(
        10.0, "forecasts of 10 and 100 ms that are compared with what came; 0: none", unit="Hz", low=0, high=50
    )
    attribute_every: float = param(
        0.5, "while an alarm lasts hypotheses are fitted anew this often", unit="s", low=0.1, high=60
    )
    evidence: float = param(2.0, "at most so much of the past is fitted", unit="s", low=0.2, high=30)
    hold: float = param(1.0, "a verdict stays for so long at least", unit="s", low=0, high=60)
    patience: float = param(0.1, "a stream is missing after this or three of its periods", unit="s", low=0.02, high=10)
