"""Robots in the scene: one batch of instances for each mesh, so that a frame is a handful of messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import viser

from digital_twin.core.arrays import Array
from digital_twin.core.figure import Figure
from digital_twin.core.shapes import Part

Pose = tuple[Array, Array, Array]  # position (3,), rotation (3, 3), joints (n,)


class Batches:
    """Copies of a figure below one node of the scene.

    colour: of all of it, RGB; None: each shape's own. opacity: of each copy; None: solid. swell [m]: by which shapes are
    larger than they are, so that a ghost lies over what it is the ghost of.
    """

    def __init__(
        self, server: viser.ViserServer, name: str, parts: Sequence[Part], *, colour: tuple[int, int, int] | None = None,
        opacity: Sequence[float] | None = None, swell: float = 0.0, shadow: bool = False, visible: bool = True,
    ) -> None:  # fmt: skip
        self._copies = len(opacity) if opacity else 1
        self._root = server.scene.add_frame(name, show_axes=False, visible=visible)
        self._handles = []
        for part in parts:
            k, times = len(part.body), self._copies
            extent = np.maximum(np.abs(part.mesh.vertices).max(axis=0) * part.scale, 1e-6)
            scale = part.scale * (1.0 + swell / extent)
            paint = np.tile(np.asarray(colour) / 255.0, (k, 1)) if colour else part.colour
            self._handles.append(
                server.scene.add_batched_meshes_simple(
                    f"{name}/{part.name}", part.mesh.vertices.astype(np.float32), part.mesh.faces,
                    np.tile(part.wxyz, (times, 1)), np.tile(part.position, (times, 1)),
                    batched_scales=np.tile(scale, (times, 1)).astype(np.float32),
                    batched_colors=np.tile((255 * paint).astype(np.uint8), (times, 1)),
                    batched_opacities=np.repeat(np.asarray(opacity, np.float32), k) if opacity and times > 1 else None,
                    opacity=opacity[0] if opacity and times == 1 else (1.0 if opacity else None), lod="off",
                    flat_shading=part.mesh.flat, cast_shadow=shadow, receive_shadow=shadow,
                )
            )  # fmt: skip

    @property
    def visible(self) -> bool:
        """Whether it is there."""
        return bool(self._root.visible)

    @visible.setter
    def visible(self, on: bool) -> None:
        self._root.visible = on

    def move(self, figure: Figure, poses: Sequence[Pose]) -> None:
        """Put each copy into a pose."""
        placed = []
        for position, rotation, q in poses:
            figure.place(position, rotation, q)
            placed.append(figure.poses())
        self.put(placed)

    def put(self, placed: Sequence[list[tuple[Array, Array]]]) -> None:
        """Put each copy where `Figure.poses` says."""
        for i, handle in enumerate(self._handles):
            handle.batched_positions = np.concatenate([p[i][0] for p in placed]).astype(np.float32)
            handle.batched_wxyzs = np.concatenate([p[i][1] for p in placed]).astype(np.float32)
