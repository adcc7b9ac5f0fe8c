"""What could be wrong, and what each of it would do to the residuals: the columns that attribution fits.

Every hypothesis is linear in its size. `Signatures` computes, sample by sample, what one unit of each adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from digital_twin.core.arrays import Array, or_zero
from digital_twin.core.drift.residuals import Residuals
from digital_twin.core.drift.sample import Block, finite

KINDS = ("payload", "friction", "motor", "encoder", "gyro bias", "accelerometer bias", "delay", "slip", "ground")


@dataclass(frozen=True)
class Hypothesis:
    """One of the bank: kind and target (frame, joint, foot, or nothing). size, with its 95 % interval: kg added, factor of
    friction, share of the motor's strength, rad, rad/s, m/s², s. gain: log-likelihood ratio against "nothing
    changed". explained: share of what the alarming channels have too much. vector: of what has a direction."""

    kind: str
    target: str
    size: float
    low: float
    high: float
    gain: float
    explained: float
    vector: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """For people, with units."""
        s, a, b, t = self.size, self.low, self.high, self.target
        deg = math.degrees
        return {
            "payload": lambda: f"a payload of {s:.2f} kg ({a:.2f} … {b:.2f}) at {t}",
            "friction": lambda: f"friction of {t} {s:.2f} times ({a:.2f} … {b:.2f}) what it was",
            "motor": lambda: f"motor of {t} at {100 * s:.0f} % ({100 * a:.0f} … {100 * b:.0f}) of its strength",
            "encoder": lambda: f"encoder of {t} off by {deg(s):.2f} deg ({deg(a):.2f} … {deg(b):.2f})",
            "gyro bias": lambda: f"gyro bias changed by {s:.4f} rad/s ({a:.4f} … {b:.4f})",
            "accelerometer bias": lambda: f"accelerometer bias changed by {s:.3f} m/s² ({a:.3f} … {b:.3f})",
            "delay": lambda: f"commands act {1e3 * s:.0f} ms ({1e3 * a:.0f} … {1e3 * b:.0f}) later",
            "slip": lambda: f"the {t} foot slips",
            "ground": lambda: f"the ground under the {t} foot is not where it was",
        }[self.kind]()


class Signature(NamedTuple):
    """What one unit of each hypothesis adds to a sample's residuals: to torques of the servos' law (n,), to passive torques
    (n,), and to torques and the base's rows 1 kg at each frame (m, n + 6), and 1 m/s² along each axis of the
    accelerometer (3, n + 6)."""

    law: Array
    passive: Array
    loads: Array
    shakes: Array


class Signatures:
    """What hypotheses add to the residuals of samples.

    Attributes:
        frames: where payloads are looked for.
    """

    def __init__(self, residuals: Residuals) -> None:
        self._residuals = residuals
        mj = residuals.model.mj
        # What hangs at a foot that feels its own load is below the sensor: it cannot be told.
        hidden = residuals.dynamics.massless
        self.frames: list[str] = []
        places: list[tuple[int, Array]] = []
        for name in reversed(residuals.model.frames):  # what is further out first
            site = residuals.model.frame_id(name)
            body, at = int(mj.site_bodyid[site]), mj.site_pos[site].copy()
            if body not in hidden and not any(body == b and np.linalg.norm(at - p) < 0.03 for b, p in places):
                places.append((body, at))
                self.frames.append(name)
        self._sites = [residuals.model.frame_id(f) for f in self.frames]

    def bodies(self) -> dict[str, int]:
        """MuJoCo's body of each frame: frames of one body are one link."""
        m = self._residuals.model
        return {f: int(m.mj.site_bodyid[m.frame_id(f)]) for f in self.frames}

    def of(self, block: Block) -> Signature:
        """Of a sample; what dynamics add is NaN where there are none."""
        r, d, b = self._residuals, self._residuals.dynamics, block
        n = r.model.n
        loads, shakes = np.full((len(self._sites), n + 6), np.nan), np.full((3, n + 6), np.nan)
        if finite(b):
            d.balance(b.q, b.qd, b.qdd, b.gyro, b.accel, b.turn_rate, or_zero(b.wrenches), b.standing)
            for i, site in enumerate(self._sites):
                loads[i, :n], loads[i, n:] = d.payload_regressor(site)
            for i, axis in enumerate(np.eye(3)):
                shakes[i, :n], shakes[i, n:] = d.shaken(axis)
        return Signature(r.law(b), d.passive(b.qd), loads, shakes)
