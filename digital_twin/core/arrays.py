"""Names for the kinds of numpy arrays. Shapes are in the docstrings: (n,), (3, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
