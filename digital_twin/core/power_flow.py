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
_SIGNS, _TINY = np.array([1.0, -1.0]), 1e-300


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
        return voltage, (u - voltage) / r if r > 0.0 else power / voltage


def heat_step(motors: Motors, winding: Array, housing: Array, square_current: Array, dt: float) -> tuple[Array, Array]:
    """Temperatures [°C] (…, n) after dt [s] with the mean square currents [A²] (…, n): exact when they are constant.

    C_w dT_w/dt = i² R (1 + α (T_w − 25 °C)) − (T_w − T_h) / R_wh and
    C_h dT_h/dt = (T_w − T_h) / R_wh − (T_h − T_a) / R_ha, a linear system of two, solved by its eigenvalues.
    """
    m = motors
    heating = m.heating * square_current  # [K/s] at 25 °C
    flow = winding - housing
    rate_w = heating * (1.0 + m.alpha * (winding - REFERENCE_TEMPERATURE)) - m.winding_rate * flow
    rate_h = m.housing_rate * flow - m.ambient_rate * (housing - m.ambient)
    # The matrix [[a, b], [c, d]] of the system; T(t) = T(0) + ∫ exp(matrix · s) ds · dT/dt(0), and any function f of a 2 by
    # 2 matrix is f(λ₁) P₁ + f(λ₂) P₂, with λ the eigenvalues, which here are real and never equal.
    a, d = m.alpha * heating - m.winding_rate, -(m.housing_rate + m.ambient_rate)
    apart = 0.5 * (a - d)
    half = np.sqrt(apart * apart + m.winding_rate * m.housing_rate)
    x = dt * (0.5 * (a + d) + _SIGNS.reshape(2, *([1] * half.ndim)) * half)
    x = np.minimum(x, MAX_GROWTH) + _TINY * (x == 0.0)
    slow, fast = dt * np.expm1(x) / x
    mean, slope = 0.5 * (slow + fast), 0.5 * (slow - fast) / half
    return (
        winding + mean * rate_w + slope * (apart * rate_w + m.winding_rate * rate_h),
        housing + mean * rate_h + slope * (m.housing_rate * rate_w - apart * rate_h),
    )


def advance(
    motors: Motors, battery: Battery, state: PowerState, currents: Array, speeds: Array, dt: float
) -> PowerState:
    """The state after k steps with the given winding currents and joint speeds.

    Heat is summed over every step; the temperatures are then advanced at once, which differs from step by step by terms
    of (k dt / thermal time constant)².

    Args:
        currents, speeds: [A], [rad/s] (…, k, n), the physics' steps. dt: of one step [s].
    """
    k = currents.shape[-2]
    squares = np.concatenate([state.motor_current[..., None, :], currents], axis=-2) ** 2
    mean_square = squares[..., 1:, :].sum(axis=-2) / k
    winding, housing = heat_step(motors, state.winding, state.housing, mean_square, k * dt)
    resistance = motors.resistance(0.5 * (state.winding + winding))
    # Electrical power of all motors together (…, k): copper loss, mechanical work, magnetic field.
    field = squares @ (0.5 / dt * motors.L)
    power = (squares[..., 1:, :] @ resistance[..., None])[..., 0] + (currents * speeds) @ motors.K
    power += field[..., 1:] - field[..., :-1]
    c = battery.config
    power = np.maximum(power, c.regeneration * power) + c.idle_power
    middle = state.charge - 0.5 * dt / battery.coulombs * power.sum(axis=-1) / state.voltage
    voltage, current = battery.under_load(middle[..., None], power)
    mean_current = current.sum(axis=-1) / k
    return PowerState(
        winding=winding,
        housing=housing,
        motor_current=currents[..., -1, :],
        charge=np.minimum(np.maximum(state.charge - k * dt / battery.coulombs * mean_current, 0.0), 1.0),
        energy=state.energy + dt * (voltage * current).sum(axis=-1),
        voltage=voltage.sum(axis=-1) / k,
        battery_current=mean_current,
    )
