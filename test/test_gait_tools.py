"""The optimiser, the recovery study and the balance's gains: closed forms, remembered episodes, the commands with tiny
budgets."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.cli.main import main
from digital_twin.core.config import to_plain
from digital_twin.core.errors import ConfigError
from digital_twin.core.gait.balance import SPACE as BALANCE
from digital_twin.core.gait.balance import BalanceConfig, Sway, _measure, cost
from digital_twin.core.gait.gait_config import Gait, load_gait, robot_gait
from digital_twin.core.gait.recovery import Design, Push, share, surely, survives
from digital_twin.core.gait.trial import SPACE, Outcome, Score, Task, decode, encode, front, score
from digital_twin.core.robot_config import RobotConfig
from digital_twin.gait_runs import Cache, GaitTrials, code_version
from digital_twin.gait_search import Search, natural_values
from digital_twin.parallel import Workers

SHORT = Task(speed=0.3, seconds=1.4, stand=0.2, start=1.0)


# Gaits as points of a cube


@given(st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE)))
def test_a_place_in_the_cube_is_a_gait_and_back(x):
    gait = decode(Gait(), np.array(x))
    assert np.allclose(encode(gait, {}), x, atol=2e-4) or 0.0 in [gait.crouch, gait.sway, gait.lean, gait.arm_swing]
    rest = ("max_forward", "max_turn", "command_timeout", "acceleration")
    assert all(getattr(gait, name) == getattr(Gait(), name) for name in rest)


def test_zeros_of_a_gait_stand_for_what_is_natural(robot):
    natural = natural_values(robot)
    k = robot.model.kinematics(["l_sole", "r_sole"])
    k.update(robot.joints.stand)
    assert natural["stance_width"] == pytest.approx(k.position[0, 1] - k.position[1, 1])
    place = dict(zip(SPACE, encode(Gait(stance_width=0.0), natural), strict=True))["stance_width"]
    low, high = SPACE["stance_width"]
    assert low + place * (high - low) == pytest.approx(natural["stance_width"])


def test_every_searched_value_may_be_loaded_from_yaml():
    for space in (SPACE, BALANCE):
        for x in (np.zeros(len(space)), np.ones(len(space))):
            assert isinstance(decode(Gait(), x, space), Gait)


# What a gait is worth


def test_falls_cost_more_than_anything_and_earlier_ones_more():
    calm = Outcome(1.0, 0.5, 0.6, 0.01, 0.0)
    at = [score([Outcome(u, 0.5, 0.6, 0.01, 0.0), calm], Task()) for u in (1.0, 0.9, 0.3)]
    totals = [s.total((1.0, 1.0, 1.0)) for s in at]
    assert totals[0] + 0.25 < totals[1] < totals[2]
    assert [s.falls for s in at] == [0.0, 0.5, 0.5]


def test_energy_and_speed_are_means_over_robots():
    s = score([Outcome(1.0, 0.4, 0.5, 0.0, 0.0), Outcome(1.0, 0.55, 0.7, 0.0, 0.0)], Task(speed=0.5))
    assert s.energy == pytest.approx(0.6) and s.accuracy == pytest.approx((0.2 + 0.1) / 2) and s.stability == 0.0
    assert s.total((1.0, 2.0, 3.0)) == pytest.approx(1.2 + 0.45)
    assert score([Outcome(1.0, 0.0, math.inf, 0.0, 0.0)], Task()).energy == 5.0, "one that stays where it is"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=20))
def test_no_gait_of_the_front_is_beaten_and_every_other_is(rows):
    scores = [Score(*row[:3], float(row[3])) for row in rows]
    best = front(scores)

    def beats(a, b):
        x, y = ((s.stability, s.energy, s.accuracy) for s in (a, b))
        return all(i <= j for i, j in zip(x, y, strict=True)) and x != y

    for i, s in enumerate(scores):
        if s.falls:
            assert i not in best
        else:
            assert (i in best) == (not any(beats(o, s) for o in scores if not o.falls))


# Episodes, remembered


def test_an_episode_is_remembered_by_all_that_it_follows_from(tmp_path):
    trials = GaitTrials("", "", SHORT, str(tmp_path))
    plain = to_plain(Gait())
    first, known = trials((plain, 1000))
    assert not known and first.upright == 1.0 and 0.0 < first.speed < 0.6 and 0.1 < first.transport < 20.0
    again, known = trials((plain, 1000))
    assert known and again == first
    other, known = trials((to_plain(dataclasses.replace(Gait(), step_height=0.07)), 1000))
    assert not known and other != first
    assert not GaitTrials("", "", dataclasses.replace(SHORT, speed=0.2), str(tmp_path))((plain, 1000))[1]
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_what_is_damaged_is_made_again(tmp_path):
    cache = Cache(tmp_path)
    key = Cache.key(a=1)
    assert cache.get(key) is None and key != Cache.key(a=2) and len(code_version()) == 64
    cache.put(key, {"x": 1.0})
    assert cache.get(key) == {"x": 1.0}
    for text in ("", "{", "[1]", "\xff"):
        next(tmp_path.rglob("*.json")).write_text(text)
        assert cache.get(key) is None
    assert Cache(None).get(key) is None


def test_a_search_that_was_broken_off_goes_on_where_it_was(tmp_path):
    def search(generations):
        s = Search(Gait(), SHORT, robots=1, population=4)
        with Workers(GaitTrials, ("", "", SHORT, str(tmp_path)), 1) as workers:
            for g in s.run(workers, {"stance_width": 0.2}):
                if g == generations:
                    break
        return s

    first = search(1)
    assert (first.episodes, first.remembered) == (5, 0)
    second = search(1)
    assert second.remembered == 5 and [c.gait for c in second.tried] == [c.gait for c in first.tried]
    totals = [c.total for c in first.tried]
    assert first.best()[0].total == min(totals) and first.tried[0].gait == Gait()


def test_what_workers_do_does_not_depend_on_how_many_there_are():
    with Workers(_Doubler, (3,), 1) as one, Workers(_Doubler, (3,), 2) as two:
        assert one.all([1, 2, 3]) == two.all([1, 2, 3]) == [3, 6, 9]
        assert dict(two.each([5])) == {0: 15} and one.all([]) == []


class _Doubler:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


# Pushes


def test_a_design_has_all_combinations_once():
    pushes = list(Design(directions=4, impulses=(0.1, 0.2), speeds=(0.0, 0.5), phases=2, robots=2).pushes())
    assert len(pushes) == len(set(pushes)) == 4 * 2 * 2 * (1 + 2)
    assert {p.phase for p in pushes if p.speed} == {0.0, 0.5} and {p.phase for p in pushes if not p.speed} == {0.0}


def test_shares_and_the_impulse_that_is_surely_survived():
    pushes = [Push(d, i) for i in (0.1, 0.2, 0.3) for d in (0.0, 1.0)]
    survived = [True, True, True, False, True, True]
    assert share(pushes, survived, impulse=0.2) == 0.5 and share(pushes, survived) == pytest.approx(5 / 6)
    assert surely(pushes, survived) == 0.1, "what is above a fall is not sure"
    assert surely(pushes, survived, direction=0.0) == 0.3
    assert math.isnan(share(pushes, survived, impulse=0.7))


@pytest.mark.parametrize("gait", [None, Gait()], ids=["servos", "gait"])
def test_a_nudge_is_survived_and_a_blow_is_not(robot, gait):
    for impulse, stands in ((0.05, True), (2.0, False)):
        push = Push(direction=0.0, impulse=impulse)
        assert survives(robot.description, robot.config, gait, push, "base_link", robot.model.mass) == stands


# The balance


def test_sway_is_that_of_a_damped_oscillation():
    dt, w, damping = 0.005, 4.0, 0.3
    t = np.arange(0.0, 8.0, dt)
    wd = w * math.sqrt(1 - damping**2)
    after = 0.1 * np.exp(-damping * w * t) * np.sin(wd * t)
    s = _measure(np.concatenate([np.zeros(200), after]), dt, 0.01)
    peak = math.acos(damping) / wd
    assert s.peak == pytest.approx(0.1 * math.exp(-damping * w * peak) * math.sin(wd * peak), rel=0.02)
    assert s.back == pytest.approx(math.exp(-damping * math.pi / math.sqrt(1 - damping**2)), rel=0.03)
    outside = t[np.abs(after) > 0.01][-1]
    assert s.settle == pytest.approx(outside, abs=0.03)


def test_falls_weigh_most_and_swinging_back_counts():
    calm = Sway(0.5, 0.05, 0.1, True)
    assert cost([calm]) == 0.5 and cost([calm, Sway(0.8, 0.05, 0.1, True)]) == 0.8
    assert cost([Sway(0.5, 0.05, 0.7, True)]) == pytest.approx(1.5)
    assert cost([calm, Sway(9.0, 1.0, 1.0, False)]) == pytest.approx(5.5)
    assert len(BalanceConfig(models=2, directions=3).pushes()) == 6


def test_a_robots_own_gait():
    config = RobotConfig(gait={"step_time": 0.6, "gains": {"dcm": 4.0}})
    assert robot_gait(config) == dataclasses.replace(
        Gait(), step_time=0.6, gains=dataclasses.replace(Gait().gains, dcm=4.0)
    )
    with pytest.raises(ConfigError, match=r"my\.yaml: gait.*hop"):
        robot_gait(RobotConfig(gait={"hop": 1.0}), "my.yaml")


# The commands


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_optimize_gait_writes_a_gait_and_a_plot(tmp_path, capsys):
    out, plot = tmp_path / "best.yaml", tmp_path / "best.png"
    command = [
        "optimize-gait", "--speed", "0.3", "--minutes", "0.0001", "--robots", "1", "--judges", "1", "--seconds", "2.1",
        "--processes", "1", "--population", "4", "--write", str(out), "--plot", str(plot),
    ]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "cost of transport" in printed and "2 episodes, 0 of them remembered" in printed
    assert (
        isinstance(load_gait(out), Gait) and "0.3 m/s on flat ground" in out.read_text() and plot.stat().st_size > 5000
    )
    assert main(command) == 0 and "2 of them remembered" in capsys.readouterr().out
    out.write_text("mine")
    assert main(command) == 2 and "not by optimize-gait" in capsys.readouterr().err and out.read_text() == "mine"


def test_recovery_study_tells_and_draws(tmp_path, capsys):
    plot, numbers = tmp_path / "map.png", tmp_path / "map.json"
    command = [
        "recovery-study", "--controller", "servos", "--speeds", "0", "--impulses", "0.05", "2", "--directions", "4",
        "--processes", "1", "--plot", str(plot), "--json", str(numbers),
    ]  # fmt: skip
    assert main(command) == 0
    assert "servos" in capsys.readouterr().out and plot.stat().st_size > 5000
    found = json.loads(numbers.read_text())
    assert found["survived"]["servos"] == [True] * 4 + [False] * 4 and len(found["pushes"]) == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimize-gait", "--speed", "9"], "speed"),
        (["optimize-gait", "--write", "/nowhere/x.yaml"], "no such folder"),
        (["optimize-gait", "--start", "/no.yaml"], "/no.yaml"),
        (["recovery-study", "--controller", "/no.yaml"], "/no.yaml"),
        (["recovery-study", "--frame", "nose"], "unknown frame 'nose'"),
        (["recovery-study", "--plot", "/nowhere/x.png"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--processes", "1"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


@pytest.mark.parametrize("command", ["tune-gains", "optimize-gait", "recovery-study"])
def test_help_teaches(capsys, command):
    with pytest.raises(SystemExit) as e:
        main([command, "--help"])
    assert e.value.code == 0 and "examples:" in capsys.readouterr().out
