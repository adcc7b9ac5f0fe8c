"""Reading a robot description: URDF or xacro, as a user brings it.

What a description needs for its kinematics and masses is kept; a mesh that is not on this disk, or that MuJoCo
cannot read, is left out and named, since the estimator needs no geometry at all.
"""

from __future__ import annotations

import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from digital_twin.core.errors import DescriptionError, one_line, unknown

MAX_BYTES = 50_000_000
MESH_SUFFIXES = (".stl", ".obj")
MAX_VELOCITY, MAX_EFFORT = 200.0, 5000.0
MOVING = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class JointInfo:
    """One joint of the URDF. Limits are in rad or m, rad/s or m/s, N m or N; infinite where none is given."""

    name: str
    kind: str
    parent: str
    child: str
    lower: float = -float("inf")
    upper: float = float("inf")
    velocity: float = float("inf")
    effort: float = float("inf")
    mimic: tuple[str, float, float] | None = None

    @property
    def moves(self) -> bool:
        return self.kind in MOVING


@dataclass(frozen=True)
class Description:
    """A robot description that has been read and checked.

    Attributes:
        name: the robot's name.
        urdf: the URDF as text, xacro expanded, as robot_state_publisher wants it.
        source: where it came from.
        root: the root link.
        links: link names, with the root first, and whether each has an inertia.
        joints: all joints by name, in the file's order.
        missing_meshes: mesh files that were left out.
    """

    name: str
    urdf: str
    source: Path
    root: str
    links: dict[str, bool]
    joints: dict[str, JointInfo]
    missing_meshes: tuple[str, ...]
    _tree: ET.Element = field(repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Hash of the content, which names a model wherever its file lies: xacro writes the path into a comment."""
        return hashlib.sha256(ET.canonicalize(self.urdf, strip_text=True).encode()).hexdigest()

    def tree(self) -> ET.Element:
        """A copy of the XML, without the meshes that are missing, to build models from."""
        return ET.fromstring(ET.tostring(self._tree))

    def driven_joints(self) -> list[str]:
        """Names of the joints that move by themselves (no fixed ones, none that mimic), in the file's order."""
        return [j.name for j in self.joints.values() if j.moves and j.mimic is None]


def load_description(path: Path | str, arguments: dict[str, str] | None = None) -> Description:
    """Read a URDF, or a xacro (file name ending in .xacro, with its arguments), from disk.

    Raises:
        DescriptionError: one line that names the file and what is wrong with it.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DescriptionError(f"{path}: {size} bytes are too many for a robot description")
        text = _expand_xacro(path, arguments or {}) if path.suffix == ".xacro" else path.read_text(encoding="utf-8")
    except OSError as e:
        raise DescriptionError(f"{path}: cannot read the robot description: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DescriptionError(f"{path}: the robot description is not UTF-8 text") from e
    return parse_description(text, path)


def _expand_xacro(path: Path, arguments: dict[str, str]) -> str:
    import xacro

    try:
        document = xacro.process_file(str(path), mappings=arguments)
    except OSError:
        raise
    except Exception as e:  # xacro raises its own and the XML parser's kinds alike
        raise DescriptionError(f"{path}: xacro: {one_line(e)}") from e
    return str(document.toxml())


def parse_description(text: str, source: Path | str = "robot_description") -> Description:
    """Check URDF text and find out what is in it.

    Raises:
        DescriptionError: not XML, no robot, joints that lead nowhere, more than one root.
    """
    source = Path(source)
    try:
        tree = ET.fromstring(text)
    except ET.ParseError as e:
        raise DescriptionError(f"{source}: not valid XML: {one_line(e)}") from e
    if tree.tag != "robot":
        raise DescriptionError(f"{source}: not a URDF: the outermost element is <{tree.tag}>, not <robot>")
    links = {_name(e, source): e.find("inertial") is not None for e in tree.findall("link")}
    joints: dict[str, JointInfo] = {}
    for j in (_joint(e, source) for e in tree.findall("joint")):
        if j.name in joints:
            raise DescriptionError(f"{source}: joint '{j.name}' is there twice")
        joints[j.name] = j
    root = _root(links, joints, source)
    missing = _drop_unreadable_meshes(tree, source)
    ordered = {root: links[root]} | links
    return Description(tree.get("name", ""), text, source, root, ordered, joints, tuple(missing), tree)


def _name(element: ET.Element, source: Path) -> str:
    name = element.get("name")
    if not name:
        raise DescriptionError(f"{source}: a <{element.tag}> has no name")
    return name


def _joint(e: ET.Element, source: Path) -> JointInfo:
    name, kind = _name(e, source), e.get("type", "")
    if kind not in (*MOVING, "fixed"):
        raise DescriptionError(f"{source}: joint '{name}': {unknown('type', kind, (*MOVING, 'fixed'))}")
    ends = [e.find(end) for end in ("parent", "child")]
    parent, child = ("" if x is None else x.get("link", "") for x in ends)
    limit, mimic = e.find("limit"), e.find("mimic")
    inf = float("inf")
    values = {"lower": -inf, "upper": inf, "velocity": inf, "effort": inf}
    if limit is not None:
        for key in values:
            if limit.get(key) is not None:
                values[key] = _number(limit, key, f"{source}: joint '{name}'")
    # URDF demands the attributes; exporters write 0, or something huge, for "not known".
    for key, believable in (("velocity", MAX_VELOCITY), ("effort", MAX_EFFORT)):
        if not 0.0 < values[key] <= believable:
            values[key] = inf
    if kind == "continuous" or values["lower"] >= values["upper"]:
        values["lower"], values["upper"] = -inf, inf
    follows = None
    if mimic is not None:
        where = f"{source}: joint '{name}': mimic"
        follows = (mimic.get("joint", ""), _number(mimic, "multiplier", where, 1.0), _number(mimic, "offset", where))
    return JointInfo(name, kind, parent, child, mimic=follows, **values)


def _number(e: ET.Element, key: str, where: str, default: float = 0.0) -> float:
    text = e.get(key, str(default))
    try:
        return float(text)
    except ValueError as error:
        raise DescriptionError(f"{where}: {key}='{text}' is not a number") from error


def _root(links: dict[str, bool], joints: dict[str, JointInfo], source: Path) -> str:
    if not links:
        raise DescriptionError(f"{source}: the robot has no links")
    children = set()
    for j in joints.values():
        for end in (j.parent, j.child):
            if end not in links:
                raise DescriptionError(f"{source}: joint '{j.name}': {unknown('link', end, links)}")
        if j.parent == j.child:
            raise DescriptionError(f"{source}: joint '{j.name}' connects link '{j.child}' with itself")
        if j.child in children:
            raise DescriptionError(f"{source}: link '{j.child}' is the child of more than one joint")
        if j.mimic:
            leader = joints.get(j.mimic[0])
            if leader is None:
                raise DescriptionError(f"{source}: joint '{j.name}' mimics an {unknown('joint', j.mimic[0], joints)}")
            if leader.mimic or not leader.moves:
                raise DescriptionError(
                    f"{source}: joint '{j.name}' mimics '{leader.name}', which does not move by itself"
                )
        children.add(j.child)
    roots = [name for name in links if name not in children]
    if len(roots) != 1:
        found = ", ".join(roots[:5]) or "none: the joints form a loop"
        raise DescriptionError(f"{source}: a robot has one root link; found {found}")
    return roots[0]


def _drop_unreadable_meshes(tree: ET.Element, source: Path) -> list[str]:
    """Make mesh paths absolute; remove shapes whose mesh is missing or of a kind MuJoCo cannot read."""
    missing: dict[str, None] = {}
    for link in tree.findall("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            mesh = shape.find("geometry/mesh")
            if mesh is None:
                continue
            name = mesh.get("filename", "")
            found = resolve(name, source)
            if found is None or found.suffix.lower() not in MESH_SUFFIXES:
                missing[name] = None
                link.remove(shape)
            else:
                mesh.set("filename", str(found))
    return list(missing)


def resolve(uri: str, source: Path) -> Path | None:
    """Find the file that package://, model://, file:// or a path relative to `source` names; None when it is not here."""
    for scheme in ("package://", "model://"):
        if uri.startswith(scheme):
            package, _, rest = uri[len(scheme) :].partition("/")
            candidates = (share / rest for share in _shares(package, source))
            return next((c for c in candidates if c.is_file()), None)
    path = Path(uri.removeprefix("file://"))
    path = path if path.is_absolute() else source.parent / path
    return path if path.is_file() else None


def _shares(package: str, source: Path) -> Iterator[Path]:
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / package
    for folder in source.resolve().parents:
        if folder.name == package:
            yield folder
        yield folder / package
