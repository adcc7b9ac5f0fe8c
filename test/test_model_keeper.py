"""The keeper: identification in a process of its own, and every way in which that can end."""

import json
import os
import stat
import threading
import time
from dataclasses import replace

import pytest
from drift_data import PAYLOAD, loaded, squats, still

from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.model_version import nominal
from digital_twin.core.drift.parameters import Changes
from digital_twin.keeper_config import KeeperConfig
from digital_twin.robots import load_robot
from digital_twin.ros import model_worker
from digital_twin.ros.model_keeper import ModelKeeper
from digital_twin.ros.model_topic import ModelTopic

NOW = 10**18


@pytest.fixture
def make(tmp_path):
    keepers = []

    def make(**settings):
        keeper = ModelKeeper(load_robot(), KeeperConfig(store=str(tmp_path / "models"), **settings))
        keepers.append(keeper)
        return keeper

    yield make
    for keeper in keepers:
        keeper.close()


def finish(keeper, longest=120.0):
    """Poll until the job is done; what was said."""
    events, end = [], time.monotonic() + longest
    while keeper.busy:
        assert time.monotonic() < end
        events += keeper.poll(NOW)
        threading.Event().wait(0.02)
    return [e.text for e in events + keeper.poll(NOW)]


def test_the_robot_as_brought_is_the_first_version(make):
    keeper = make()
    assert keeper.service == nominal(keeper.robot.description) and keeper.parent is None
    said = json.loads(keeper.announcement())
    assert keeper.announcement() is None, "only once"
    assert said["version"] == keeper.service.hash and ModelTopic(load_robot(), "").take(json.dumps(said)) is not None
    assert not keeper.rollback("for no reason")
    assert keeper.approve() == (False, "no model waits to be approved")


def test_a_payload_is_identified_announced_followed_and_taken_back(make):
    """In the real process, and from there to a node's robot."""
    hung, freed = loaded()
    keeper = make()
    first = keeper.service
    keeper.announcement()
    assert keeper.ask(hung, {"payload": "l_gripper"}, NOW) and keeper.busy
    assert not keeper.ask(hung, {}, NOW), "one at a time"
    words = finish(keeper)
    assert keeper.service.parent == first.hash and any("is in service" in w for w in words), words
    robot = ModelTopic(load_robot(), "").take(keeper.announcement())
    assert robot.model.mass - keeper.robot.model.mass == pytest.approx(PAYLOAD, rel=0.1)
    # A new start takes up where this one ended.
    again = make()
    assert again.service == keeper.service and again.parent == first
    # With the payload gone the new model is worse than the one before, and is taken back.
    assert again.review(freed, NOW)
    words = finish(again)
    assert again.service == first and any("taken back" in w for w in words), words
    assert json.loads(again.announcement())["version"] == first.hash
    # The first one notices that somebody else has put another version into service.
    assert any("from outside" in e.text for e in keeper.poll(NOW + 2 * 10**9)) and keeper.service == first


def test_it_waits_for_approval_when_told_to(make):
    keeper = make(automatic=False)
    first = keeper.service
    keeper.ask(loaded()[0], {"payload": "l_gripper"}, NOW)
    words = finish(keeper)
    assert keeper.service == first and keeper.pending is not None and any("waits for" in w for w in words)
    done, words = keeper.approve()
    assert done and keeper.service.short in words and keeper.service.parent == first.hash
    assert ModelStore(keeper.store.folder).in_service() == keeper.service.hash


def test_frozen_data_change_nothing(make):
    keeper = make()
    first = keeper.service
    keeper.ask(still(), {}, NOW)
    words = finish(keeper)
    assert any("frozen" in w and "the model in service stays" in w for w in words) and keeper.service == first


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('it broke', file=sys.stderr); sys.exit(3)", "ended with code 3: it broke"),
        ("import os; os.kill(os.getpid(), 9)", "ended with code"),
        ("import time; time.sleep(600)", "took longer than"),
        ("pass", "ended with code 0"),
    ],
)
def test_a_process_that_fails_is_said_in_words(make, monkeypatch, tmp_path, code, words):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {os.sys.executable} -c "{code}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(model_worker.sys, "executable", str(program))
    keeper = make(longest=2.0)
    first = keeper.service
    keeper.ask(still(), {}, NOW)
    said = finish(keeper)
    assert any(words in w and w.endswith("the model in service stays") for w in said), said
    assert keeper.service == first and not keeper.busy
    assert keeper.ask(still(), {}, NOW), "and it goes on"


def test_what_is_given_up_ends_at_once_and_leaves_the_model_in_service(make):
    keeper = make()
    before = keeper.service
    assert keeper.under_way == "" and keeper.ask(still(), {"payload": "l_gripper"}, NOW)
    assert keeper.under_way == "identification"
    keeper.give_up("the robot has changed since")
    said = finish(keeper, longest=10.0)
    assert said == ["the identification is given up: the robot has changed since"] and keeper.service == before
    keeper.give_up("with nothing under way it does nothing")
    assert finish(keeper) == [] and keeper.ask(still(), {}, NOW) and keeper.under_way == "calibration"


@pytest.mark.parametrize("died", [False, True])
def test_a_process_that_is_ready_is_used_unless_it_died(make, died):
    keeper = make()
    keeper.warm_up()
    while (spare := keeper._spare) is None:
        threading.Event().wait(0.01)
    keeper.warm_up()
    if died:
        spare.kill()
        while spare.alive:
            threading.Event().wait(0.01)
    assert keeper.ask(still(), {}, NOW)
    used = lambda: keeper._worker  # noqa: E731
    while used() is None:
        threading.Event().wait(0.01)
    assert (used() is spare) != died
    assert any("the model in service stays" in w for w in finish(keeper)) and keeper._spare is None


def test_a_store_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "models").write_text("a file")
    keeper = ModelKeeper(load_robot(), KeeperConfig(store=str(tmp_path / "models")))
    said = [e.text for e in keeper.poll(NOW)]
    assert len(said) == 1 and "cannot write the model store" in said[0] and "\n" not in said[0]
    before = keeper.service
    keeper.pending = replace(before, parent=before.hash, reason="x")
    done, words = keeper.approve()
    assert not done and "cannot write" in words and keeper.service == before
    assert keeper.announcement() is None, "there is no file to announce"
    keeper.close()


def test_a_damaged_version_in_service_is_said_and_the_robot_as_brought_is_used(make):
    keeper = make()
    v = replace(keeper.service, parent=keeper.service.hash, changes=Changes().with_joint("l_knee", friction=0.4))
    keeper.store.put_in_service(v)
    keeper.store.path(v).write_text("{")
    assert any("the model in service stays" in e.text for e in keeper.poll(NOW + 2 * 10**9))
    keeper.store._write(keeper.store.folder / "in_service", json.dumps({"hash": v.hash}))
    again = make()
    assert again.service == nominal(again.robot.description)
    assert any("as it was brought is in service" in e.text for e in again.poll(NOW))


def test_nothing_that_a_node_calls_takes_long(make):
    """CPU time of the calling thread, which is what would delay its callbacks."""
    hung, _ = loaded()
    keeper = make()
    keeper.poll(NOW)
    begin = time.thread_time()
    keeper.ask(hung, {"payload": "l_gripper"}, NOW)
    for k in range(100):
        keeper.poll(NOW + k)
    assert keeper.busy and time.thread_time() - begin < 0.05, "a hundred polls and a start"
    keeper.close()
    assert not keeper._thread or not keeper._thread.is_alive()


def test_the_reality_gap_is_reported_from_the_process(make):
    keeper = make()
    assert keeper.reality_gap(squats(), NOW)
    finish(keeper)
    report = json.loads(keeper.gap)
    assert report["model"] == keeper.service.hash and report["dynamic"]["joint_positions"]["rmse"]["value"] > 0
    keeper.reality_gap(squats()[:50], NOW)
    assert any("no reality gap report" in w for w in finish(keeper))
