"""Many messages at once as tables: from the bytes of a batch straight to columns of numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from digital_twin.bags import Bag, Batch
from digital_twin.core.arrays import Array
from digital_twin.ros.cdr import LITTLE_ENDIAN, MalformedError, align, read_string

NS = 1_000_000_000
Stamps = NDArray[np.int64]
_U32 = struct.Struct("<I")
# Numbers after the header of the types that hold nothing but doubles; and whether there is a child frame before them.
DOUBLES = {
    "sensor_msgs/msg/Imu": (37, False),
    "geometry_msgs/msg/WrenchStamped": (6, False),
    "geometry_msgs/msg/PoseWithCovarianceStamped": (43, False),
    "nav_msgs/msg/Odometry": (85, True),
    "sensor_msgs/msg/Temperature": (2, False),
}
JOINTS, LABELLED = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"


@dataclass(frozen=True)
class Table:
    """Messages of one topic: stamps and times of receipt [ns] (n,), names of columns, values (n, k), NaN: not given.

    malformed: messages that are none of their type.
    """

    stamps: Stamps
    received: Stamps
    names: tuple[str, ...]
    values: Array
    malformed: int = 0

    def __len__(self) -> int:
        return len(self.stamps)

    def column(self, name: str) -> Array:
        """One column (n,)."""
        return np.asarray(self.values[:, self.names.index(name)])

    def columns(self, prefix: str) -> tuple[tuple[str, ...], Array]:
        """Columns whose names begin so; the names without it."""
        found = [i for i, name in enumerate(self.names) if name.startswith(prefix)]
        return tuple(self.names[i][len(prefix) :] for i in found), self.values[:, found]


@dataclass(frozen=True)
class _Layout:
    """Where the numbers are in messages that begin like this one: (name, place) pairs; `fixed`: bytes that must agree."""

    names: tuple[str, ...]
    places: NDArray[np.intp]
    first: NDArray[np.uint8]
    fixed: NDArray[np.bool_]
    stamp_in_data: bool = False

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Stretches of bytes (from, to) of numbers that follow one another."""
        breaks = np.flatnonzero(np.diff(self.places) != 8) + 1
        return [(int(r[0]), int(r[-1]) + 8) for r in np.split(self.places, breaks) if len(r)]


def _doubles_layout(count: int, child: bool) -> Callable[[bytes], _Layout]:
    def learn(data: bytes) -> _Layout:
        _, end = read_string(data, 12)
        used = [(12, end)]
        if child:
            start = align(end, 4)
            _, end = read_string(data, start)
            used.append((start, end))
        begin = align(end, 8)
        if begin + 8 * count > len(data):
            raise MalformedError("it ends too soon")
        return _layout(data, tuple(str(i) for i in range(count)), begin + 8 * np.arange(count), used)

    return learn


def _joints_layout(data: bytes) -> _Layout:
    _, end = read_string(data, 12)
    start = align(end, 4)
    (n,) = _U32.unpack_from(data, start)
    if n > 4096:
        raise MalformedError(f"{n} joint names")
    used, names, end = [(12, end), (start, start + 4)], [], start + 4
    for _ in range(n):
        start = align(end, 4)
        name, end = read_string(data, start)
        used.append((start, end))
        names.append(name)
    columns: list[str] = []
    places: list[int] = []
    for kind in ("position", "velocity", "effort"):
        start = align(end, 4)
        (k,) = _U32.unpack_from(data, start)
        used.append((start, start + 4))
        begin = align(start + 4, 8) if k else start + 4
        end = begin + 8 * k
        if end > len(data) or k not in (0, n):
            raise MalformedError(f"{k} numbers do not fit")
        columns += [f"{kind}/{name}" for name in names[:k]]
        places += [begin + 8 * i for i in range(k)]
    return _layout(data, tuple(columns), np.array(places, dtype=np.intp), used)


def _labelled_layout(data: bytes) -> _Layout:
    (dims,) = _U32.unpack_from(data, 4)
    if dims != 1:
        raise MalformedError("not labelled")
    text, end = read_string(data, 8)
    labels = text.split(",")
    start = align(end, 4) + 12
    (n,) = _U32.unpack_from(data, start)
    begin = align(start + 4, 8)
    if n != len(labels) or begin + 8 * n > len(data):
        raise MalformedError("labels and numbers do not agree")
    stamped = labels[:2] == ["stamp_sec", "stamp_nanosec"]
    used = [(4, end), (start, start + 4)]
    return _layout(data, tuple(labels), begin + 8 * np.arange(n), used, stamped)


def _layout(data: bytes, names: tuple[str, ...], places: NDArray[np.intp], used: list[tuple[int, int]], stamp_in_data: bool = False) -> _Layout:  # fmt: skip
    fixed = np.zeros(max(end for _, end in used), dtype=bool)
    for start, end in used:
        fixed[start:end] = True
    return _Layout(names, places, np.frombuffer(data, dtype=np.uint8)[: len(fixed)], fixed, stamp_in_data)


def layout_of(kind: str) -> Callable[[bytes], _Layout] | None:
    """What finds the numbers in a message of a type; None when we do not know the type."""
    if kind in DOUBLES:
        return _doubles_layout(*DOUBLES[kind])
    return {JOINTS: _joints_layout, LABELLED: _labelled_layout}.get(kind)


class _Collector:
    """Puts the batches of a topic together."""

    def __init__(self, kind: str, learn: Callable[[bytes], _Layout], keep: Callable[[str], bool], exact: bool) -> None:
        self._kind, self._learn, self._keep, self._exact = kind, learn, keep, exact
        self._known: list[_Layout] = []
        self._pieces: list[tuple[Stamps, Stamps, tuple[str, ...], Array]] = []
        self._kept: dict[tuple[str, ...], list[int]] = {}
        self.malformed = 0

    def add(self, batch: Batch) -> None:
        """Take messages of the topic."""
        times, rows = batch.times, batch.rows
        while len(times):
            if rows.shape[1] < 12:
                self.malformed += len(times)
                return
            if bytes(rows[0, :4]) != LITTLE_ENDIAN:
                plain = (rows[:, :4] == np.frombuffer(LITTLE_ENDIAN, np.uint8)).all(axis=1)
                self.malformed += int((~plain).sum())
                times, rows = times[plain], rows[plain]
                continue
            layout, fits = self._layout_for(rows)
            if layout is not None:
                self._take(layout, times[fits], rows[fits])
            else:
                self.malformed += 1
            times, rows = times[~fits], rows[~fits]

    def _layout_for(self, rows: NDArray[np.uint8]) -> tuple[_Layout | None, NDArray[np.bool_]]:
        for layout in self._known:
            n = len(layout.fixed)
            if rows.shape[1] >= n and (not len(layout.places) or rows.shape[1] >= layout.places[-1] + 8):
                fits = ((rows[:, :n] == layout.first) | ~layout.fixed).all(axis=1)
                if fits.any():
                    return layout, fits
        fits = np.zeros(len(rows), dtype=bool)
        fits[0] = True
        try:
            layout = self._learn(rows[0].tobytes())
        except (MalformedError, struct.error):
            return None, fits
        self._known = [layout, *self._known[:15]]
        n = len(layout.fixed)
        return layout, ((rows[:, :n] == layout.first) | ~layout.fixed).all(axis=1)

    def _take(self, layout: _Layout, times: Stamps, rows: NDArray[np.uint8]) -> None:
        pieces = [np.ascontiguousarray(rows[:, start:stop]).view("<f8") for start, stop in layout.runs]
        values = pieces[0] if len(pieces) == 1 else np.hstack(pieces or [np.zeros((len(rows), 0))])
        if layout.stamp_in_data:
            stamps = values[:, 0].astype(np.int64) * NS + values[:, 1].astype(np.int64)
        elif self._kind == LABELLED:
            stamps = times
        else:
            clock = np.ascontiguousarray(rows[:, 4:12])
            stamps = clock[:, :4].copy().view("<i4")[:, 0].astype(np.int64) * NS
            stamps += clock[:, 4:].copy().view("<u4")[:, 0]
        if layout.names not in self._kept:
            self._kept[layout.names] = [i for i, name in enumerate(layout.names) if self._keep(name)]
        keep = self._kept[layout.names]
        kept = values[:, keep] if self._exact else values[:, keep].astype(np.float32)
        self._pieces.append((stamps, times, tuple(layout.names[i] for i in keep), kept))

    def table(self) -> Table:
        """All that were taken."""
        names: dict[str, int] = {}
        for _, _, columns, _ in self._pieces:
            for name in columns:
                names.setdefault(name, len(names))
        n = sum(len(p[0]) for p in self._pieces)
        values = np.full((n, len(names)), np.nan, dtype=np.float64 if self._exact else np.float32)
        at = 0
        for stamps, _, columns, piece in self._pieces:
            where = [names[name] for name in columns]
            rows = slice(at, at + len(stamps))
            if where == list(range(len(names))):
                values[rows] = piece
            else:
                values[rows, where] = piece
            at += len(stamps)
        empty = np.zeros(0, dtype=np.int64)
        stamps = np.concatenate([p[0] for p in self._pieces]) if self._pieces else empty
        received = np.concatenate([p[1] for p in self._pieces]) if self._pieces else empty
        return Table(stamps, received, tuple(names), values, self.malformed)


def read_tables(
    bag: Bag, topics: Iterable[str], keep: Callable[[str, str], bool] = lambda topic, column: True, *,
    raw: Mapping[str, int] | None = None, exact: bool = True, progress: Callable[[int], None] = lambda n: None,
) -> tuple[dict[str, Table], dict[str, list[tuple[int, bytes]]]]:  # fmt: skip
    """Topics of a recording as tables; those of types that we do not know are left out.

    Args:
        keep: (topic, column): which columns to keep.
        raw: topics to give back as they are, (time of receipt [ns], bytes) for each message, or each so many.
        exact: False for numbers in single precision, in half the memory.
        progress: told of each so many messages more.
    """
    collectors = {}
    for name in topics:
        learn = layout_of(bag.topics[name].kind) if name in bag.topics else None
        if learn is not None:
            own = lambda column, name=name: keep(name, column)  # noqa: E731
            collectors[name] = _Collector(bag.topics[name].kind, learn, own, exact)
    strides = {name: max(1, n) for name, n in (raw or {}).items() if name in bag.topics}
    others: dict[str, list[tuple[int, bytes]]] = {name: [] for name in strides}
    seen = dict.fromkeys(strides, 0)
    for batch in bag.batches({*collectors, *others}):
        if batch.topic in collectors:
            collectors[batch.topic].add(batch)
        else:
            n, first = strides[batch.topic], -seen[batch.topic] % strides[batch.topic]
            rows = [row.tobytes() for row in batch.rows[first::n]]
            others[batch.topic] += zip(batch.times[first::n].tolist(), rows, strict=True)
            seen[batch.topic] += len(batch.times)
        progress(len(batch.times))
    for messages in others.values():
        messages.sort(key=lambda m: m[0])
    return {name: c.table() for name, c in collectors.items()}, others
