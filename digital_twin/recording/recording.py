"""A recording while it is made: a rosbag2 folder of MCAP files, written by a thread of its own, and the last minute.

Messages are handed in as bytes and packed into chunks, a few a second. Each chunk goes to the file and into memory, where
the last minute waits for something to go wrong.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from digital_twin.core.errors import BagError
from digital_twin.recording.folder import MB, NS, RecordingConfig, RecordingFolder
from digital_twin.recording.mcap_file import ChannelInfo, Chunk, ChunkBuilder, channel
from digital_twin.recording.message_types import definition

BIG_CHUNK = 4 * MB  # packed at once, however little time has passed
SYNC_EVERY = 1.0  # [s]


class Recording:
    """Takes messages from any thread and writes them in one of its own.

    Attributes:
        written: messages. trouble: why nothing is written now, in words; empty when all is well.
    """

    def __init__(
        self,
        folder: Path,
        config: RecordingConfig,
        metadata: dict[str, str],
        attachments: Sequence[tuple[str, str, bytes]] = (),
        *,
        continuous: bool = True,
        say: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        """folder: of the recording; snapshots go beside it. continuous: False to write snapshots only.

        say: is told (level, text) of what should be known, from the thread that writes.
        """
        self._folder, self._config, self._say = folder, config, say
        self._metadata, self._attachments, self._continuous = metadata, attachments, continuous
        self._out: RecordingFolder | None = None
        self._builder = ChunkBuilder()
        self._channels: dict[int, ChannelInfo] = {}
        self._kept: deque[Chunk] = deque()
        self._kept_size = 0
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._bytes_in = self._bytes_out = 0  # each written by one thread only
        self._snapshots: deque[tuple[str, Callable[[str], None], threading.Event]] = deque()
        self._wake, self._over, self._synced = threading.Event(), False, 0.0
        self.written = self._unwritten = self._refused = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """Where it is written."""
        return self._folder

    @property
    def lost(self) -> int:
        """Messages that could not be written."""
        return self._unwritten + self._refused

    @property
    def behind(self) -> bool:
        """Whether whoever can wait should, so that nothing is lost."""
        return self._bytes_in - self._bytes_out > self._config.backlog * MB / 2

    @property
    def kept_mb(self) -> float:
        """Memory that the last minute takes [MB]."""
        return self._kept_size / MB

    def declare(self, topic: str, kind: str) -> int:
        """A topic to come, by its name with the slash and its type (sensor_msgs/msg/Imu); returns its number."""
        number = len(self._channels) + 1
        text, hash_ = definition(kind)
        self._channels[number] = channel(number, topic, kind, text, hash_)
        return number

    def add(self, number: int, time_ns: int, data: bytes) -> None:
        """A message of a declared topic, received at time_ns."""
        waiting = self._bytes_in - self._bytes_out
        if waiting > self._config.backlog * MB:
            self._refused += 1
            return
        self._bytes_in += len(data)
        self._waiting.append((number, time_ns, data))
        if waiting > BIG_CHUNK:
            self._wake.set()

    def snapshot(self, reason: str, tell: Callable[[str], None] = lambda text: None) -> threading.Event:
        """Write the last minute; `tell` is told where it is, or why it is nowhere, from the thread that writes.

        Returns an event that is set afterwards.
        """
        done = threading.Event()
        self._snapshots.append((reason, tell, done))
        self._wake.set()
        return done

    def close(self) -> None:
        """Write what there is, and end."""
        self._over = True
        self._wake.set()
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        while not self._over:
            self._wake.wait(self._config.flush_period)
            self._wake.clear()
            self._round()
        self._round()
        if self._out is not None:
            with contextlib.suppress(OSError):
                self._out.close()

    def _round(self) -> None:
        for _ in range(len(self._waiting)):
            number, time_ns, data = self._waiting.popleft()
            self._bytes_out += len(data)
            self._builder.add(number, time_ns, data)
            if self._builder.size > BIG_CHUNK:
                self._pass_on()
        self._pass_on()
        while self._snapshots:
            reason, tell, done = self._snapshots.popleft()
            tell(self._write_snapshot(reason))
            done.set()

    def _pass_on(self) -> None:
        chunk = self._builder.finish()
        if chunk is None:
            return
        if self._config.keep > 0:
            self._kept.append(chunk)
            self._kept_size += len(chunk.data)
            while self._kept and (
                self._kept_size > self._config.keep_size * MB
                or chunk.end_ns - self._kept[0].end_ns > self._config.keep * NS
            ):
                self._kept_size -= len(self._kept.popleft().data)
        if self._continuous:
            self._write(chunk)

    def _write(self, chunk: Chunk) -> None:
        trouble = self._no_space(self._folder)
        if not trouble:
            try:
                if self._out is None:
                    self._out = RecordingFolder(self._folder, self._config, self._metadata, self._attachments)
                self._out.append(chunk, self._channels)
                self.written += chunk.count
                if chunk.end_ns / NS - self._synced > SYNC_EVERY or chunk.end_ns / NS < self._synced:
                    self._synced = chunk.end_ns / NS
                    self._out.sync()
            except OSError as e:
                trouble = f"cannot write {self._folder}: {e.strerror}"
        if trouble:
            self._unwritten += chunk.count
            if not self.trouble:
                self._say("error", f"recording pauses: {trouble}")
                if self._out is not None:
                    with contextlib.suppress(OSError):
                        self._out.end_file()
        elif self.trouble:
            self._say("warning", "recording goes on")
        self.trouble = trouble

    def _no_space(self, path: Path) -> str:
        place = next(p for p in [path, *path.parents] if p.exists())
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._config.min_free * MB:
            return ""
        return f"{free / MB:.0f} MB are left on the disk of {place} (min_free is {self._config.min_free:g} MB)"

    def _write_snapshot(self, reason: str) -> str:
        """The kept chunks as a recording of their own; returns where it is or why not."""
        if not self._kept:
            return "nothing has been kept yet"
        path = free_name(self._folder.parent, f"{self._folder.name}_{reason.replace(' ', '_')}")
        trouble = self._no_space(path)
        if trouble:
            return f"no snapshot: {trouble}"
        try:
            out = RecordingFolder(path, self._config, self._metadata | {"reason": reason}, self._attachments)
            try:
                for chunk in self._kept:
                    out.append(chunk, self._channels)
            finally:
                out.close()
        except OSError as e:
            return f"the snapshot {path} is not whole: {e.strerror}"
        return str(path)


def free_name(folder: Path, name: str) -> Path:
    """A path in a folder that does not exist yet: `name`, or with a number."""
    path, n = folder / name, 1
    while path.exists():
        n += 1
        path = folder / f"{name}_{n}"
    return path


def check_writable_folder(folder: Path) -> None:
    """Raises BagError when no recording can be made in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BagError(f"{folder}: cannot make the folder for recordings: {e.strerror}") from e
    if not os.access(folder, os.W_OK):
        raise BagError(f"{folder}: recordings cannot be written there: permission denied")
