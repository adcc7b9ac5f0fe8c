"""Measurements in any order end where those in order do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core import replay as module
from digital_twin.core.replay import Replay

MS = 1_000_000


class Diary:
    """A machine for which order matters: it writes down what it takes. `turns`: how often it was set back."""

    def __init__(self):
        self.pages, self.turns, self.taken = (), 0, 0

    def snapshot(self):
        return self.pages

    def restore(self, snapshot):
        self.pages = snapshot
        self.turns += 1

    def take(self, what):
        self.pages += (what,)
        self.taken += 1


def offer(replay, diary, stamp_ms, rank=0):
    return replay.add(stamp_ms * MS, rank, lambda: diary.take((stamp_ms, rank)))


keys = st.tuples(st.integers(0, 200), st.integers(0, 3))


@given(st.lists(keys, unique=True, max_size=60), st.randoms(use_true_random=False))
def test_any_order_of_arrival_within_the_history_ends_the_same(arrivals, random):
    diary = Diary()
    replay = Replay(diary, 0.2)
    for key in arrivals:
        assert offer(replay, diary, *key)
        if random.random() < 0.2:
            replay.settle()
    replay.settle()
    assert diary.pages == tuple(sorted(arrivals))
    assert replay.newest == (max(arrivals)[0] * MS if arrivals else None)


@given(st.integers(0, 2**31))
def test_a_long_stream_whose_messages_are_late_by_chance(seed):
    """Some too late; what was taken is in order, and nothing that could be taken was refused."""
    rng = np.random.default_rng(seed)
    diary, taken = Diary(), []
    replay, newest = Replay(diary, 0.1), -1
    stamps = np.arange(600) * 2
    for stamp in stamps[np.argsort(stamps + rng.exponential(30.0, 600), kind="stable")].tolist():
        late = stamp < newest - 100
        assert offer(replay, diary, stamp) is not late
        if not late:
            taken.append((stamp, 0))
            newest = max(newest, stamp)
    replay.settle()
    assert diary.pages == tuple(sorted(taken)) and len(taken) < 600


def test_what_is_of_one_stamp_and_rank_is_taken_as_it_came():
    seen = []

    class Nothing(Diary):
        def restore(self, snapshot):
            seen.clear()

    replay = Replay(Nothing(), 1.0)
    for name in "abc":
        replay.add(5, 1, lambda name=name: seen.append(name))
    replay.add(5, 0, lambda: seen.append("first"))
    replay.settle()
    assert seen == ["first", "a", "b", "c"]


def test_what_is_in_order_is_applied_at_once_and_only_once():
    diary = Diary()
    replay = Replay(diary, 0.2)
    for k in range(50):
        offer(replay, diary, k)
        assert len(diary.pages) == k + 1
    assert diary.taken == 50 and diary.turns == 0 and replay.replayed == 0


def test_what_is_too_late_is_refused_and_changes_nothing():
    diary = Diary()
    replay = Replay(diary, 0.1)
    for k in (0, 100, 300):
        offer(replay, diary, k)
    assert replay.too_late(199 * MS) and not offer(replay, diary, 199)
    replay.settle()
    assert diary.pages == ((0, 0), (100, 0), (300, 0)) and diary.turns == 0 and replay.replayed == 0
    assert not replay.too_late(200 * MS) and offer(replay, diary, 200)
    replay.settle()
    assert diary.pages == ((0, 0), (100, 0), (200, 0), (300, 0)) and replay.replayed == 1


def test_several_late_ones_cost_one_turn_back():
    diary = Diary()
    replay = Replay(diary, 1.0)
    for k in range(0, 200, 2):
        offer(replay, diary, k)
    for k in (151, 191, 171, 195):
        offer(replay, diary, k)
    assert diary.turns == 0 and diary.taken == 100, "they wait"
    offer(replay, diary, 200)
    assert diary.turns == 1 and replay.replayed == 4
    assert diary.taken == 100 + 24 + 4 + 1, "from 152 on again, the four late ones, and the new one"
    assert diary.pages == tuple((k, 0) for k in sorted([*range(0, 202, 2), 151, 191, 171, 195]))
    replay.settle()
    assert diary.turns == 1, "and only once"


def test_late_messages_cost_a_bounded_amount_of_work():
    """Every other message is 100 ms late, for seconds: each would apply a hundred again, did they not wait."""
    diary = Diary()
    replay = Replay(diary, 0.2)
    for k in range(0, 4000, 2):
        offer(replay, diary, k + 1)
        if k >= 100:
            offer(replay, diary, k - 100)
    assert diary.turns > 50 and diary.taken < 4000 * (1.0 + 1.3 * MS / module.PATIENCE)
    replay.settle()
    assert diary.pages == tuple((k, 0) for k in range(4000) if k % 2 or k < 3900)


def test_memory_stays_bounded():
    diary, most = Diary(), 0
    replay = Replay(diary, 0.2)
    for k in range(10_000):
        replay.add(k * MS, 0, lambda: None)
        most = max(most, len(replay._entries))
    assert 200 <= most <= 400
    assert not replay.too_late((9_999 - 200) * MS) and replay._entries[0].key[0] < (9_999 - 200) * MS


def test_memory_stays_bounded_when_time_stands_still(monkeypatch):
    monkeypatch.setattr(module, "MOST", 500)
    replay = Replay(Diary(), 0.2)
    for _ in range(3_000):
        replay.add(0, 0, lambda: None)
        assert len(replay._entries) <= 600


def test_what_is_older_than_all_that_is_kept_is_refused_or_put_in_its_place(monkeypatch):
    monkeypatch.setattr(module, "MOST", 200)
    diary = Diary()
    replay = Replay(diary, 10.0)
    for k in range(0, 2_000, 2):
        offer(replay, diary, k)
    offer(replay, diary, 101)
    replay.settle()
    assert diary.pages == tuple(sorted(diary.pages))


def test_after_clearing_the_past_is_taken_as_new():
    diary = Diary()
    replay = Replay(diary, 0.1)
    offer(replay, diary, 1000)
    replay.clear()
    assert replay.newest is None and offer(replay, diary, 10) and offer(replay, diary, 5)
    replay.settle()
    assert diary.pages == ((1000, 0), (5, 0), (10, 0))


def test_what_came_before_a_measurement_that_fails_is_not_taken_twice():
    diary, fails = Diary(), [True]
    replay = Replay(diary, 1.0)

    def fail_once():
        if fails.pop():
            fails.append(False)
            raise ZeroDivisionError

    offer(replay, diary, 10)
    offer(replay, diary, 5)
    with pytest.raises(ZeroDivisionError):
        replay.add(20 * MS, 0, fail_once)
    offer(replay, diary, 30)
    assert diary.pages == ((5, 0), (10, 0), (30, 0))
