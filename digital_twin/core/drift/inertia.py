"""Inertial parameters that a real body can have: the pseudo-inertia matrix and its log-Cholesky coordinates.

The ten numbers φ = (m, m c, I) of a body, I about the origin of its frame, are those of a density that is nowhere negative
if and only if the 4×4 pseudo-inertia J(φ) is positive definite (Wensing, Kim, Slotine 2018). J = U Uᵀ with U upper triangular
and its diagonal exponential is always so, which gives ten unbounded coordinates θ (Rucker, Wensing 2022). Here they are
taken relative to a body that is known: θ = 0 is that body, and 2 α is the relative change of its mass when only α ≠ 0.
"""

from __future__ import annotations

import mujoco
import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.rotation import matrix_from_quat, skew, xyzw_from_wxyz

SIZE = 10
# Places of the entries of I among the last six numbers of φ: xx, xy, xz, yy, yz, zz.
_INERTIA = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
# θ = (α, d1, d2, d3, s12, s23, s13, t1, t2, t3): where each but α stands in U.
_PLACES = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))
_LEAST = 1e-9  # added to second moments [kg m²], so that a point mass has a factor


def phi(mass: float, com: Array, inertia: Array) -> Array:
    """φ (10,) of a body: mass [kg], centre of mass [m] (3,), inertia about it [kg m²] (3, 3)."""
    S = skew(com)
    about_origin = inertia + mass * S @ S.T
    return np.array([mass, *(mass * np.asarray(com)), *(about_origin[ij] for ij in _INERTIA)])


def mass_com_inertia(p: Array) -> tuple[float, Array, Array]:
    """The opposite of `phi`: mass, centre of mass (3,), inertia about it (3, 3)."""
    mass = float(p[0])
    com = p[1:4] / mass
    S = skew(com)
    return mass, com, _matrix(p[4:]) - mass * S @ S.T


def _matrix(six: Array) -> Array:
    out = np.empty((3, 3))
    for value, (i, j) in zip(six, _INERTIA, strict=True):
        out[i, j] = out[j, i] = value
    return out


def phi_of_body(m: mujoco.MjModel, body: int) -> Array:
    """φ (10,) of a body of a compiled model, in its frame."""
    R = matrix_from_quat(xyzw_from_wxyz(m.body_iquat[body]))
    return phi(float(m.body_mass[body]), m.body_ipos[body], R @ np.diag(m.body_inertia[body]) @ R.T)


def point_mass(at: Array, radius: float = 0.0) -> Array:
    """φ (10,) of 1 kg at a place [m] (3,): a solid ball of some radius [m]."""
    return phi(1.0, at, 0.4 * radius**2 * np.eye(3))


def pseudo_inertia(p: Array) -> Array:
    """J (4, 4) of φ (10,): second moments of the density, first moments and mass."""
    inertia = _matrix(p[4:])
    J = np.empty((4, 4))
    J[:3, :3] = 0.5 * np.trace(inertia) * np.eye(3) - inertia
    J[:3, 3] = J[3, :3] = p[1:4]
    J[3, 3] = p[0]
    return J


def phi_of(J: Array) -> Array:
    """The opposite of `pseudo_inertia`. Linear, so it serves derivatives too."""
    inertia = np.trace(J[:3, :3]) * np.eye(3) - J[:3, :3]
    return np.array([J[3, 3], *J[:3, 3], *(inertia[ij] for ij in _INERTIA)])


def is_consistent(p: Array) -> bool:
    """Whether a body can have φ (10,)."""
    return bool(np.isfinite(p).all() and np.linalg.eigvalsh(pseudo_inertia(p)).min() > 0.0)


def _factor(J: Array) -> Array:
    """U, upper triangular, with J = U Uᵀ."""
    flipped = np.linalg.cholesky(J[::-1, ::-1])
    return np.asarray(flipped[::-1, ::-1])


def reference(p: Array) -> Array:
    """U (4, 4) of a known body φ (10,), from which θ is counted; a flat one is made very slightly solid."""
    return _factor(pseudo_inertia(p) + np.diag([_LEAST, _LEAST, _LEAST, 0.0]))


def _upper(theta: Array) -> Array:
    U = np.eye(4)
    for value, (i, j) in zip(theta[1:], _PLACES, strict=True):
        U[i, j] = np.exp(value) if i == j else value
    return np.asarray(np.exp(theta[0]) * U)


def from_theta(known: Array, theta: Array) -> Array:
    """φ (10,) at θ (10,) relative to a `reference` (4, 4)."""
    U = known @ _upper(theta)
    return phi_of(U @ U.T)


def to_theta(known: Array, p: Array) -> Array:
    """θ (10,) of φ (10,). Raises numpy.linalg.LinAlgError when no body can have φ."""
    U = np.linalg.solve(known, _factor(pseudo_inertia(p)))
    V = U / U[3, 3]
    values = [np.log(V[i, j]) if i == j else V[i, j] for i, j in _PLACES]
    return np.array([np.log(U[3, 3]), *values])


def derivative(known: Array, theta: Array) -> Array:
    """∂φ/∂θ (10, 10) at θ relative to a `reference`."""
    U = _upper(theta)
    scale = np.exp(theta[0])
    columns = []
    for k in range(SIZE):
        dU = np.zeros((4, 4))
        if k == 0:
            dU = U
        else:
            i, j = _PLACES[k - 1]
            dU[i, j] = U[i, j] if i == j else scale
        half = known @ dU @ U.T @ known.T
        columns.append(phi_of(half + half.T))
    return np.stack(columns, axis=1)
