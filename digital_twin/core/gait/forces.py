"""What the soles must carry: the wrench that a motion needs, shared among the standing feet and kept within their edges."""

from __future__ import annotations

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.gait.body import Body
from digital_twin.core.rotation import cross

FRICTION = 0.6
TWIST_ARM = 0.06  # [m]: a sole resists twisting by friction times load at about this lever
LEAST_LOAD = 5.0  # [N]


def needed_wrench(body: Body, acceleration: Array) -> tuple[Array, Array]:
    """Force [N] (3,) and moment about the root [N m] (3,), in odom, that the ground must give for v̇ (m,)."""
    w = body.M[:6] @ acceleration + body.h[:6]
    return w[:3], body.R @ w[3:]


def zero_moment_point(body: Body, force: Array, moment: Array, height: float) -> complex:
    """Where on the level at `height` [m] a wrench about the root has no horizontal moment (Vukobratović)."""
    fx, fy, fz = force.tolist()
    rz = height - float(body.root[2])
    fz = max(fz, LEAST_LOAD)
    return complex(body.root[0] + (rz * fx - moment[1]) / fz, body.root[1] + (moment[0] + rz * fy) / fz)


def share_wrench(
    body: Body, force: Array, moment: Array, stands: tuple[bool, bool], margin: float
) -> tuple[Array, float]:
    """Wrenches of the soles (2, 6) about their middles, along odom's axes, and the right foot's share of the load.

    With both feet standing the load is shared so that the zero moment point lies on the line between their centres of
    pressure (Kajita, Morisawa, Miura et al. 2010). Each is then clipped to what its sole can bear.
    """
    wrench = np.zeros((2, 6))
    if stands[0] and stands[1]:
        zmp = zero_moment_point(body, force, moment, float(body.sole[:, 2].mean()))
        left, right = (complex(p[0], p[1]) for p in body.sole)
        apart = right - left
        share = ((zmp - left) * apart.conjugate()).real / max(abs(apart) ** 2, 1e-6)
        share = min(max(share, 0.0), 1.0)
    else:
        share = 1.0 if stands[1] else 0.0
    parts = (1.0 - share, share)
    rest = moment - sum(s * cross(p - body.root, force) for s, p in zip(parts, body.sole, strict=True))
    for i, s in enumerate(parts):
        if stands[i] and s > 0.0:
            wrench[i, :3], wrench[i, 3:] = s * force, s * rest
            wrench[i] = clip_wrench(wrench[i], body.sole_R[i], body.polygons[i], margin)
    return wrench, share


def clip_wrench(wrench: Array, R: Array, polygon: Array, margin: float) -> Array:
    """The nearest wrench (6,) that a sole with attitude R can bear: pushed only, no slip, its centre of pressure inside.

    polygon: corners about the point of the wrench (k, 2); a rectangle is made of it, smaller by a share `margin`.
    """
    f, t = R.T @ wrench[:3], R.T @ wrench[3:]
    load = max(float(f[2]), LEAST_LOAD)
    f[2] = load
    tangential = float(np.hypot(f[0], f[1]))
    if tangential > FRICTION * load:
        f[:2] *= FRICTION * load / tangential
    low, high = (1.0 - margin) * polygon.min(axis=0), (1.0 - margin) * polygon.max(axis=0)
    t[0] = min(max(float(t[0]), low[1] * load), high[1] * load)
    t[1] = min(max(float(t[1]), -high[0] * load), -low[0] * load)
    twist = FRICTION * TWIST_ARM * load
    t[2] = min(max(float(t[2]), -twist), twist)
    return np.concatenate([R @ f, R @ t])
