"""Configuration as frozen dataclasses whose fields say their unit, range and reason.

One description serves the YAML files, the ROS parameters and the tables in the README.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from digital_twin.core.errors import ConfigError, one_line, unknown

T = TypeVar("T")
MAX_YAML_BYTES = 1_000_000
# What every ROS node has of its own accord.
STANDARD_PARAMETERS = ("use_sim_time", "start_type_description_service")


@dataclass(frozen=True)
class Meta:
    """What a field may hold and why: one sentence, unit, inclusive range, choices, whether it may change."""

    doc: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False


def param(
    default: Any = MISSING,
    doc: str = "",
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A dataclass field with its unit, inclusive range and reason. A list is copied for each instance.

    `live`: as a ROS parameter it may be changed while the node runs.
    """
    meta = {"meta": Meta(doc, unit, low, high, choices, live)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=meta)
    if isinstance(default, type):
        return field(default_factory=default, metadata=meta)
    return field(default=default, metadata=meta)


def meta_of(f: dataclasses.Field[Any]) -> Meta:
    """The Meta of a dataclass field; empty when it was declared without `param`."""
    meta: Meta = f.metadata.get("meta", Meta())
    return meta


def build(cls: type[T], mapping: object, where: str) -> T:
    """Make a `cls` from plain data, checking keys, types and ranges.

    Args:
        cls: a dataclass; its fields may be scalars, lists, dicts or dataclasses.
        mapping: what a YAML file holds, keys being field names. None stands for an empty mapping.
        where: what to call the source in an error ("robot.yaml").

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    if mapping is None:
        mapping = {}
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: expected a mapping of names to values, got {type(mapping).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{where}: {unknown('key', key, fields)}")
    values = {}
    for name, f in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], meta_of(f), f"{where}: {name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{where}: '{name}' is missing")
    return cls(**values)


def _convert(hint: Any, value: object, meta: Meta, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, meta, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        items = [_convert(args[0], v, meta, f"{where}[{i}]") for i, v in enumerate(value)]
        if origin is tuple and args[-1] is not Ellipsis and len(items) != len(args):
            raise ConfigError(f"{where}: expected {len(args)} values, got {len(items)}")
        return origin(items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return {str(k): _convert(args[1], v, meta, f"{where}: {k}") for k, v in value.items()}
    return check_scalar(hint, value, meta, where)


def check_scalar(hint: type, value: object, meta: Meta, where: str) -> Any:
    """Check one bool, int, float or str against its type, range and choices; an int passes for a float.

    Raises:
        ConfigError: naming the value and what is allowed.
    """
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{where}: must be a number, got nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = meta.low, meta.high
        if (low is not None and value < low) or (high is not None and value > high):
            raise ConfigError(f"{where}: {value} {meta.unit}".rstrip() + f" is out of range {span(meta)}")
    if meta.choices and value not in meta.choices:
        raise ConfigError(f"{where}: '{value}' is not one of {', '.join(meta.choices)}")
    return value


def span(meta: Meta) -> str:
    """The allowed range or choices in words: "[0, 1]", "≥ 0", "a, b, c", "" when all is allowed."""
    if meta.choices:
        return ", ".join(meta.choices)
    if meta.low is not None and meta.high is not None:
        return f"[{meta.low:g}, {meta.high:g}]"
    if meta.low is not None:
        return f"≥ {meta.low:g}"
    return "" if meta.high is None else f"≤ {meta.high:g}"


@dataclass(frozen=True)
class Flat:
    """One parameter: dotted name, type, default and Meta."""

    name: str
    kind: Any
    default: Any
    meta: Meta


def flatten(cls: type, prefix: str = "") -> Iterator[Flat]:
    """All parameters of a config dataclass, depth first."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        hint, name = hints[f.name], prefix + f.name
        if dataclasses.is_dataclass(hint):
            yield from flatten(typing.cast(type, hint), name + ".")
        else:
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            yield Flat(name, hint, default, meta_of(f))


def unflatten(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted names back to nested dicts."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def load_yaml(path: Path | str, what: str = "file") -> Any:
    """Read a YAML file with the safe loader.

    Raises:
        ConfigError: when the file is missing, too large, or not YAML.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_YAML_BYTES} bytes, not a {what}")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot read the {what}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: the {what} is not UTF-8 text") from e
    except RecursionError as e:
        raise ConfigError(f"{path}: the {what} is nested too deeply") from e
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{at}: {getattr(e, 'problem', None) or one_line(e)}") from e


def to_plain(value: Any) -> Any:
    """The opposite of `build`: dataclasses to plain dicts and lists that YAML can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value
