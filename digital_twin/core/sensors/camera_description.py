"""The cameras that a URDF describes: Gazebo's <sensor> elements of type camera, depth_camera and rgbd_camera."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import check_scalar, flatten
from digital_twin.core.errors import ConfigError, one_line, unknown
from digital_twin.core.rotation import rpy_matrix
from digital_twin.core.sensors.camera import KINDS, CameraConfig

# Gazebo's names of older releases.
ALIASES = {"depth": "depth_camera", "rgbd": "rgbd_camera", "wideanglecamera": "camera"}
FRAME_KEYS = ("camera/optical_frame_id", "gz_frame_id", "ignition_frame_id", "camera/optical_frame", "frame_id")
# An axis of the camera as Gazebo has it (x forward, z up) to the optical one (z forward, y down), REP-103.
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class CameraMount:
    """A camera in a URDF.

    Attributes:
        name: unique among the robot's cameras. kind: one of camera, depth_camera, rgbd_camera.
        link: which carries it. position [m] (3,), rotation (3, 3): of the optical frame in that link.
        frame: what images name as their frame; empty when the URDF names none.
        given: what the URDF says of the image: keys of a CameraConfig, those of the lens as "lens.…".
    """

    name: str
    kind: str
    link: str
    position: Array
    rotation: Array
    frame: str
    given: dict[str, object]

    def configure(self, profile: CameraConfig) -> CameraConfig:
        """The profile with what the URDF says in its place.

        Raises:
            ConfigError: naming the camera, the key and what is allowed.
        """
        known = {p.name: p for p in flatten(CameraConfig)}
        for key, value in self.given.items():
            meta, kind = known[key].meta, known[key].kind
            for v in value if isinstance(value, list) else [value]:
                check_scalar(float if isinstance(value, list) else kind, v, meta, f"camera '{self.name}': {key}")
        own = {k: v for k, v in self.given.items() if "." not in k}
        lens = {k.removeprefix("lens."): v for k, v in self.given.items() if "." in k}
        return replace(profile, kind=self.kind, **own, lens=replace(profile.lens, **lens))  # type: ignore[arg-type]


def read_cameras(urdf: ET.Element) -> tuple[list[CameraMount], list[str]]:
    """All cameras of a URDF's <gazebo reference="LINK"><sensor> elements.

    Args:
        urdf: the <robot> element.

    Returns:
        The cameras, and one line for each that cannot be used.
    """
    links = {e.get("name", "") for e in urdf.findall("link")}
    found: list[CameraMount] = []
    problems = []
    for gazebo in urdf.findall("gazebo"):
        for sensor in gazebo.findall("sensor"):
            kind = ALIASES.get(sensor.get("type", ""), sensor.get("type", ""))
            if kind not in KINDS:
                continue
            name = sensor.get("name", "") or "camera"
            try:
                link = gazebo.get("reference", "")
                if link not in links:
                    raise ConfigError(f"camera '{name}': {unknown('link', link, links)}")
                if any(c.name == name for c in found):
                    raise ConfigError(f"camera '{name}': there are two of this name")
                if not name.replace("_", "a").isalnum() or not name.isascii() or name[0].isdigit():
                    raise ConfigError(
                        f"camera '{name}': its name cannot be part of a topic: letters, digits and _ only"
                    )
                found.append(_mount(sensor, name, kind, link))
            except ConfigError as e:
                problems.append(str(e))
    return found, problems


def _mount(sensor: ET.Element, name: str, kind: str, link: str) -> CameraMount:
    where = f"camera '{name}'"
    pose = _numbers(sensor.findtext("pose"), 6, f"{where}: pose")
    own = _numbers(sensor.findtext("camera/pose"), 6, f"{where}: camera pose")
    R = rpy_matrix(pose[3:])
    position, body = pose[:3] + R @ own[:3], R @ rpy_matrix(own[3:])
    frame = next((text.strip() for key in FRAME_KEYS if (text := sensor.findtext(key))), "")
    given: dict[str, object] = {}
    for key, path, of in (
        ("width", "camera/image/width", int), ("height", "camera/image/height", int), ("near", "camera/clip/near", float),
        ("far", "camera/clip/far", float), ("horizontal_fov", "camera/horizontal_fov", float), ("rate", "update_rate", float),
    ):  # fmt: skip
        text = sensor.findtext(path)
        if text is not None and text.strip():
            value = _numbers(text, 1, f"{where}: {path}")[0]
            given[key] = int(value) if of is int else float(value)
    _distortion(sensor, where, given)
    return CameraMount(name, kind, link, position, body @ R_BODY_OPTICAL, frame, given)


def _distortion(sensor: ET.Element, where: str, given: dict[str, object]) -> None:
    """<distortion> holds Brown's k1 k2 k3 p1 p2, which CameraInfo orders k1 k2 p1 p2 k3."""
    element = sensor.find("camera/distortion")
    if element is None:
        return
    d = [_numbers(element.findtext(key), 1, f"{where}: {key}")[0] for key in ("k1", "k2", "p1", "p2", "k3")]
    given["lens.model"] = "plumb_bob" if any(d) else "none"
    given["lens.coefficients"] = [float(x) for x in d] if any(d) else []


def _numbers(text: str | None, count: int, where: str) -> Array:
    """Numbers in an element's text; zeros when there is none."""
    if text is None or not text.strip():
        return np.zeros(count)
    try:
        values = np.array([float(x) for x in text.split()])
    except ValueError as e:
        raise ConfigError(f"{where}: '{text.strip()}' are not numbers ({one_line(e)})") from e
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ConfigError(f"{where}: expected {count} finite numbers, got '{text.strip()}'")
    return values
