"""Reads MCAP files as they are: whole, cut off, or damaged in places. What cannot be read is noted, the rest is used.

The file is walked record by record, without trusting its summary: that takes a second for an hour, and a file without
an end is read like any other. Messages come as bytes, or, many times faster, as tables of all messages of a chunk.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import lz4.frame
import numpy as np
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, Metadata, Schema
from numpy.typing import NDArray

from digital_twin.core.errors import BagError
from digital_twin.recording.mcap_file import MAGIC

MOST_CHUNK = 1 << 30  # bytes of one unpacked chunk
MOST_ATTACHMENT = 64 << 20
AT_ONCE = 4 << 20  # unpacked bytes that become tables together
_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQI")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
Bytes = NDArray[np.uint8]
Times = NDArray[np.int64]


@dataclass
class _Chunk:
    at: int
    start: int
    end: int
    size: int
    crc: int
    compression: str
    data: tuple[int, int]
    index: dict[int, tuple[int, int]] = field(default_factory=dict)  # channel: (place, entries)


class McapReader:
    """One file.

    Attributes:
        topics: by channel number its topic, and its type. counts: messages by channel. notes: what could not be read.
        metadata, attachments: what else is in it, by name.

    Raises:
        BagError: when it is no MCAP file, or there is nothing in it to read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[int, tuple[str, str]] = {}
        self.counts: dict[int, int] = {}
        self.notes: list[str] = []
        self.metadata: dict[str, dict[str, str]] = {}
        self.attachments: dict[str, bytes] = {}
        self.start_ns, self.end_ns = 2**63 - 1, 0
        self._schemas: dict[int, str] = {}
        self._chunks: list[_Chunk] = []
        self._loose: list[tuple[int, int, int]] = []  # messages outside of chunks: (channel, time, place)
        self._own: dict[int, dict[int, NDArray[np.int64]]] = {}  # indexes made by us, of chunks that have none
        self._in_file_order = False
        self._foreign: set[int] = set()
        self._file = path.open("rb")
        try:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as e:
            self._file.close()
            raise BagError(f"{path}: the recording is empty: the file has no content") from e
        self._walk()
        self._look_into_chunks()
        for chunk in self._chunks:
            for number, (_, n) in chunk.index.items():
                self.counts[number] = self.counts.get(number, 0) + n
            if chunk.index:
                self._span(chunk.start, chunk.end)

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()

    def _span(self, start: int, end: int) -> None:
        self.start_ns, self.end_ns = min(self.start_ns, start), max(self.end_ns, end)

    # The records of the file

    def _walk(self) -> None:
        if not self._walk_to_the_end() and self._chunks:
            self._chunks[-1].index = {}  # it may be cut off too: made anew from what is in the chunk

    def _walk_to_the_end(self) -> bool:
        size, at = len(self._map), len(MAGIC)
        if self._map[:at] != MAGIC:
            raise BagError(f"{self.path}: not a rosbag2 recording: it does not begin as an MCAP file does")
        while at + _RECORD.size <= size:
            opcode, length = _RECORD.unpack_from(self._map, at)
            begin, end = at + _RECORD.size, at + _RECORD.size + length
            if end > size or opcode == 0:
                break
            try:
                self._take(opcode, at, begin, end)
            except Exception as e:  # whatever a broken record makes its reader raise
                name = type(e).__name__
                self.notes.append(f"{self.path.name}: a record at byte {at} cannot be read ({name}); left out")
            at = end
            if opcode == Opcode.FOOTER:
                return True
        self.notes.append(f"{self.path.name} breaks off at byte {at} of {size}; what is before it is used")
        return False

    def _take(self, opcode: int, at: int, begin: int, end: int) -> None:
        if opcode == Opcode.CHUNK:
            start, last, size, crc = _CHUNK.unpack_from(self._map, begin)
            (n,) = _U32.unpack_from(self._map, begin + 28)
            compression = self._map[begin + 32 : begin + 32 + n].decode()
            (length,) = _U64.unpack_from(self._map, begin + 32 + n)
            data = begin + 40 + n
            if data + length > end:
                raise ValueError("data exceed the chunk")
            self._chunks.append(_Chunk(at, start, last, size, crc, compression, (data, data + length)))
        elif opcode == Opcode.MESSAGE_INDEX and self._chunks:
            number, n = struct.unpack_from("<HI", self._map, begin)
            if begin + 6 + n > end:
                raise ValueError("index too long")
            if n:
                self._chunks[-1].index[number] = (begin + 6, n // 16)
        elif opcode == Opcode.MESSAGE:
            number, _, time_ns, _ = struct.unpack_from("<HIQQ", self._map, begin)
            self._loose.append((number, time_ns, at))
            self.counts[number] = self.counts.get(number, 0) + 1
            self._span(time_ns, time_ns)
        else:
            self._declare(opcode, self._map, begin, end)

    def _declare(self, opcode: int, data: bytes | mmap.mmap, begin: int, end: int) -> None:
        known = (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.HEADER, Opcode.METADATA, Opcode.ATTACHMENT)
        if opcode not in known or end - begin > MOST_ATTACHMENT:
            return
        stream = ReadDataStream(BytesIO(data[begin:end]))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self._schemas[schema.id] = schema.name
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            if channel.message_encoding == "cdr":
                self.topics[channel.id] = (channel.topic, self._schemas.get(channel.schema_id, ""))
            elif channel.id not in self._foreign:
                self._foreign.add(channel.id)
                self.notes.append(
                    f"{channel.topic}: encoded as '{channel.message_encoding}', not as ROS 2 does; left out"
                )
        elif opcode == Opcode.HEADER:
            self._in_file_order = Header.read(stream).library == "digital_twin"
        elif opcode == Opcode.METADATA:
            found = Metadata.read(stream)
            self.metadata[found.name] = found.metadata
        else:
            attached = Attachment.read(stream)
            self.attachments[attached.name] = attached.data

    def _look_into_chunks(self) -> None:
        """Where a file was cut off, channels are known from inside chunks only, and the last index may be missing."""
        for chunk in self._chunks:
            if chunk.index and all(n in self.topics or n in self._foreign for n in chunk.index):
                continue
            raw = self._unpack(chunk)
            if raw is None:
                continue
            found: dict[int, list[tuple[int, int]]] = {}
            at = 0
            while at + _RECORD.size <= len(raw):
                opcode, length = _RECORD.unpack_from(raw, at)
                end = at + _RECORD.size + length
                if end > len(raw):
                    break
                if opcode == Opcode.MESSAGE and length >= 22:
                    number, _, time_ns, _ = struct.unpack_from("<HIQQ", raw, at + _RECORD.size)
                    found.setdefault(number, []).append((time_ns, at))
                else:
                    self._declare(opcode, raw, at + _RECORD.size, end)
                at = end
            self._own[chunk.at] = {n: np.array(e, dtype=np.int64) for n, e in found.items()}
            chunk.index = {n: (-1, len(e)) for n, e in found.items()}

    def _unpack(self, chunk: _Chunk) -> bytes | None:
        """The records of a chunk; None, and a note, when they cannot be had."""
        packed = self._map[slice(*chunk.data)]
        try:
            if chunk.size > MOST_CHUNK:
                raise ValueError(f"it claims {chunk.size} bytes")
            if chunk.compression == "zstd":
                if zstandard.frame_content_size(packed) > MOST_CHUNK:
                    raise ValueError("it is too large")
                raw = zstandard.ZstdDecompressor().decompress(packed, max_output_size=max(chunk.size, 1))
            elif chunk.compression == "lz4":
                raw = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=chunk.size + 1)
            elif chunk.compression == "":
                raw = bytes(packed)
            else:
                raise ValueError(f"unknown compression '{chunk.compression}'")
            if len(raw) != chunk.size or (chunk.crc and zlib.crc32(raw) != chunk.crc):
                raise ValueError("its checksum is wrong")
        except Exception as e:
            n = sum(n for _, n in chunk.index.values())
            note = f"{self.path.name}: the chunk at byte {chunk.at} is damaged ({e}); {n or 'its'} messages are lost"
            if note not in self.notes:
                self.notes.append(note)
            return None
        return raw

    def _entries(self, chunk: _Chunk, number: int) -> NDArray[np.int64]:
        """Times and offsets (n, 2) of the messages of a channel in a chunk."""
        at, n = chunk.index[number]
        if at < 0:
            return self._own[chunk.at][number]
        return np.frombuffer(self._map[at : at + 16 * n], dtype="<i8").reshape(n, 2)

    # Messages

    def times(self) -> Iterator[tuple[int, Times]]:
        """Times of receipt [ns] by channel, in pieces, without unpacking anything."""
        for chunk in self._sorted():
            for number in chunk.index:
                yield number, self._entries(chunk, number)[:, 0]
        for number in {n for n, _, _ in self._loose}:
            yield number, np.array([t for n, t, _ in self._loose if n == number], dtype=np.int64)

    def _sorted(self) -> list[_Chunk]:
        return self._chunks if self._in_file_order else sorted(self._chunks, key=lambda c: c.start)

    def messages(self, numbers: set[int]) -> Iterator[tuple[int, int, bytes]]:
        """Channel, time [ns] and bytes of messages of some channels; in the order of receipt, or that of time."""
        held: list[tuple[int, int, bytes]] = [
            (t, n, bytes(self._map[at + 31 : at + 9 + _U64.unpack_from(self._map, at + 1)[0]]))
            for n, t, at in self._loose if n in numbers
        ]  # fmt: skip
        held.sort(key=lambda m: m[0])
        chunks = self._sorted()
        for chunk in chunks:
            if held and not self._in_file_order:
                ready = [m for m in held if m[0] < chunk.start]
                held = held[len(ready) :]
                yield from ((n, t, data) for t, n, data in ready)
            new = self._messages_of(chunk, numbers)
            if self._in_file_order:
                yield from ((n, t, data) for t, n, data in new)
            else:
                held = sorted([*held, *new], key=lambda m: m[0])
        yield from ((n, t, data) for t, n, data in held)

    def _messages_of(self, chunk: _Chunk, numbers: set[int]) -> list[tuple[int, int, bytes]]:
        if not numbers & chunk.index.keys():
            return []
        raw = self._unpack(chunk)
        if raw is None:
            return []
        out = []
        entries = [
            (int(at), n, int(t)) for n in chunk.index if n in numbers for t, at in self._entries(chunk, n).tolist()
        ]
        for at, number, t in sorted(entries):
            if 0 <= at <= len(raw) - 31:
                end = at + 9 + _U64.unpack_from(raw, at + 1)[0]
                if raw[at] == Opcode.MESSAGE and at + 31 <= end <= len(raw):
                    out.append((t, number, raw[at + 31 : end]))
        self._note_lost(chunk, len(entries) - len(out))
        return out

    def _note_lost(self, chunk: _Chunk, lost: int) -> None:
        note = f"{self.path.name}: the index of the chunk at byte {chunk.at} is damaged; {lost} messages are lost"
        if lost and note not in self.notes:
            self.notes.append(note)

    def batches(self, numbers: set[int]) -> Iterator[tuple[int, Times, Bytes]]:
        """Channel, times (n,) and bytes (n, size) of messages of one channel and size, some chunks at once."""
        held: list[tuple[_Chunk, bytes]] = []
        for chunk in self._sorted():
            raw = self._unpack(chunk) if numbers & chunk.index.keys() else None
            if raw is not None:
                held.append((chunk, raw))
            if sum(len(r) for _, r in held) > AT_ONCE:
                yield from self._tables(held, numbers)
                held = []
        yield from self._tables(held, numbers)
        for number, time_ns, at in self._loose:
            if number in numbers:
                length = _U64.unpack_from(self._map, at + 1)[0]
                row = np.frombuffer(self._map[at + 31 : at + 9 + length], dtype=np.uint8)
                yield number, np.array([time_ns]), row[None]

    def _tables(self, held: list[tuple[_Chunk, bytes]], numbers: set[int]) -> Iterator[tuple[int, Times, Bytes]]:
        raw = b"".join(r for _, r in held) if len(held) > 1 else held[0][1] if held else b""
        found: dict[int, list[NDArray[np.int64]]] = {}
        begin = 0
        for chunk, part in held:
            for number in sorted(numbers & chunk.index.keys()):
                entries = self._entries(chunk, number)
                inside = (entries[:, 1] >= 0) & (entries[:, 1] <= len(part) - 31)
                self._note_lost(chunk, len(entries) - int(inside.sum()))
                found.setdefault(number, []).append(entries[inside] + np.array([0, begin]))
            begin += len(part)
        for number, pieces in found.items():
            entries = np.concatenate(pieces)
            times, at = entries[:, 0], entries[:, 1]
            sizes = _windows(raw, 8)[at + 1].view("<i8")[:, 0] - 22
            good = (_windows(raw, 1)[at, 0] == Opcode.MESSAGE) & (sizes >= 0) & (at + 31 + sizes <= len(raw))
            if not good.all():
                self._note_lost(held[0][0], len(good) - int(good.sum()))
            for size in np.unique(sizes[good]).tolist():
                same = good & (sizes == size)
                yield number, times[same], _windows(raw, size)[at[same] + 31]


def _windows(raw: bytes, size: int) -> Bytes:
    """All stretches of so many bytes, without copying: (len(raw) − size + 1, size)."""
    return np.ndarray((max(len(raw) - size + 1, 0), size), np.uint8, raw, 0, (1, 1))
