"""The model store: whole files or none, bad ones listed, back to the parent; and its command."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digital_twin.cli.main import main
from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.model_version import nominal
from digital_twin.core.drift.parameters import Changes
from digital_twin.core.errors import TwinError


@pytest.fixture
def versions(robot):
    first = nominal(robot.description)
    second = replace(
        first, parent=first.hash, created_ns=10**18, reason="calibration",
        changes=Changes().with_joint("l_knee", friction=0.4), scores={"ratio": 0.5, "low": 0.4, "high": 0.6, "horizon": 0.2},
        errors={"friction of l_knee": 0.02},
    )  # fmt: skip
    third = replace(second, parent=second.hash, created_ns=10**18 + 1, reason="payload l_gripper")
    return first, second, third


@pytest.fixture
def store(tmp_path, versions):
    s = ModelStore(tmp_path / "store")
    for v in versions:
        s.put_in_service(v)
    return s


def test_what_is_put_in_is_there(store, versions):
    assert store.list().versions == versions and store.list().problems == ()
    assert store.in_service() == versions[2].hash
    assert store.get("") == versions[2] and store.get(versions[1].short[:6]) == versions[1]
    assert not list(store.folder.glob(".writing*"))


def test_an_empty_store(tmp_path):
    s = ModelStore(tmp_path / "nothing")
    assert s.list().versions == () and s.in_service() == ""
    with pytest.raises(TwinError, match="no model is in service"):
        s.get("")


def test_rollback_goes_to_the_parent_and_no_further(store, versions):
    assert store.rollback() == versions[1] and store.in_service() == versions[1].hash
    assert store.rollback() == versions[0]
    with pytest.raises(TwinError, match="no parent"):
        store.rollback()
    assert store.rollback(versions[2].short) == versions[2]


def test_corrupt_files_are_listed_and_not_fatal(store, versions):
    path = store.path(versions[0])
    path.write_text(path.read_text()[:-40])
    (store.folder / "0123.json").write_bytes(b"\xff\xfe")
    (store.folder / "4567.json").write_text('{"format": "other"}')
    found = store.list()
    assert found.versions == versions[1:]
    assert len(found.problems) == 3 and all("\n" not in p for p in found.problems)
    with pytest.raises(TwinError, match=versions[0].short):
        store.rollback(versions[0].short)
    assert store.in_service() == versions[2].hash, "the model in service stays"
    store.add(versions[0])
    assert len(store.list().versions) == 3, "a damaged file is written anew"


def test_a_huge_file_is_not_read(store):
    with (store.folder / "abcd.json").open("wb") as f:
        f.truncate(11_000_000)
    assert any("too large" in p for p in store.list().problems)


@given(st.binary(max_size=200))
def test_whatever_says_what_is_in_service_is_survived(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("s")
    (folder / "in_service").write_bytes(data)
    assert isinstance(ModelStore(folder).in_service(), str)


def test_a_store_that_cannot_be_written(tmp_path, versions):
    (tmp_path / "file").write_text("")
    with pytest.raises(TwinError, match="cannot write the model store") as e:
        ModelStore(tmp_path / "file" / "store").put_in_service(versions[0])
    assert "\n" not in str(e.value)


def test_a_write_that_fails_leaves_the_old_file(store, versions, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TwinError, match="No space left"):
        store.rollback()
    assert store.in_service() == versions[2].hash and not list(store.folder.glob(".writing*"))


# The command


def test_the_command_lists_shows_compares_and_goes_back(store, versions, capsys):
    def run(*arguments):
        code = main(["models", *arguments, "--store", str(store.folder)])
        return code, capsys.readouterr()

    (store.folder / "bad.json").write_text("{")
    code, said = run("list")
    assert code == 0 and all(v.short in said.out for v in versions) and "unusable: " in said.out
    assert next(line for line in said.out.splitlines() if "▶" in line).split()[1] == versions[2].short
    code, said = run("show", versions[1].short)
    assert (
        code == 0
        and "calibration" in said.out
        and "friction of l_knee" in said.out
        and "0.50 (0.40 … 0.60)" in said.out
    )
    code, said = run("diff", versions[0].short)
    assert code == 0 and "friction of l_knee" in said.out and "as brought" in said.out
    code, said = run("rollback")
    assert code == 0 and versions[1].short in said.out and store.in_service() == versions[1].hash
    code, said = run("show", "zzz")
    assert code == 2 and said.err.count("\n") == 1


def test_the_command_finds_the_robots_store(store, versions, capsys, tmp_path):
    assert main(["models", "list", "--store", str(store.folder.parent)]) == 0
    assert versions[0].short in capsys.readouterr().out
    (store.folder.parent / "other").mkdir()
    assert main(["models", "list", "--store", str(store.folder.parent)]) == 2
    assert "--robot" in capsys.readouterr().err
    assert main(["models", "list", "--store", str(store.folder.parent), "--robot", "store"]) == 0
    assert main(["models", "list", "--store", str(tmp_path / "none")]) == 2
    assert "no model store" in capsys.readouterr().err
