"""Heat in the motors and charge in the battery: a state, and pure functions that advance it.

Winding and housing of each motor are two heat capacities (the two-body model of motor data sheets), the winding's
resistance rising with its temperature. The battery is a voltage behind a resistance. Both steps are exact, or as good as,
for currents that are constant over a step, and stable at any step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError
from digital_twin.core.motor_config import REFERENCE_TEMPERATURE, BatteryConfig
from digital_twin.core.motors import Motors

MAX_GROWTH = 50.0  # exponent at which a thermal runaway is cut off, so that numbers stay finite


class PowerState(NamedTuple):
    """State of the motors' heat and of the battery. Leading dimensions, when there are any, are members of an ensemble.

    winding, housing: temperatures [°C] (…, n). motor_current: the last winding currents [A] (…, n).
    charge: of the battery, 0 to 1 (…). energy: drawn at its terminals so far [J] (…). voltage: of the bus, the mean of
    the last advance [V] (…). battery_current: the same mean, positive when discharging [A] (…).
    """

    winding: Array
    housing: Array
    motor_current: Array
    charge: Array
    energy: Array
    voltage: Array
    battery_current: Array

    def member(self, i: int) -> PowerState:
        """One member of an ensemble."""
        return PowerState(*(field[i] for field in self))


class Battery:
    """The battery's equations: I = P / V, V = U(charge) − r I."""

    def __init__(self, config: BatteryConfig, where: str = "robot config") -> None:
        points = np.array(config.open_circuit, float).reshape(-1, 2)
        rising = len(points) > 1 and (np.diff(points, axis=0) >= 0.0).all() and np.diff(points[:, 0]).all()
        if not (rising and (points[:, 1] > 0.0).all()):
            raise ConfigError(
                f"{where}: battery: open_circuit: expected two or more rising pairs of charge and voltage"
            )
        self.config = config
        self._charge, self._voltage = points.T
        self.coulombs = 3600.0 * config.capacity

    def open_circuit(self, charge: Array) -> Array:
        """Voltage without load [V] at a charge from 0 to 1."""
        return np.asarray(np.interp(charge, self._charge, self._voltage))

    def under_load(self, charge: Array, power: Array) -> tuple[Array, Array]:
        """Voltage [V] and current [A] when `power` [W] is drawn (negative: returned).

        What exceeds the greatest power that the battery can give is not given: the voltage stays at half its open value.
        """
        u, r = self.open_circuit(charge), self.config.resistance
        voltage = 0.5 * (u + np.sqrt(np.maximum(u * u - 4.0 * r * power, 0.0)))
        # At the greatest power, the current follows from the voltage and no longer from the power.
        current = np.minimum(power / voltage, (u - voltage) / r) if r > 0.0 else power / voltage
        return voltage, current


def heat_step(motors: Motors, winding: Array, housing: Array, square_current: Array, dt: float) -> tuple[Array, Array]:
    """Temperatures [°C] (…, n) after dt [s] with the mean square currents [A²] (…, n): exact when they are constant.

    C_w dT_w/dt = i² R (1 + α (T_w − 25 °C)) − (T_w − T_h) / R_wh and
    C_h dT_h/dt = (T_w − T_h) / R_wh − (T_h − T_a) / R_ha, a linear system of two, solved by its eigenvalues.
    """
    loss = square_current * motors.R
    to_housing, to_ambient = 1.0 / motors.R_winding, 1.0 / motors.R_housing
    a = (loss * motors.alpha - to_housing) / motors.C_winding
    b = to_housing / motors.C_winding
    c = to_housing / motors.C_housing
    d = -(to_housing + to_ambient) / motors.C_housing
    rate_w = loss * (1.0 + motors.alpha * (winding - REFERENCE_TEMPERATURE)) - (winding - housing) * to_housing
    rate_h = (winding - housing) * to_housing - (housing - motors.ambient) * to_ambient
    rate_w, rate_h = rate_w / motors.C_winding, rate_h / motors.C_housing
    # T(t) = T(0) + ∫ exp(A s) ds · dT/dt(0); of a 2 by 2 matrix any function f is f(λ₁) P₁ + f(λ₂) P₂.
    middle, half = 0.5 * (a + d), np.sqrt((0.5 * (a - d)) ** 2 + b * c)
    fast, slow = _integral(middle - half, dt), _integral(middle + half, dt)
    mean, slope = 0.5 * (slow + fast), 0.5 * (slow - fast) / half
    winding = winding + mean * rate_w + slope * ((a - middle) * rate_w + b * rate_h)
    housing = housing + mean * rate_h + slope * (c * rate_w + (d - middle) * rate_h)
    return winding, housing


def _integral(rate: Array, dt: float) -> Array:
    """∫ exp(rate s) ds over 0 … dt."""
    x = np.minimum(rate * dt, MAX_GROWTH)
    small = np.abs(x) < 1e-12
    return np.asarray(dt * np.where(small, 1.0, np.expm1(x) / np.where(small, 1.0, x)))


def electrical_power(
    motors: Motors, resistance: Array, before: Array, currents: Array, speeds: Array, dt: float
) -> Array:
    """Power into the motors' terminals [W] (…, k), all motors together: copper loss, mechanical work, magnetic field.

    Args:
        resistance: [Ω] (…, n). before: the currents one step earlier [A] (…, n).
        currents, speeds: [A], [rad/s] (…, k, n). dt: between them [s].
    """
    drawn = np.einsum("...kn,...kn->...k", currents, currents * resistance[..., None, :] + motors.K * speeds)
    field = 0.5 * (currents * currents) @ motors.L
    first = 0.5 * (before * before) @ motors.L
    return np.asarray(drawn + np.diff(field, axis=-1, prepend=first[..., None]) / dt)


def advance(
    motors: Motors, battery: Battery, state: PowerState, currents: Array, speeds: Array, dt: float
) -> PowerState:
    """The state after k steps with the given winding currents and joint speeds.

    Heat is summed over every step; the temperatures are then advanced at once, which differs from step by step by terms
    of (k dt / thermal time constant)², 1e-5 of the temperature's change for 50 ms.

    Args:
        currents, speeds: [A], [rad/s] (…, k, n), the physics' steps. dt: of one step [s].
    """
    k = currents.shape[-2]
    square = np.einsum("...kn,...kn->...n", currents, currents) / k
    winding, housing = heat_step(motors, state.winding, state.housing, square, k * dt)
    resistance = motors.resistance(0.5 * (state.winding + winding))
    power = electrical_power(motors, resistance, state.motor_current, currents, speeds, dt)
    power = np.where(power > 0.0, power, battery.config.regeneration * power) + battery.config.idle_power
    charge = np.broadcast_to(state.charge[..., None], power.shape)
    for _ in range(2):  # the first pass at the charge of the start, the second along its course
        voltage, current = battery.under_load(charge, power)
        used = dt / battery.coulombs * np.cumsum(current, axis=-1)
        charge = state.charge[..., None] - used + 0.5 * dt / battery.coulombs * current
    return PowerState(
        winding=winding,
        housing=housing,
        motor_current=currents[..., -1, :],
        charge=np.clip(state.charge - used[..., -1], 0.0, 1.0),
        energy=state.energy + dt * np.sum(voltage * current, axis=-1),
        voltage=np.mean(voltage, axis=-1),
        battery_current=np.mean(current, axis=-1),
    )
