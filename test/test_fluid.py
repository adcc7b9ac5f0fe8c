"""Drag against closed forms."""

import mujoco
import numpy as np
import pytest

from digital_twin.core.fluid import FluidConfig, apply_fluid
from digital_twin.core.scene import SceneBuilder

RADIUS, AIR, VISCOUS = 0.1, 1.204, 1.82e-5


def ball(fluid):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name="ball", pos=[0, 0, 1000])
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0], mass=0.05, contype=2)
    apply_fluid(spec, fluid)
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    mj = spec.compile()
    return mj, mujoco.MjData(mj)


def test_a_ball_falls_no_faster_than_its_drag_allows():
    """At last the weight is rho b A v²; MuJoCo's blunt coefficient b = 0.5 counts without the usual half: c_d = 1."""
    mj, d = ball(FluidConfig(density=AIR, ellipsoid=True))
    mujoco.mj_step(mj, d, nstep=10_000)
    area = np.pi * RADIUS**2
    assert -d.qvel[2] == pytest.approx(np.sqrt(0.05 * 9.81 / (AIR * 0.5 * area)), rel=0.02)


def test_stokes_drag_of_a_ball():
    mj, d = ball(FluidConfig(viscosity=5.0, ellipsoid=True))
    mujoco.mj_step(mj, d, nstep=2_000)
    assert -d.qvel[2] == pytest.approx(0.05 * 9.81 / (6 * np.pi * 5.0 * RADIUS), rel=1e-3)


def test_wind_carries_it_along():
    mj, d = ball(FluidConfig(density=AIR, wind=(4.0, 0.0, 0.0), ellipsoid=True))
    mujoco.mj_step(mj, d, nstep=50_000)
    assert d.qvel[0] == pytest.approx(4.0, rel=0.05)


def test_it_is_off_by_default_and_felt_by_a_robot(robot):
    builder = SceneBuilder(robot.model, robot.config, robot.joints)
    drags = []
    for fluid in (FluidConfig(), FluidConfig(AIR, VISCOUS), FluidConfig(AIR, VISCOUS, ellipsoid=True)):
        spec = builder.build(None, 0.002, 0.0)
        apply_fluid(spec, fluid)
        mj = spec.compile()
        d = mujoco.MjData(mj)
        d.qpos[2], d.qvel[0] = 2.0, 5.0
        mujoco.mj_forward(mj, d)
        drags.append(-d.qfrc_fluid[0])
    assert drags[0] == 0.0
    # A body of about 0.6 m² and c about 1: some newtons at 5 m/s.
    assert 1.0 < drags[1] < 30.0 and 1.0 < drags[2] < 30.0
