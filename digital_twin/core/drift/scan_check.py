"""A planar scan against the world as it is described: ranges against rays cast from where the scanner should be."""

from __future__ import annotations

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.model import RobotModel
from digital_twin.core.scene import WORLD_GROUP
from digital_twin.core.world import World, add_world

SECTORS = 8
FEW = 5  # rays in a sector that must hit something
NAMES = [f"scan/sector{i}" for i in range(SECTORS)]
UNITS = ["m"] * SECTORS


class ScanCheck:
    """Casts rays into a world, without the robot."""

    def __init__(self, model: RobotModel, frame: str, world: World) -> None:
        spec = mujoco.MjSpec()
        add_world(spec, world)
        for g in spec.geoms:
            g.group = WORLD_GROUP
        self._mj = spec.compile()
        self._data = mujoco.MjData(self._mj)
        mujoco.mj_forward(self._mj, self._data)
        self._kinematics = model.kinematics([frame])
        self._groups = np.zeros(6, dtype=np.uint8)
        self._groups[WORLD_GROUP] = 1

    def residual(
        self, position: Array, rotation: Array, q: Array, angles: Array, ranges: Array, reach: tuple[float, float]
    ) -> Array:  # fmt: skip
        """Medians of measured minus expected ranges, sector by sector (8,) [m]; NaN where too few rays hit.

        Args:
            position, rotation: of the base in the map.
            q: joints (n,) [rad].
            angles, ranges: of the rays (k,) [rad], [m]; not finite where there was no echo.
            reach: least and greatest range [m].
        """
        self._kinematics.update(q)
        origin = position + rotation @ self._kinematics.position[0]
        R = rotation @ self._kinematics.rotation[0]
        rays = np.column_stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)]) @ R.T
        k = len(angles)
        distance, geom = np.empty(k), np.empty(k, dtype=np.int32)
        mujoco.mj_multiRay(
            self._mj, self._data, origin, rays.ravel(), self._groups, 1, -1, geom, distance, None, k, reach[1]
        )
        seen = np.isfinite(ranges) & (geom >= 0) & (distance > reach[0]) & (ranges >= reach[0]) & (ranges <= reach[1])
        # An edge is hit or missed by a hair: what differs by more than this is another object or none.
        sector = ((np.mod(angles, 2.0 * np.pi)) / (2.0 * np.pi) * SECTORS).astype(int) % SECTORS
        out = np.full(SECTORS, np.nan)
        for s in range(SECTORS):
            own = seen & (sector == s)
            if own.sum() >= FEW:
                out[s] = float(np.median(ranges[own] - distance[own]))
        return out
