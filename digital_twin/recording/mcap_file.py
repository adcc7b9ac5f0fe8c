"""MCAP files that are whole after every write.

A chunk and the end of the file (summary, footer) are written together, the next chunk over that end: whoever kills the
writer, by whatever means, leaves a file that any reader opens. The format is https://mcap.dev/spec; its records are
those of the mcap package, but for messages, of which there are many.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
_MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK = struct.Struct("<BQQQQI")
_LEVEL = 1  # of zstd: stronger ones take several times as long for a tenth less


def encode(*records: McapRecord) -> bytes:
    """Records as they stand in a file."""
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return bytes(builder.end())


@dataclass(frozen=True)
class ChannelInfo:
    """A topic in a file: its number, its type (sensor_msgs/msg/Imu), the records that declare it."""

    number: int
    topic: str
    kind: str
    hash: str
    schema: bytes
    channel: bytes


def channel(number: int, topic: str, kind: str, definition: str, hash_: str) -> ChannelInfo:
    """Declare a topic; `definition`: of its type and all types in it, as ROS writes them; empty: not known."""
    schema = Schema(id=number, name=kind, encoding="ros2msg" if definition else "", data=definition.encode())
    meta = {"offered_qos_profiles": "", "topic_type_hash": hash_}
    declared = Channel(id=number, topic=topic, message_encoding="cdr", metadata=meta, schema_id=number)
    return ChannelInfo(number, topic, kind, hash_, encode(schema), encode(declared))


@dataclass(frozen=True)
class Chunk:
    """Messages of a span of time, packed. `index`: by channel (time, offset) pairs of its messages."""

    start_ns: int
    end_ns: int
    size: int
    crc: int
    data: bytes
    index: dict[int, array[int]]

    @property
    def count(self) -> int:
        """Messages in it."""
        return sum(len(a) for a in self.index.values()) // 2


class ChunkBuilder:
    """Collects messages into a chunk."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._clear()

    def _clear(self) -> None:
        self._data = bytearray()
        self._index: dict[int, array[int]] = {}

    @property
    def size(self) -> int:
        """Bytes collected."""
        return len(self._data)

    def add(self, number: int, time_ns: int, data: bytes) -> None:
        """A message of a channel, received at time_ns."""
        entries = self._index.get(number)
        if entries is None:
            entries = self._index[number] = array("Q")
        entries.append(time_ns)
        entries.append(len(self._data))
        self._data += _MESSAGE.pack(Opcode.MESSAGE, 22 + len(data), number, 0, time_ns, time_ns)
        self._data += data

    def finish(self) -> Chunk | None:
        """The chunk; None when there is nothing in it. Begins the next."""
        if not self._data:
            return None
        start = min(min(a[::2]) for a in self._index.values())
        end = max(max(a[::2]) for a in self._index.values())
        chunk = Chunk(
            start,
            end,
            len(self._data),
            zlib.crc32(self._data),
            self._compressor.compress(bytes(self._data)),
            self._index,
        )
        self._clear()
        return chunk


@dataclass(frozen=True)
class Totals:
    """What is in a file: span of time [ns], messages by channel, chunks."""

    start_ns: int = 2**63 - 1
    end_ns: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    chunks: int = 0

    @property
    def messages(self) -> int:
        """Messages of all channels."""
        return sum(self.counts.values())

    def plus(self, chunk: Chunk) -> Totals:
        """With one chunk more."""
        counts = dict(self.counts)
        for number, entries in chunk.index.items():
            counts[number] = counts.get(number, 0) + len(entries) // 2
        return Totals(min(self.start_ns, chunk.start_ns), max(self.end_ns, chunk.end_ns), counts, self.chunks + 1)


class McapFile:
    """One file, new; it must not exist. `totals` says what is in it.

    Raises:
        OSError: when the disk does not take it. What was written before stays whole.
    """

    def __init__(
        self, path: Path, metadata: dict[str, str], attachments: Sequence[tuple[str, str, bytes]] = ()
    ) -> None:
        """attachments: (name, media type, content)."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._at, self._end = 0, b""
        self.totals = Totals()
        self._channels: dict[int, ChannelInfo] = {}
        self._chunk_indexes = self._other_indexes = b""
        self._attached = len(attachments)
        head = MAGIC + encode(Header(profile="ros2", library="digital_twin"))
        for name, media_type, content in attachments:
            record = encode(Attachment(0, 0, name, media_type, content))
            self._other_indexes += encode(AttachmentIndex(len(head), len(record), 0, 0, len(content), name, media_type))
            head += record
        record = encode(Metadata(name="digital_twin", metadata=metadata))
        self._other_indexes += encode(MetadataIndex(offset=len(head), length=len(record), name="digital_twin"))
        try:
            self._put(head + record)
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._at + len(self._end)

    def append(self, chunk: Chunk, channels: dict[int, ChannelInfo]) -> None:
        """Write a chunk, with what declares its channels, and the new end of the file."""
        new = [channels[n] for n in chunk.index if n not in self._channels]
        declared = b"".join(c.schema + c.channel for c in new)
        at = self._at + len(declared)
        head = _CHUNK.pack(
            Opcode.CHUNK, 40 + len("zstd") + len(chunk.data), chunk.start_ns, chunk.end_ns, chunk.size, chunk.crc
        )
        record = head + struct.pack("<I4sQ", 4, b"zstd", len(chunk.data)) + chunk.data
        offsets, indexes = {}, b""
        for number, entries in chunk.index.items():
            offsets[number] = at + len(record) + len(indexes)
            indexes += struct.pack("<BQHI", Opcode.MESSAGE_INDEX, 6 + 8 * len(entries), number, 8 * len(entries))
            indexes += entries.tobytes()
        entry = ChunkIndex(
            chunk_length=len(record), chunk_start_offset=at, compression="zstd", compressed_size=len(chunk.data),
            message_end_time=chunk.end_ns, message_index_length=len(indexes), message_index_offsets=offsets,
            message_start_time=chunk.start_ns, uncompressed_size=chunk.size,
        )  # fmt: skip
        before = (self._chunk_indexes, self._channels, self.totals)
        self._chunk_indexes += encode(entry)
        self._channels = self._channels | {c.number: c for c in new}
        self.totals = self.totals.plus(chunk)
        try:
            self._put(declared + record + indexes)
        except OSError:
            self._chunk_indexes, self._channels, self.totals = before
            raise

    def _put(self, data: bytes) -> None:
        """Write data over the present end, and a new end after it; on failure the present end is put back."""
        at, end = self._at + len(data), self._finish(self._at + len(data))
        try:
            _write(self._file, data + end, self._at)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._at + len(self._end))
                _write(self._file, self._end, self._at)
            raise
        self._at, self._end = at, end

    def _finish(self, at: int) -> bytes:
        """What ends a file whose data end at this place."""
        data_end = encode(DataEnd(0))
        start = at + len(data_end)
        t = self.totals
        statistics = Statistics(
            attachment_count=self._attached, channel_count=len(self._channels), channel_message_counts=t.counts,
            chunk_count=t.chunks, message_count=t.messages, message_end_time=t.end_ns,
            message_start_time=t.start_ns if t.chunks else 0, metadata_count=1, schema_count=len(self._channels),
        )  # fmt: skip
        summary, groups = b"", b""
        for opcode, records in (
            (Opcode.SCHEMA, b"".join(c.schema for c in self._channels.values())),
            (Opcode.CHANNEL, b"".join(c.channel for c in self._channels.values())),
            (Opcode.STATISTICS, encode(statistics)),
            (Opcode.CHUNK_INDEX, self._chunk_indexes),
        ):
            if records:
                groups += encode(SummaryOffset(opcode, start + len(summary), len(records)))
            summary += records
        summary += self._other_indexes
        offsets_at = start + len(summary)
        summary += groups
        tail = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offsets_at)
        crc = zlib.crc32(tail, zlib.crc32(summary))
        return data_end + summary + encode(Footer(start, offsets_at, crc)) + MAGIC

    def sync(self) -> None:
        """Make sure that it is on the disk and not only on its way."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Nothing more will come."""
        os.close(self._file)


def _write(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(file, view, at)
        view, at = view[n:], at + n
