"""Configuration: every wrong thing is named in one line, together with what is allowed."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.core.config import build, flatten, load_yaml, param, span, to_plain, unflatten
from digital_twin.core.errors import ConfigError
from digital_twin.settings import SETTINGS


@dataclass(frozen=True)
class Inner:
    gain: float = param(1.0, "a gain", unit="1/s", low=0, high=10)
    mode: str = param("slow", choices=("slow", "fast"))


@dataclass(frozen=True)
class Outer:
    name: str = param(doc="needed")
    count: int = param(3, low=1)
    on: bool = param(True)
    inner: Inner = param(Inner)
    items: list[Inner] = param([])
    point: tuple[float, float] = param((0.0, 0.0))
    table: dict[str, float] = param({})


def test_defaults_and_values():
    o = build(Outer, {"name": "x", "inner": {"gain": 2}, "items": [{"mode": "fast"}], "point": [1, 2]}, "f.yaml")
    assert (o.count, o.inner.gain, o.items[0].mode, o.point) == (3, 2.0, "fast", (1.0, 2.0))
    assert isinstance(o.inner.gain, float)
    assert build(Outer, to_plain(o), "again") == o


def test_lists_are_not_shared():
    a, b = build(Outer, {"name": "a"}, ""), build(Outer, {"name": "b"}, "")
    a.items.append(Inner())
    assert b.items == []


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, ["'name' is missing"]),
        ({"name": "x", "inner": {"gian": 1}}, ["inner", "unknown key 'gian'", "'gain'"]),
        ({"name": "x", "zzz": 1}, ["unknown key 'zzz'", "count", "inner"]),
        ({"name": "x", "inner": {"gain": 11}}, ["gain", "11", "1/s", "[0, 10]"]),
        ({"name": "x", "inner": {"gain": float("nan")}}, ["gain", "nan"]),
        ({"name": "x", "inner": {"mode": "medium"}}, ["mode", "medium", "slow, fast"]),
        ({"name": "x", "count": 0}, ["count", "≥ 1"]),
        ({"name": "x", "count": 2.5}, ["count", "expected int"]),
        ({"name": "x", "count": True}, ["count", "expected int"]),
        ({"name": "x", "on": 1}, ["on", "expected bool"]),
        ({"name": 5}, ["name", "expected str"]),
        ({"name": "x", "point": [1, 2, 3]}, ["point", "expected 2 values"]),
        ({"name": "x", "point": 3}, ["point", "expected a list"]),
        ({"name": "x", "table": [1]}, ["table", "expected a mapping"]),
        ({"name": "x", "items": [{"gain": 1}, {"gain": "a"}]}, ["items[1]", "gain", "expected float"]),
        ([1], ["expected a mapping"]),
    ],
)
def test_errors_name_the_bad_thing(mapping, words):
    with pytest.raises(ConfigError) as e:
        build(Outer, mapping, "f.yaml")
    assert str(e.value).startswith("f.yaml: ")
    assert "\n" not in str(e.value)
    for word in words:
        assert word in str(e.value)


def test_yaml_errors(tmp_path):
    missing = tmp_path / "no.yaml"
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(missing)
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2\nb: }")
    with pytest.raises(ConfigError, match="not valid YAML at line 2"):
        load_yaml(bad)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_yaml(bad)
    bad.write_text("x" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load_yaml(bad)
    bad.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(bad)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3), max_leaves=10))  # fmt: skip
def test_whatever_comes_the_error_is_one_line(data):
    try:
        build(Outer, data, "f.yaml")
    except ConfigError as e:
        line = str(e)
    else:
        line = ""
    assert "\n" not in line


@pytest.mark.parametrize("node", SETTINGS)
def test_flat_names_of_the_settings_lead_back(node):
    flat = list(flatten(SETTINGS[node]))
    names = [p.name for p in flat]
    assert len(set(names)) == len(names)
    assert build(SETTINGS[node], unflatten({p.name: p.default for p in flat}), node) == SETTINGS[node]()


@pytest.mark.parametrize("node", SETTINGS)
def test_every_setting_has_a_reason_and_a_default_within_its_range(node):
    for p in flatten(SETTINGS[node]):
        assert p.meta.doc, p.name
        if p.meta.choices:
            assert p.default in p.meta.choices
        if p.meta.low is not None:
            assert p.meta.low <= p.default
        if p.meta.high is not None:
            assert p.default <= p.meta.high
        if p.kind is float:
            assert span(p.meta), f"{p.name} has no range"
