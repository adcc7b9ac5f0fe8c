"""The linear inverted pendulum and its divergent component of motion (DCM), or capture point. Points are complex: x + iy.

ξ = c + ċ/ω runs away from the zero moment point r: ξ̇ = ω (ξ − r), with ω = √(g/height) (Takenaka, Matsumoto, Yoshiike
2009). A plan of DCMs for given footholds is made backwards in time (Englsberger, Ott, Albu-Schäffer 2015), here with the
zero moment point moving in a straight line from foot to foot while both stand, and resting under one foot else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Support(NamedTuple):
    """The zero moment point of one step: from `before` to `under` in `double` seconds, then `single` seconds at `under`."""

    before: complex
    under: complex
    double: float
    single: float


def dcm_after(dcm: complex, zmp: complex, omega: float, t: float) -> complex:
    """The DCM t [s] later, over a resting zero moment point."""
    return zmp + (dcm - zmp) * math.exp(omega * t)


def dcm_at_start(step: Support, at_end: complex, omega: float) -> complex:
    """The DCM from which a step ends at `at_end`."""
    return dcm_in_step(step, at_end, omega, 0.0)[0]


def dcm_in_step(step: Support, at_end: complex, omega: float, t: float) -> tuple[complex, complex]:
    """DCM and zero moment point t [s] after the step's start, when the DCM is to end at `at_end`."""
    if t >= step.double:
        left = step.double + step.single - t
        return step.under + (at_end - step.under) * math.exp(-omega * left), step.under
    landed = step.under + (at_end - step.under) * math.exp(-omega * step.single)
    rate = (step.under - step.before) / step.double
    zmp = step.before + rate * t
    slope = rate / omega
    return zmp + slope + (landed - step.under - slope) * math.exp(-omega * (step.double - t)), zmp


def plan(steps: Sequence[Support], at_end: complex, omega: float) -> complex:
    """The DCM at the start of the first of some steps, when the last is to end at `at_end`."""
    for step in reversed(steps):
        at_end = dcm_at_start(step, at_end, omega)
    return at_end
