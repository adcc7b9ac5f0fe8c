"""What cameras see: the robot in its world, placed where the twin says it is, lit by a sun and a sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError, DescriptionError
from digital_twin.core.model import ROOT_JOINT, RobotModel, build_spec, compile_spec
from digital_twin.core.rotation import exp_so3, quat_from_matrix, wxyz_from_xyzw
from digital_twin.core.scene import SHAPE_GROUP, VISUAL_GROUP, WORLD_GROUP
from digital_twin.core.sensors.camera import Camera
from digital_twin.core.sensors.camera_description import CameraMount
from digital_twin.core.sensors.optics import Pinhole
from digital_twin.core.world import World, add_world

# MuJoCo's cameras look along their −z with y up, optical frames along z with y down.
R_OPTICAL_MUJOCO = np.diag([1.0, -1.0, -1.0])
TILE = 0.5  # [m] side of the squares on a floor without texture of its own
SHOWN = [WORLD_GROUP, VISUAL_GROUP]


@dataclass(frozen=True)
class TwinPose:
    """Where the virtual robot is, and how it moves: joints (n,), base frame in the world, twist in the base frame."""

    stamp_ns: int
    q: Array
    qd: Array
    position: Array
    rotation: Array
    velocity: Array
    angular_velocity: Array


def mount_problem(mount: CameraMount, model: RobotModel) -> str:
    """Why a camera cannot be mounted on this robot, in one line that names it; empty when it can."""
    for frame in filter(None, (mount.link, mount.frame)):
        try:
            model.frame_id(frame)
        except DescriptionError as e:
            return f"camera '{mount.name}': {e}"
    return ""


def frame_note(mount: CameraMount, model: RobotModel) -> str:
    """A warning when images name a frame that does not lie as REP-103 wants it; empty when all is well."""
    m, named = model.mj, mount.frame or mount.link
    site, link = model.frame_id(named), model.frame_id(mount.link)
    if m.site_bodyid[site] == m.site_bodyid[link]:
        R_body_named, R_body_optical = _rotation(m, site), _rotation(m, link) @ mount.rotation
        if np.abs(R_body_named - R_body_optical).max() < 0.02:
            return ""
    return f"camera '{mount.name}': frame '{named}' is not its optical frame (z forward, x right, y down)"


def _rotation(m: mujoco.MjModel, site: int) -> Array:
    """R_body_site (3, 3)."""
    R = np.empty(9)
    mujoco.mju_quat2Mat(R, m.site_quat[site])
    return R.reshape(3, 3)


class CameraScene:
    """The robot, its world and its cameras as one MuJoCo model.

    Attributes:
        mj: the model; its cameras are in the order that they were given in.
    """

    def __init__(
        self,
        model: RobotModel,
        world: World | None,
        cameras: list[tuple[CameraMount, Camera]],
        *,
        shadows: bool = False,
    ) -> None:
        """`world`: None: nothing but the robot. Raises ConfigError when the robot cannot be posed in it."""
        self._model = model
        spec = build_spec(model.description)
        _choose_shapes(spec)
        if world is not None:
            add_world(spec, world)
            for g in spec.geoms:
                if g.name.startswith("world/"):
                    g.group = WORLD_GROUP
        _light(spec, shadows=shadows)
        for i, (mount, camera) in enumerate(cameras):
            self._add_camera(spec, i, mount, camera.optics.source)
        self.mj = compile_spec(spec, model.description.source)
        if self.mj.nq != model.mj.nq:
            raise ConfigError(f"{model.description.source}: its shapes change its joints")
        self._data = mujoco.MjData(self.mj)
        self._root = model.kinematics([model.description.root])
        self._free = self.mj.joint(ROOT_JOINT).qposadr[0]

    def _add_camera(self, spec: mujoco.MjSpec, i: int, mount: CameraMount, source: Pinhole) -> None:
        m = self._model.mj
        site = self._model.frame_id(mount.link)
        R_body_link = _rotation(m, site)
        spec.body(m.body(m.site_bodyid[site]).name).add_camera(
            name=f"camera/{i}",
            pos=m.site_pos[site] + R_body_link @ mount.position,
            quat=wxyz_from_xyzw(quat_from_matrix(R_body_link @ mount.rotation @ R_OPTICAL_MUJOCO)),
            fovy=math.degrees(source.fovy),
        )

    def place(self, pose: TwinPose, ahead: float = 0.0) -> mujoco.MjData:
        """The scene as it is `ahead` [s] after the pose, at its speeds; valid until the next call."""
        d = self._data
        q = pose.q + ahead * pose.qd
        self._model.write_joints(d.qpos, q)
        rotation = pose.rotation @ exp_so3(ahead * pose.angular_velocity)
        position = pose.position + ahead * (pose.rotation @ pose.velocity)
        self._root.update(q)
        i = self._free
        d.qpos[i : i + 3] = position + rotation @ self._root.position[0]
        d.qpos[i + 3 : i + 7] = wxyz_from_xyzw(quat_from_matrix(rotation @ self._root.rotation[0]))
        mujoco.mj_kinematics(self.mj, d)
        mujoco.mj_camlight(self.mj, d)
        return d

    def motion(self, camera: int, image: Pinhole, pose: TwinPose, span: float) -> float:
        """How far the image moves during a span of time around the pose [px]: the fastest middle of a shape in view.

        Turning the camera moves the far away as well, so that a point at infinity on its axis is looked at too.
        """
        before, turned = self._seen(camera, pose, -span / 2)
        after, turned_after = self._seen(camera, pose, span / 2)
        turn = float(np.arccos(np.clip((np.trace(turned.T @ turned_after) - 1.0) / 2.0, -1.0, 1.0)))
        half = np.array([image.width, image.height]) / (2.0 * image.focal)
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:]
            in_view = (before[:, 2] > 0.05) & (after[:, 2] > 0.05) & (np.abs(a) < half).all(axis=1)
        moved = np.hypot(*(a - b)[in_view].T)
        return image.focal * max(turn, float(moved.max(initial=0.0)))

    def _seen(self, camera: int, pose: TwinPose, ahead: float) -> tuple[Array, Array]:
        """Middles of all shapes in the camera's optical frame (k, 3), and its attitude (3, 3)."""
        d = self.place(pose, ahead)
        R = d.cam_xmat[camera].reshape(3, 3) @ R_OPTICAL_MUJOCO
        return (d.geom_xpos - d.cam_xpos[camera]) @ R, R


def _choose_shapes(spec: mujoco.MjSpec) -> None:
    """What a link looks like is shown; where a URDF does not say, what it collides with."""
    for body in spec.bodies:
        visible = any(g.contype == 0 for g in body.geoms)
        for g in body.geoms:
            g.group = SHAPE_GROUP if g.contype != 0 and visible else VISUAL_GROUP


def _light(spec: mujoco.MjSpec, *, shadows: bool) -> None:
    """A sun from the side, a sky, and floors with squares, without which a floor looks the same from everywhere."""
    kinds = mujoco.mjtTexture
    spec.add_texture(name="camera/sky", type=kinds.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.80, 0.87, 0.94], rgb2=[0.55, 0.65, 0.76], width=128, height=768)  # fmt: skip
    spec.add_texture(name="camera/floor", type=kinds.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[1.0, 1.0, 1.0], rgb2=[0.78, 0.78, 0.78], width=256, height=256)  # fmt: skip
    for i, g in enumerate(spec.geoms):
        if g.type == mujoco.mjtGeom.mjGEOM_PLANE:
            # With texuniform a square is 1/texrepeat metres wide.
            material = spec.add_material(
                name=f"camera/floor{i}", rgba=g.rgba, texrepeat=[1.0 / TILE] * 2, texuniform=True
            )
            material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "camera/floor"
            g.material = f"camera/floor{i}"
    spec.worldbody.add_light(
        name="camera/sun", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0.0, 0.0, 10.0], dir=[-0.4, 0.2, -0.9],
        diffuse=[0.6] * 3, specular=[0.1] * 3, castshadow=shadows,
    )  # fmt: skip
    spec.visual.headlight.ambient = [0.38] * 3
    spec.visual.headlight.diffuse = [0.1] * 3
    spec.visual.headlight.specular = [0.0] * 3
