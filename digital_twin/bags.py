"""Recordings: rosbag2 folders, .mcap and .db3 files, read without ROS. What is damaged is used as far as it can be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import yaml
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from digital_twin.core.errors import BagError, one_line
from digital_twin.recording.mcap_file import MAGIC
from digital_twin.recording.mcap_reader import Bytes, McapReader, Times

SQLITE = b"SQLite format 3\x00"
MOST_YAML = 50_000_000
NOT_THE_ROBOT = ("physical/", "virtual/", "ground_truth/", "now/", "encoders/")


@dataclass(frozen=True)
class Topic:
    """A topic of a recording: its name as recorded, its type as ROS writes it (sensor_msgs/msg/Imu), how many."""

    name: str
    kind: str
    count: int


class Batch(NamedTuple):
    """Messages of one topic and one size: times of receipt [ns] (n,), and their bytes (n, size)."""

    topic: str
    times: Times
    rows: Bytes


class _Storage(Protocol):
    topics: dict[int, tuple[str, str]]
    counts: dict[int, int]
    notes: list[str]
    metadata: dict[str, dict[str, str]]
    attachments: dict[str, bytes]
    start_ns: int
    end_ns: int

    def close(self) -> None: ...

    def times(self) -> Iterator[tuple[int, Times]]: ...

    def messages(self, numbers: set[int]) -> Iterator[tuple[int, int, bytes]]: ...

    def batches(self, numbers: set[int]) -> Iterator[tuple[int, Times, Bytes]]: ...


class _ByRosbags:
    """What the rosbags library reads: SQLite, and folders whose files or messages are compressed."""

    def __init__(self, path: Path, reader: Any) -> None:
        self.notes: list[str] = []
        self.metadata: dict[str, dict[str, str]] = {}
        self.attachments: dict[str, bytes] = {}
        self._path, self._reader = path, reader
        try:
            reader.open()
        except Exception as e:  # whatever a foreign or broken file makes the reader raise
            raise BagError(f"{path}: not a rosbag2 recording: {one_line(e)}") from e
        self._connections = dict(enumerate(reader.connections))
        self.topics = {i: (c.topic, c.msgtype) for i, c in self._connections.items()}
        self.counts = {i: c.msgcount for i, c in self._connections.items()}
        self.start_ns = reader.metadata.start_time if hasattr(reader, "metadata") else reader.start_time
        self.end_ns = (reader.metadata.end_time if hasattr(reader, "metadata") else reader.end_time) - 1

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def messages(self, numbers: set[int]) -> Iterator[tuple[int, int, bytes]]:
        """Channel, time and bytes, in the order of time."""
        wanted = {c.id: i for i, c in self._connections.items() if i in numbers}
        try:
            for c, time_ns, data in self._reader.messages([c for i, c in self._connections.items() if i in numbers]):
                yield wanted[c.id], time_ns, bytes(data)
        except Exception as e:
            note = f"{self._path.name} breaks off: {one_line(e)}; what is before it is used"
            if note not in self.notes:
                self.notes.append(note)

    def times(self) -> Iterator[tuple[int, Times]]:
        """Times by channel."""
        for number, time_ns, _ in self.messages(set(self.topics)):
            yield number, np.array([time_ns])

    def batches(self, numbers: set[int]) -> Iterator[tuple[int, Times, Bytes]]:
        """Messages of one channel and size, some thousand at once."""
        held: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        for number, time_ns, data in self.messages(numbers):
            key = (number, len(data))
            held.setdefault(key, []).append((time_ns, data))
            if len(held[key]) == 2000:
                yield self._table(key, held.pop(key))
        for key, messages in held.items():
            yield self._table(key, messages)

    @staticmethod
    def _table(key: tuple[int, int], messages: list[tuple[int, bytes]]) -> tuple[int, Times, Bytes]:
        rows = np.frombuffer(b"".join(data for _, data in messages), dtype=np.uint8).reshape(len(messages), key[1])
        return key[0], np.array([t for t, _ in messages], dtype=np.int64), rows


class Bag:
    """An open recording; use it as a context manager.

    Attributes:
        topics: those with messages, by name. start_ns, end_ns: when the first and the last message were received.
        notes: what could not be read, in words; grows while messages are read.
        metadata, attachments: what the recorder put into it, by name.

    Raises:
        BagError: one line, when it is none or nothing in it can be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.exists():
            raise BagError(f"{self.path}: no such recording")
        if self.path.suffix == ".bag":
            raise BagError(f"{self.path}: a ROS 1 recording; convert it with rosbags-convert first")
        self._notes: list[str] = []
        self._storages = self._open_folder() if self.path.is_dir() else [_open_file(self.path)]
        self.metadata: dict[str, dict[str, str]] = {}
        self.attachments: dict[str, bytes] = {}
        counts: dict[str, tuple[str, int]] = {}
        for storage in self._storages:
            self.metadata |= storage.metadata
            self.attachments |= storage.attachments
            for number, count in storage.counts.items():
                if count and number in storage.topics:
                    name, kind = storage.topics[number]
                    counts[name] = (kind, counts.get(name, ("", 0))[1] + count)
        self.topics = {name: Topic(name, kind, count) for name, (kind, count) in counts.items()}
        if not self.topics:
            why = f" ({'; '.join(self.notes)})" if self.notes else ""
            self.close()
            raise BagError(f"{self.path}: the recording is empty: no message in it can be read{why}")
        self.start_ns = min(s.start_ns for s in self._storages)
        self.end_ns = max(s.end_ns for s in self._storages)

    @property
    def notes(self) -> list[str]:
        """What could not be read."""
        return [*self._notes, *(note for s in self._storages for note in s.notes)]

    def _open_folder(self) -> list[_Storage]:
        listed, compressed = self._read_metadata()
        if compressed:
            return [_ByRosbags(self.path, Reader(self.path))]
        there = sorted((*self.path.glob("*.mcap"), *self.path.glob("*.db3")), key=_natural)
        if not there:
            raise BagError(f"{self.path}: not a rosbag2 recording: no .mcap or .db3 file in the folder")
        for name in listed:
            if not (self.path / name).exists():
                self._notes.append(f"{name} is missing; the other files are used")
        opened: list[_Storage] = []
        for path in there:
            try:
                opened.append(_open_file(path))
            except BagError as e:
                if len(there) == 1:
                    raise
                self._notes.append(str(e))
        if not opened:
            raise BagError(f"{self.path}: not a rosbag2 recording: {'; '.join(self._notes)}")
        return opened

    def _read_metadata(self) -> tuple[list[str], bool]:
        """Names of the files, and whether files or messages are compressed as a whole."""
        path = self.path / "metadata.yaml"
        try:
            if path.stat().st_size > MOST_YAML:
                raise ValueError("too large")
            info = yaml.safe_load(path.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
            mode = str(info.get("compression_mode") or "").lower()
            return [Path(str(p)).name for p in info["relative_file_paths"]], mode not in ("", "none")
        except FileNotFoundError:
            self._notes.append("metadata.yaml is missing; the files in the folder are used")
        except Exception as e:
            self._notes.append(f"metadata.yaml cannot be read ({one_line(e)}); the files in the folder are used")
        return [], False

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for storage in self._storages:
            storage.close()

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """Messages of these topics (None: all) in the order of their time: topic, time [ns], CDR bytes."""
        wanted = set(self.topics if topics is None else topics)
        for storage in self._storages:
            names = {n: name for n, (name, _) in storage.topics.items() if name in wanted}
            for number, time_ns, data in storage.messages(set(names)):
                yield names[number], time_ns, data

    def batches(self, topics: Iterable[str]) -> Iterator[Batch]:
        """The same, many at once: all of one topic and size that lie together. A hundred times as fast."""
        wanted = set(topics)
        for storage in self._storages:
            names = {n: name for n, (name, _) in storage.topics.items() if name in wanted}
            for number, times, rows in storage.batches(set(names)):
                yield Batch(names[number], times, rows)

    def times(self) -> dict[str, Times]:
        """When the messages of each topic were received [ns], as recorded; nothing is unpacked for it."""
        found: dict[str, list[Times]] = {}
        for storage in self._storages:
            for number, times in storage.times():
                if number in storage.topics:
                    found.setdefault(storage.topics[number][0], []).append(times)
        return {name: np.concatenate(pieces) for name, pieces in found.items()}


def namespace_of(bag: Bag) -> str | None:
    """What stands before the names of the robot's topics: "/" or "/name/". Its joint states tell; None: there are none."""
    found = []
    for name in bag.topics:
        before = name.removesuffix("joint_states")
        if name.split("/")[-1] == "joint_states" and not before.endswith(NOT_THE_ROBOT):
            found.append((name.count("/"), before))
    return min(found)[1] if found else None


def _open_file(path: Path) -> _Storage:
    """By what is in it, whatever it is called."""
    try:
        with path.open("rb") as f:
            head = f.read(16)
    except OSError as e:
        raise BagError(f"{path}: cannot read the recording: {e.strerror}") from e
    if not head:
        raise BagError(f"{path}: the recording is empty: the file has no content")
    if head.startswith(MAGIC):
        return McapReader(path)
    if head == SQLITE:
        return _ByRosbags(path, Sqlite3Reader(path))
    raise BagError(f"{path}: not a rosbag2 recording: neither MCAP nor SQLite")


def _natural(path: Path) -> list[tuple[int, str]]:
    """recording_10 comes after recording_9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path.name)]
