"""The parameters of the safety monitor."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.config import param


@dataclass(frozen=True)
class SafetyConfig:
    """When the monitor refuses commands. A limit of 0 is not watched."""

    active: bool = param(True, "watch at all")
    torque: float = param(
        1.0, "share of a motor's torque that commands may ask for, by its servo's law, for longer than torque_time",
        low=0, high=10,
    )  # fmt: skip
    torque_time: float = param(0.5, "for how long they may ask for more", unit="s", low=0.01, high=60)
    speed: float = param(1.2, "share of its top speed at which a joint may move and be driven on", low=0, high=10)
    position: float = param(
        0.1, "how far out of its range a joint may be and be driven on outwards", unit="rad", low=0, high=3
    )
    tilt: float = param(60.0, "of the base, beyond which the robot is down", unit="deg", low=0, high=180)
    load: float = param(0.1, "share of its weight that the feet must bear", low=0, high=1)
    load_time: float = param(0.4, "for how long they need not: a jump, a stumble", unit="s", low=0.01, high=60)
    collision_rate: float = param(20.0, "of looks at whether limbs would meet", unit="Hz", low=0, high=1000)
