"""Contact laws measured in MuJoCo: indentation, bounces and sliding blocks against their closed forms."""

import mujoco
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twin.core.contact_laws import apply_contacts
from digital_twin.core.errors import ConfigError
from digital_twin.core.friction_law import FrictionLaw
from digital_twin.core.scene import SceneBuilder

SPHERE, BOX = mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX
G = 9.81


class Thing:
    """A sphere of radius 0.1 m, or a slab 0.2 by 0.2 by 0.06 m, on a floor, touching it, under the contact settings given."""

    def __init__(self, kind, settings, mass=1.0, step=0.001, gravity=True, world_friction=0.9):
        spec = mujoco.MjSpec()
        spec.worldbody.add_geom(
            name="world/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[50, 50, 1], contype=1, conaffinity=2,
            priority=1, friction=[world_friction, 0.005, 0.0001],
        )  # fmt: skip
        self.height = 0.1 if kind == SPHERE else 0.03
        body = spec.worldbody.add_body(name="thing", pos=[0, 0, self.height])
        body.add_freejoint()
        body.add_geom(type=kind, size=[0.1, 0.1, self.height], mass=mass, contype=2, conaffinity=1)
        spec.option.timestep, spec.option.integrator = step, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        self.touches = apply_contacts(spec, {"thing": settings} if settings else {})
        self.mj = spec.compile()
        self.mj.opt.gravity[2] *= gravity
        self.data = mujoco.MjData(self.mj)

    def depth_under(self, force):
        """How deep it rests [m] under a force from above, its weight included."""
        self.data.xfrc_applied[1, 2] = self.mj.body_mass[1] * -self.mj.opt.gravity[2] - force
        mujoco.mj_step(self.mj, self.data, nstep=round(8.0 / self.mj.opt.timestep))
        assert np.abs(self.data.qvel).max() < 1e-5
        return self.height - self.data.qpos[2]

    def bounce(self, speed):
        """Falls at `speed`; returns the speed after it and how long it touched."""
        self.data.qvel[2] = -speed
        steps = 0
        while self.data.qvel[2] <= 0 or self.data.ncon > 0:
            mujoco.mj_step(self.mj, self.data)
            steps += 1
        return self.data.qvel[2], steps * self.mj.opt.timestep


# Indentation


@pytest.mark.parametrize("step", [0.0005, 0.002])
@pytest.mark.parametrize(("kind", "mass"), [(SPHERE, 0.3), (BOX, 5.0)])
def test_soft_indentation(kind, mass, step):
    thing = Thing(kind, {"law": "soft", "stiffness": 2e4, "damping": 80.0}, mass, step)
    for force in (10.0, 100.0, 500.0):
        assert thing.depth_under(force) == pytest.approx(force / 2e4, rel=1e-3)
    assert thing.data.ncon == (1 if kind == SPHERE else 4), "the pair takes the place of MuJoCo's own contact"


def test_a_patch_is_stiffness_per_area():
    thing = Thing(BOX, {"law": "patch", "stiffness": 1e6, "damping": 4e3}, 3.0)
    assert thing.touches[0].area == pytest.approx(0.04)
    for force in (30.0, 300.0):
        assert thing.depth_under(force) == pytest.approx(force / (1e6 * 0.04), rel=1e-3)


@pytest.mark.parametrize("step", [0.0005, 0.002])
def test_hertz_indentation(step):
    """From 3 % of the greatest load up within 5 %; rubber, E = 5 MPa, incompressible, on something hard."""
    modulus, radius = 5e6 / (1 - 0.5**2), 0.1
    thing = Thing(
        SPHERE, {"law": "hertz", "modulus": modulus, "radius": radius, "damping": 100, "load": 1000.0}, 10, step
    )
    for force in (35.0, 100.0, 300.0, 1000.0):
        depth = thing.depth_under(force)
        assert 4 / 3 * modulus * np.sqrt(radius) * depth**1.5 == pytest.approx(force, rel=0.05), force


def test_a_stiffness_beyond_the_step_is_still_met_at_rest():
    thing = Thing(SPHERE, {"law": "soft", "stiffness": 1e7, "damping": 1e3}, 0.5, 0.002)
    assert thing.touches[0].inertia > 1.0, "bought with inertia of the contact"
    assert thing.depth_under(100.0) == pytest.approx(1e-5, rel=0.01)


# Bounces


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.3])
def test_a_bounce_is_a_damped_oscillation(ratio):
    """Restitution and duration of a contact that ends when its force does (Schwager, Pöschel 2007), without gravity."""
    mass, k = 0.5, 5e3
    c = 2 * ratio * np.sqrt(k * mass)
    thing = Thing(SPHERE, {"law": "soft", "stiffness": k, "damping": c}, mass, 0.0005, gravity=False)
    after, _ = thing.bounce(1.0)
    b = c / (2 * mass)
    w = np.sqrt(k / mass - b * b)
    duration = (np.pi - np.arctan2(2 * b * w, w * w - b * b)) / w
    assert after == pytest.approx(np.exp(-b * duration), rel=0.05)


def test_the_period_of_a_damped_oscillation():
    mass, k, c = 2.0, 1e4, 20.0
    thing = Thing(BOX, {"law": "soft", "stiffness": k, "damping": c}, mass, 0.001)
    thing.depth_under(200.0)
    thing.data.qvel[2] = 0.3  # swings about its rest without leaving the ground
    heights = []
    for _ in range(1000):
        mujoco.mj_step(thing.mj, thing.data)
        heights.append(thing.data.qpos[2])
    x = np.array(heights) - (thing.height - 200.0 / k)
    peaks = 1 + np.flatnonzero((x[1:-1] > x[:-2]) & (x[1:-1] > x[2:]))[:5]
    b = c / (2 * mass)
    between = np.diff(peaks).mean() * 0.001
    assert between == pytest.approx(2 * np.pi / np.sqrt(k / mass - b * b), rel=0.05)
    assert np.log(x[peaks[0]] / x[peaks[-1]]) / ((peaks[-1] - peaks[0]) * 0.001) == pytest.approx(b, rel=0.05)


def test_a_hertzian_bounce_takes_as_long_as_hertz_says():
    """2.94 d / v, with d the greatest depth (m v² / 2 = 2/5 k d^2.5)."""
    mass, k, v = 0.5, 5e5, 1.5
    depth = (1.25 * mass * v * v / k) ** 0.4
    load = k * depth**1.5
    thing = Thing(SPHERE, {"law": "hertz", "stiffness": k, "load": load}, mass, 0.0002, gravity=False)
    after, duration = thing.bounce(v)
    assert after == pytest.approx(v, rel=0.02), "nothing lost"
    assert duration == pytest.approx(2.94 * depth / v, rel=0.05)


# Friction


@pytest.mark.parametrize(
    "law", [{"law": "soft", "stiffness": 5e4, "damping": 400.0}, {"law": "patch", "stiffness": 1e6, "damping": 1e4}]
)
def test_coulombs_sliding_block(law):
    thing = Thing(BOX, law | {"friction": 0.4}, 2.0, 0.001)
    mujoco.mj_step(thing.mj, thing.data, nstep=1000)
    start = thing.data.qpos[0]
    thing.data.qvel[0] = 2.0
    mujoco.mj_step(thing.mj, thing.data, nstep=1500)
    assert thing.data.qpos[0] - start == pytest.approx(2.0**2 / (2 * 0.4 * G), rel=0.02)


def test_the_grounds_friction_stays_where_none_is_given():
    thing = Thing(BOX, {"stiffness": 5e4, "damping": 400.0}, world_friction=0.35)
    assert thing.mj.pair_friction[0, 0] == 0.35


def test_a_standing_block_hardly_creeps_on_a_slope():
    thing = Thing(BOX, {"stiffness": 2e4, "damping": 200.0, "friction": 0.6}, 2.0, 0.002)
    thing.mj.opt.gravity[0] = 0.4 * G
    mujoco.mj_step(thing.mj, thing.data, nstep=1000)
    start = thing.data.qpos[0]
    mujoco.mj_step(thing.mj, thing.data, nstep=1000)
    assert abs(thing.data.qpos[0] - start) / 2.0 < 1e-3, "metres a second"


def slide(thing, speed, seconds, chunk):
    """Where a block is after sliding for some time, its friction renewed every `chunk` steps."""
    law = FrictionLaw(thing.mj, thing.touches)
    mujoco.mj_step(thing.mj, thing.data, nstep=1000)
    thing.data.qvel[0], start = speed, thing.data.qpos[0]
    mujoco.mj_forward(thing.mj, thing.data)
    law.update(thing.mj, thing.data)
    for _ in range(round(seconds / thing.mj.opt.timestep / chunk)):
        mujoco.mj_step(thing.mj, thing.data, nstep=chunk)
        law.update(thing.mj, thing.data)
    return thing.data.qpos[0] - start


def test_stribecks_sliding_block():
    """Grips more and more as it slows down."""
    settings = {"stiffness": 5e4, "damping": 400.0, "friction": 0.8, "kinetic": 0.3, "stribeck": 1.0}
    thing = Thing(BOX, settings, 2.0, 0.001)

    def f(t, y):
        moving = np.tanh(y[1] / 1e-4)
        return [y[1], -moving * G * (0.3 + 0.5 * np.exp(-(y[1] ** 2)))]

    truth = solve_ivp(f, (0, 1.0), [0.0, 2.0], method="Radau", rtol=1e-9, atol=1e-9).y[0, -1]
    assert slide(thing, 2.0, 1.0, 10) == pytest.approx(truth, rel=0.02)
    coulomb = 2.0**2 / (2 * 0.3 * G)
    assert abs(coulomb - truth) > 0.1 * truth, "a difference that shows"


@pytest.mark.parametrize("load", [0.0, 60.0])
def test_friction_that_falls_with_pressure(load):
    settings = {"stiffness": 5e4, "damping": 400.0, "friction": 0.5, "pressure": 500.0, "pressure_exponent": -1 / 3}
    thing = Thing(BOX, settings, 2.0, 0.001)
    thing.data.xfrc_applied[1, 2] = -load
    total = 2.0 * G + load
    mu = 0.5 * (total / 0.04 / 500.0) ** (-1 / 3)
    braking = mu * total / 2.0
    assert slide(thing, 2.0, 1.5, 10) == pytest.approx(2.0**2 / (2 * braking), rel=0.03)
    assert thing.mj.pair_friction[0, 0] == pytest.approx(mu, rel=1e-3)


def test_pressure_after_hertz_is_over_the_circle_of_contact():
    settings = {"law": "hertz", "modulus": 1e6, "radius": 0.1, "damping": 50.0, "friction": 0.6, "pressure": 1e4}
    thing = Thing(SPHERE, settings | {"pressure_exponent": -0.2, "load": 300.0}, 2.0)
    depth = thing.depth_under(200.0)
    FrictionLaw(thing.mj, thing.touches).update(thing.mj, thing.data)
    pressure = 200.0 / (np.pi * 0.1 * depth)
    assert thing.mj.pair_friction[0, 0] == pytest.approx(0.6 * (pressure / 1e4) ** -0.2, rel=1e-3)


def test_coefficients():
    thing = Thing(BOX, {"stiffness": 1e4, "friction": 0.8, "kinetic": 0.5, "stribeck": 0.1}, 2.0)
    law = FrictionLaw(thing.mj, thing.touches)
    assert law.varies
    for v, mu in ((0.0, 0.8), (0.1, 0.5 + 0.3 / np.e), (9.0, 0.5)):
        assert law.coefficient(np.array([v]), np.array([1e4])) == pytest.approx([mu])
    thing.data.qpos[2] = 3.0
    mujoco.mj_forward(thing.mj, thing.data)
    law.update(thing.mj, thing.data)
    assert thing.mj.pair_friction[0, 0] == pytest.approx(0.8), "in the air as at rest"


# On a robot, and nonsense


def test_the_humanoid_stands_on_rubber_soles(robot):
    spec = SceneBuilder(robot.model, robot.config, robot.joints).build(None, 0.002, 0.0)
    touches = apply_contacts(spec, {"*_sole": {"law": "patch", "stiffness": 4e6, "damping": 4e4}})
    assert {t.pair.split("|")[1] for t in touches} == {"world/floor"} and len(touches) == 2
    mj = spec.compile()
    d = mujoco.MjData(mj)
    robot.model.write_joints(d.qpos, robot.joints.stand)
    d.qpos[2] = 0.0
    mujoco.mj_kinematics(mj, d)
    d.qpos[2] -= min(d.site(f.frame).xpos[2] for f in robot.config.feet)
    d.ctrl.reshape(-1, 3)[:, 0] = robot.joints.stand
    mujoco.mj_step(mj, d, nstep=2500)
    mujoco.mj_kinematics(mj, d)
    sunk = -np.mean([d.site(f.frame).xpos[2] for f in robot.config.feet])
    area = touches[0].area
    assert sunk == pytest.approx(robot.model.mass * G / (2 * area * 4e6), rel=0.05)
    assert d.qpos[2] > 0.75


def test_without_settings_nothing_changes(robot):
    builder = SceneBuilder(robot.model, robot.config, robot.joints)
    spec = builder.build(None, 0.002, 0.0)
    assert apply_contacts(spec, {}) == []
    assert spec.to_xml() == builder.build(None, 0.002, 0.0).to_xml()


@pytest.mark.parametrize(
    ("contacts", "what"),
    [
        ({"thong": {}}, r"unknown geometry or link 'thong'; did you mean 'thing'"),
        ({"thing": {"law": "springy"}}, r"'springy' is not one of soft, patch, hertz"),
        ({"thing": {}}, r"the law 'soft' needs a stiffness"),
        ({"thing": {"law": "hertz", "modulus": 1e6}}, r"needs a stiffness, or modulus and radius"),
        ({"thing": {"law": "patch", "stiffness": 1e6}}, r"a patch needs an area"),
        ({"thing": {"stiffness": 1e4, "pressure": 1e4}}, r"depends on pressure needs an area"),
        ({"thing": {"law": "hertz", "stiffness": 1e7, "pressure": 1e4}}, r"depends on pressure needs an area"),
    ],
)
def test_bad_settings_are_refused_in_one_line(contacts, what):
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(name="world/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[50, 50, 1], contype=1)
    body = spec.worldbody.add_body(name="thing")
    body.add_freejoint()
    body.add_geom(type=SPHERE, size=[0.1, 0, 0], contype=2)
    with pytest.raises(ConfigError, match=what):
        apply_contacts(spec, contacts, "mine.yaml")
