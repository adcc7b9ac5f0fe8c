"""Friction that changes with speed and pressure, as a coefficient per pair of geometries, renewed between chunks."""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.contact_config import ContactConfig

_GREATEST_FACTOR = 10.0  # of the pressure on friction, either way


class Touch(NamedTuple):
    """A pair of geometries with a contact law: its name, settings, area [m²], friction at rest, and the inertia that
    the constraint adds, as a share of the bodies' own."""

    pair: str
    config: ContactConfig
    area: float
    static: float
    inertia: float


class FrictionLaw:
    """Writes the friction of a compiled scene's pairs: μ = (μ_k + (μ_s − μ_k) exp(−(v / v_s)²)) (p / p₀)^q.

    v is the slip speed, the mean of the contact points weighted by their load; p the normal force over the area (after
    Hertz: over π R d). Armstrong-Hélouvry, Dupont, Canudas de Wit 1994 for the speed.
    """

    def __init__(self, mj: mujoco.MjModel, touches: list[Touch]) -> None:
        self._touches = [t for t in touches if t.config.kinetic or (t.config.pressure and t.config.pressure_exponent)]
        self._pairs = np.array([mj.pair(t.pair).id for t in self._touches], dtype=np.intp)
        self._row = np.full((mj.ngeom, mj.ngeom), -1, dtype=np.intp)
        for row, i in enumerate(self._pairs):
            a, b = mj.pair_geom1[i], mj.pair_geom2[i]
            self._row[a, b] = self._row[b, a] = row
        c = [t.config for t in self._touches]
        self._static = np.array([t.static for t in self._touches])
        self._kinetic = np.array([x.kinetic or t.static for x, t in zip(c, self._touches, strict=True)])
        self._stribeck = np.array([x.stribeck for x in c])
        self._pressure = np.array([x.pressure for x in c])
        self._exponent = np.array([x.pressure_exponent if x.pressure else 0.0 for x in c])
        self._area = np.array([t.area for t in self._touches])
        self._radius = np.array([x.radius if x.law == "hertz" else 0.0 for x in c])

    @property
    def varies(self) -> bool:
        """Whether any friction changes; if not, `update` need not be called."""
        return bool(self._touches)

    def coefficient(self, speed: Array, pressure: Array) -> Array:
        """Coefficients (pairs,) at slip speeds [m/s] and pressures [Pa] (pairs,)."""
        mu = self._kinetic + (self._static - self._kinetic) * np.exp(-((speed / self._stribeck) ** 2))
        relative = np.where((self._exponent != 0.0) & (pressure > 0.0), pressure, 1.0)
        relative /= np.where(self._exponent != 0.0, np.where(pressure > 0.0, self._pressure, 1.0), 1.0)
        return np.asarray(mu * np.clip(relative**self._exponent, 1.0 / _GREATEST_FACTOR, _GREATEST_FACTOR))

    def update(self, mj: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Set the coefficients in `mj`, in place, from the contacts of the last step in `data`."""
        if not self.varies:
            return
        n = len(self._touches)
        contact = data.contact
        rows = self._row[contact.geom[:, 0], contact.geom[:, 1]] if data.ncon else np.zeros(0, dtype=np.intp)
        mine = np.flatnonzero((rows >= 0) & (contact.efc_address >= 0)) if data.ncon else rows
        first, rows = contact.efc_address[mine], rows[mine]
        load = np.maximum(data.efc_force[first], 0.0)
        slip = np.hypot(data.efc_vel[first + 1], data.efc_vel[first + 2])
        total = np.bincount(rows, load, n)
        speed = np.bincount(rows, load * slip, n) / np.maximum(total, 1e-12)
        depth = np.bincount(rows, load * np.maximum(-contact.dist[mine], 0.0), n) / np.maximum(total, 1e-12)
        area = np.where(self._radius > 0.0, np.pi * self._radius * depth, self._area)
        pressure = total / np.where(area > 0.0, area, np.inf)
        mu = self.coefficient(speed, pressure)
        mj.pair_friction[self._pairs, 0] = mu
        mj.pair_friction[self._pairs, 1] = mu
