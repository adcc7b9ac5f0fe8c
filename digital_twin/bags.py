"""Recordings: rosbag2 folders, .mcap and .db3 files, read without ROS by the rosbags library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rosbags.rosbag2 import Reader

from digital_twin.core.errors import BagError, one_line


@dataclass(frozen=True)
class Topic:
    """A topic of a recording: its name as recorded, its type as ROS writes it (sensor_msgs/msg/Imu), how many."""

    name: str
    kind: str
    count: int


class Bag:
    """An open recording; use it as a context manager.

    Raises:
        BagError: one line, when it is none or cannot be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.exists():
            raise BagError(f"{self.path}: no such recording")
        if self.path.suffix == ".bag":
            raise BagError(f"{self.path}: a ROS 1 recording; convert it with rosbags-convert first")
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as e:  # whatever a foreign or broken file makes the reader raise
            raise BagError(f"{self.path}: not a rosbag2 recording: {one_line(e)}") from e
        if not self._reader.message_count:
            raise BagError(f"{self.path}: the recording is empty")
        self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time
        self.topics = {
            c.topic: Topic(c.topic, c.msgtype, c.msgcount) for c in self._reader.connections if c.msgcount > 0
        }

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def messages(self) -> Iterator[tuple[str, int, bytes]]:
        """All messages in the order of their time: topic, time [ns], CDR bytes."""
        try:
            for connection, time_ns, data in self._reader.messages():
                yield connection.topic, time_ns, bytes(data)
        except Exception as e:
            raise BagError(f"{self.path}: the recording breaks off: {one_line(e)}") from e
