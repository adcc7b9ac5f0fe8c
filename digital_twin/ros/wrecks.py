"""Simulations that diverged, kept so that they can be made again.

with np.load(path, allow_pickle=False) as w:
    Path("model.mjb").write_bytes(w["model"].tobytes())   # mujoco.MjModel.from_binary_path
    w["state"], w["controls"]                             # mjSTATE_FULLPHYSICS to start from, controls of each step
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from digital_twin.core.forecaster import DivergedError

MOST = 10  # files; the first ones tell most


def keep_wreck(folder: str, stamp_ns: int, model: mujoco.MjModel, e: DivergedError) -> Path | None:
    """Write the model, the state and the controls that diverged; None when there are enough, or it cannot be written."""
    where = Path(folder).expanduser() if folder else Path.home() / ".ros" / "digital_twin"
    path = where / f"diverged-{stamp_ns}.npz"
    try:
        where.mkdir(parents=True, exist_ok=True)
        if len(list(where.glob("diverged-*.npz"))) >= MOST:
            return None
        binary = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, binary)
        np.savez_compressed(path, model=binary, state=e.state, controls=e.controls)
    except OSError:
        return None
    return path
