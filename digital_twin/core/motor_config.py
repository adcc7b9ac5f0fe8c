"""What drives the joints: motors, their gears and the battery, seen from the joint.

Everything is a joint-side quantity: a torque constant is the joint's torque per ampere of winding current, gear and all,
so no gear ratio is needed. What a config does not give is derived from the URDF's limits; docs/prediction.md says how.
"""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param

REFERENCE_TEMPERATURE = 25.0  # °C, at which resistances are given


@dataclass(frozen=True)
class MotorConfig:
    """A motor with its gear and drive. A zero, or a friction below zero, stands for "derive it"."""

    torque_constant: float = param(
        0.0, "torque at the joint per current; 0: from the no-load speed", unit="N·m/A", low=0, high=1e4
    )
    resistance: float = param(0.0, "of the winding at 25 °C; 0: from the stall torque", unit="Ω", low=0, high=1e4)
    no_load_speed: float = param(
        0.0, "of the joint at the battery's nominal voltage; 0: 1.25 times the URDF's speed limit", unit="rad/s",
        low=0, high=1e4,
    )  # fmt: skip
    stall_torque: float = param(
        0.0, "that the nominal voltage alone would allow; 0: 5 times the torque limit", unit="N·m", low=0, high=1e5
    )
    peak_torque: float = param(0.0, "limit of the cold motor; 0: the URDF's", unit="N·m", low=0, high=1e5)
    continuous_torque: float = param(
        0.0, "that keeps the winding just at derate_from; 0: a third of the peak", unit="N·m", low=0, high=1e5
    )
    electrical_time: float = param(0.0008, "inductance over resistance at 25 °C", unit="s", low=1e-5, high=0.1)
    copper_coefficient: float = param(
        0.00385,
        "growth of the resistance with temperature, from 25 °C (copper's by IEC 60028)",
        unit="1/K",
        low=0,
        high=0.01,
    )
    winding_to_housing: float = param(
        0.0, "thermal resistance; 0: a third of what the continuous torque implies", unit="K/W", low=0, high=1e3
    )
    housing_to_ambient: float = param(
        0.0, "thermal resistance; 0: two thirds of what the continuous torque implies", unit="K/W", low=0, high=1e3
    )
    winding_heat: float = param(0.0, "heat capacity; 0: from the motor's likely mass", unit="J/K", low=0, high=1e5)
    housing_heat: float = param(0.0, "heat capacity; 0: from the motor's likely mass", unit="J/K", low=0, high=1e6)
    derate_from: float = param(
        100.0, "winding temperature at which the torque limit falls", unit="°C", low=30, high=250
    )
    derate_to: float = param(125.0, "winding temperature at which it is zero", unit="°C", low=31, high=300)
    ambient: float = param(25.0, "of the air around the housing", unit="°C", low=-60, high=100)
    coulomb: float = param(-1.0, "friction of the gear in motion; below 0: the URDF's", unit="N·m", low=-1, high=1e3)
    static: float = param(-1.0, "friction at rest; below 0: 1.5 times Coulomb's", unit="N·m", low=-1, high=1e3)
    stribeck: float = param(0.1, "speed over which it falls to Coulomb's", unit="rad/s", low=1e-4, high=100)
    viscous: float = param(-1.0, "growth with speed; below 0: the URDF's damping", unit="N·m·s/rad", low=-1, high=1e3)
    command_delay: float = param(
        -1.0, "from a command to the drive's voltage; below 0: what the scene is built with", unit="s", low=-1, high=0.2
    )


@dataclass(frozen=True)
class BatteryConfig:
    """A battery: open-circuit voltage over charge behind a resistance. The default is of 13 lithium-ion cells, 9 Ah."""

    nominal_voltage: float = param(48.0, "at which the motors' speeds are given", unit="V", low=1, high=2000)
    open_circuit: list[tuple[float, float]] = param(
        [(0.0, 39.0), (0.05, 42.9), (0.1, 44.9), (0.2, 46.5), (0.5, 48.1), (0.8, 51.7), (1.0, 54.3)],
        "charge (0 to 1) and voltage without load, rising", unit="1, V",
    )  # fmt: skip
    resistance: float = param(0.06, "of cells and leads", unit="Ω", low=0, high=100)
    capacity: float = param(9.0, "charge when full", unit="A·h", low=0.01, high=1e5)
    charge: float = param(1.0, "at start", low=0, high=1)
    idle_power: float = param(60.0, "of computers and sensors", unit="W", low=0, high=1e5)
    regeneration: float = param(
        1.0, "share of what braking motors return that the battery takes; the rest is burnt", low=0, high=1
    )
