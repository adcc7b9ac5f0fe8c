"""Simulates a scene with motors, heat, battery and changing friction: MuJoCo by chunks, and what it has not between them."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco import rollout

from digital_twin.core.arrays import Array
from digital_twin.core.friction_law import FrictionLaw
from digital_twin.core.power_flow import PowerState
from digital_twin.core.powertrain import Powertrain

# How often what MuJoCo has not is renewed [s]: heat and battery are slow, and exact over a chunk; friction lags by one.
CHUNK, FRICTION_CHUNK = 0.1, 0.02


def begin(mj: mujoco.MjModel, power: Powertrain, state: PowerState, start: Array, efforts: Array) -> Array:
    """A full physics state (size,) to start from: `start` with currents that give the motors' torques [N m] (n,).

    Loads `state` into `mj` first, for its torque limits.
    """
    power.load(mj, state)
    ready: Array = start.copy()
    act = 1 + mj.nq + mj.nv
    ready[act : act + mj.na] = power.activations(mj, efforts, power.speeds(mj, start))
    return ready


def simulate(
    mj: mujoco.MjModel, data: mujoco.MjData, power: Powertrain, state: PowerState, start: Array, controls: Array,
    friction: FrictionLaw | None = None, warmstart: Array | None = None, chunk: float = 0.0,
) -> tuple[Array, PowerState]:  # fmt: skip
    """Roll a fitted scene out and let its motors warm up, its battery run down and its friction change on the way.

    Args:
        mj: compiled after Powertrain.fit; its motor (and friction) parameters are written. data: memory for it.
        state: of motors and battery at the start. start: full physics state (size,); see `begin`.
        controls: (steps, nu). friction: of the scene's contacts, when it varies. warmstart: (nv,) of the solver.
        chunk: how often what MuJoCo has not is renewed [s]; 0: CHUNK, or FRICTION_CHUNK when friction varies.

    Returns:
        states after each step (steps, size), and the motors' and battery's states after each chunk (chunks, …).
    """
    h = mj.opt.timestep
    varies = friction is not None and friction.varies
    k = max(1, round((chunk or (FRICTION_CHUNK if varies else CHUNK)) / h))
    states = np.empty((len(controls), len(start)))
    now, history = start, []
    for a in range(0, len(controls), k):
        power.load(mj, state)
        given = None if warmstart is None else warmstart[None]
        piece, _ = rollout.rollout(mj, data, now[None], controls[None, a : a + k], initial_warmstart=given)
        states[a : a + k] = piece[0]
        now, warmstart = piece[0, -1], data.qacc_warmstart.copy()
        state = power.advance(state, power.currents(mj, piece[0]), power.speeds(mj, piece[0]), h)
        history.append(state)
        if friction is not None:
            friction.update(mj, data)
    return states, PowerState(*(np.stack(field) for field in zip(*history, strict=True)))
