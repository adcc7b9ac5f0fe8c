"""Chunks are seamless, and what changes between them is felt."""

import mujoco
import numpy as np
import pytest
from conftest import needs_icub

from digital_twin.core.contact_laws import apply_contacts
from digital_twin.core.friction_law import FrictionLaw
from digital_twin.core.model import compile_spec
from digital_twin.core.multiphysics import begin, simulate
from digital_twin.core.powertrain import Powertrain
from digital_twin.core.scene import SceneBuilder

STEP = 0.002
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Scene:
    """The humanoid with motors, at ease on a bare floor, having settled for a second."""

    def __init__(self, robot, contacts=None):
        spec = SceneBuilder(robot.model, robot.config, robot.joints).build(None, STEP, 0.0)
        touches = apply_contacts(spec, contacts or {})
        self.power = Powertrain(robot.model, robot.config, robot.joints, robot.where)
        self.power.fit(spec)
        self.mj = compile_spec(spec, robot.where)
        self.data = d = mujoco.MjData(self.mj)
        self.friction = FrictionLaw(self.mj, touches)
        robot.model.write_joints(d.qpos, robot.joints.stand)
        mujoco.mj_kinematics(self.mj, d)
        d.qpos[2] -= min(d.site(f.frame).xpos[2] for f in robot.config.feet) - 0.001
        d.ctrl.reshape(-1, 3)[:, 0] = robot.joints.stand
        self.state = self.power.start()
        self.power.load(self.mj, self.state)
        mujoco.mj_step(self.mj, d, nstep=500)
        self.start, self.warm = np.empty(mujoco.mj_stateSize(self.mj, FULL)), d.qacc_warmstart.copy()
        mujoco.mj_getState(self.mj, d, self.start, FULL)
        self.controls = np.tile(d.ctrl, (200, 1))
        self.controls[100:].reshape(100, -1, 3)[:, robot.model.joint_index["l_elbow"], 0] -= 0.4

    def run(self, **options):
        args = {"warmstart": self.warm} | options
        return simulate(self.mj, self.data, self.power, self.state, self.start, self.controls, **args)


@pytest.fixture(scope="module")
def scene(robot):
    return Scene(robot)


def test_it_is_a_loop_of_steps_and_renewals(scene):
    states, power = scene.run(chunk=0.02)
    m, d, state = scene.mj, scene.data, scene.state
    mujoco.mj_setState(m, d, scene.start, FULL)
    d.qacc_warmstart[:] = scene.warm
    row = np.empty_like(scene.start)
    for a in range(0, 200, 10):
        scene.power.load(m, state)
        mine = np.empty((10, len(row)))
        for k in range(10):
            d.ctrl[:] = scene.controls[a + k]
            mujoco.mj_step(m, d)
            mujoco.mj_getState(m, d, mine[k], FULL)
        assert np.array_equal(mine, states[a : a + 10])
        state = scene.power.advance(state, scene.power.currents(m, mine), scene.power.speeds(m, mine), STEP)
        for ours, theirs in zip(state, power, strict=True):
            assert np.array_equal(ours, theirs[a // 10])


def test_the_length_of_a_chunk_matters_little(scene):
    (fine, power), (coarse, other) = scene.run(chunk=0.002), scene.run(chunk=0.1)
    assert np.abs(fine[-1, 1 : 1 + scene.mj.nq] - coarse[-1, 1 : 1 + scene.mj.nq]).max() < 1e-5
    assert np.abs(power.winding[-1] - other.winding[-1]).max() < 1e-3
    assert power.energy[-1] == pytest.approx(other.energy[-1], rel=1e-3)
    assert (np.diff(power.energy) > 0).all() and (np.diff(power.charge) < 0).all()


def test_motors_that_are_too_hot_let_the_robot_sink(scene):
    upright, _ = scene.run()
    hot = scene.power.start(124.0)
    states, _ = simulate(scene.mj, scene.data, scene.power, hot, scene.start, scene.controls, warmstart=scene.warm)
    assert states[-1, 3] < upright[-1, 3] - 0.05


def test_it_begins_with_the_torques_that_were_measured(scene):
    mujoco.mj_setState(scene.mj, scene.data, scene.start, FULL)
    currents = scene.power.currents(scene.mj, scene.start[None])[0]
    blank = scene.start.copy()
    blank[1 + scene.mj.nq + scene.mj.nv :] = 0.0
    ready = begin(scene.mj, scene.power, scene.state, blank, scene.power.motors.K * currents)
    assert not blank[1 + scene.mj.nq + scene.mj.nv :].any()
    assert scene.power.currents(scene.mj, ready[None])[0] == pytest.approx(currents)


def test_friction_is_renewed_on_the_way(robot):
    scene = Scene(
        robot, {"*_sole": {"law": "patch", "stiffness": 4e6, "damping": 4e4, "friction": 0.9, "kinetic": 0.2}}
    )
    scene.start[1 + scene.mj.nq] += 1.5  # a shove to the front, feet and all
    slip = slice(1 + scene.mj.nq, 1 + scene.mj.nq + 3)
    rough, _ = scene.run()
    smooth, _ = scene.run(friction=scene.friction)
    assert not np.array_equal(rough[-1, slip], smooth[-1, slip])
    assert scene.mj.pair_friction[:, 0].min() < 0.9


@needs_icub
def test_any_humanoid_has_motors_and_soles(icub):
    """iCub: no config of its own, meshes that are not here, other joints and limits."""
    scene = Scene(icub, {"*_sole": {"law": "patch", "stiffness": 4e6, "damping": 4e4}})
    states, power = scene.run()
    assert np.isfinite(states).all() and np.isfinite(np.concatenate([np.ravel(f) for f in power])).all()
    assert states[-1, 3] == pytest.approx(scene.start[3], abs=0.02), "it stands"
