"""What a robot or a world looks like: few meshes, each drawn many times. All boxes of a robot are one box, scaled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Array, Index
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import FootConfig
from digital_twin.core.rotation import quat_from_matrix, wxyz_from_xyzw
from digital_twin.core.world import World

Faces = NDArray[np.uint32]
_G = mujoco.mjtGeom
_ROUND = 24  # corners of a circle
PLAIN = (0.50, 0.50, 0.50)  # MuJoCo's colour of what has none
PAINT = (0.80, 0.83, 0.86)
BONE = (0.62, 0.68, 0.75)


@dataclass(frozen=True)
class Mesh:
    """Triangles: vertices (v, 3), faces (f, 3). `flat`: with edges, to be shaded as such."""

    vertices: Array
    faces: Faces
    flat: bool = False


@dataclass(frozen=True)
class Part:
    """Copies of one mesh: number k of them sits on body[k], at position (k, 3) and quaternion wxyz (k, 4) in it.

    scale (k, 3); colour (k, 3) from 0 to 1. Bodies are numbered as MuJoCo does; 0 is the world.
    """

    name: str
    mesh: Mesh
    body: Index
    position: Array
    wxyz: Array
    scale: Array
    colour: Array


def box() -> Mesh:
    """Half lengths 1."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[4 * i + a, 4 * i + b, 4 * i + c] for i in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    return Mesh(corners[np.array(quads).ravel()], np.array(faces, dtype=np.uint32), flat=True)


def cylinder() -> Mesh:
    """Radius 1, from z = -1 to 1."""
    a = np.arange(_ROUND) * 2.0 * np.pi / _ROUND
    ring = np.column_stack([np.cos(a), np.sin(a)])
    low, high = (np.column_stack([ring, np.full(_ROUND, z)]) for z in (-1.0, 1.0))
    # The ends have corners of their own, so that the rim is an edge.
    vertices = np.concatenate([low, high, low, high, [[0, 0, -1.0], [0, 0, 1.0]]])
    i, n = np.arange(_ROUND), _ROUND
    j = (i + 1) % n
    side = np.concatenate([np.column_stack([i, j, n + j]), np.column_stack([i, n + j, n + i])])
    ends = np.concatenate(
        [
            np.column_stack([2 * n + j, 2 * n + i, 0 * i + 4 * n]),
            np.column_stack([3 * n + i, 3 * n + j, 0 * i + 4 * n + 1]),
        ]
    )
    return Mesh(vertices, np.concatenate([side, ends]).astype(np.uint32))


def sphere() -> Mesh:
    """Radius 1."""
    rings = _ROUND // 2
    polar, around = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.arange(_ROUND) * 2 * np.pi / _ROUND, indexing="ij")
    vertices = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1
    ).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(rings), np.arange(_ROUND), indexing="ij"))
    a, b = i * _ROUND + j, i * _ROUND + (j + 1) % _ROUND
    faces = np.concatenate([np.column_stack([a, a + _ROUND, b]), np.column_stack([b, a + _ROUND, b + _ROUND])])
    u, v, w = vertices[faces].transpose(1, 0, 2)
    some = np.linalg.norm(np.cross(v - u, w - u), axis=1) > 1e-9  # at the poles half of them are none
    return Mesh(vertices, faces[some].astype(np.uint32))


PRIMITIVES = {"box": box, "cylinder": cylinder, "sphere": sphere}


class Collector:
    """Gathers shapes and sorts them by mesh."""

    def __init__(self) -> None:
        self._meshes: dict[str, Mesh] = {}
        self._rows: dict[str, list[tuple[int, Array, Array, Array, Sequence[float]]]] = defaultdict(list)

    def add(
        self, name: str, body: int, position: Array, wxyz: Array, scale: Sequence[float] | Array, colour: Sequence[float],
        mesh: Mesh | None = None,
    ) -> None:  # fmt: skip
        """One copy of a primitive, or of a mesh of that name."""
        if name not in self._meshes:
            self._meshes[name] = mesh or PRIMITIVES[name]()
        self._rows[name].append((body, position, wxyz, np.asarray(scale, dtype=float), colour))

    def add_geom(
        self, kind: int, size: Array, body: int, position: Array, wxyz: Array, colour: Sequence[float]
    ) -> None:
        """One of MuJoCo's shapes; those without an end (planes) are left out."""
        kind = _G(int(kind))
        if kind == _G.mjGEOM_BOX:
            self.add("box", body, position, wxyz, size, colour)
        elif kind in (_G.mjGEOM_SPHERE, _G.mjGEOM_ELLIPSOID):
            self.add("sphere", body, position, wxyz, size if kind == _G.mjGEOM_ELLIPSOID else [size[0]] * 3, colour)
        elif kind in (_G.mjGEOM_CYLINDER, _G.mjGEOM_CAPSULE):
            self.add("cylinder", body, position, wxyz, [size[0], size[0], size[1]], colour)
            if kind == _G.mjGEOM_CAPSULE:
                R = np.zeros(9)
                mujoco.mju_quat2Mat(R, wxyz)
                for end in (-size[1], size[1]):
                    self.add("sphere", body, position + end * R.reshape(3, 3)[:, 2], wxyz, [size[0]] * 3, colour)

    def add_bone(self, body: int, begin: Array, end: Array, radius: float, colour: Sequence[float] = BONE) -> None:
        """A bar with round ends, between two points (3,) in a body."""
        along = end - begin
        length = float(np.linalg.norm(along))
        if length > 1e-6:
            wxyz = np.zeros(4)
            mujoco.mju_quatZ2Vec(wxyz, along / length)
            self.add("cylinder", body, (begin + end) / 2, wxyz, [radius, radius, length / 2], colour)
        for point in (begin, end):
            self.add("sphere", body, point, np.array([1.0, 0, 0, 0]), [1.25 * radius] * 3, colour)

    def parts(self) -> tuple[Part, ...]:
        """All that was added."""
        out = []
        for name, rows in self._rows.items():
            body, position, wxyz, scale, colour = (list(column) for column in zip(*rows, strict=True))
            out.append(
                Part(
                    name, self._meshes[name], np.array(body, dtype=np.intp), np.array(position), np.array(wxyz),
                    np.array(scale), np.array(colour, dtype=float),
                )
            )  # fmt: skip
        return tuple(out)


def robot_parts(model: RobotModel, feet: Sequence[FootConfig]) -> tuple[Part, ...]:
    """A robot as its URDF shows it: visual shapes, else collision shapes; bones where there are neither.

    model: compiled with its geometry. A sole without a shape is a slab of its polygon.
    """
    m, c = model.mj, Collector()
    shaped = set()
    for body in range(1, m.nbody):
        geoms = range(m.body_geomadr[body], m.body_geomadr[body] + m.body_geomnum[body])
        seen = [g for g in geoms if m.geom_contype[g] == 0] or list(geoms)
        for g in seen:
            colour = m.geom_rgba[g, :3]
            colour = PAINT if np.allclose(colour, PLAIN) else colour
            if int(m.geom_type[g]) == int(_G.mjGEOM_MESH):
                name, mesh = _mesh(m, int(m.geom_dataid[g]))
                c.add(name, body, m.geom_pos[g], m.geom_quat[g], np.ones(3), colour, mesh)
            else:
                c.add_geom(m.geom_type[g], m.geom_size[g], body, m.geom_pos[g], m.geom_quat[g], colour)
        if seen:
            shaped.add(body)
    if shaped and not model.description.missing_meshes:
        return c.parts()  # links without a shape are meant to have none
    _add_bones(c, m, shaped)
    for foot in feet:
        site = model.frame_id(foot.frame)
        body = int(m.site_bodyid[site])
        if body not in shaped:
            _add_sole(c, m, site, body, foot)
    return c.parts()


def _mesh(m: mujoco.MjModel, i: int) -> tuple[str, Mesh]:
    v, f = m.mesh_vertadr[i], m.mesh_faceadr[i]
    vertices = m.mesh_vert[v : v + m.mesh_vertnum[i]].astype(float)
    return f"mesh {i}", Mesh(vertices, m.mesh_face[f : f + m.mesh_facenum[i]].astype(np.uint32))


def _add_bones(c: Collector, m: mujoco.MjModel, shaped: set[int]) -> None:
    """Where shapes are missing: from each joint to the next, and from the last to its link's centre of mass."""
    d = mujoco.MjData(m)
    mujoco.mj_kinematics(m, d)
    radius = 0.012 * max(float(np.ptp(d.xpos[1:, 2])), 0.3)
    for body in range(1, m.nbody):
        if body in shaped:
            continue
        children = [b for b in range(1, m.nbody) if m.body_parentid[b] == body]
        for child in children:
            c.add_bone(body, np.zeros(3), m.body_pos[child].copy(), radius)
        if not children and m.body_mass[body] > 0.0:
            c.add_bone(body, np.zeros(3), m.body_ipos[body].copy(), radius)


def _add_sole(c: Collector, m: mujoco.MjModel, site: int, body: int, foot: FootConfig) -> None:
    corners = np.array(foot.polygon)
    low, high = corners.min(axis=0), corners.max(axis=0)
    half = np.array([*(high - low) / 2, 0.008])
    R = np.zeros(9)
    mujoco.mju_quat2Mat(R, m.site_quat[site])
    middle = m.site_pos[site] + R.reshape(3, 3) @ np.array([*(low + high) / 2, 0.008])
    c.add("box", body, middle, m.site_quat[site].copy(), half, BONE)
    c.add_bone(body, np.zeros(3), middle, 0.012)


def world_parts(world: World) -> tuple[Part, ...]:
    """What stands in a world. Its planes are left to the ground that is drawn anyway."""
    c = Collector()
    for s in world.shapes:
        c.add_geom(s.kind, s.size, 0, s.position, wxyz_from_xyzw(quat_from_matrix(s.rotation)), s.rgba[:3])
    return c.parts()


def multiply(a: Array, b: Array) -> Array:
    """Products of quaternions wxyz, (4,) or (k, 4)."""
    aw, ax, ay, az = (a[..., i] for i in range(4))
    bw, bx, by, bz = (b[..., i] for i in range(4))
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = aw * bw - ax * bx - ay * by - az * bz
    out[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    out[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    out[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return out
