"""The parameters of whoever keeps the model in service."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param
from digital_twin.core.drift.update_config import UpdateConfig
from digital_twin.options import MODELS


@dataclass(frozen=True)
class KeeperConfig(UpdateConfig):
    """How the model in service is kept."""

    store: str = param(MODELS, "folder of the versions of models, one inside for each robot")
    automatic: bool = param(True, "a model that has proved better goes into service; false: after ~/approve")
    nice: int = param(5, "how far the process that identifies yields to others", low=0, high=19)
    longest: float = param(120.0, "that an identification may take", unit="s", low=1, high=3600)
