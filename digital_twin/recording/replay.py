"""The twin run over a recording, in one process, as fast as it goes: the same code, the same bytes every time.

Where the recording holds the journals of the nodes (twin/journal/…) each node handles again what it handled then, in
that order and at those times, and its outputs are those that were recorded, byte for byte, as long as code and model
are the same. Elsewhere messages are handled in the order in which they were recorded, at the times when they were.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import itertools
import json
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digital_twin.bags import Bag, namespace_of
from digital_twin.core.errors import BagError, one_line
from digital_twin.recording.identity import CONFIG, URDF
from digital_twin.recording.typed import int64_multi_array
from digital_twin.robots import Robot, load_robot
from digital_twin.ros.journal import FIELDS, key_of, topic_of
from digital_twin.ros.offline import Bus, Offline, offline

# In this order they are given messages; those of the package that are there.
NODES = ("physical_bridge", "twin_synchronizer", "drift_monitor")
MADE_BY_US = ("physical/", "virtual/", "twin/", "tf", "tf_static", "clock", "rosout", "parameter_events", "diagnostics")
FROM_OTHERS = ("virtual/joint_commands",)
NOT_MADE_AGAIN = (*FROM_OTHERS, "twin/model")  # nobody keeps models in a replay
AHEAD_NS = 10_000_000_000  # how far apart in a recording messages and events of one time may be
LEAP_NS = 1_000_000_000  # a clock that goes back so far has been set
Events = NDArray[np.int64]
Sink = Callable[[str, int, bytes], None]


@dataclass
class Outcome:
    """What came of a replay.

    exact: from the journals. seconds: of the recording. messages: that went in. outputs: that came out, by topic, and
    the SHA-256 of each topic's bytes. missing: events of the journals whose messages are not in the recording. notes.
    """

    exact: bool
    seconds: float = 0.0
    messages: int = 0
    missing: int = 0
    outputs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    hashes: dict[str, Any] = field(default_factory=lambda: defaultdict(hashlib.sha256))
    notes: list[str] = field(default_factory=list)

    def note_refused(self, nodes: Iterable[Offline]) -> None:
        """Say what the nodes did not take."""
        for node in nodes:
            if node.tally.rejected:
                said = ", ".join(f"{n} {why}" for why, n in sorted(node.tally.rejected.items()))
                self.notes.append(f"{node.get_name()} refused or changed: {said}")

    @property
    def digest(self) -> str:
        """One hash of all outputs."""
        text = "\n".join(f"{topic} {self.hashes[topic].hexdigest()}" for topic in sorted(self.hashes))
        return hashlib.sha256(text.encode()).hexdigest()


class Replay:
    """A recording and the nodes that are run over it. `kinds`: types of the outputs, by topic. `nodes`: by name, once run.

    Raises:
        TwinError: when the recording or the robot cannot be used, in one line.
    """

    def __init__(
        self, bag: Bag, robot_description: str = "", robot_config: str = "",
        settings: Mapping[str, Mapping[str, Any]] | None = None, *, exact: bool = True, until_ns: int | None = None,
    ) -> None:  # fmt: skip
        """settings: parameters by node, over those of the recording. exact: use the journals, where there are any.

        until_ns: where to end, when not exact.
        """
        self.bag = bag
        prefix = namespace_of(bag)
        if prefix is None:
            have = ", ".join(sorted(bag.topics)[:12])
            raise BagError(f"{bag.path}: no joint_states in it, so there is nothing to run the twin on; it has: {have}")
        self._prefix = prefix
        self._files = tempfile.TemporaryDirectory()
        self._robot = self._robot_settings(robot_description, robot_config)
        self._settings = settings or {}
        self._until_ns = bag.end_ns if until_ns is None else min(until_ns, bag.end_ns)
        self.nodes: dict[str, Offline] = {}
        self.notes: list[str] = []
        self.kinds: dict[str, str] = {}
        self._journals = {name: j for name in NODES if (j := self._journal(name)) is not None}
        whole = {"physical_bridge", "twin_synchronizer"} <= self._journals.keys()
        self.exact = exact and whole and all(j.whole for j in self._journals.values())
        if not self._robot["robot_description"]:
            self.notes.append("no robot description is given, nor in the recording: taken for the package's humanoid")
        if exact and self._journals and not self.exact:
            self.notes.append(
                "the journals of the nodes do not begin with the nodes; replayed in recorded order instead"
            )

    @property
    def robot(self) -> Robot:
        """The robot of the recording. Raises TwinError."""
        return load_robot(**self._robot)

    def _robot_settings(self, robot_description: str, robot_config: str) -> dict[str, str]:
        found = {"robot_description": robot_description, "robot_config": robot_config}
        if not robot_description and URDF in self.bag.attachments:
            found["robot_description"] = self._keep(URDF)
            if not robot_config and CONFIG in self.bag.attachments:
                found["robot_config"] = self._keep(CONFIG)
        return found

    def _keep(self, name: str) -> str:
        path = Path(self._files.name) / name
        path.write_bytes(self.bag.attachments[name])
        return str(path)

    def _journal(self, node: str) -> Journal | None:
        topic = self._prefix + topic_of(node)
        if topic not in self.bag.topics:
            return None
        try:
            return Journal([int64_multi_array(data) for _, _, data in self.bag.messages([topic])])
        except (BagError, ValueError, LookupError, TypeError) as e:
            self.notes.append(f"{topic} is no journal: {one_line(e)}")
            return None

    def _make(self, name: str, bus: Bus, *, lone: bool) -> Offline:
        module = importlib.import_module(f"digital_twin.nodes.{name}")
        recorded = self._journals[name].settings if name in self._journals else {}
        given = dict(recorded) | self._robot | dict(self._settings.get(name, {}))
        given.pop("wait_for_recorder", None)
        node = offline(getattr(module, "".join(p.title() for p in name.split("_"))), bus, given, lone=lone)
        self.nodes[name] = node
        return node

    def run(self, sink: Sink = lambda topic, time_ns, data: None, progress: Callable[[float], None] = lambda share: None) -> Outcome:  # fmt: skip
        """Run it; `sink` is given each output: topic, time [ns], bytes. `progress`: the share done, now and then."""
        outcome = Outcome(self.exact, (self.bag.end_ns - self.bag.start_ns) / 1e9, notes=list(self.notes))

        def emit(topic: str, data: bytes) -> None:
            outcome.outputs[topic] += 1
            outcome.hashes[topic].update(data)
            sink(topic, bus.now_ns, data)

        said: set[str] = set()

        def say(level: str, text: str) -> None:
            if level in ("warning", "error") and text not in said:
                said.add(text)
                outcome.notes.append(text)

        bus = Bus(emit, say=say, kinds=self.kinds, namespace=self._prefix.rstrip("/") or "/")
        with _rarely_collected():
            if self.exact:
                _Exact(self, bus, outcome).run(progress)
            else:
                self._run_as_recorded(bus, outcome, progress)
        return outcome

    def _run_as_recorded(self, bus: Bus, outcome: Outcome, progress: Callable[[float], None]) -> None:
        start, span = self.bag.start_ns, max(1, self._until_ns - self.bag.start_ns)
        bus.now_ns = bus.steady_ns = start
        nodes = [self._make(name, bus, lone=False) for name in NODES]
        inputs = self._inputs(bus.heard, outcome)
        cut = len(self._prefix)
        for topic, time_ns, data in _joints_last(self.bag.messages(inputs)):
            if time_ns > self._until_ns:
                break
            if -LEAP_NS < time_ns - bus.now_ns < AHEAD_NS:
                bus.advance(max(time_ns, bus.now_ns))
            else:
                bus.leap(time_ns)
            bus.deliver(topic[cut:], data)
            outcome.messages += 1
            if outcome.messages % 1024 == 0:
                progress((time_ns - start) / span)
        outcome.note_refused(nodes)

    def _inputs(self, heard: Mapping[str, str], outcome: Outcome) -> list[str]:
        """Topics of the recording that the nodes hear and do not publish themselves."""
        found = []
        for topic in self.bag.topics.values():
            name = topic.name[len(self._prefix) :] if topic.name.startswith(self._prefix) else ""
            if name not in heard or (name not in FROM_OTHERS and name.startswith(MADE_BY_US)):
                continue
            if topic.kind == heard[name]:
                found.append(topic.name)
            else:
                outcome.notes.append(f"{topic.name} is {topic.kind or 'of no known type'}, not {heard[name]}; left out")
        return found

    @property
    def prefix(self) -> str:
        """What stands before the names of topics in the recording: "/" or "/namespace/"."""
        return self._prefix


def _joints_last(messages: Iterator[tuple[str, int, bytes]]) -> Iterator[tuple[str, int, bytes]]:
    """Of messages received at one time the order of arrival is not known: joint states, which are answered, come last."""
    for _, together in itertools.groupby(messages, key=lambda m: m[1]):
        yield from sorted(together, key=lambda m: m[0].endswith("joint_states"))


@contextlib.contextmanager
def _rarely_collected() -> Iterator[None]:
    """What a message leaves behind is freed without the garbage collector: as in the nodes' own processes."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class Journal:
    """What a node handled. `whole`: from its first event on, without a gap."""

    def __init__(self, messages: list[tuple[str, int, Events]]) -> None:
        label = json.loads(messages[0][0])
        self.sources: list[str] = label["sources"]
        self.settings: dict[str, Any] = label["settings"]
        self.version: str = label["version"]
        self.whole, expected = True, 0
        for text, before, events in messages:
            self.whole &= before == expected % 2**32 and json.loads(text)["sources"] == self.sources
            expected = before + len(events) // FIELDS
        self.events = np.concatenate([e[: len(e) // FIELDS * FIELDS] for _, _, e in messages]).reshape(-1, FIELDS)


def _made(topic: str) -> bool:
    """Whether a replay makes it again."""
    return topic.startswith(MADE_BY_US) and topic not in NOT_MADE_AGAIN


class _Exact:
    """Each node does again what its journal says, all in the order of the host's steady clock."""

    def __init__(self, replay: Replay, bus: Bus, outcome: Outcome) -> None:
        self._bag, self._bus, self._outcome, self._prefix = replay.bag, bus, outcome, replay.prefix
        names = list(replay._journals)
        tables = [replay._journals[name].events for name in names]
        which = np.concatenate([np.full(len(t), i) for i, t in enumerate(tables)])
        events = np.concatenate(tables)
        # Journals come in pieces: the end of one may be missing where another's is there.
        both = events[:, 3] <= min(t[-1, 3] for t in tables)
        events, which = events[both], which[both]
        order = np.argsort(events[:, 3], kind="stable")
        self._events, self._which = events[order], which[order]
        bus.now_ns, bus.steady_ns = self._events[0, 2].item(), self._events[0, 3].item()
        self._nodes = [replay._make(name, bus, lone=True) for name in names]
        self._sources = [replay._journals[name].sources for name in names]
        # Messages that wait for the node that will take them, by node, topic and key.
        self._ready: list[dict[tuple[str, int], deque[bytes]]] = [defaultdict(deque) for _ in names]
        self._takers: dict[str, list[int]] = defaultdict(list)
        for i, sources in enumerate(self._sources):
            for source in sources:
                if source.startswith("message "):
                    self._takers[source.removeprefix("message ")].append(i)
        self._made: set[str] = set()
        emit = bus.sink

        def publish(topic: str, data: bytes) -> None:
            emit(topic, data)
            self._hold(topic, data)

        bus.sink = publish

    def _hold(self, topic: str, data: bytes) -> None:
        for i in self._takers.get(topic, ()):
            self._ready[i][topic, key_of(data)].append(data)

    def run(self, progress: Callable[[float], None]) -> None:
        """All events, one after the other."""
        total = len(self._events)
        outside = self._outside()
        self._read_ns = 0
        for count, (i, (source, key, ros_ns, steady_ns)) in enumerate(
            zip(self._which.tolist(), self._events.tolist(), strict=True)
        ):
            name = self._sources[i][source]
            data = b""
            if name.startswith("message "):
                topic = name.removeprefix("message ")
                found = self._find(i, topic, key, ros_ns, outside)
                if found is None:
                    self._outcome.missing += 1
                    continue
                data = found
                self._outcome.messages += 1
            self._bus.now_ns, self._bus.steady_ns = ros_ns, steady_ns
            handle = self._nodes[i].sources.get(name)
            if handle is not None:
                handle(key, data)
            if count % 4096 == 0:
                progress(count / total)
        self._outcome.note_refused(self._nodes)

    def _outside(self) -> Iterator[tuple[str, int, bytes]]:
        """Messages that none of the nodes made."""
        cut = len(self._prefix)
        topics = [self._prefix + t for t in self._takers if self._prefix + t in self._bag.topics and not _made(t)]
        for topic, time_ns, data in self._bag.messages(topics):
            yield topic[cut:], time_ns, data

    def _find(
        self, i: int, topic: str, key: int, ros_ns: int, outside: Iterator[tuple[str, int, bytes]]
    ) -> bytes | None:
        waiting = self._ready[i]
        while True:
            queue = waiting.get((topic, key))
            if queue:
                data = queue.popleft()
                if not queue:
                    del waiting[topic, key]
                return data
            if _made(topic):
                return None
            if self._read_ns > ros_ns + AHEAD_NS:
                return None
            message = next(outside, None)
            if message is None:
                return None
            self._read_ns = message[1]
            self._hold(message[0], message[2])
