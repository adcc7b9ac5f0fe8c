"""The monitor on the simulated robot: learned, quiet while all is well, right about what is broken, and never confused."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from digital_twin.core.drift.attribution import Evidence, _Fitter
from digital_twin.core.drift.channels import Channels
from digital_twin.core.drift.config import DriftConfig
from digital_twin.core.drift.model_version import nominal
from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.drift.parameters import Changes, Payload
from digital_twin.core.drift.rehearsal import Rehearsal, squats_and_sways
from digital_twin.core.drift.residuals import Residuals
from digital_twin.core.drift.sample import Block
from digital_twin.core.drift.soles import Soles
from digital_twin.core.drift.verdict import Judge
from digital_twin.core.faults import parse_fault
from digital_twin.core.robot_config import FootConfig
from digital_twin.core.script import load_script
from digital_twin.paths import find
from digital_twin.robots import with_version


def begin(robot, calibration=10.0):
    config = DriftConfig(calibration=calibration, forecast_rate=20.0)
    monitor = Monitor(robot.model, robot.config, robot.joints, config)
    script = load_script(find("humanoid.yaml", "config/scripts"))
    motion = squats_and_sways(script, robot.model, robot.joints.stand, 1, sway=0.5)
    return monitor, Rehearsal(robot.model, robot.config, 1, lambda t: motion(t + 2.5), monitor)


@pytest.fixture(scope="module")
def learned(robot):
    """A monitor that has learned its robot while that squatted."""
    monitor, rehearsal = begin(robot)
    while monitor.phase != "watching":
        rehearsal.run(0.5)
        assert rehearsal.time < 30.0
    monitor.lookahead._begun = None  # the forecast that is being made cannot be copied
    return monitor, rehearsal


@pytest.fixture
def ready(learned):
    """The same for each test: copies."""
    return copy.deepcopy(learned, {id(learned[1].motion): learned[1].motion})


def carrying(robot, kg, com=(0.0, 0.0, 0.0)):
    """The robot with something in its left hand."""
    changes = Changes(payloads={"l_gripper": Payload(kg, com)} if kg else {})
    return with_version(robot, replace(nominal(robot.description), changes=changes))


def test_a_model_with_a_load_expects_what_the_load_does_to_noise(robot, ready):
    """Accelerations are known as badly as before, and make more torque now; and where a load hangs is known to millimetres."""
    monitor, rehearsal = ready
    body = monitor.banks["body"]
    elbow = monitor.residuals.parts["torque"].start + robot.model.joint_index["l_elbow"]
    variance = body.bank.nominal.variance.copy()
    rehearsal.faults.add(parse_fault("payload l_gripper 1"))
    rehearsal.run(1.0)
    assert body.alarm.any()
    with_load = carrying(robot, 1.0, (0.002, 0.0, -0.003))
    monitor.use(monitor.prepare(with_load.model, with_load.config, with_load.joints))
    concerned = body.bank.nominal.variance[:, 0] > 1.2 * variance[:, 0]
    assert body.bank.nominal.variance[elbow, 0] > 2.0 * variance[elbow, 0] and concerned.sum() < 12
    scores = []
    for _ in range(500):
        rehearsal.run(0.01)
        scores.append(body.bank.scores[elbow])
        assert not body.alarm[concerned].any(), body.worst()
    assert 0.5 < np.nanmean(np.square(scores)) < 1.5, "not too much noise expected, and not too little"
    rehearsal.faults.clear()
    start = rehearsal.time
    while not body.alarm[concerned].any():
        rehearsal.run(0.02)
        assert rehearsal.time - start <= 1.0
    without = carrying(robot, 0.0)
    monitor.use(monitor.prepare(without.model, without.config, without.joints))
    assert body.bank.nominal.variance == pytest.approx(variance, rel=1e-9), "there and back"


def test_a_load_is_known_to_a_tenth_and_a_centimetre(robot, ready):
    """So well, from three seconds: what that leaves is no change, whose causes would be sought in vain."""
    monitor, rehearsal = ready
    body = monitor.banks["body"]
    rehearsal.faults.add(parse_fault("payload l_gripper 2"))
    rehearsal.run(1.0)
    nearly = carrying(robot, 2.18, (0.007, 0.0, -0.007))
    monitor.use(monitor.prepare(nearly.model, nearly.config, nearly.joints))
    arm = ("balance/", *(f"torque/l_{part}" for part in ("shoulder", "elbow", "wrist")))
    concerned = np.array([name.startswith(arm) for name in body.bank.names])
    for _ in range(100):
        rehearsal.run(0.1)
        assert not body.alarm[concerned].any(), body.worst()
    rehearsal.faults.clear()
    rehearsal.faults.add(parse_fault("payload l_gripper 1.4"))
    rehearsal.run(2.0)
    assert body.alarm[concerned].any()


def test_residuals_go_on_where_those_of_the_model_before_were(robot, ready, monkeypatch):
    """What drives lack at rest, begun to be learned in the middle of a squat, had looked like late commands for a while."""
    monitor, rehearsal = ready
    rehearsal.run(1.0)
    before = copy.deepcopy(monitor.residuals)
    monitor.use(monitor.prepare(robot.model, robot.config, robot.joints))
    compute, seen = monitor.residuals.compute, []
    monkeypatch.setattr(monitor.residuals, "compute", lambda block: seen.append((block, compute(block))) or seen[-1][1])
    rehearsal.run(1.0)
    assert len(seen) > 90
    for block, row in seen:
        for now, then in zip(row, before.compute(block), strict=True):
            assert now == pytest.approx(then, nan_ok=True)


def test_forecasts_of_another_model_are_learned_anew_and_not_from_a_robot_that_changes(robot, ready, monkeypatch):
    monitor, rehearsal = ready
    changed = False
    alarm = property(lambda bank: np.full(len(bank.bank.names), changed))
    monkeypatch.setattr(Channels, "alarm", alarm)
    forecast = monitor.banks["forecast"]
    assert forecast.bank.nominal is not None
    heavier = carrying(robot, 0.05)
    monitor.use(monitor.prepare(heavier.model, heavier.config, heavier.joints))
    assert forecast.bank.nominal is None and forecast.detectors is None
    rehearsal.run(8.0)
    changed = True
    rehearsal.run(1.0)
    changed = False
    rehearsal.run(8.0)
    assert forecast.bank.nominal is None, "it began anew when all was well again"
    rehearsal.run(4.0)
    assert forecast.bank.nominal is not None and forecast.detectors is not None
    assert monitor.banks["body"].detectors is not None, "the others went on"


def evidence(monitor, **effects):
    """Noise as it should be and, by channel, some of what its second feature does; the first channel alarms."""
    body, blocks = monitor.banks["body"], list(monitor._recent)
    sigma = np.array([s for _, _, s in body.recent])[-len(blocks) :]
    signature = np.zeros(sigma.shape)
    features = np.array([monitor.residuals.compute(b)[1][:, 1] for b in blocks])
    channels = [body.bank.names.index(name.replace("_on_", "/")) for name in effects]
    for channel, size in zip(channels, effects.values(), strict=True):
        signature[:, channel] = size * features[:, channel]
    scores = np.random.default_rng(1).standard_normal(sigma.shape) + np.nan_to_num(body.bank.whiten(signature, sigma))
    alarm = np.arange(sigma.shape[1]) == channels[0]
    return Evidence(blocks, scores, sigma, alarm, np.empty((0, 12)), np.zeros(12, dtype=bool), {})


def test_what_does_not_concern_the_alarm_is_not_its_cause(ready):
    """However much a weak motor would explain elsewhere: its own channel sees nothing in it."""
    monitor, rehearsal = ready
    rehearsal.run(3.0)
    for effects in ({}, {"tracking_on_l_hip_roll": -0.9}):
        found = []
        for _ in monitor._attribution.rank(evidence(monitor, torque_on_l_knee=1.0, **effects), found):
            pass
        first = found[0]
        assert (first.kind, first.target) == ("friction", "l_knee") and first.explained > 0.5
        assert first.size == pytest.approx(2.0, abs=0.3)
    other = next(h for h in found if (h.kind, h.target) == ("motor", "l_hip_roll"))
    assert other.gain > first.gain and other.explained == 0.0


@pytest.mark.parametrize(
    ("left", "right", "gyro", "kind"),
    [
        (2.0, 2.0, 1.6, "gyro bias"),  # both feet seem to roll, and the gyro says so: it is the gyro
        (2.0, 2.0, 0.0, "ground"),  # or does not: it is what they stand on
        (2.0, 0.0, 1.2, "ground"),  # one foot alone is that foot's matter
        (2.0, -2.0, 1.6, "ground"),  # and so are two that roll against each other
    ],
)
def test_what_all_feet_share_is_the_gyros_if_the_gyro_says_so(ready, left, right, gyro, kind):
    monitor, rehearsal = ready
    rehearsal.run(3.0)
    e = evidence(monitor, torque_on_l_knee=0.0)
    names = monitor.banks["body"].bank.names
    axes = np.array([np.arange(len(names)) == names.index(f"gyro/{x}") for x in "xyz"])
    feet = np.zeros((len(e.scores), 12)) + np.eye(12)[3] * left + np.eye(12)[9] * right
    e = replace(e, scores=e.scores + gyro * axes[0], alarm=axes[0], feet=feet, feet_alarm=feet[0] != 0.0)
    fitter = _Fitter(e, monitor.banks["body"].bank)
    steady = np.repeat(1e-3 * np.eye(3)[:, None], len(e.scores), axis=1)
    fitter.columns("gyro bias", "", monitor.residuals.parts["gyro"], steady, with_feet=True)
    fitter.feet("ground", ["left", "right"], (2, 3, 4))
    assert fitter.ranked()[0].kind == kind


def test_of_two_that_explain_the_same_the_likelier_comes_first(ready):
    monitor, rehearsal = ready
    rehearsal.run(1.0)
    fitter = _Fitter(evidence(monitor, torque_on_l_knee=0.5), monitor.banks["body"].bank)
    for kind, size, spread in (("payload", -0.1, 0.02), ("payload", 0.1, 0.02), ("friction", 2.0, 0.1)):
        fitter._add(kind, str(size), size, spread, 40.0, 40.0, 1.0)
    assert [h.target for h in fitter.ranked()] == ["2.0", "0.1", "-0.1"]


def test_nothing_is_said_while_nothing_changes(ready):
    monitor, rehearsal = ready
    for _ in range(30):
        rehearsal.run(0.1)
        assert not any(a.any() for a in monitor.alarms().values())
    verdict = Judge(monitor).verdict(rehearsal.plant.time_ns)
    assert verdict.level == 0 and verdict.words == "behaves like its model"


@pytest.mark.parametrize(
    ("fault", "kind", "target", "size", "within"),
    [
        ("payload l_gripper 2", "payload", "l_gripper", 2.0, 1.0),
        (f"encoder l_knee {math.radians(1):.6f}", "encoder", "l_knee", math.radians(1.0), 0.3),
        ("motor r_knee 0.6", "motor", "r_knee", 0.6, 1.0),
        ("imu_bias gyro 0 0 0.02", "gyro bias", "", 0.02, 0.5),
    ],
)
def test_a_fault_is_found_named_and_sized(ready, fault, kind, target, size, within):
    monitor, rehearsal = ready
    rehearsal.faults.add(parse_fault(fault))
    start = rehearsal.time
    while not any(a.any() for a in monitor.alarms().values()):
        rehearsal.run(0.02)
        assert rehearsal.time - start <= within
    rehearsal.run(2.0)
    h = monitor.hypotheses[0]
    assert (h.kind, h.target) == (kind, target), [x.words for x in monitor.hypotheses]
    assert h.size == pytest.approx(size, rel=0.2) and h.low < h.size < h.high
    assert h.words in Judge(monitor).verdict(rehearsal.plant.time_ns).words


def test_a_push_is_none_of_these(ready):
    """Something is noticed; nothing in the bank explains it well enough to be renewed."""
    monitor, rehearsal = ready
    rehearsal.faults.add(parse_fault("push torso 0 60 0 for 0.3"))
    rehearsal.run(0.35)
    assert any(a.any() for a in monitor.alarms().values())
    assert not monitor.hypotheses or monitor.hypotheses[0].kind not in ("payload", "motor", "encoder")


class Lossy:
    """A listener between the robot and a monitor that now and then hears nothing for a while, and loses single messages."""

    def __init__(self, monitor, rng):
        self._monitor, self._rng, self._deaf_until = monitor, rng, 0
        self.lost = 0

    def __getattr__(self, name):
        take = getattr(self._monitor, name)

        def perhaps(*what):
            stamp = what[1] if name == "heard" else getattr(what[0], "stamp_ns", what[0])
            if self._rng.random() < 0.002:
                self._deaf_until = stamp + int(self._rng.uniform(0.02, 0.25) * 1e9)
            if stamp < self._deaf_until or self._rng.random() < 0.005:
                self.lost += 1
                return None
            return take(*what)

        return perhaps


@pytest.mark.parametrize("seed", range(6))
def test_messages_that_are_lost_are_no_change_of_the_robot(ready, seed):
    """A machine that has no moment to spare: a quarter of all is lost, in holes of up to a quarter of a second."""
    monitor, rehearsal = ready
    rehearsal.listener = lossy = Lossy(monitor, np.random.default_rng(seed))
    for _ in range(30):
        rehearsal.run(0.1)
        alarms = [b.bank.names[i] for b in monitor.banks.values() for i in np.flatnonzero(b.alarm)]
        assert not alarms, (rehearsal.time, alarms)
    assert lossy.lost > 500


def test_a_backlog_is_caught_up_with_and_no_change_of_the_robot(ready):
    """While what comes is a second old nothing is judged, which is what makes it possible to catch up."""
    monitor, rehearsal = ready
    for late in np.concatenate([np.linspace(0.0, 0.6, 50), np.linspace(0.6, 0.0, 50), np.zeros(20)]):
        for stream in ("joint_states", "imu/data", "feet/left/wrench", "feet/right/wrench", "external_pose"):
            rehearsal.streams.delay(stream, float(late))
        rehearsal.run(0.02)
        assert not any(a.any() for a in monitor.alarms().values()), late
    before = monitor.let_go
    assert before > 50
    rehearsal.run(0.5)
    assert monitor.let_go == before and not any(a.any() for a in monitor.alarms().values())


def test_reset_forgets_alarms_and_keeps_what_is_normal(ready):
    monitor, rehearsal = ready
    rehearsal.faults.add(parse_fault("motor r_knee 0.6 for 0.5"))
    rehearsal.run(0.6)
    assert any(a.any() for a in monitor.alarms().values())
    nominal = monitor.banks["body"].bank.nominal
    monitor.reset()
    assert not any(a.any() for a in monitor.alarms().values()) and monitor.hypotheses == []
    assert monitor.banks["body"].bank.nominal is nominal and monitor.phase == "watching"


def test_bad_input_stops_nothing(ready):
    """NaN, constant, starting and stopping, from the past."""
    monitor, rehearsal = ready
    now, n = rehearsal.plant.time_ns, monitor.model.n
    for i in range(40):
        stamp = now + i * 5_000_000
        q = np.full(n, np.nan) if i % 2 else np.zeros(n)
        monitor.joints(stamp, q, None, None)
        monitor.imu(stamp, np.full(3, np.nan), np.zeros(3))
        monitor.wrench(stamp, 0, np.full(6, np.nan))
        monitor.innovations(stamp, np.full(12 + n, np.nan))
        monitor.joints(stamp - 50_000_000, np.zeros(n), np.zeros(n), np.zeros(n))
    Judge(monitor).verdict(now)
    assert monitor.phase in ("watching", "calibrating", "waiting")


def test_what_was_not_seen_while_learning_is_not_judged(ready):
    monitor, rehearsal = ready
    stand = rehearsal.motion(rehearsal.time)[0].copy()
    elbow = monitor.model.joint_index["l_elbow"]
    stand[elbow] -= 0.8
    rehearsal.motion = lambda t: (stand, np.zeros(monitor.model.n))
    before = monitor.outside
    rehearsal.run(0.5)
    assert monitor.outside > before


def test_little_data_is_said_in_words(robot):
    """Two seconds at rest: what cannot be learned is named, and the rest is watched."""
    monitor, rehearsal = begin(robot, calibration=2.0)
    rehearsal.streams.silent.add("external_pose")
    while monitor.phase != "watching":
        rehearsal.run(0.5)
    statuses = {s.name: s for s in Judge(monitor).verdict(rehearsal.plant.time_ns).statuses}
    assert statuses["base pose"].words.startswith("not judged: too few readings")
    assert statuses["commands"].words.startswith("not judged")


def test_a_robot_without_torques_and_with_joints_that_never_report(robot):
    """Its wrist is taken to stand still, so that all else is judged; an encoder's zero that moves shows in one reading."""
    monitor, rehearsal = begin(robot, calibration=3.0)
    wrist = robot.model.joint_index["l_wrist_yaw"]
    listen = monitor.joints

    def deaf(stamp, q, qd, effort):
        q, qd = q.copy(), qd.copy()
        q[wrist] = qd[wrist] = np.nan
        listen(stamp, q, qd, None)

    monitor.joints = deaf
    while monitor.phase != "watching":
        rehearsal.run(0.5)
    nominal = monitor.banks["body"].bank.nominal
    unjudged = {name for name in nominal.why if name.split("/")[0] in ("gyro", "accelerometer", "encoder", "balance")}
    assert unjudged == {"encoder/l_wrist_yaw"}
    rehearsal.faults.add(parse_fault(f"encoder l_elbow {math.radians(1.0)}"))
    found = None
    for _ in range(40):
        rehearsal.run(0.02)
        found = found or next(iter(monitor.hypotheses), None)
    assert found is not None and (found.kind, found.target) == ("encoder", "l_elbow")
    assert found.size == pytest.approx(math.radians(1.0), rel=0.2)


def at_rest(robot, i, **changes):
    """The i-th block of a robot that stands still, with nothing sensed but its joints."""
    n, empty = robot.model.n, np.full(robot.model.n, np.nan)
    b = Block(
        i * 10_000_000, robot.joints.stand, np.zeros(n), np.zeros(n), np.zeros(n), empty, robot.joints.stand, np.zeros(n),
        np.zeros(n), *[np.full(3, np.nan)] * 3, np.full((2, 6), np.nan), *[np.zeros(3)] * 4, (False, False),
    )  # fmt: skip
    return replace(b, **changes)


def test_soles_that_are_pushed_at_their_edges_are_expected_to_roll(robot):
    """About x, for a load that moves sideways, and only while it moves; in the middle of the sole hardly."""

    def rolling(middle, rate):
        """Spreads of the gyro's axes after 0.3 s in which the left sole is pushed this far out [m] and on at this rate [m/s]."""
        residuals = Residuals(robot.model, robot.config, robot.joints)
        wrenches = np.tile([0.0, 0.0, 250.0, 0.0, 0.0, 0.0], (2, 1))
        for i in range(30):
            wrenches[0, 3] = 250.0 * (middle + rate * (0.01 * i - 0.3))
            _, _, g = residuals.compute(at_rest(robot, i, wrenches=wrenches.copy()))
        return g[residuals.parts["gyro"]]

    edge = np.ptp(np.array(robot.config.feet[0].polygon)[:, 1]) / 2.0
    at_edge, inside = rolling(0.9 * edge, 0.02), rolling(0.3 * edge, 0.02)
    assert at_edge[0] > 5.0 * inside[0] > 0.0 and at_edge[1] == 0.0
    assert at_edge[0] == pytest.approx(250.0 * 0.02 * 0.9**2, rel=0.1)
    assert rolling(0.9 * edge, 0.0) == pytest.approx(0.0, abs=1e-2)


def test_where_soles_are_pushed_whatever_the_robot_weighs():
    """A light robot's feet stand as a heavy one's do; a foot that is a point divides by nothing; silence is no standing."""
    feet = [FootConfig("left", "l"), FootConfig("right", "r", polygon=[(0.0, 0.0)] * 3)]
    for weight in (20.0, 800.0):
        soles, load = Soles(feet, weight), 0.5 * weight
        wrenches = np.array([[0.0, 0.0, load, 0.0, -0.05 * load, 0.0], [0.0, 0.0, load, 0.0, 0.0, 0.0]])
        assert soles.pushed(wrenches) == pytest.approx(np.array([[0.5, 0.0], [0.0, 0.0]]))
        assert soles.flat(wrenches).tolist() == [True, True]
        wrenches[0, 4] *= 1.4
        wrenches[1, 2] = 0.2 * weight
        assert soles.flat(wrenches).tolist() == [False, False]
        assert not soles.flat(np.full((2, 6), np.nan)).any()


def test_drives_without_noise_are_no_division_by_nothing(robot):
    residuals, n = Residuals(robot.model, robot.config, robot.joints), robot.model.n
    for _ in range(20_000):  # the variance underflows
        residuals._lateness(np.zeros(n), np.zeros(n))
    assert residuals._noise.max() < 1e-300
    moving = at_rest(robot, 1, command_rate=60.0 / robot.joints.kp)
    with np.errstate(all="raise"):
        r, _, g = residuals.compute(replace(moving, effort=residuals.law(moving)))
    assert np.isfinite(r[residuals.parts["tracking"]]).all() and np.isfinite(g).all()


def test_what_is_missing_at_rest_is_no_lateness_when_set_points_move(robot):
    """Zeros of encoders are wrong by a little, each drive's torque by a constant: a median of few that move had taken that for
    commands that act 20 ms late, and mended all drives by it."""
    residuals, n = Residuals(robot.model, robot.config, robot.joints), robot.model.n
    wrong = np.where(np.arange(n) % 2, 0.9, 0.7)  # [N m]
    part, timing = residuals.parts["tracking"], residuals.parts["timing"]
    gentle = 45.0 / robot.joints.kp  # [rad/s]
    few = np.arange(n) < 4

    def block(i, rate, late):
        b = at_rest(robot, i, command_rate=rate)
        law = residuals.law(b)
        return replace(b, effort=law - wrong - late * robot.joints.kp * rate)

    for i in range(200):
        residuals.compute(block(i, np.zeros(n), 0.0))
    for late in (0.0, 0.01):
        r, _, _ = residuals.compute(block(200, np.where(few, gentle, 0.0), late))
        assert r[timing] == pytest.approx(late, abs=1e-4)
        assert r[part] == pytest.approx(-wrong, abs=1e-3), "lateness is taken off, and nothing else"


@pytest.mark.parametrize(("count", "least", "most"), [(1, 0.99, 1.01), (2, 0.99, 1.01), (8, 0.0, 0.1)])
def test_a_tick_more_of_delay_is_forgiven_where_too_few_move_to_tell(robot, count, least, most):
    """Two clocks wander past each other: what one joint that waves then lacks is not its own fault."""
    residuals, n = Residuals(robot.model, robot.config, robot.joints), robot.model.n
    part, late = residuals.parts["tracking"], 0.005
    rng = np.random.default_rng(1)
    for i in range(300):
        b = at_rest(robot, i)
        residuals.compute(replace(b, effort=residuals.law(b) + 0.05 * rng.standard_normal(n)))
    assert not residuals.forgiven.any(), "at rest nothing is late"
    asked = np.where(np.arange(n) < count, 80.0, 0.0)  # [N m/s]
    b = at_rest(robot, 300, command_rate=asked / robot.joints.kp)
    r, _, _ = residuals.compute(replace(b, effort=residuals.law(b) - late * asked))
    forgiven = residuals.forgiven[part]
    ticks = forgiven[:count] / (80.0 * late)
    assert least <= ticks.min() and ticks.max() <= most
    assert np.all(np.abs(r[part])[:count] <= forgiven[:count] + 0.1) and not forgiven[count:].any()


@pytest.mark.parametrize(("few", "share"), [(4, (0.3, 0.7)), (20, (0.75, 1.0))])
def test_little_is_made_of_a_lateness_that_few_noisy_drives_tell(robot, few, share):
    """0.2 N m of noise are 1.7 ms for four drives that move gently: half of how late they seem is believed."""
    residuals, n = Residuals(robot.model, robot.config, robot.joints), robot.model.n
    rng, part, timing = np.random.default_rng(1), residuals.parts["tracking"], residuals.parts["timing"]
    for i in range(300):
        b = at_rest(robot, i)
        residuals.compute(replace(b, effort=residuals.law(b) + 0.2 * rng.standard_normal(n)))
    b = at_rest(robot, 300, command_rate=np.where(np.arange(n) < few, 60.0 / robot.joints.kp, 0.0))
    error = 0.2 * rng.standard_normal(n)
    r, _, _ = residuals.compute(replace(b, effort=residuals.law(b) + error))
    taken = float((r[part] - error)[0] / (60.0 * r[timing][0]))
    assert share[0] < taken < share[1]
