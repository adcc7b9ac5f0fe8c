"""Renders the pictures of the documents: python docs/make_pictures.py (needs EGL or OSMesa, and pillow)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
from PIL import Image

from digital_twin.core.gait.episode import Episode, EpisodeConfig
from digital_twin.core.gait.gait_config import robot_gait
from digital_twin.core.model import ROOT_JOINT, build_spec, compile_spec
from digital_twin.core.script import load_script
from digital_twin.core.world import add_world, load_world
from digital_twin.paths import share
from digital_twin.robots import Robot, load_robot

HERE = Path(__file__).parent
WALKED, FRAMES, APART = 3.0, 6, 0.15  # [s] before the first picture, how many, [s] between them


def studio(robot: Robot) -> mujoco.MjModel:
    """The robot in its world, with a sky, a checkered floor and light from two sides."""
    spec = build_spec(robot.description)
    world = load_world(share("worlds/humanoid_world.sdf"))
    add_world(spec, dataclasses.replace(world, shapes=world.shapes[:1]))  # the ground alone
    for g in spec.geoms:
        if not g.name.startswith("world/"):
            g.group = 3 if g.contype else 1
    spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.93, 0.95, 0.97], rgb2=[0.70, 0.78, 0.86], width=256, height=1536)  # fmt: skip
    spec.add_texture(name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.80, 0.82, 0.84], rgb2=[0.74, 0.76, 0.78], width=512, height=512)  # fmt: skip
    floor = spec.add_material(name="floor", texrepeat=[40, 40], reflectance=0.05)
    floor.textures[1] = "floor"
    next(g for g in spec.geoms if g.type == mujoco.mjtGeom.mjGEOM_PLANE).material = "floor"
    for y, strength in ((-2.5, 0.35), (1.5, 0.6)):
        spec.worldbody.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[2.5, y, 4.0], dir=[-0.6, -y / 5, -1.1],
            diffuse=[strength] * 3, castshadow=y > 0,
        )  # fmt: skip
    spec.visual.headlight.ambient = [0.42, 0.42, 0.42]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1600, 1000
    spec.visual.quality.shadowsize = 4096
    return compile_spec(spec, "studio")


def pose(m: mujoco.MjModel, robot: Robot, angles: dict[str, float], x: float, y: float, yaw: float) -> mujoco.MjData:
    """The robot standing on its soles in a pose."""
    d = mujoco.MjData(m)
    q = robot.joints.stand.copy()
    for name, angle in angles.items():
        q[robot.model.joint_index[name]] = angle
    robot.model.write_joints(d.qpos, q)
    root = d.joint(ROOT_JOINT).qpos
    root[:3], root[3:] = (x, y, 0.0), (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
    mujoco.mj_kinematics(m, d)
    root[2] -= min(d.site(f.frame).xpos[2] for f in robot.config.feet)
    mujoco.mj_forward(m, d)
    return d


def walk(robot: Robot, m: mujoco.MjModel) -> None:
    """A strip of a step and a half: the simulated robot walking at 0.5 m/s by the twin's estimate."""
    e = Episode(robot.description, robot.config, robot_gait(robot.config), EpisodeConfig())
    frames: list[np.ndarray] = []
    option, camera, d = mujoco.MjvOption(), mujoco.MjvCamera(), mujoco.MjData(m)
    option.geomgroup[:] = [1, 1, 0, 0, 0, 0]
    option.sitegroup[:] = 0
    camera.distance, camera.azimuth, camera.elevation = 2.6, 115.0, -8.0
    with mujoco.Renderer(m, 480, 250) as renderer:
        while e.result.seconds < WALKED + FRAMES * APART:
            e.advance((0.5, 0.0, 0.0))
            if e.result.seconds >= WALKED + len(frames) * APART:
                d.qpos[:] = e.plant.data.qpos
                mujoco.mj_forward(m, d)
                camera.lookat = [d.qpos[0], d.qpos[1], 0.78]
                renderer.update_scene(d, camera, option)
                frames.append(renderer.render().copy())
    save(Image.fromarray(np.hstack(frames)), "walking.png")


def save(image: Image.Image, name: str) -> None:
    """As a palette, which is a third of the size."""
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def main() -> None:
    """The humanoid in three poses of its script, in one picture; and walking."""
    robot = load_robot()
    m = studio(robot)
    walk(robot, m)
    poses = load_script(share("config/scripts/humanoid.yaml")).poses
    option = mujoco.MjvOption()
    option.geomgroup[:] = [1, 1, 0, 0, 0, 0]
    option.sitegroup[:] = 0
    camera = mujoco.MjvCamera()
    camera.lookat, camera.distance, camera.azimuth, camera.elevation = [0.0, 0.0, 0.80], 2.9, 188.0, -7.0
    with mujoco.Renderer(m, 720, 1440) as renderer:
        scene_from = [("", 0.85, -0.25), ("crouch", 0.0, 0.1), ("arm_over", -0.85, 0.25)]
        renderer.update_scene(pose(m, robot, {}, 0.0, scene_from[0][1], scene_from[0][2]), camera, option)
        for name, y, yaw in scene_from[1:]:
            mujoco.mjv_addGeoms(
                m, pose(m, robot, poses[name], 0.0, y, yaw), option, mujoco.MjvPerturb(), int(mujoco.mjtCatBit.mjCAT_DYNAMIC),
                renderer.scene,
            )  # fmt: skip
        image = Image.fromarray(renderer.render())
    save(image, "humanoid.png")


if __name__ == "__main__":
    main()
