"""A rosbag2 folder of MCAP files while it is written, with its metadata.yaml."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from digital_twin.core.config import param
from digital_twin.recording.mcap_file import ChannelInfo, Chunk, McapFile, Totals

NS = 1_000_000_000
MB = 1_000_000
_METADATA_VERSION = 8  # of rosbag2: the newest that Humble reads too


@dataclass(frozen=True)
class RecordingConfig:
    """How a recording is cut into chunks and files, and what is kept in memory."""

    flush_period: float = param(0.25, "messages reach the file this often; a crash loses no more", unit="s", low=0.05,
                                high=1)  # fmt: skip
    split_size: float = param(1000.0, "a file this large is closed and the next begun; 0: never", unit="MB", low=0,
                              high=1e6)  # fmt: skip
    split_time: float = param(600.0, "and one that spans this much time; 0: never", unit="s", low=0, high=1e6)
    min_free: float = param(500.0, "space left on the disk below which recording pauses", unit="MB", low=0, high=1e6)
    keep: float = param(60.0, "time kept in memory for snapshots; 0: none", unit="s", low=0, high=600)
    keep_size: float = param(200.0, "and at most so much memory, packed", unit="MB", low=1, high=10_000)
    backlog: float = param(
        200.0, "messages that wait for a disk that is slow; beyond it they are lost, and counted", unit="MB", low=1,
        high=10_000,
    )  # fmt: skip


class RecordingFolder:
    """One rosbag2 folder: MCAP files and metadata.yaml. Nothing is written over what exists.

    Attributes:
        totals: what is in all its files.
    """

    def __init__(
        self,
        path: Path,
        config: RecordingConfig,
        metadata: dict[str, str],
        attachments: Sequence[tuple[str, str, bytes]],
    ) -> None:
        self.path, self._config = path, config
        self._metadata, self._attachments = metadata, attachments
        self._done: list[McapFile] = []
        self._file: McapFile | None = None
        self._channels: dict[int, ChannelInfo] = {}
        path.mkdir(parents=True)

    def append(self, chunk: Chunk, channels: dict[int, ChannelInfo]) -> None:
        """Write a chunk. Raises OSError; what was written before stays whole."""
        f, c = self._file, self._config
        if f is not None and f.totals.chunks:
            old = chunk.end_ns - f.totals.start_ns > c.split_time * NS > 0
            if old or f.size + len(chunk.data) > c.split_size * MB > 0:
                self.end_file()
        if self._file is None:
            name = f"{self.path.name}_{len(self._done)}.mcap"
            self._file = McapFile(self.path / name, self._metadata, self._attachments)
        self._file.append(chunk, channels)
        self._channels.update({n: channels[n] for n in chunk.index})

    def end_file(self) -> None:
        """The next chunk goes to a new file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.sync()
            self._file.close()
            self._done.append(self._file)
            self._file = None

    @property
    def files(self) -> list[McapFile]:
        """All files that hold messages."""
        return [f for f in [*self._done, self._file] if f is not None and f.totals.chunks]

    @property
    def messages(self) -> int:
        """Written so far."""
        return sum(f.totals.messages for f in self.files)

    def sync(self) -> None:
        """Everything to the disk, and metadata.yaml up to date."""
        if self._file is not None:
            self._file.sync()
        self.describe()

    def describe(self) -> None:
        """Write metadata.yaml, whole or not at all."""
        text = _metadata_yaml([(f.path.name, f.totals) for f in self.files], self._channels, self._metadata)
        draft = self.path / ".metadata.yaml.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / "metadata.yaml")

    def close(self) -> None:
        """The end. A folder without a message is removed."""
        self.end_file()
        if self.files:
            self.describe()
            return
        for f in self._done:
            f.path.unlink(missing_ok=True)
        for name in ("metadata.yaml", ".metadata.yaml.part"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _metadata_yaml(files: list[tuple[str, Totals]], channels: dict[int, ChannelInfo], custom: dict[str, str]) -> str:
    start = min((t.start_ns for _, t in files), default=0)
    end = max((t.end_ns for _, t in files), default=0)
    lines = [
        "rosbag2_bagfile_information:", f"  version: {_METADATA_VERSION}", "  storage_identifier: mcap",
        f"  duration:\n    nanoseconds: {end - start}",
        f"  starting_time:\n    nanoseconds_since_epoch: {start}",
        f"  message_count: {sum(t.messages for _, t in files)}", "  topics_with_message_count:",
    ]  # fmt: skip
    for c in channels.values():
        lines += [
            "    - topic_metadata:", f"        name: {c.topic}", f"        type: {c.kind}",
            "        serialization_format: cdr", '        offered_qos_profiles: ""',
            f"        type_description_hash: {_quoted(c.hash)}",
            f"      message_count: {sum(t.counts.get(c.number, 0) for _, t in files)}",
        ]  # fmt: skip
    lines += ['  compression_format: ""', '  compression_mode: ""', "  relative_file_paths:"]
    lines += [f"    - {_quoted(name)}" for name, _ in files]
    lines.append("  files:")
    for name, t in files:
        lines += [
            f"    - path: {_quoted(name)}", f"      starting_time:\n        nanoseconds_since_epoch: {t.start_ns}",
            f"      duration:\n        nanoseconds: {t.end_ns - t.start_ns}", f"      message_count: {t.messages}",
        ]  # fmt: skip
    lines.append("  custom_data:")
    lines += [f"    {key}: {_quoted(value)}" for key, value in custom.items()]
    lines.append("  ros_distro: jazzy")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
