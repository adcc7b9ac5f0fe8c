"""What the humanoid's cameras see of the package's world, kept as digits: a change of the whole chain shows here.

Blocks of 16 pixels. Colour: brightness in tenths of full scale, after lens, sensor and response. Depth: in steps of 55 cm; holes
are dots. Renderers round edges differently, so a block may be off by one, and one in fifty by more.
"""

from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

from digital_twin.cameras import make_cameras, robot_cameras
from digital_twin.core.rotation import exp_so3
from digital_twin.core.sensors.camera import Camera, CameraConfig, ExposureConfig
from digital_twin.core.sensors.camera_scene import SHOWN, CameraScene, TwinPose
from digital_twin.core.sensors.depth_camera import DepthConfig
from digital_twin.core.sensors.optics import LensConfig
from digital_twin.core.sensors.rendering import Renderer, RenderingError
from digital_twin.core.world import load_world

BLOCK = 16
COLOUR = """
44555555555555555544
22222233333333222222
22222333333333322222
22223333333333332222
22233333333333333222
22233333333333333222
22233333333333333221
22233333333333333221
33334444554444444331
34433466556655555431
43222256665556644431
44211155555555555421
43211154456664445511
44423455555555554322
44433455554444554333
"""
DEPTH = """
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666666
66666666666666666665
65443466666666666664
54333355555555555554
44333344444444444443
44333344444444444443
33333333333333333333
33333333333333333333
"""


@pytest.fixture(scope="module")
def seen(robot):
    """Colour and depth as digits, of a camera that is made for this test and looks from the humanoid's head."""
    mounts, _ = robot_cameras()
    cameras, _ = make_cameras(mounts, robot.model, {}, seed=1)
    config = CameraConfig(
        kind="rgbd_camera", lens=LensConfig("plumb_bob", [-0.2, 0.05]), exposure=replace(ExposureConfig(), auto=False, time=0.03),
        depth=replace(DepthConfig(), edge_loss=0.0),
    )  # fmt: skip
    camera = Camera(config, "golden", 1)
    mount = cameras[0][0]
    scene = CameraScene(robot.model, load_world(REPOSITORY / "worlds/humanoid_world.sdf"), [(mount, camera)])
    source, n = camera.optics.source, robot.model.n
    try:
        renderer = Renderer(scene.mj, source.width, source.height)
    except RenderingError as e:
        pytest.skip(str(e))
    renderer.show(SHOWN)
    pose = TwinPose(
        0,
        robot.joints.stand,
        np.zeros(n),
        np.array([0.0, 0.0, 0.82]),
        exp_so3(np.array([0.0, 0.3, 0.0])),
        np.zeros(3),
        np.zeros(3),
    )
    rgb, z = renderer.render(scene.place(pose), 0, source, 0.05, 50.0, colour=True, depth=True)
    renderer.close()
    colour = camera.colour(camera.raw([rgb])).astype(float).mean(axis=2)
    return digits(colour / 25.6), digits(camera.depth(z) / 0.55)


def digits(x):
    """Means of blocks, as lines of digits; dots where more than half of a block is nothing."""
    h, w = x.shape
    blocks = x.reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).swapaxes(1, 2).reshape(h // BLOCK, w // BLOCK, -1)
    known = np.isfinite(blocks) & (blocks > 0)
    mean = np.where(known, blocks, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    return [
        "".join("." if k < 0.5 else str(min(int(v), 9)) for v, k in zip(*row, strict=True))
        for row in zip(mean, known.mean(axis=2), strict=True)
    ]


def levels(lines):
    return np.array([[-9 if c == "." else int(c) for c in line] for line in lines])


@pytest.mark.parametrize(("kind", "golden"), [(0, COLOUR), (1, DEPTH)], ids=["colour", "depth"])
def test_the_world_looks_as_it_did(seen, kind, golden):
    got = seen[kind]
    off = np.abs(levels(got) - levels(golden.split()))
    assert np.mean(off > 1) < 0.02 and np.mean(off > 0) < 0.1, "\n".join(["now:", *got])
