"""A virtual lidar in a scene of known shapes: ranges, noise, intensity, edges, losses, motion; fits that close the loop."""

import dataclasses

import numpy as np
import pytest

from digital_twin.core.errors import ConfigError
from digital_twin.core.rotation import rot_z
from digital_twin.core.sensors.fit import fit_ranges
from digital_twin.core.sensors.lidar import Lidar
from digital_twin.core.sensors.lidar_stages import LidarProfile, mix, range_sigma
from digital_twin.core.sensors.motion import Pose
from digital_twin.core.sensors.sweep_motion import Sweep
from digital_twin.core.sensors.timing import TimingConfig
from digital_twin.core.sensors.twin_scene import TwinScene
from digital_twin.core.world import load_world

# A room of 10 m by 6 m, a thin post, and a dark wall to the left.
WORLD = """<sdf version="1.9"><world name="room">
<model name="floor"><link name="l"><collision name="c"><geometry><plane><size>40 40</size></plane></geometry></collision></link></model>
{walls}
<model name="post"><pose>2 -1 1 0 0 0</pose><link name="l"><collision name="c"><geometry><box><size>0.1 0.1 2</size></box></geometry>
</collision><visual name="v"><material><diffuse>0.8 0.8 0.8 1</diffuse></material></visual></link></model>
</world></sdf>"""
WALL = """<model name="{n}"><pose>{x} {y} 1 0 0 0</pose><link name="l"><collision name="c"><geometry><box><size>{sx} {sy} 4</size>
</box></geometry></collision><visual name="v"><material><diffuse>{c} {c} {c} 1</diffuse></material></visual></link></model>"""


@pytest.fixture(scope="module")
def scene(robot, tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "room.sdf"
    walls = [
        WALL.format(n="front", x=5.5, y=0, sx=1, sy=8, c=0.8), WALL.format(n="back", x=-5.5, y=0, sx=1, sy=8, c=0.8),
        WALL.format(n="left", x=0, y=3.5, sx=12, sy=1, c=0.02), WALL.format(n="right", x=0, y=-3.5, sx=12, sy=1, c=0.8),
    ]  # fmt: skip
    path.write_text(WORLD.format(walls="\n".join(walls)))
    return TwinScene(robot.model, robot.config, robot.joints, load_world(path))


def lidar(scene, off=(), name="lidar", **parameters):
    values = {"timing": TimingConfig(10.0), "rays": 720, "range_max": 20.0} | parameters
    return Lidar(name, LidarProfile(**values), "lidar_link", scene, 1, off)


def still(robot, number=0, yaw=0.0, x=0.0):
    pose = Pose(0.0, np.array([x, 0.0, 1.0]), rot_z(yaw), np.array([x, 0, 1.0]), rot_z(yaw), robot.joints.stand)
    return Sweep(number, 0.0, (pose, dataclasses.replace(pose, t=0.2)))


def room(angle):
    """Distance to the walls of the room, the post left out."""
    c, s = np.cos(angle), np.sin(angle)
    with np.errstate(divide="ignore"):
        return np.minimum(5.0 / np.abs(c), 3.0 / np.abs(s))


def test_ideal_ranges_are_those_of_the_room(scene, robot):
    d = lidar(scene)
    got = d.measure(still(robot)).ranges[0]
    plain = np.abs(got - room(d.angles)) < 1e-6
    post = np.abs(np.angle(np.exp(1j * (d.angles - np.arctan2(-1, 2))))) < 0.05
    assert plain[~post].all() and not plain.all()
    assert got[np.argmin(np.abs(d.angles - np.arctan2(-1, 2)))] == pytest.approx(np.hypot(2, 1), abs=0.1)


def test_lines_look_up_and_down(scene, robot):
    d = lidar(scene, elevations=[-0.5, 0.0], rays=36)
    ranges = d.measure(still(robot)).ranges
    assert ranges.shape == (2, 36)
    floor = 1.0 / np.sin(0.5)
    down = room(d.angles) / np.cos(0.5) > floor
    assert down.any() and np.allclose(ranges[0, down], floor)
    # The rays of a line above the plane are those of an own computation, not of a shared convention.
    d2 = d.directions[:, 0]
    assert np.allclose(d2[:, 2], -np.sin(0.5)) and np.allclose(
        np.arctan2(d2[:, 1], d2[:, 0]), np.angle(np.exp(1j * d.angles))
    )


def test_noise_grows_with_distance_and_incidence(scene, robot):
    d = lidar(scene, noise=0.005, noise_per_metre=0.002, divergence=0.01, off=["beam"])
    x = np.array([d.measure(still(robot, k)).ranges[0] for k in range(300)])
    ideal = room(d.angles)
    used = np.abs(x.mean(axis=0) - ideal) < 0.1
    c, s = np.abs(np.cos(d.angles)), np.abs(np.sin(d.angles))
    cosine = np.where(5.0 * s < 3.0 * c, c, s)
    expected = range_sigma(d.profile, ideal, cosine)
    ratio = x.std(axis=0)[used] / expected[used]
    assert ratio.mean() == pytest.approx(1.0, abs=0.02) and ratio.std() == pytest.approx(1 / np.sqrt(600), rel=0.25)
    i = int(np.argmin(np.abs(d.angles - np.radians(30))))
    r, tan = room(d.angles[i : i + 1])[0], np.tan(np.radians(30))
    assert expected[i] == pytest.approx(np.sqrt(0.005**2 + (0.002 * r) ** 2 + (r * 0.01 * tan / 4) ** 2), rel=0.02)


def test_intensity_is_reflectivity_times_cosine(scene, robot):
    d = lidar(scene)
    got = d.measure(still(robot)).intensity[0]
    at = lambda degrees: got[np.argmin(np.abs(d.angles - np.radians(degrees)))]  # noqa: E731
    assert at(0) == pytest.approx(0.8, abs=1e-3) and at(90) == pytest.approx(0.02, abs=1e-3)
    assert at(20) == pytest.approx(0.8 * np.cos(np.radians(20)), rel=1e-2)


def test_dark_and_far_surfaces_are_lost(scene, robot):
    d = lidar(scene, weakest=0.005, dropout=0.05)
    x = np.array([d.measure(still(robot, k)).ranges[0] for k in range(200)])
    lost = np.isinf(x).mean(axis=0)
    right, left = (np.argmin(np.abs(d.angles - np.radians(a))) for a in (-90, 90))
    # Signal ρ cos θ / r²: 0.8 / 9 is bright, 0.02 / 9 is 0.44 of the weakest.
    assert lost[right] == pytest.approx(0.05, abs=0.05)
    s4 = (0.02 / 9 / 0.005) ** 4
    assert lost[left] == pytest.approx(1 - 0.95 * s4 / (1 + s4), abs=0.05)


def test_beams_at_edges_mix_what_is_near_and_choose_what_is_far(scene, robot):
    wide = {"divergence": 0.012}
    sharp = lidar(scene).measure(still(robot)).ranges[0]
    mixed = lidar(scene, **wide, pulse=5.0).measure(still(robot)).ranges[0]
    chosen = lidar(scene, **wide, pulse=0.3).measure(still(robot)).ranges[0]
    at = np.flatnonzero(np.abs(mixed - sharp) > 0.1)
    post, wall = 2.2, 5.6
    assert 1 <= len(at) <= 6 and np.all((mixed[at] > post) & (mixed[at] < wall)), "ghosts between post and wall"
    between = (chosen > post + 0.3) & (chosen < wall - 0.2) & (np.abs(sharp - chosen) > 0.1)
    assert not between.any()
    flat = lidar(scene, **wide, pulse=5.0, off=["beam", "noise"]).measure(still(robot)).ranges[0]
    assert np.array_equal(flat, sharp)


def test_mixing_by_hand():
    near, far, nothing = [2.0, 1.0, 0.5], [4.0, 1.0, 0.5], [1e9, 1.0, 0.0]
    beams = np.array(
        [
            [near, near, near, far, far],
            [near, far, far, far, far],
            [near, near, nothing, nothing, nothing],
            [nothing] * 5,
        ]
    ).transpose(2, 0, 1)
    assert np.allclose(mix(beams, 5.0)[0, :3], [2.8, 3.6, 2.0]) and mix(beams, 5.0)[0, 3] == 1e9
    assert np.allclose(mix(beams, 0.5)[0, :3], [2.0, 4.0, 2.0]), "the strongest"
    assert mix(beams, 5.0)[2, 2] == pytest.approx(0.5 * 0.4), "two of five sub-rays came back"


def test_a_turning_sensor_smears_its_sweep(scene, robot):
    """At 1 rad/s a sweep of 0.1 s is 0.1 rad short; without motion it is that of its start."""
    turn = 1.0
    start, end = still(robot).track
    track = tuple(dataclasses.replace(start, t=t, rotation=rot_z(t * turn)) for t in np.arange(0, 0.2, 0.005).tolist())
    d = lidar(scene, segments=720)
    got = d.measure(Sweep(0, 0.0, track)).ranges[0]
    expected = room(d.angles + turn * d.time_step * np.arange(720))
    close = np.abs(got - expected) < 1e-4
    assert close.mean() > 0.97, "all but the post"
    assert np.abs(got - room(d.angles)).max() > 0.2
    frozen = lidar(scene, off=["motion"]).measure(Sweep(0, 0.0, track)).ranges[0]
    assert np.allclose(frozen, lidar(scene).measure(still(robot)).ranges[0])


def test_a_walking_sensor_smears_its_sweep(scene, robot):
    """At 3 m/s towards the wall ahead: each ray from where the sensor then is, though the engine casts in a few steps."""
    start = still(robot).track[0]
    speed = np.array([3.0, 0.5, 0.0])
    track = tuple(
        dataclasses.replace(start, t=t, position=start.position + t * speed) for t in np.arange(0, 0.2, 0.005).tolist()
    )
    d = lidar(scene)
    got = d.measure(Sweep(0, 0.0, track)).ranges[0]
    at = speed[None] * (d.time_step * np.arange(720))[:, None]
    c, s = np.cos(d.angles), np.sin(d.angles)
    with np.errstate(divide="ignore"):
        expected = np.minimum((5.0 - np.sign(c) * at[:, 0]) / np.abs(c), (3.0 - np.sign(s) * at[:, 1]) / np.abs(s))
    close = np.abs(got - expected) < 1e-6
    assert close.mean() > 0.96, "all but the post and the corners"


def test_the_limits_of_range_follow_rep_117(scene, robot):
    got = lidar(scene, range_min=3.05, range_max=5.05).measure(still(robot)).ranges[0]
    sharp = lidar(scene).measure(still(robot)).ranges[0]
    assert np.array_equal(np.isposinf(got), sharp > 5.05) and np.array_equal(np.isneginf(got), sharp < 3.05)


def test_it_can_see_the_robot(scene, robot):
    look = {"elevations": [-1.2], "range_min": 0.01}
    blind = lidar(scene, **look).measure(still(robot)).ranges
    seen = lidar(scene, **look, see_self=True).measure(still(robot)).ranges
    assert np.isfinite(blind).all() and seen.min() < blind.min() - 0.3


def test_a_sweeps_chance_is_its_own(scene, robot):
    bad = {"noise": 0.01, "dropout": 0.1, "intensity_noise": 0.1}
    one, two = lidar(scene, **bad), lidar(scene, **bad)
    all_three = [one.measure(still(robot, k)).ranges.tobytes() for k in range(3)]
    assert two.measure(still(robot, 2)).ranges.tobytes() == all_three[2], "those before were left out"
    assert len(set(all_three)) == 3
    assert lidar(scene, name="other", **bad).measure(still(robot, 2)).ranges.tobytes() != all_three[2]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"angle_min": 1.0, "angle_max": 1.0}, "angle_max must be above angle_min"),
        ({"range_min": 5.0, "range_max": 4.0}, "range_max 4.0 must be above range_min 5.0"),
        ({"elevations": []}, "720 rays in 0 lines"),
        ({"rays": 100_000, "elevations": [0.0, 0.1, 0.2]}, "100000 rays in 3 lines"),
    ],
)
def test_lidars_that_cannot_be(scene, parameters, words):
    with pytest.raises(ConfigError, match=f"sensor 'lidar': {words}"):
        lidar(scene, **parameters)


def test_fitting_a_virtual_lidar_gives_its_statistics_back(scene, robot):
    truth = {"noise": 0.008, "noise_per_metre": 0.003, "divergence": 0.012, "dropout": 0.02, "resolution": 0.001}
    d = lidar(scene, **truth)
    x = np.array([d.measure(still(robot, k)).ranges[0] for k in range(400)])
    f = fit_ranges(x, d.step)
    for name in ("noise", "noise_per_metre", "divergence", "dropout"):
        e = getattr(f, name)
        assert e.low < truth[name] < e.high, (name, e)
    assert f.noise.value == pytest.approx(0.008, rel=0.1) and f.dropout.value == pytest.approx(0.02, rel=0.1)
    assert f.resolution == pytest.approx(0.001, rel=1e-3)
