"""The fluid that a robot moves in."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class FluidConfig:
    """What the robot moves in. Nothing by default; air at 20 °C has 1.204 kg/m³ and 1.82e-5 Pa·s."""

    density: float = param(0.0, "of the fluid; 0: none", unit="kg/m³", low=0, high=2000)
    viscosity: float = param(0.0, "of the fluid; 0: none", unit="Pa·s", low=0, high=100)
    wind: tuple[float, float, float] = param((0.0, 0.0, 0.0), "in the world frame", unit="m/s")
    ellipsoid: bool = param(
        False, "drag and lift of each shape's ellipsoid; else of a box with the link's inertia, which is cheaper"
    )
