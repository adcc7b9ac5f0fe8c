"""The page's board and texts: latency by stamps, curves, verdicts in words, and nothing from topics taken for HTML."""

import math
import os
import threading
import time

import numpy as np
import pytest

from digital_twin.core.errors import TwinError
from digital_twin.dashboard import words
from digital_twin.dashboard.board import SERIES, Board, Said
from digital_twin.dashboard.guard import Guard, is_local, open_socket
from digital_twin.dashboard.painter import Painter
from digital_twin.dashboard.plots import nice_range
from digital_twin.ros.scheduling import yield_to_others


def test_latency_is_measured_by_stamps_in_any_order():
    board = Board(60.0)
    assert all(math.isnan(x) for x in board.latency())
    for k in range(100):
        stamp, arrived = k * 5_000_000, 10**18 + k * 5_000_000
        if k % 2:
            board.arrival(stamp, arrived)
            board.shown(stamp, arrived + 2_000_000 + k * 10_000)
        else:
            board.shown(stamp, arrived + 2_000_000 + k * 10_000)
            board.arrival(stamp, arrived)
    p50, p99 = board.latency()
    assert p50 == pytest.approx(2.495) and p99 == pytest.approx(2.0 + 0.01 * 98.01)
    for k in range(10_000):
        board.arrival(10**15 + k, 0)
    assert len(board._arrived) <= 2000, "what is never shown is forgotten"


def test_curves_hold_what_was_said_lately_and_gaps_where_nothing_was():
    board = Board(60.0)
    board.figure("joints", 1.5, 100.0)
    board.figure("base", math.nan, 100.0)
    for now in np.arange(100.0, 110.0, 0.5):
        board.sample(now)
    t, joints, base = board.curves(("joints", "base"))
    assert t[-1] == 0.0 and t[0] == pytest.approx(-9.5)
    assert np.isnan(base).all()
    said_until = t + 109.5 < 103.0
    np.testing.assert_array_equal(np.isfinite(joints), said_until)
    for now in np.arange(110.0, 300.0, 0.5):
        board.sample(now)
    assert len(board.samples) <= 122
    assert Board(60.0).curves(SERIES)[0].shape == (1,)


def test_figures_come_from_the_nodes_own_status():
    board = Board(60.0)
    board.status("twin_synchronizer", Said(0, "", {"sync_error_m": "0.012"}, 5.0))
    board.status("physics_predictor", Said(0, "", {"hottest_motor_C": "41.5", "capture_margin_m": "x"}, 5.0))
    board.sample(5.0)
    t, base, motor, margin = board.curves(("base", "motor", "margin"))
    assert base[-1] == pytest.approx(1.2) and motor[-1] == 41.5 and math.isnan(margin[-1])


def test_the_verdict_says_the_worst_and_says_when_nothing_is_known():
    board = Board(60.0)
    assert board.verdict(0.0)[:2] == (3, "no verdict on drift") and "has not spoken" in board.verdict(0.0)[2][0]
    board.drift = {"a": Said(0, "", {}, 1.0), "b": Said(2, "l_knee drags", {"cause": "friction", "since_s": "3"}, 1.0)}
    level, sentence, details = board.verdict(2.0)
    assert (level, sentence) == (2, "l_knee drags") and "cause: friction" in details and "since s: 3" in details
    board.drift["b"] = Said(0, "behaves", {}, 1.0)
    assert board.verdict(2.0)[0] == 0
    assert board.verdict(100.0)[0] == 3 and "long ago" in board.verdict(100.0)[1]


def test_a_silent_node_is_said_to_be_silent():
    said = Said(
        0,
        "well",
        {"rate_hz/virtual/joint_states": "199.6", "rate_hz/x": "50", "loop_ms/avg": "0.5", "loop_ms/max": "4"},
        10.0,
    )
    assert said.row(11.0) == (0, "ok", "virtual/joint_states 200 Hz", "0.50 / 4.0 ms", "well")
    assert said.row(13.0)[:2] == (2, "silent")


def test_nothing_from_topics_becomes_html():
    bad = "<img src=x onerror=alert(1)>"
    board = Board(60.0)
    board.drift = {bad: Said(1, bad, {bad: bad}, 0.0)}
    board.warnings = [(1, bad)]
    board.nodes = {bad: Said(1, bad, {f"rate_hz/{bad}": "5"}, 0.0)}
    for text in (words.headline(board, None, [], 0.0), words.nodes(board, 0.0), words.note(bad)):
        assert "<img" not in text and "&lt;img" in text


# Who may look


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8090", None, 200), ("localhost:8090", "http://localhost:8090", 200), ("[::1]:8090", None, 200),
        ("127.0.0.1:8090", "http://evil.example", 403), ("evil.example:8090", "http://evil.example:8090", 403),
        ("127.0.0.1:8090", "http://127.0.0.1:1234", 403), ("127.0.0.1:8090", "null", 403), ("", None, 403),
    ],
)  # fmt: skip
def test_a_local_page_is_for_pages_of_its_own(host, origin, status):
    g = Guard("127.0.0.1", "", 8)
    assert g.token == "" and g.look("/", host, origin)[0] == status
    assert sum(g.refused.values()) == (status != 200)


def test_a_page_that_others_reach_wants_its_token():
    g = Guard("0.0.0.0", "", 8)
    assert len(g.token) >= 16 and Guard("0.0.0.0", "", 8).token != g.token
    for path in ("/", "/x", f"/x{g.token}", f"/{g.token}x", f"/{g.token[:-1]}", f"/?token={g.token}", "/é"):
        assert g.look(path, "robot:8090", None)[0] == 403
    assert g.look(f"/{g.token}/", "robot:8090", "http://robot:8090") == (200, "/")
    assert g.look(f"/{g.token}", "robot:8090", "http://robot:8090") == (200, "/")
    assert g.look(f"/{g.token}?a=b", "robot:8090", None) == (200, "/?a=b")
    assert g.look(f"/{g.token}/", "robot:8090", "http://other")[0] == 403
    assert g.url("0.0.0.0", 5).endswith(f":5/{g.token}/")
    given = Guard("127.0.0.1", "word", 8)
    assert given.look("/", "127.0.0.1:1", None)[0] == 403 and given.look("/word/", "127.0.0.1:1", None)[0] == 200
    assert given.url("127.0.0.1", 5) == "http://127.0.0.1:5/word/"


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("robot", False), ("", False)])  # fmt: skip
def test_what_is_local(host, local):
    assert is_local(host) == local


def test_a_port_in_use_is_said_with_what_to_do():
    with open_socket("127.0.0.1", 0) as s:
        port = s.getsockname()[1]
        with pytest.raises(TwinError) as e:
            open_socket("127.0.0.1", port)
        assert (
            f"port {port} is in use" in str(e.value) and "--dashboard-port" in str(e.value) and "\n" not in str(e.value)
        )
    open_socket("127.0.0.1", port).close()
    with pytest.raises(TwinError, match=r"cannot be served at 203\.0\.113\.1"):
        open_socket("203.0.113.1", 0)
    with pytest.raises(TwinError, match="no address of this machine"):
        open_socket("no such host", 0)


def test_the_painter_yields_and_does_the_newest_of_each_once():
    go, done, policies = threading.Event(), [], []
    painter = Painter(yield_to_others)
    painter.ask("wait", lambda: (policies.append(os.sched_getscheduler(0)), go.wait()))
    while not policies:
        time.sleep(0.001)
    for k in range(100):
        painter.ask("moment", lambda k=k: done.append(k))
    painter.ask("last", lambda: done.append("last"))
    go.set()
    while "last" not in done:
        time.sleep(0.001)
    assert done == [99, "last"] and policies == [os.SCHED_IDLE] and os.sched_getscheduler(0) != os.SCHED_IDLE
    painter.close()
    assert not painter._thread.is_alive()


def test_limits_of_curves_are_round_and_hold_all_that_is_finite():
    assert nice_range(np.array([np.nan])) == (0.0, 1.0)
    assert nice_range(np.array([0.2, 3.7, np.nan])) == (0.0, 4.0)
    low, high = nice_range(np.array([41.0, 41.3]), floating=True)
    assert 40.0 < low <= 41.0 and 41.3 <= high < 43.0
    assert nice_range(np.array([-3.0, 1.0]))[0] <= -3.0
    assert nice_range(np.zeros(3))[1] > 0.0
