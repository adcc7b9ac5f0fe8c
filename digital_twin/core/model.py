"""The twin's model of a robot: MuJoCo built from a URDF, with every link findable as a frame.

MuJoCo reading a URDF welds the root link to the world and forgets the names of links joined by fixed joints. Here the
root gets a free joint; every link carries a site of its own name; then links joined by fixed joints are merged, which
makes the kinematics of a robot with many of them (iCub: 190 links, 33 bodies) twice as fast and keeps every frame.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from digital_twin.core.arrays import Array, Index
from digital_twin.core.description import Description
from digital_twin.core.errors import DescriptionError, one_line, unknown

ROOT_JOINT = "floating_base"


def build_spec(description: Description, *, geometry: bool = True) -> mujoco.MjSpec:
    """A MuJoCo specification of the robot with a free root and a site for each link.

    Args:
        description: what `load_description` returned.
        geometry: keep shapes. Without them the model has kinematics and masses only.

    Raises:
        DescriptionError: with MuJoCo's reason in one line.
    """
    tree = description.tree()
    if not geometry:
        for link in tree.findall("link"):
            for shape in [*link.findall("visual"), *link.findall("collision")]:
                link.remove(shape)
    for old in tree.findall("mujoco"):
        tree.remove(old)
    options = ET.SubElement(ET.SubElement(tree, "mujoco"), "compiler")
    options.attrib.update(discardvisual="false", fusestatic="true", strippath="false")
    try:
        spec = mujoco.MjSpec.from_string(ET.tostring(tree, encoding="unicode"))
    except ValueError as e:
        raise DescriptionError(f"{description.source}: MuJoCo: {one_line(e)}") from e
    for body in spec.bodies:
        if body.name != "world":
            body.add_site(name=body.name)
    spec.body(description.root).add_freejoint(name=ROOT_JOINT)
    return spec


def compile_spec(spec: mujoco.MjSpec, source: object) -> mujoco.MjModel:
    """Compile; turn MuJoCo's error into a DescriptionError of one line."""
    try:
        return spec.compile()
    except ValueError as e:
        raise DescriptionError(f"{source}: MuJoCo cannot use this robot: {one_line(e)}") from e


def as_slice(indices: Sequence[int]) -> slice | Index:
    """The indices as a slice where they follow one another (a view costs nothing), else as an array."""
    first, n = int(indices[0]), len(indices)
    if list(indices) == list(range(first, first + n)):
        return slice(first, first + n)
    return np.array(indices, dtype=np.intp)


class _Mimic(NamedTuple):
    qpos: int
    dof: int
    leader: int
    factor: float
    offset: float


class RobotModel:
    """Joints, limits, masses and frames of a robot, in the order of `joint_names` (depth first, as MuJoCo's).

    Attributes:
        joint_names: the n joints that move by themselves.
        lower, upper: position limits [rad or m] (n,); infinite where the URDF has none.
        max_velocity: [rad/s or m/s] (n,). max_effort: [N m or N] (n,).
        base_frame: the frame whose pose is estimated; the root link unless another is named.
        mass: total mass [kg].
    """

    def __init__(self, description: Description, base_frame: str = "", *, geometry: bool = False) -> None:
        self.description = description
        self.mj = compile_spec(build_spec(description, geometry=geometry), description.source)
        self.base_frame = base_frame or description.root
        driven = set(description.driven_joints())
        names = [self.mj.joint(i).name for i in range(self.mj.njnt)]
        self.joint_names = [name for name in names if name in driven]
        if not self.joint_names:
            raise DescriptionError(f"{description.source}: the robot has no moving joint")
        self.joint_index = {name: i for i, name in enumerate(self.joint_names)}
        infos = [description.joints[name] for name in self.joint_names]
        self.lower = np.array([j.lower for j in infos])
        self.upper = np.array([j.upper for j in infos])
        self.max_velocity = np.array([j.velocity for j in infos])
        self.max_effort = np.array([j.effort for j in infos])
        self.qpos_index = as_slice([self.mj.joint(name).qposadr[0] for name in self.joint_names])
        self.dof_index = as_slice([self.mj.joint(name).dofadr[0] for name in self.joint_names])
        self._mimic = self._mimic_table()
        self.mass = float(self.mj.body_mass.sum())
        self.frame_id(self.base_frame)

    def _mimic_table(self) -> list[_Mimic]:
        rows = []
        for j in self.description.joints.values():
            if j.mimic is not None and j.moves:
                leader, factor, offset = j.mimic
                joint = self.mj.joint(j.name)
                rows.append(_Mimic(joint.qposadr[0], joint.dofadr[0], self.joint_index[leader], factor, offset))
        return rows

    @property
    def n(self) -> int:
        """Number of joints that move by themselves."""
        return len(self.joint_names)

    @property
    def frames(self) -> list[str]:
        """Names of all frames (links)."""
        return [self.mj.site(i).name for i in range(self.mj.nsite)]

    def frame_id(self, name: str) -> int:
        """MuJoCo's number of the frame.

        Raises:
            DescriptionError: naming the frame and, when one is similar, that one.
        """
        i = mujoco.mj_name2id(self.mj, mujoco.mjtObj.mjOBJ_SITE, name)
        if i < 0:
            raise DescriptionError(f"{self.description.source}: {unknown('frame', name, self.frames)}")
        return int(i)

    def write_joints(self, qpos: Array, q: Array) -> None:
        """Put joint positions q (n,) into MuJoCo's qpos, those that mimic included."""
        qpos[self.qpos_index] = q
        for m in self._mimic:
            qpos[m.qpos] = m.factor * q[m.leader] + m.offset

    def joint_columns(self, jacobian: Array) -> Array:
        """From Jacobians over all of MuJoCo's degrees of freedom (…, nv) the columns of the joints (…, n)."""
        columns: Array = jacobian[..., self.dof_index]
        if self._mimic:
            columns = columns.copy()
        for m in self._mimic:
            columns[..., m.leader] += m.factor * jacobian[..., m.dof]
        return columns

    def kinematics(self, frames: Sequence[str], origin: str = "") -> Kinematics:
        """Forward kinematics of some frames relative to `origin` (empty: the base frame), with memory of its own."""
        return Kinematics(self, frames, origin or self.base_frame)


class Kinematics:
    """Poses and Jacobians of frames relative to a frame of the robot, the origin; one per thread.

    After `update(q)`: `position[i]` (3,), `rotation[i]` (3, 3) = R_origin_frame, and `jacobian(i)` of frame i.
    """

    def __init__(self, model: RobotModel, frames: Sequence[str], origin: str) -> None:
        self.model = model
        self.frames = list(frames)
        self._ids = [model.frame_id(name) for name in frames]
        self._base = model.frame_id(origin)
        self._data = mujoco.MjData(model.mj)
        self.position = np.zeros((len(self._ids), 3))
        self.rotation = np.tile(np.eye(3), (len(self._ids), 1, 1))
        self._rows = np.array(self._ids, dtype=int)
        root = model.frame_id(model.description.root)
        self._base_moves = bool(model.mj.site_bodyid[self._base] != model.mj.site_bodyid[root])
        self._R_root_base = np.eye(3)
        self._com_is_current = False

    def moves(self, i: int) -> bool:
        """Whether joints can move frame i against the origin."""
        body = self.model.mj.site_bodyid
        return bool(body[self._ids[i]] != body[self._base])

    def update(self, q: Array) -> None:
        """Compute all poses at joint positions q (n,) [rad or m]."""
        m, d = self.model.mj, self._data
        self.model.write_joints(d.qpos, q)
        mujoco.mj_kinematics(m, d)
        at, turned = d.site_xpos, d.site_xmat.reshape(-1, 3, 3)
        self._R_root_base = R = turned[self._base]
        np.dot(at.take(self._rows, axis=0) - at[self._base], R, out=self.position)
        np.matmul(R.T, turned.take(self._rows, axis=0), out=self.rotation)
        self._com_is_current = False

    def jacobian(self, i: int) -> tuple[Array, Array]:
        """Translation and rotation Jacobians (3, n), (3, n) of frame i relative to, and in, the origin.

        d/dt position[i] = Jp @ qd, and the angular velocity of the frame relative to the origin is Jr @ qd.
        """
        J = self.jacobians([i])[0]
        return J[:3], J[3:]

    def jacobians(self, frames: Sequence[int], turn: Array | None = None) -> Array:
        """Of several frames at once: (len(frames), 6, n), rows of translation, then of rotation, as of `jacobian`.

        Along the axes of the origin, or, if `turn` = R_a_origin (3, 3) is given, of the frame a.
        """
        m, d = self.model.mj, self._data
        if not self._com_is_current:
            mujoco.mj_comPos(m, d)
            self._com_is_current = True
        J = np.empty((len(frames), 2, 3, m.nv))
        for row, i in enumerate(frames):
            mujoco.mj_jacSite(m, d, J[row, 0], J[row, 1], self._ids[i])
        if self._base_moves:
            own = np.empty((2, 3, m.nv))
            mujoco.mj_jacSite(m, d, own[0], own[1], self._base)
            for row, i in enumerate(frames):
                r = d.site_xpos[self._ids[i]] - d.site_xpos[self._base]
                J[row, 0] -= np.cross(own[1], r, axis=0)
                J[row] -= own
        axes = self._R_root_base.T if turn is None else turn.dot(self._R_root_base.T)
        turned: Array = axes @ self.model.joint_columns(J)
        return turned.reshape(len(frames), 6, -1)
