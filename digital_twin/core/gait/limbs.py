"""Which of a robot's joints are shoulders, elbows and neck, found by its geometry: for arms that swing, and that protect."""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from digital_twin.core.gait.body import Body

ASIDE = 0.08  # [m] from the middle, from where on what hangs on a joint is an arm
LIGHT = 0.2  # share of the whole mass above which it is rather the trunk


class Limb(NamedTuple):
    """A joint that turns about the lateral axis: its place in the model's order, and the sign of its axis along +y."""

    joint: int
    sign: float


class Limbs(NamedTuple):
    """Shoulders that pitch, left and right; all other joints of the arms that pitch; necks. Empty where there are none."""

    left: Limb | None
    right: Limb | None
    elbows: tuple[Limb, ...]
    necks: tuple[Limb, ...]


def find_limbs(body: Body) -> Limbs:
    """Look at the robot as it stands at ease: which lateral joints carry something aside, or something light on top."""
    m, d, model = body.mj, body.data, body.model
    mujoco.mj_comPos(m, d)
    sides: dict[bool, list[Limb]] = {True: [], False: []}
    necks = []
    for i in body.upper:
        joint = m.joint(model.joint_names[int(i)])
        axis, anchor = d.xaxis[joint.id], d.xanchor[joint.id]
        carried = int(m.jnt_bodyid[joint.id])
        if abs(axis[1]) < 0.9 or m.body_subtreemass[carried] > LIGHT * body.mass:
            continue
        limb, com = Limb(int(i), float(np.sign(axis[1]))), d.subtree_com[carried]
        if abs(com[1]) > ASIDE:
            sides[bool(com[1] > 0.0)].append(limb)
        elif com[2] > anchor[2]:
            necks.append(limb)
    left, right = sides[True], sides[False]
    return Limbs(
        left[0] if left else None, right[0] if right else None, tuple(left[1:] + right[1:]), tuple(necks)
    )  # fmt: skip
