"""Worlds: the primitive shapes of an SDF file, as ground and obstacles of a MuJoCo model.

Gazebo and MuJoCo read the same file, so both stand on the same ground. Read are models and links, static or not, with
`<pose>`, box, sphere, cylinder, capsule, ellipsoid and plane collisions, friction and colour. What cannot be
read (meshes, includes, heightmaps) is named in `World.skipped`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import WorldError, one_line
from digital_twin.core.rotation import quat_from_matrix, rpy_matrix, wxyz_from_xyzw

MAX_BYTES = 20_000_000
_G = mujoco.mjtGeom


@dataclass(frozen=True)
class Shape:
    """One collision shape in the world frame. `size` is MuJoCo's (half lengths); kind is a mujoco.mjtGeom value."""

    name: str
    kind: int
    size: Array
    position: Array
    rotation: Array
    friction: float
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class World:
    """A world: its name, gravity [m/s²] (3,), shapes, and what was left out."""

    name: str
    gravity: Array
    shapes: tuple[Shape, ...]
    skipped: tuple[str, ...]
    source: Path


def load_world(path: Path | str) -> World:
    """Read the first world of an SDF file.

    Raises:
        WorldError: one line: no such file, not SDF, no world, no shape to stand on.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WorldError(f"{path}: too large for a world")
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise WorldError(f"{path}: cannot read the world: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise WorldError(f"{path}: the world is not UTF-8 text") from e
    except ET.ParseError as e:
        raise WorldError(f"{path}: not valid XML: {one_line(e)}") from e
    world = tree.find("world") if tree.tag == "sdf" else None
    if world is None:
        raise WorldError(f"{path}: not a world: expected <sdf> with a <world> in it, found <{tree.tag}>")
    reader = _Reader(path)
    for element in world:
        reader.read(element)
    if not reader.shapes:
        raise WorldError(f"{path}: the world has no shape that can be read: nothing to stand on")
    gravity = reader.numbers(world.find("gravity"), 3, "gravity", [0.0, 0.0, -9.81])
    return World(world.get("name", path.stem), gravity, tuple(reader.shapes), tuple(reader.skipped), path)


class _Reader:
    """Walks the models and links of a world and collects their shapes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: list[Shape] = []
        self.skipped: list[str] = []

    def read(self, element: ET.Element) -> None:
        if element.tag == "model":
            self._model(element, np.zeros(3), np.eye(3), "")
        elif element.tag in ("include", "actor"):
            self.skipped.append(f"<{element.tag}> {element.findtext('uri', element.get('name', ''))}".strip())

    def _model(self, model: ET.Element, position: Array, rotation: Array, prefix: str) -> None:
        name = prefix + model.get("name", "model")
        position, rotation = self._placed(model, position, rotation, name)
        for inner in model.findall("model"):
            self._model(inner, position, rotation, name + "/")
        for include in model.findall("include"):
            self.skipped.append(f"<include> {include.findtext('uri', '')} in {name}")
        for link in model.findall("link"):
            place = self._placed(link, position, rotation, name)
            colour = self._colour(link)
            for collision in link.findall("collision"):
                self._collision(collision, *place, f"{name}/{collision.get('name', 'collision')}", colour)

    def _placed(self, element: ET.Element, position: Array, rotation: Array, name: str) -> tuple[Array, Array]:
        pose = element.find("pose")
        if pose is not None and (pose.get("relative_to") or pose.get("degrees") or pose.get("rotation_format")):
            raise WorldError(f"{self.path}: {name}: only plain poses (x y z roll pitch yaw) are read")
        p = self.numbers(pose, 6, f"{name}: pose", [0.0] * 6)
        return position + rotation @ p[:3], rotation @ rpy_matrix(p[3:])

    def _collision(
        self, e: ET.Element, position: Array, rotation: Array, name: str, rgba: tuple[float, float, float, float]
    ) -> None:
        position, rotation = self._placed(e, position, rotation, name)
        shape = e.find("geometry/*")
        if shape is None or shape.tag not in _SIZES:
            self.skipped.append(f"{name}: {'no' if shape is None else '<' + shape.tag + '>'} geometry")
            return
        kind, keys, convert = _SIZES[shape.tag]
        values = [self.numbers(shape.find(key), count, f"{name}: {key}", default) for key, count, default in keys]
        size = convert(*values)
        if not np.all(size > 0.0):
            raise WorldError(f"{self.path}: {name}: a {shape.tag} needs a size above zero")
        if shape.tag == "plane":
            normal = self.numbers(shape.find("normal"), 3, f"{name}: normal", [0.0, 0.0, 1.0])
            rotation = rotation @ _turn_z_to(normal, f"{self.path}: {name}")
        friction = self.numbers(e.find("surface/friction/ode/mu"), 1, f"{name}: mu", [1.0])[0]
        self.shapes.append(Shape(name, kind, size, position, rotation, float(friction), rgba))

    def _colour(self, link: ET.Element) -> tuple[float, float, float, float]:
        rgba = self.numbers(link.find("visual/material/diffuse"), 4, "diffuse", [0.7, 0.7, 0.7, 1.0])
        return (float(rgba[0]), float(rgba[1]), float(rgba[2]), float(rgba[3]))

    def numbers(self, e: ET.Element | None, count: int, what: str, default: list[float] | None) -> Array:
        """The numbers in an element's text (count,); the default when there is no element, an error without one."""
        if e is None or not (e.text or "").strip():
            if default is None:
                raise WorldError(f"{self.path}: {what} is missing")
            return np.array(default)
        try:
            values = np.array([float(x) for x in (e.text or "").split()])
        except ValueError as error:
            raise WorldError(f"{self.path}: {what}: '{(e.text or '').strip()}' are not numbers") from error
        if values.shape != (count,) or not np.isfinite(values).all():
            raise WorldError(f"{self.path}: {what}: expected {count} finite numbers, got '{(e.text or '').strip()}'")
        return values


def _turn_z_to(normal: Array, where: str) -> Array:
    n = float(np.linalg.norm(normal))
    if n < 1e-9:
        raise WorldError(f"{where}: the normal of a plane has no direction")
    z = normal / n
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


_Key = tuple[str, int, list[float] | None]
_SIZES: dict[str, tuple[int, list[_Key], Callable[..., Array]]] = {
    "box": (_G.mjGEOM_BOX, [("size", 3, None)], lambda s: s / 2),
    "sphere": (_G.mjGEOM_SPHERE, [("radius", 1, None)], lambda r: r[[0, 0, 0]]),
    "ellipsoid": (_G.mjGEOM_ELLIPSOID, [("radii", 3, None)], lambda r: r),
    "cylinder": (
        _G.mjGEOM_CYLINDER,
        [("radius", 1, None), ("length", 1, None)],
        lambda r, h: np.array([r[0], h[0] / 2, h[0] / 2]),
    ),
    "capsule": (
        _G.mjGEOM_CAPSULE,
        [("radius", 1, None), ("length", 1, None)],
        lambda r, h: np.array([r[0], h[0] / 2, h[0] / 2]),
    ),
    "plane": (_G.mjGEOM_PLANE, [("size", 2, [1.0, 1.0])], lambda s: np.array([s[0] / 2, s[1] / 2, 1.0])),
}


def add_world(spec: mujoco.MjSpec, world: World) -> None:
    """Add the world's shapes, fixed to the ground, and its gravity to a MuJoCo specification."""
    spec.option.gravity = world.gravity
    for i, s in enumerate(world.shapes):
        spec.worldbody.add_geom(
            name=f"world/{i}/{s.name}",
            type=s.kind,
            size=s.size,
            pos=s.position,
            quat=wxyz_from_xyzw(quat_from_matrix(s.rotation)),
            friction=[s.friction, 0.005, 0.0001],
            rgba=s.rgba,
            # Friction of a contact is that of the ground: the robot's own geoms have a lower priority.
            priority=1,
        )
