"""Where a lidar is at each of its rays."""

import numpy as np
import pytest

from digital_twin.core.rotation import exp_so3
from digital_twin.core.sensors.motion import Pose
from digital_twin.core.sensors.sweep_motion import OFF, Stretch, Sweep, powers_of, stretches, with_powers

RAYS, SPAN, T0 = 400, 0.1, 5.003
MOMENTS = np.arange(RAYS) / RAYS


def pose(t, jump=0.0):
    """A robot that walks: it nods, rolls and goes up and down."""
    place = np.array([0.6 * t + jump, 0.02 * np.sin(6.0 * t), 1.2 + 0.015 * np.cos(12.0 * t)])
    turned = exp_so3(np.array([0.03 * np.sin(6.0 * t), 0.04 * np.sin(12.0 * t + 1.0), 0.3 * t]))
    return Pose(t, place, turned, place, turned, np.zeros(3))


def track(period=0.005, jump_at=np.inf, jump=0.0):
    return tuple(pose(t, jump if t >= jump_at else 0.0) for t in np.arange(5.0, 5.2, period).tolist())


def whole(parts: list[Stretch]):
    """Places and rotations of all rays."""
    powers = powers_of(MOMENTS)
    places = np.concatenate([powers[p.rays] @ p.places for p in parts])
    eye = np.broadcast_to(np.eye(3), (RAYS, 3, 3))
    beams = with_powers(eye, powers[:, None])
    rotations = np.concatenate([(beams[p.rays].reshape(-1, 12) @ p.turns).reshape(-1, 3, 3) for p in parts])
    return places, rotations.transpose(0, 2, 1)


def test_a_cubic_follows_a_walk():
    parts = stretches(Sweep(0, T0, track()), SPAN, MOMENTS, 24)
    assert len(parts) <= 2 and parts[0].rays.start == 0 and parts[-1].rays.stop == RAYS
    places, rotations = whole(parts)
    true = [pose(T0 + SPAN * s) for s in MOMENTS]
    assert np.abs(places - [p.position for p in true]).max() < OFF[0]
    assert np.abs(rotations - [p.rotation for p in true]).max() < OFF[3]


def test_a_jump_is_no_motion():
    """As when the map is found anew: rays before it are cast from before it, rays after it from after it."""
    at = T0 + 0.5 * SPAN
    parts = stretches(Sweep(0, T0, track(jump_at=at, jump=0.5)), SPAN, MOMENTS, 24)
    places, _ = whole(parts)
    true = np.array([pose(T0 + SPAN * s, 0.5 if T0 + SPAN * s >= at else 0.0).position for s in MOMENTS])
    off = np.abs(places - true).max(axis=1) > OFF[0]
    assert np.abs(T0 + SPAN * MOMENTS[off] - at).max() < 0.01, "between two states nobody knows"


@pytest.mark.parametrize("most", [1, 2, 5])
def test_there_are_no_more_parts_than_asked_for(most):
    parts = stretches(Sweep(0, T0, track(jump_at=5.05, jump=0.5)), SPAN, MOMENTS, most)
    assert len(parts) <= most
    assert [p.rays.start for p in parts[1:]] == [p.rays.stop for p in parts[:-1]] and parts[-1].rays.stop == RAYS


@pytest.mark.parametrize("period", [0.13, 0.06, 0.04])
def test_few_states_are_met_exactly(period):
    states = [pose(t) for t in np.arange(5.0, 5.2, period).tolist()]
    (part,) = stretches(Sweep(0, 5.0, tuple(states)), SPAN, MOMENTS, 24)
    used = [p for p in states if p.t < 5.0 + SPAN]
    places = powers_of(np.array([(p.t - 5.0) / SPAN for p in used])) @ part.places
    assert np.allclose(places, [p.position for p in used])
