"""A recording as one table for learning: every signal on one time axis, in columns that know their unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digital_twin.bags import Bag, namespace_of
from digital_twin.core.arrays import Array
from digital_twin.core.errors import ConfigError, TwinError, unknown
from digital_twin.recording.tables import JOINTS, LABELLED, NS, Table, layout_of, read_tables

HOLE = 0.5  # [s] over which nothing is interpolated
ENDINGS = {"parquet": ".parquet", "hdf5": ".h5"}
_XYZ, _XYZW = ("x", "y", "z"), ("x", "y", "z", "w")
# Of types that hold doubles only: (first, name, unit) of what is exported; covariances are not.
FIELDS: dict[str, list[tuple[int, str, tuple[str, ...], str]]] = {
    "sensor_msgs/msg/Imu": [
        (0, "orientation", _XYZW, "1"), (13, "angular_velocity", _XYZ, "rad/s"), (25, "linear_acceleration", _XYZ, "m/s^2"),
    ],
    "geometry_msgs/msg/WrenchStamped": [(0, "force", _XYZ, "N"), (3, "torque", _XYZ, "N m")],
    "geometry_msgs/msg/PoseWithCovarianceStamped": [(0, "position", _XYZ, "m"), (3, "orientation", _XYZW, "1")],
    "nav_msgs/msg/Odometry": [
        (0, "position", _XYZ, "m"), (3, "orientation", _XYZW, "1"), (43, "linear_velocity", _XYZ, "m/s"),
        (46, "angular_velocity", _XYZ, "rad/s"),
    ],
    "sensor_msgs/msg/Temperature": [(0, "temperature", ("value",), "degC")],
}  # fmt: skip
JOINT_UNITS = {"position": "rad", "velocity": "rad/s", "effort": "N m"}
LABEL_UNITS = {"acceleration": "rad/s^2", "q_var": "rad^2", "qd_var": "rad^2/s^2", "qdd_var": "rad^2/s^4"}


@dataclass(frozen=True)
class Column:
    """name: topic and field. values: (n,)."""

    name: str
    unit: str
    values: NDArray[np.float32]


def export(path: str, to: str, output: str = "", rate: float = 0.0, topics: Sequence[str] | None = None) -> Path:
    """Write the table; returns where it is.

    Args:
        path: of the recording. to: parquet or hdf5. output: where to; empty: beside where we are, named after it.
        rate: rows a second; 0: one for each joint state. topics: only these, without the namespace; None: all we can.

    Raises:
        TwinError: when the recording cannot be read, what is needed is not installed, or the file cannot be written.
    """
    library = _library(to)
    if rate < 0.0 or rate > 1e5 or not np.isfinite(rate):
        raise ConfigError(f"--rate {rate:g} is out of range: expected 0 to 100000 rows a second")
    target = Path(output).expanduser() if output else Path.cwd() / f"{Path(path).resolve().stem}{ENDINGS[to]}"
    with Bag(path) as bag:
        time, stamps, columns = table_of(bag, rate, topics)
        about = {"recording": str(bag.path), "rows": "joint states" if rate == 0 else f"{rate:g} Hz"}
        about |= bag.metadata.get("digital_twin", {})
        notes = bag.notes
    draft = target.with_name(target.name + ".part")
    try:
        (_write_parquet if to == "parquet" else _write_hdf5)(library, draft, time, stamps, columns, about)
        draft.replace(target)
    except OSError as e:
        draft.unlink(missing_ok=True)
        raise TwinError(f"{target}: cannot write the table: {e.strerror or e}") from e
    print(f"{len(time)} rows, {len(columns) + 2} columns: {target}")
    for note in notes:
        print(f"note: {note}")
    return target


def _library(to: str) -> Any:
    try:
        if to == "hdf5":
            import h5py

            return h5py
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as e:
        package = {"parquet": "pyarrow", "hdf5": "h5py"}[to]
        raise TwinError(f"--to {to} needs {package}, which is not installed: pip install {package}") from e
    return arrow, parquet


def table_of(bag: Bag, rate: float, topics: Sequence[str] | None) -> tuple[Array, NDArray[np.int64], list[Column]]:
    """Times [s] since the start, stamps [ns] and columns on one time axis. Raises TwinError when there is nothing."""
    prefix = namespace_of(bag) or "/"
    known = [t for t in bag.topics if layout_of(bag.topics[t].kind) and "journal" not in t]
    if topics is not None:
        names = {t[len(prefix) :] if t.startswith(prefix) else t: t for t in known}
        for t in topics:
            if t.lstrip("/") not in names and t not in known:
                raise ConfigError(f"{bag.path}: {unknown('topic', t, names)}")
        known = [names.get(t.lstrip("/"), t) for t in topics]
    tables, _ = read_tables(bag, known)
    tables = {name: t for name, t in tables.items() if len(t) > 1}
    if not tables:
        raise TwinError(f"{bag.path}: no topic in it can be a column: none holds joint states or doubles")
    lead = next((tables[t] for t in (prefix + "joint_states", prefix + "virtual/joint_states") if t in tables), None)
    lead = lead or max(tables.values(), key=len)
    stamps = np.unique(lead.stamps)
    if rate > 0.0:
        count = int((stamps[-1] - stamps[0]) / NS * rate) + 1
        if count > 200_000_000:
            raise TwinError(f"{bag.path}: {count} rows are too many: choose a lower --rate")
        stamps = stamps[0] + np.round(np.arange(count) * (NS / rate)).astype(np.int64)
    columns: list[Column] = []
    for name, table in tables.items():
        columns += _columns(name.removeprefix(prefix).lstrip("/"), bag.topics[name].kind, table, stamps)
    return (stamps - stamps[0]) / NS, stamps, columns


def _columns(topic: str, kind: str, table: Table, at: NDArray[np.int64]) -> list[Column]:
    held = "command" in topic
    order = np.argsort(table.stamps, kind="stable")
    last_of_stamp = np.append(np.diff(table.stamps[order]) > 0, True)
    rows = order[last_of_stamp]
    stamps = table.stamps[rows]
    if kind in FIELDS:
        out = []
        for first, name, parts, unit in FIELDS[kind]:
            values = table.values[rows, first : first + len(parts)]
            if parts == _XYZW:
                values = _continuous(values)
            found = [_sampled(stamps, v, at, held) for v in values.T]
            if parts == _XYZW:
                norm = np.linalg.norm(found, axis=0)
                found = [np.where(norm > 0.0, f / np.where(norm > 0.0, norm, 1.0), np.nan) for f in found]
            out += [
                Column(f"{topic}/{name}.{part}", unit, f.astype(np.float32))
                for part, f in zip(parts, found, strict=True)
            ]
        return out
    out = []
    for i, name in enumerate(table.names):
        if kind == LABELLED and name.startswith("stamp_"):
            continue
        units = JOINT_UNITS if kind == JOINTS else LABEL_UNITS
        sampled = _sampled(stamps, table.values[rows, i], at, held)
        out.append(Column(f"{topic}/{name}", units.get(name.split("/")[0], "1"), sampled.astype(np.float32)))
    return out


def _continuous(q: Array) -> Array:
    """Quaternions (n, 4) without changes of sign, which mean nothing."""
    flips = np.where((q[1:] * q[:-1]).sum(axis=1) < 0.0, -1.0, 1.0)
    return np.asarray(q * np.concatenate([[1.0], np.cumprod(flips)])[:, None])


def _sampled(stamps: NDArray[np.int64], values: Array, at: NDArray[np.int64], held: bool) -> Array:
    """Values at other stamps: linear between neighbours less than HOLE apart, or held; NaN where there is nothing."""
    i = np.searchsorted(stamps, at, side="right")
    before, after = np.clip(i - 1, 0, len(stamps) - 1), np.clip(i, 0, len(stamps) - 1)
    since = (at - stamps[before]) / NS
    inside = (i > 0) & (since <= HOLE)
    if held:
        return np.where(inside, values[before], np.nan)
    span = (stamps[after] - stamps[before]) / NS
    exact = since == 0.0
    w = np.where(span > 0.0, since / np.where(span > 0.0, span, 1.0), 0.0)
    between = values[before] * (1.0 - w) + values[after] * w
    return np.where(
        inside & exact, values[before], np.where(inside & (i < len(stamps)) & (span <= HOLE), between, np.nan)
    )


def _write_parquet(library: Any, path: Path, time: Array, stamps: NDArray[np.int64], columns: list[Column], about: dict[str, str]) -> None:  # fmt: skip
    arrow, parquet = library
    fields = [
        arrow.field("time", arrow.float64(), metadata={"unit": "s"}),
        arrow.field("stamp", arrow.int64(), metadata={"unit": "ns"}),
        *(arrow.field(c.name, arrow.float32(), metadata={"unit": c.unit}) for c in columns),
    ]
    schema = arrow.schema(fields, metadata=about)
    data = arrow.Table.from_arrays(
        [arrow.array(x) for x in (time, stamps, *(c.values for c in columns))], schema=schema
    )
    parquet.write_table(data, path, compression="zstd")


def _write_hdf5(h5: Any, path: Path, time: Array, stamps: NDArray[np.int64], columns: list[Column], about: dict[str, str]) -> None:  # fmt: skip
    with h5.File(path, "w") as f:
        for key, value in about.items():
            f.attrs[re.sub(r"\W", "_", key)] = value
        for name, unit, values in (
            ("time", "s", time),
            ("stamp", "ns", stamps),
            *((c.name, c.unit, c.values) for c in columns),
        ):
            made = f.create_dataset(name, data=values, compression="gzip", compression_opts=1, shuffle=True)
            made.attrs["unit"] = unit
