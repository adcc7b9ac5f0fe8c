"""Streams that stop, freeze, come late, or only hiccup."""

import numpy as np
import pytest

from digital_twin.core.drift.stream_watch import StreamWatch

NS = 1_000_000_000


class Feed:
    """Streams of a period [s] each, that arrive a little late."""

    def __init__(self, seconds=10.0, **periods):
        self.periods = periods or {"joints": 0.005, "pose": 0.05}
        self.watch = StreamWatch(36000.0)
        self.rng = np.random.default_rng(0)
        self.t = 0.0
        self.sent = dict.fromkeys(self.periods, 0.0)
        self.delay = dict.fromkeys(self.periods, 0.001)
        self.stuck = set()
        self.silent = set()
        self.count = dict.fromkeys(self.periods, 0)
        self.play(seconds)
        self.watch.settle()

    def play(self, seconds):
        """Go on, and say what was wrong at each millisecond: {kind: first time since the start of this call}."""
        start, found = self.t, {}
        while self.t < start + seconds - 1e-9:
            self.t += 0.001
            for name, period in self.periods.items():
                if self.t >= self.sent[name] + period:
                    self.sent[name] += period
                    if name not in self.silent:
                        self.count[name] += name not in self.stuck
                        arrival = self.t + self.delay[name] + self.rng.exponential(0.0003)
                        self.watch.heard(name, round(self.t * NS), round(arrival * NS), self.count[name])
            for fault in self.watch.faults(round(self.t * NS)):
                found.setdefault((fault.kind, fault.stream), (self.t - start, fault))
        return found


def test_nothing_is_wrong_with_what_is_well():
    assert Feed().play(60.0) == {}


@pytest.mark.parametrize(("stream", "limit"), [("joints", 0.1), ("pose", 0.15)])
def test_a_missing_stream_is_missed_in_time(stream, limit):
    feed = Feed()
    feed.silent.add(stream)
    found = feed.play(1.0)
    assert set(found) == {("missing", stream)}
    assert found["missing", stream][0] <= limit + feed.periods[stream] + 0.005
    feed.silent.clear()
    feed.play(feed.periods[stream])
    assert not feed.play(0.5), "and it is back"


def test_a_frozen_stream_is_seen_in_time():
    feed = Feed()
    feed.stuck.add("joints")
    found = feed.play(0.5)
    assert ("frozen", "joints") in found and found["frozen", "joints"][0] <= 0.12
    assert "frozen for" in found["frozen", "joints"][1].words


def test_a_stream_that_repeats_itself_when_well_is_not_frozen():
    """An encoder at rest reads the same for a second; that was seen while learning."""
    watch = StreamWatch(36000.0)
    for i in range(4000):
        watch.heard("encoder", i * 5_000_000, i * 5_000_000 + 1_000_000, i // 200)
        if i == 3000:
            watch.settle()
        if i > 3000:
            assert not watch.faults(i * 5_000_000 + 1_000_000)


def test_delay_is_found_with_its_size():
    feed = Feed()
    feed.delay["joints"] += 0.02
    found = feed.play(2.0)
    assert set(found) == {("delay", "joints")}
    when, fault = found["delay", "joints"]
    assert when < 1.0 and fault.size == pytest.approx(0.02, rel=0.1) and fault.low < 0.02 < fault.high


def test_a_hiccup_of_the_machine_is_no_delay():
    """For 80 ms nothing is taken, then all at once."""
    feed = Feed()
    for _ in range(20):
        feed.play(0.5)
        start = round(feed.t * NS)
        for i in range(16):
            feed.watch.heard("joints", start + i * 5_000_000, start + 80_000_000, 10_000 + i)
        feed.t += 0.08
        feed.sent["joints"] = feed.t
        assert not [f for f in feed.watch.faults(round(feed.t * NS)) if f.kind == "delay"]


def test_a_backlog_of_this_process_is_nobodys_delay():
    """What came is handled later and later, up to two seconds, then sooner again; all the while in the order in which it came."""
    feed = Feed(joints=0.005, imu=0.005, pose=0.02, scan=0.1)
    start = feed.t
    for k in range(8000):
        t = start + 0.001 * k
        backlog = 0.5 * min(k, 8000 - k) * 0.001
        for name, period in feed.periods.items():
            if t >= feed.sent[name] + period:
                feed.sent[name] += period
                feed.count[name] += 1
                arrival = t + feed.delay[name] + feed.rng.exponential(0.0003) + backlog
                feed.watch.heard(name, round(t * NS), round(arrival * NS), feed.count[name])
        assert not feed.watch.faults(round((t + backlog) * NS)), k


def test_what_is_usual_is_learned_without_the_backlog_of_that_minute():
    """While it is learned the machine is busy, and all comes up to a second late; later it is not, and then again."""
    feed = Feed(0.5, joints=0.005, imu=0.005, pose=0.02)
    feed.watch.calibrating = True
    for busy in (*np.linspace(0.0, 1.0, 300), *np.linspace(1.0, 0.0, 300)):
        feed.delay = dict.fromkeys(feed.delay, 0.001 + float(busy))
        feed.play(0.02)
    feed.watch.settle()
    assert not feed.play(3.0)
    feed.delay["pose"] += 0.02
    assert set(feed.play(2.0)) == {("delay", "pose")}
    feed.delay["pose"] -= 0.02
    feed.play(3.0)
    feed.delay = {name: late + 0.4 for name, late in feed.delay.items()}
    feed.play(0.1)
    assert feed.watch.behind(0.25)


def test_a_backlog_that_stays_is_said_of_everything():
    """A busy machine, or a network that has become slow: nothing else can be said of any one stream."""
    feed = Feed(joints=0.005, imu=0.005, pose=0.02)
    assert not feed.watch.behind(0.25)
    for name in feed.delay:
        feed.delay[name] += 0.4
    feed.play(0.5)
    assert feed.watch.behind(0.25) and not feed.play(4.0)
    feed.watch.behind(0.25)
    (((kind, stream), (_, fault)),) = feed.play(2.0).items()
    assert (kind, stream) == ("delay", "everything") and fault.size == pytest.approx(0.4, abs=0.01)
    for name in feed.delay:
        feed.delay[name] -= 0.4
    feed.play(1.0)
    assert not feed.watch.behind(0.25) and not feed.play(1.0)


def test_delay_of_one_is_found_in_a_backlog_too():
    feed = Feed(joints=0.005, imu=0.005, pose=0.02)
    for name in feed.delay:
        feed.delay[name] += 0.3
    feed.delay["pose"] += 0.02
    found = feed.play(2.0)
    assert {("delay", "pose")} == {key for key in found if key[0] == "delay"}
    assert found["delay", "pose"][1].size == pytest.approx(0.02, rel=0.1)


def test_who_has_said_little_is_not_missed():
    watch = StreamWatch(36000.0)
    for i in range(10):
        watch.heard("scan", i * NS // 10, i * NS // 10)
    assert watch.faults(100 * NS) == []
    assert StreamWatch(36000.0).faults(0) == []
