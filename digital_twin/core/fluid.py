"""The drag of air or water on a robot, by MuJoCo's fluid models."""

from __future__ import annotations

import mujoco

from digital_twin.core.fluid_config import FluidConfig


def apply_fluid(spec: mujoco.MjSpec, fluid: FluidConfig) -> None:
    """Put a scene (SceneBuilder.build) into a fluid, in place. With the ellipsoid model the collision shapes are felt."""
    spec.option.density, spec.option.viscosity, spec.option.wind = fluid.density, fluid.viscosity, fluid.wind
    if fluid.ellipsoid:
        for g in spec.geoms:
            if g.contype != 0 and not g.name.startswith("world/"):
                g.fluid_ellipsoid = 1.0
