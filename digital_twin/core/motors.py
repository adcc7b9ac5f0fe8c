"""The motors of one robot as arrays: what is given, and what follows from the URDF's limits where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError
from digital_twin.core.model import RobotModel
from digital_twin.core.motor_config import REFERENCE_TEMPERATURE
from digital_twin.core.robot_config import Joints, RobotConfig

# What a motor is likely to be when only the URDF's limits are known: one that just reaches both of them together.
NO_LOAD_OVER_LIMIT, STALL_OVER_PEAK, CONTINUOUS_OVER_PEAK, STATIC_OVER_COULOMB = 1.25, 5.0, 1.0 / 3.0, 1.5
TORQUE_PER_MASS = 80.0  # N·m/kg at peak, of a geared joint drive
COPPER_SHARE, COPPER_HEAT, HOUSING_HEAT = 0.12, 385.0, 600.0  # of the mass; J/(kg K), the housing steel and aluminium
WINDING_SHARE = 1.0 / 3.0  # of the thermal resistance, winding to housing
UNKNOWN_SPEED, UNKNOWN_ERROR = 10.0, 0.35  # rad/s; the servo's error [rad] at its torque limit


class Motors:
    """Motor constants in the order of the model's joints, each (n,), joint-side and SI; temperatures in °C.

    Attributes:
        K: torque constant. R: resistance at 25 °C. L: inductance. peak: torque limit when cold.
        R_winding, R_housing: thermal resistances winding-housing and housing-ambient. C_winding, C_housing: capacities.
        heating: i² times it is the winding's rise [K/s]. winding_rate, housing_rate, ambient_rate: 1/s per kelvin between
        winding and housing on either, and between housing and air.
        coulomb, static, stribeck, viscous: friction. delay: of commands [s], below zero where the scene decides.
    """

    def __init__(self, config: RobotConfig, model: RobotModel, joints: Joints, where: str = "robot config") -> None:
        each = [config.motor(name, where) for name in model.joint_names]

        def given(key: str) -> Array:
            return np.array([getattr(m, key) for m in each])

        def otherwise(key: str, derived: Array) -> Array:
            return np.where(given(key) > 0.0, given(key), derived)

        voltage = config.battery.nominal_voltage
        known = np.isfinite(model.max_effort)
        self.peak = otherwise("peak_torque", np.where(known, model.max_effort, UNKNOWN_ERROR * joints.kp))
        speed = np.where(np.isfinite(model.max_velocity), model.max_velocity, UNKNOWN_SPEED)
        no_load = otherwise("no_load_speed", NO_LOAD_OVER_LIMIT * speed)
        self.K = otherwise("torque_constant", voltage / no_load)
        stall = otherwise("stall_torque", STALL_OVER_PEAK * self.peak)
        self._check(self.peak, "its torque limit is zero: give peak_torque", model, where)
        self.R = otherwise("resistance", self.K * voltage / stall)
        self.L = given("electrical_time") * self.R
        self.alpha = given("copper_coefficient")
        self.derate_from, self.derate_to, self.ambient = given("derate_from"), given("derate_to"), given("ambient")
        self._check(self.derate_to - self.derate_from, "derate_to must be above derate_from", model, where)
        self._check(self.derate_from - self.ambient, "derate_from must be above ambient", model, where)
        self._derive_heat(otherwise)
        urdf = model.mj
        self.coulomb = _or(given("coulomb"), urdf.dof_frictionloss[model.dof_index])
        self.static = np.maximum(_or(given("static"), STATIC_OVER_COULOMB * self.coulomb), self.coulomb)
        self.stribeck = given("stribeck")
        self.viscous = _or(given("viscous"), urdf.dof_damping[model.dof_index])
        self.delay = given("command_delay")

    @staticmethod
    def _check(positive: Array, what: str, model: RobotModel, where: str) -> None:
        if not (positive > 0.0).all():
            raise ConfigError(f"{where}: motor {model.joint_names[int(np.argmin(positive))]}: {what}")

    def _derive_heat(self, otherwise: Callable[[str, Array], Array]) -> None:
        continuous = otherwise("continuous_torque", CONTINUOUS_OVER_PEAK * self.peak)
        hot = self.resistance(self.derate_from)
        total = (self.derate_from - self.ambient) / (hot * (continuous / self.K) ** 2)
        self.R_winding = otherwise("winding_to_housing", WINDING_SHARE * total)
        self.R_housing = otherwise("housing_to_ambient", (1.0 - WINDING_SHARE) * total)
        mass = self.peak / TORQUE_PER_MASS
        self.C_winding = otherwise("winding_heat", COPPER_SHARE * COPPER_HEAT * mass)
        self.C_housing = otherwise("housing_heat", (1.0 - COPPER_SHARE) * HOUSING_HEAT * mass)
        self.heating = self.R / self.C_winding
        self.winding_rate = 1.0 / (self.R_winding * self.C_winding)
        self.housing_rate = 1.0 / (self.R_winding * self.C_housing)
        self.ambient_rate = 1.0 / (self.R_housing * self.C_housing)

    def resistance(self, winding: Array) -> Array:
        """Resistance [Ω] (…, n) at winding temperatures [°C] (…, n)."""
        return np.asarray(self.R * (1.0 + self.alpha * (winding - REFERENCE_TEMPERATURE)))

    def torque_limit(self, winding: Array) -> Array:
        """Torque limit [N m] (…, n): the peak up to derate_from, then falling in a straight line to 0 at derate_to."""
        left = (self.derate_to - winding) / (self.derate_to - self.derate_from)
        return np.asarray(self.peak * np.clip(left, 0.0, 1.0))

    def friction(self, speed: Array) -> Array:
        """Friction torque [N m] (…, n) in steady motion at joint speeds [rad/s] (…, n), its sign that of the speed."""
        dry = self.coulomb + (self.static - self.coulomb) * np.exp(-((speed / self.stribeck) ** 2))
        return np.asarray(np.sign(speed) * dry + self.viscous * speed)


def _or(given: Array, derived: Array) -> Array:
    return np.where(given >= 0.0, given, derived)
