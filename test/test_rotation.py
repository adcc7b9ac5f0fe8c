"""Rotations against scipy, the group axioms, and MuJoCo's own conversion."""

import mujoco
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from digital_twin.core.rotation import (
    cross,
    exp_so3,
    exp_so3_each,
    gravity_tilt,
    log_so3,
    log_so3_each,
    matrix_from_quat,
    quat_from_matrix,
    rot_z,
    rpy_from_matrix,
    rpy_matrix,
    skew,
    wxyz_from_xyzw,
    xyzw_from_wxyz,
    yaw_of,
)  # fmt: skip

numbers = st.floats(-10, 10)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
rotvecs = vectors.filter(lambda v: np.linalg.norm(v) < 3.1)


@given(vectors, vectors)
def test_skew_and_cross_are_the_cross_product(a, b):
    assert np.allclose(skew(a) @ b, np.cross(a, b))
    assert np.allclose(cross(a, b), np.cross(a, b))


@given(rotvecs)
def test_exp_agrees_with_scipy_and_log_undoes_it(phi):
    R = exp_so3(phi)
    assert np.allclose(R, Rotation.from_rotvec(phi).as_matrix(), atol=1e-12)
    assert np.allclose(log_so3(R), phi, atol=1e-7)


def test_many_at_once_are_the_same_one_by_one():
    phi = np.array([[0.1, -0.2, 0.3], [0.0, 0.0, 0.0], [2.0, 1.0, -2.0]])
    turns = exp_so3_each(phi)
    assert np.array_equal(turns, [exp_so3(each) for each in phi])
    assert np.array_equal(log_so3_each(turns), [log_so3(each) for each in turns]) and np.allclose(
        log_so3_each(turns), phi
    )


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-5, 9.9e-5, 1.1e-4, 1e-3])
def test_exp_is_exact_for_small_angles(angle):
    axis = np.array([0.36, -0.48, 0.8])
    assert np.allclose(exp_so3(angle * axis), Rotation.from_rotvec(angle * axis).as_matrix(), rtol=0, atol=1e-15)


@given(rotvecs, rotvecs)
def test_group_axioms(a, b):
    A, B = exp_so3(a), exp_so3(b)
    assert np.allclose(A @ exp_so3(-a), np.eye(3), atol=1e-12)
    assert np.isclose(np.linalg.det(A @ B), 1.0)
    assert np.allclose(A @ exp_so3(b) @ A.T, exp_so3(A @ b), atol=1e-9)  # the adjoint


@given(rotvecs)
def test_quaternions_are_xyzw_as_in_scipy(phi):
    R = exp_so3(phi)
    q = quat_from_matrix(R)
    assert np.isclose(np.linalg.norm(q), 1.0)
    assert np.allclose(matrix_from_quat(q), R, atol=1e-9)
    assert np.isclose(abs(q @ Rotation.from_matrix(R).as_quat()), 1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_survive_the_quaternion(axis):
    phi = np.zeros(3)
    phi[axis] = np.pi
    R = exp_so3(phi)
    assert np.allclose(matrix_from_quat(quat_from_matrix(R)), R, atol=1e-12)


@given(rotvecs)
def test_mujocos_order_is_wxyz(phi):
    q = quat_from_matrix(exp_so3(phi))
    out = np.zeros(9)
    mujoco.mju_quat2Mat(out, wxyz_from_xyzw(q))
    assert np.allclose(out.reshape(3, 3), exp_so3(phi), atol=1e-9)
    assert np.array_equal(xyzw_from_wxyz(wxyz_from_xyzw(q)), q)


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 0]])
def test_a_quaternion_without_direction_is_refused(bad):
    with pytest.raises(ValueError, match="no direction"):
        matrix_from_quat(bad)


@given(st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3)))
def test_rpy_is_urdfs_fixed_axis_convention(rpy):
    R = rpy_matrix(rpy)
    assert np.allclose(R, Rotation.from_euler("xyz", rpy).as_matrix(), atol=1e-9)
    assert np.allclose(rpy_from_matrix(R), rpy, atol=1e-6)


@given(st.floats(-3.1, 3.1), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
def test_gravity_tilt_levels_a_body_at_rest(yaw, roll, pitch):
    R = rot_z(yaw) @ rpy_matrix([roll, pitch, 0.0])
    reading = 9.81 * R.T @ [0.0, 0.0, 1.0]  # an accelerometer at rest reads +g upwards
    tilt = gravity_tilt(reading)
    assert np.allclose(tilt @ reading, [0.0, 0.0, 9.81], atol=1e-9)
    assert abs(yaw_of(tilt)) < 1e-9
    assert np.allclose(rot_z(yaw_of(R)) @ tilt, R, atol=1e-9)


@given(vectors)
def test_gravity_tilt_refuses_nothing_but_no_direction(accel):
    assume(np.linalg.norm(accel) > 1e-3)
    assert np.allclose((gravity_tilt(accel) @ accel)[:2], 0.0, atol=1e-8)


def test_gravity_tilt_of_zero():
    with pytest.raises(ValueError, match="no direction"):
        gravity_tilt([0.0, 0.0, 0.0])
