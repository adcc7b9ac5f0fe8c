"""The colour filter array: which colour each photosite sees, and the colour image made from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from digital_twin.core.arrays import Index

MOSAICS = ("rggb", "bggr", "grbg", "gbrg")
PATTERNS = (*MOSAICS, "mono")
# A photosite without a filter sees what the eye calls lightness (ITU-R BT.709).
LUMINANCE = (0.2126, 0.7152, 0.0722)


def site_colours(pattern: str, height: int, width: int) -> Index:
    """0, 1 or 2 (red, green, blue) for each photosite (height, width). A pattern names the upper left four, by rows."""
    tile = np.array(["rgb".index(c) for c in pattern]).reshape(2, 2)
    return np.tile(tile, (-(-height // 2), -(-width // 2)))[:height, :width]


def demosaic(raw: NDArray[np.uint16], pattern: str) -> NDArray[np.uint16]:
    """Bilinear interpolation, as cameras do it themselves: (height, width) to (height, width, 3).

    A missing colour is the mean of its two or four nearest photosites; at the border the image is continued by its
    mirror image, which keeps the pattern. Values must be below 16384, so that four of them can be added.
    """
    height, width = raw.shape
    tall, wide = height + height % 2, width + width % 2
    p = np.pad(raw, ((1, 1 + tall - height), (1, 1 + wide - width)), mode="reflect")

    def at(row: int, column: int) -> NDArray[np.uint16]:
        """One of the four sites of all tiles, shifted."""
        return p[1 + row : 1 + row + tall : 2, 1 + column : 1 + column + wide : 2]

    out = np.empty((tall, wide, 3), dtype=np.uint16)
    for row in (0, 1):
        for column in (0, 1):
            own = pattern[2 * row + column]
            beside, above = pattern[2 * row + 1 - column], pattern[2 * (1 - row) + column]
            left_right = at(row, column - 1) + at(row, column + 1)
            up_down = at(row - 1, column) + at(row + 1, column)
            target = out[row::2, column::2]
            target[..., "rgb".index(own)] = at(row, column)
            if own == "g":
                target[..., "rgb".index(beside)] = (left_right + 1) >> 1
                target[..., "rgb".index(above)] = (up_down + 1) >> 1
            else:
                target[..., 1] = (left_right + up_down + 2) >> 2
                diagonal = at(row - 1, column - 1) + at(row - 1, column + 1)
                diagonal = diagonal + at(row + 1, column - 1) + at(row + 1, column + 1)
                target[..., "rgb".index("b" if own == "r" else "r")] = (diagonal + 2) >> 2
    return out[:height, :width]
