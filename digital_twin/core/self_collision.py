"""Links of a robot that touch each other."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.model import RobotModel
from digital_twin.core.scene import SHAPE_GROUP


class SelfCollision:
    """Which links of the robot touch each other in a configuration, other than neighbours and those that always do."""

    def __init__(self, robot: RobotModel, scene: mujoco.MjModel, stand: Array) -> None:
        """scene: the robot compiled with its shapes (core/scene.py). stand (n,) [rad]: what touches there always does."""
        m = copy.copy(scene)
        own = (m.geom_group == SHAPE_GROUP) & (m.geom_bodyid > 0)
        m.geom_contype[:], m.geom_conaffinity[:] = own, own
        m.body_contype[:], m.body_conaffinity[:] = 1, 1  # what MuJoCo looks at first
        m.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
        self._mj, self._data, self._robot = m, mujoco.MjData(m), robot
        self._always: set[tuple[int, int]] = set()
        self._always = {pair for q in (stand, np.zeros(robot.n)) for pair in self._touching(q)}

    def _touching(self, q: Array) -> set[tuple[int, int]]:
        m, d = self._mj, self._data
        self._robot.write_joints(d.qpos, np.clip(q, self._robot.lower, self._robot.upper))
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_collision(m, d)
        bodies = m.geom_bodyid[d.contact.geom]
        return {(int(min(pair)), int(max(pair))) for pair in bodies if not self._near(*pair)} - self._always

    def _near(self, a: int, b: int) -> bool:
        """Links with one other between them, whose shapes overlap where the joints bend."""
        parent = self._mj.body_parentid
        return bool(parent[parent[a]] == b or parent[parent[b]] == a)

    def touching(self, q: Array) -> list[str]:
        """Pairs of links that touch at joint positions q (n,) [rad], in words."""
        return [self._words(pair) for pair in sorted(self._touching(q))]

    def _words(self, pair: tuple[int, int]) -> str:
        return " and ".join(str(self._mj.body(i).name) for i in pair)

    def first(self, times: Array, q: Array, every: int = 5) -> list[tuple[str, float]]:
        """Along joint positions (k, n) at times [s] (k,), looking at each `every`th: pairs that touch, when first."""
        if self._touching(q[0]):
            return []  # they touch already: no warning of what is to come
        found: dict[tuple[int, int], float] = {}
        for t, at in zip(times[::every], q[::every], strict=True):
            for pair in self._touching(at):
                found.setdefault(pair, float(t))
        return [(self._words(pair), t) for pair, t in found.items()]
