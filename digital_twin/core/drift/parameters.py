"""What identification may change of a robot: parameters relative to its URDF and robot config, and a robot with them.

Bodies, friction and rotors become a URDF like the robot's own with other numbers; servos, delay and contacts a robot
config. So whoever takes a robot takes a changed one, and needs to know nothing of this.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.config import param
from digital_twin.core.description import Description, parse_description
from digital_twin.core.drift.inertia import is_consistent, mass_com_inertia, phi, phi_of_body, point_mass
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig, matching
from digital_twin.core.rotation import matrix_from_quat, xyzw_from_wxyz

PAYLOAD_RADIUS = 0.04  # [m] of the ball that stands for what hangs at a frame
_INERTIA = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")


@dataclass(frozen=True)
class BodyChange:
    """A link, with all that is fixed to it: its mass, and its centre of mass and inertia about that in its frame."""

    mass: float = param(doc="of the whole", unit="kg", low=0, high=1e5)
    com: tuple[float, float, float] = param(doc="centre of mass", unit="m")
    inertia: tuple[float, float, float, float, float, float] = param(doc="xx, xy, xz, yy, yz, zz", unit="kg·m²")

    @property
    def phi(self) -> Array:
        """(10,), see core/drift/inertia.py."""
        xx, xy, xz, yy, yz, zz = self.inertia
        return phi(self.mass, np.array(self.com), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))


def body_change(p: Array) -> BodyChange:
    """From φ (10,)."""
    mass, com, inertia = mass_com_inertia(p)
    x, y, z = com.tolist()
    i = [float(inertia[ij]) for ij in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    return BodyChange(mass, (x, y, z), (i[0], i[1], i[2], i[3], i[4], i[5]))


@dataclass(frozen=True)
class JointChange:
    """A joint; None: as the URDF and the robot config say."""

    damping: float | None = param(None, "viscous friction", unit="N·m·s/rad", low=0, high=1e4)
    friction: float | None = param(None, "Coulomb's friction", unit="N·m", low=0, high=1e4)
    armature: float | None = param(None, "rotor's inertia seen through the gear", unit="kg·m²", low=0, high=1e2)
    strength: float | None = param(None, "torque of the motor, 1 as configured", low=0, high=10)
    zero_error: float | None = param(None, "by which positions read too large", unit="rad", low=-1, high=1)


@dataclass(frozen=True)
class Payload:
    """What hangs at a frame."""

    mass: float = param(doc="of it", unit="kg", low=0, high=1e4)
    com: tuple[float, float, float] = param((0.0, 0.0, 0.0), "where it is, in the frame", unit="m")

    @property
    def phi(self) -> Array:
        """(10,) in the frame's axes and about its origin."""
        return np.asarray(self.mass * point_mass(np.array(self.com), PAYLOAD_RADIUS))


@dataclass(frozen=True)
class Changes:
    """All changed parameters."""

    bodies: dict[str, BodyChange] = param({}, "by the link's name")
    joints: dict[str, JointChange] = param({}, "by the joint's name")
    payloads: dict[str, Payload] = param({}, "by the frame's name; on top of the bodies")
    delay: float | None = param(None, "from a command to its torque", unit="s", low=0, high=1)
    contacts: dict[str, dict[str, Any]] = param({}, "as in the robot config, on top of it")

    def joint(self, name: str) -> JointChange:
        """Of a joint; nothing when it is unchanged."""
        return self.joints.get(name, JointChange())

    def with_joint(self, name: str, **values: float) -> Changes:
        """With some numbers of a joint changed."""
        return replace(self, joints=self.joints | {name: replace(self.joint(name), **values)})


def apply(
    changes: Changes, description: Description, config: RobotConfig, where: str = "model"
) -> tuple[Description, RobotConfig]:
    """The robot with these parameters.

    Raises:
        ConfigError: a name that the robot has not, or a body that cannot be.
    """
    model = RobotModel(description, config.base_frame)
    bodies = {model.mj.body(i).name for i in range(1, model.mj.nbody)}
    for kind, names, known in (
        ("link", changes.bodies, bodies), ("joint", changes.joints, model.joint_names),
        ("frame", changes.payloads, model.frames),
    ):  # fmt: skip
        for name in names:
            if name not in known:
                raise ConfigError(f"{where}: {unknown(kind, name, known)}")
    return _description(changes, model, where), _config(changes, model, config)


def _description(changes: Changes, model: RobotModel, where: str) -> Description:
    tree = model.description.tree()
    links = {e.get("name", ""): e for e in tree.findall("link")}
    joints = {e.get("name", ""): e for e in tree.findall("joint")}
    for name, values in _bodies(changes, model).items():
        if not is_consistent(values):
            raise ConfigError(f"{where}: no body can have the mass and inertia of '{name}'")
        body = model.mj.body(name).id
        for i in np.flatnonzero(model.mj.site_bodyid == body):
            fixed = links.get(model.mj.site(i).name)
            for old in [] if fixed is None else fixed.findall("inertial"):
                fixed.remove(old)  # type: ignore[union-attr]
        links[name].append(_inertial(values))
    for name, j in changes.joints.items():
        _set_friction(joints[name], j)
    urdf = ET.tostring(tree, encoding="unicode")
    return parse_description(urdf, model.description.source)


def _bodies(changes: Changes, model: RobotModel) -> dict[str, Array]:
    """φ of each body that is changed, what hangs on it included."""
    out = {name: b.phi for name, b in changes.bodies.items()}
    for frame, payload in changes.payloads.items():
        body, added = payload_on_body(model, frame, payload)
        name = model.mj.body(body).name
        out[name] = out.get(name, phi_of_body(model.mj, body)) + added
    return out


def payload_on_body(model: RobotModel, frame: str, payload: Payload) -> tuple[int, Array]:
    """The number of the body that carries a frame, and the φ (10,) that a payload there adds to it."""
    site = model.frame_id(frame)
    R = matrix_from_quat(xyzw_from_wxyz(model.mj.site_quat[site]))
    at = model.mj.site_pos[site] + R @ np.array(payload.com)
    return int(model.mj.site_bodyid[site]), np.asarray(payload.mass * point_mass(at, PAYLOAD_RADIUS))


def _inertial(values: Array) -> ET.Element:
    b = body_change(values)
    e = ET.Element("inertial")
    ET.SubElement(e, "origin", xyz=" ".join(map(repr, b.com)), rpy="0 0 0")
    ET.SubElement(e, "mass", value=repr(b.mass))
    ET.SubElement(e, "inertia", {key: repr(v) for key, v in zip(_INERTIA, b.inertia, strict=True)})
    return e


def _set_friction(joint: ET.Element, change: JointChange) -> None:
    dynamics = joint.find("dynamics")
    if dynamics is None:
        dynamics = ET.SubElement(joint, "dynamics")
    for key in ("damping", "friction"):
        value = getattr(change, key)
        if value is not None:
            dynamics.set(key, repr(float(value)))


def _config(changes: Changes, model: RobotModel, config: RobotConfig) -> RobotConfig:
    """Joints are added last, since later ones win."""
    joints = {k: v for k, v in config.joints.items() if k not in changes.joints}
    for name, j in changes.joints.items():
        settings, new = config.joint(name), dict(matching(config.joints, name))
        if j.strength is not None:
            new |= {"kp": settings.kp * j.strength, "kd": settings.kd * j.strength}
        for key in ("armature", "zero_error"):
            if getattr(j, key) is not None:
                new[key] = getattr(j, key)
        joints[name] = new
    motors = dict(config.motors)
    if changes.delay is not None:
        for name in model.joint_names:
            motors[name] = matching(config.motors, name) | {"command_delay": changes.delay}
    return replace(config, joints=joints, motors=motors, contacts=config.contacts | changes.contacts)
