"""Headless rendering with MuJoCo: an OpenGL context wherever one can be had, and images with their depth."""

from __future__ import annotations

import os
import sys
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from digital_twin.core.errors import TwinError, one_line
from digital_twin.core.sensors.optics import Pinhole

BACKENDS = ("egl", "osmesa")
HINT = "install libegl1 and libgl1-mesa-dri, or libosmesa6 (Debian's names)"
# A mean over four points of each pixel; more costs a software renderer dear.
SAMPLES = 4
# MuJoCo's sky has a depth of its own, about half of the far plane's: that one is moved out until the sky is beyond.
SKY = 5.0


class RenderingError(TwinError):
    """Nothing can be rendered here."""


def open_context(width: int, height: int) -> tuple[Any, str]:
    """An OpenGL context that needs no screen, and the name of what gave it: egl, else osmesa.

    The environment variable MUJOCO_GL, where it names one of them, allows no other.

    Raises:
        RenderingError: with the reason of each.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    reasons = []
    for backend in [chosen] if chosen in BACKENDS else BACKENDS:
        try:
            return _open(backend, width, height), backend
        except Exception as e:  # a missing library shows as almost anything
            reasons.append(f"{backend}: {one_line(e)}")
    raise RenderingError(f"no OpenGL to render with ({'; '.join(reasons)}); {HINT}")


def _open(backend: str, width: int, height: int) -> Any:
    """PyOpenGL binds itself to one platform when it is first imported; to try another it is forgotten."""
    other = next(b for b in BACKENDS if b != backend)
    if os.environ.get("PYOPENGL_PLATFORM") == other:
        del os.environ["PYOPENGL_PLATFORM"]
        for name in [m for m in sys.modules if m == "OpenGL" or m.startswith(("OpenGL.", f"mujoco.{other}"))]:
            del sys.modules[name]
    if backend == "egl":
        from mujoco.egl import GLContext
    else:
        from mujoco.osmesa import GLContext
    context = GLContext(width, height)
    context.make_current()
    return context


class Renderer:
    """Renders one model for several cameras, in the thread that made it.

    Attributes:
        backend: egl or osmesa.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, *, shadows: bool = False) -> None:
        """`width` and `height` [px] are those of the largest image. Raises RenderingError."""
        self._model = model
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.vis.quality.offsamples = SAMPLES
        self._gl, self.backend = open_context(width, height)
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        except mujoco.FatalError as e:
            self._gl.free()
            raise RenderingError(f"{self.backend} cannot render: {one_line(e)}") from e
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=max(1000, 2 * model.ngeom))
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def show(self, groups: list[int]) -> None:
        """Show only geoms of these groups, and no sites."""
        self._option.geomgroup[:] = [i in groups for i in range(6)]
        self._option.sitegroup[:] = 0

    def render(
        self, data: mujoco.MjData, camera: int, image: Pinhole, near: float, far: float, *, colour: bool, depth: bool
    ) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
        """One look through a camera of the model whose fovy is that of `image`.

        Args:
            data: with positions of all geoms and cameras.
            near, far: depths [m]: nothing nearer is drawn, nothing farther has a depth.

        Returns:
            RGB (height, width, 3) and depth along the axis [m] (height, width), inf where there is nothing; None for
            what was not asked.
        """
        m = self._model
        m.vis.map.znear, m.vis.map.zfar = near / m.stat.extent, SKY * far / m.stat.extent
        self._gl.make_current()  # others may render in this thread too
        self._camera.fixedcamid = camera
        mujoco.mjv_updateScene(m, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        viewport = mujoco.MjrRect(0, 0, image.width, image.height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        rgb = np.empty((image.height, image.width, 3), dtype=np.uint8) if colour else None
        z = np.empty((image.height, image.width), dtype=np.float32) if depth else None
        mujoco.mjr_readPixels(rgb, z, viewport, self._context)
        # OpenGL counts rows from below.
        if z is not None:
            z = metres(z[::-1], near, SKY * far)
            z[z > far] = np.inf
        return (None if rgb is None else rgb[::-1]), z

    def close(self) -> None:
        """Free the context; nothing can be rendered afterwards."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def metres(buffer: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """Depth buffer with 1 at the near and 0 at the far plane to depth along the axis [m]; inf at the far plane."""
    with np.errstate(divide="ignore"):
        inverse = buffer.astype(np.float64) * (1.0 / near - 1.0 / far) + 1.0 / far
        out = (1.0 / inverse).astype(np.float32)
    out[buffer <= 0.0] = np.inf
    return out
