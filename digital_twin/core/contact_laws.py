"""Contact laws in physical units, made of MuJoCo's soft constraints.

A contact at depth r with impedance d(r) obeys f = d / ((1 − d) Â) · (k d(r)/d_w² r + b/d_w v − a), with Â the inverse
mass that MuJoCo takes for the constraint (the sum of both bodies' translational body_invweight0) and a the relative
acceleration: a spring and a damper, and an inertia d / ((1 − d) Â) that the real contact has not. At rest a = 0, so the
static law is met exactly whatever d. A small d makes the inertia negligible; it is taken no smaller than the step can
follow, so that a contact too stiff for the step rests where it should and is heavy and dead in a bounce. Friction has
no spring in MuJoCo but a damper; how little a standing foot creeps is `impratio`'s doing.
"""

from __future__ import annotations

import fnmatch
from typing import Any

import mujoco
import numpy as np
from scipy.optimize import minimize

from digital_twin.core.arrays import Array
from digital_twin.core.config import build
from digital_twin.core.contact_config import ContactConfig
from digital_twin.core.errors import ConfigError, unknown
from digital_twin.core.friction_law import Touch
from digital_twin.core.model import compile_spec

LEAST_INERTIA = 0.02  # of the contact, as a share of the bodies' own
STEP_STIFFNESS, STEP_DAMPING = 0.5, 0.5  # k h² / m and c h / m that an explicit step follows well
CREEP_RATIO = 20.0  # impratio times the inertia's share: friction this many times stiffer than the body is heavy
_BEYOND = 1.1  # Hertz's law is fitted up to this many times the load; from there on the force is linear
_SHARP = 1e-4  # MuJoCo's least midpoint of an impedance: a curve that is concave throughout
_G = mujoco.mjtGeom
_POINTS = {_G.mjGEOM_SPHERE: 1, _G.mjGEOM_ELLIPSOID: 1, _G.mjGEOM_CAPSULE: 2}  # of contact; others: 4


def apply_contacts(
    spec: mujoco.MjSpec, contacts: dict[str, dict[str, Any]], where: str = "robot config"
) -> list[Touch]:
    """Give pairs of geometries of a scene (SceneBuilder.build) their own contact laws, in place. Then compile it.

    Args:
        contacts: pattern → keys of ContactConfig; a pattern may match a geometry, its link, or a shape of the world
            (world/…). What several patterns say of one pair is merged, later ones win. Empty: nothing changes.

    Returns:
        the pairs, for FrictionLaw.

    Raises:
        ConfigError: a pattern that matches nothing, or a law that lacks a number.
        DescriptionError: the scene does not compile.
    """
    if not contacts:
        return []
    robot = [g for g in spec.geoms if g.contype != 0 and not g.name.startswith("world/")]
    ground = [g for g in spec.geoms if g.name.startswith("world/")]
    for i, g in enumerate(robot):
        g.name = g.name or f"{g.parent.name}/shape{i}"
    mj = compile_spec(spec.copy(), where)
    names = {g.name: _names(mj, g.name) for g in robot} | {g.name: [g.name] for g in ground}
    every = {n for group in names.values() for n in group}
    for pattern in contacts:
        if not fnmatch.filter(every, pattern):
            raise ConfigError(f"{where}: contacts: {unknown('geometry or link', pattern, every)}")
    touches = []
    for g in robot:
        for w in ground:
            said = [v for p, v in contacts.items() if fnmatch.filter([*names[g.name], *names[w.name]], p)]
            if said:
                what = f"{where}: contact of {g.name} and {w.name}"
                merged = {key: value for values in said for key, value in values.items()}
                touches.append(_add_pair(spec, mj, g, w, build(ContactConfig, merged, what), what))
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    least = min(t.inertia for t in touches) if touches else np.inf
    spec.option.impratio = max(spec.option.impratio, CREEP_RATIO / least)
    return touches


def _names(mj: mujoco.MjModel, geom: str) -> list[str]:
    """What a geometry is called: its own name, its body's, and those of the links merged into that."""
    body = int(mj.geom(geom).bodyid[0])
    return [geom, mj.body(body).name, *(mj.site(i).name for i in np.flatnonzero(mj.site_bodyid == body))]


def _add_pair(
    spec: mujoco.MjSpec, mj: mujoco.MjModel, g: mujoco.MjsGeom, w: mujoco.MjsGeom, c: ContactConfig, what: str
) -> Touch:
    points = min(_POINTS.get(_G(shape.type), 4) for shape in (g, w))
    mobility = float(sum(mj.body_invweight0[mj.geom(shape.name).bodyid[0], 0] for shape in (g, w)))
    area = c.area or _largest_face(g)
    if c.pressure and not area and not (c.law == "hertz" and c.radius):
        raise ConfigError(f"{what}: friction that depends on pressure needs an area")
    h = spec.option.timestep
    load = _BEYOND * (c.load or 2.0 * 9.81 * float(mj.body_mass.sum())) / points
    stiffness, damping = _per_point(c, area, points, what)
    depth = (load / stiffness) ** (2.0 / 3.0) if c.law == "hertz" else 0.01
    slope = 1.5 * load / depth if c.law == "hertz" else stiffness
    # The inertia of all its points, as a share of the bodies': as little as the step can follow.
    inertia = max(
        LEAST_INERTIA,
        points * slope * mobility * h * h / STEP_STIFFNESS - 1.0,
        (points * damping * mobility * h / STEP_DAMPING) ** 2 - 1.0,
    )
    d = inertia / (points + inertia)
    damping *= float(np.sqrt(1.0 + inertia))  # so that the damping ratio, and with it the bounce, stays
    if inertia > 1.0:
        # Far stiffer than the step can follow: it must not bounce, for between two steps it would never come to rest.
        damping = max(damping, 2.0 * float(np.sqrt(slope * (1.0 + inertia) / mobility / points)))
    pair = spec.add_pair(name=f"{g.name}|{w.name}", geomname1=g.name, geomname2=w.name, condim=3)
    if c.law == "hertz":
        least, power, scale = _hertz_impedance(d)
        pair.solimp = [least * d, d, depth, _SHARP, power]
        slope = load / depth * scale
        pair.solref = [-slope * (1.0 - d) * mobility, -damping * (1.0 - d) * mobility]
    else:
        pair.solimp = [d, d, depth, 0.5, 2.0]
        pair.solref = [-stiffness * (1.0 - d) * mobility, -damping * (1.0 - d) * mobility]
    # Friction's damper: as stiff as the step can follow.
    pair.solreffriction = [-1.0, -0.5 / h * d * (1.0 + 1.0 / CREEP_RATIO)]
    static = c.friction or float(w.friction[0])
    pair.friction = [static, static, w.friction[1], w.friction[2], w.friction[2]]
    return Touch(pair.name, c, area, static, inertia)


def _per_point(c: ContactConfig, area: float, points: int, what: str) -> tuple[float, float]:
    """Stiffness and damping of one contact point, in newtons per (metre or metre^1.5) and newtons per (metre/second)."""
    stiffness, damping = c.stiffness, c.damping
    if c.law == "hertz" and not stiffness:
        stiffness = 4.0 / 3.0 * c.modulus * float(np.sqrt(c.radius))
    if c.law == "patch":
        if not area:
            raise ConfigError(f"{what}: a patch needs an area")
        stiffness, damping = stiffness * area, damping * area
    if not stiffness:
        needed = "a stiffness, or modulus and radius" if c.law == "hertz" else "a stiffness"
        raise ConfigError(f"{what}: the law '{c.law}' needs {needed}")
    return stiffness / points, damping / points


def _largest_face(g: mujoco.MjsGeom) -> float:
    _, b, c = sorted(float(x) for x in g.size)
    if _G(g.type) == _G.mjGEOM_BOX:
        return 4.0 * b * c
    if _G(g.type) == _G.mjGEOM_CYLINDER:
        return float(np.pi * g.size[0] ** 2)
    return 0.0


def hertz_curve(x: Array, d: float, least: float, power: float) -> Array:
    """Force over force at full load, by MuJoCo's impedance, at depths x (0 to 1) as shares of the full depth."""
    impedance = d * (least + (1.0 - least) * (1.0 - (1.0 - x) ** power))
    return np.asarray(x * (impedance / d) ** 2 * (1.0 - d) / (1.0 - impedance))


def _hertz_impedance(d: float) -> tuple[float, float, float]:
    """Least impedance over d, power, and factor on the stiffness, for force ~ depth^1.5 to within 5 %.

    Held over depths from a tenth of the greatest up: a factor of thirty in force.
    """
    x = np.geomspace(0.1, 1.0, 60)

    def deviations(p: Array) -> Array:
        return np.asarray(np.log(hertz_curve(x, d, float(np.clip(p[0], 0.05, 1.0)), max(float(p[1]), 1.0)) / x**1.5))

    found = minimize(lambda p: float(np.ptp(deviations(p))), [0.5, 2.0], method="Nelder-Mead", options={"maxiter": 300})
    e = deviations(found.x)
    return float(np.clip(found.x[0], 0.05, 1.0)), max(float(found.x[1]), 1.0), float(np.exp(-0.5 * (e.max() + e.min())))
