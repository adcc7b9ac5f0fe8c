"""How a geometry meets the ground: force against depth and speed, and friction, in physical units."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class ContactConfig:
    """The contact between two geometries. Stiffness, damping and area are of the whole face when it touches flatly.

    With depth d, its rate v, and A the area:
        soft: F = stiffness · d + damping · v
        patch: F = A (stiffness · d + damping · v), a layer as thick as its modulus over the stiffness
        hertz: F = stiffness · d^1.5, or with modulus and radius 4/3 · modulus · √radius · d^1.5; damping at full load
    """

    law: str = param("soft", "force against depth", choices=("soft", "patch", "hertz"))
    stiffness: float = param(
        0.0, "N/m when soft, N/m³ a patch, N/m^1.5 after Hertz; 0: from modulus and radius", low=0, high=1e15
    )
    damping: float = param(0.0, "N·s/m, or a patch's N·s/m³", low=0, high=1e12)
    modulus: float = param(0.0, "effective, after Hertz: 1/E* = (1-ν₁²)/E₁ + (1-ν₂²)/E₂", unit="Pa", low=0, high=1e13)
    radius: float = param(0.0, "effective, after Hertz: 1/R = 1/R₁ + 1/R₂", unit="m", low=0, high=1e3)
    load: float = param(
        0.0, "the greatest for which Hertz's law shall hold; 0: twice the weight", unit="N", low=0, high=1e7
    )
    area: float = param(0.0, "of the face; 0: the largest of a box or cylinder", unit="m²", low=0, high=1e3)
    friction: float = param(0.0, "coefficient at rest; 0: the ground's", low=0, high=10)
    kinetic: float = param(0.0, "coefficient at speed; 0: as at rest", low=0, high=10)
    stribeck: float = param(
        0.05, "speed over which friction changes from rest to kinetic", unit="m/s", low=1e-4, high=10
    )
    pressure: float = param(
        0.0, "at which the coefficients are given; 0: they do not depend on it", unit="Pa", low=0, high=1e10
    )
    pressure_exponent: float = param(
        0.0, "they change as (pressure / this one) to that power; rubber's fall: -1/3 to 0", low=-1, high=1
    )
