"""Names for the kinds of numpy arrays. Shapes are in the docstrings: (n,), (3, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]


def or_zero(x: Array) -> Array:
    """x, and zero where it is not known (NaN); takes a quarter of what numpy's more general nan_to_num does."""
    return np.where(np.isnan(x), 0.0, x)
