"""The model store: a folder with a file for each version of a robot's model, and one that says which is in service.

Files are written whole or not at all. A file that cannot be used is listed with its reason and otherwise left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from digital_twin.core.drift.model_version import MAX_BYTES, ModelVersion, parse_version
from digital_twin.core.errors import TwinError

IN_SERVICE = "in_service"
MOST_FILES = 10_000


@dataclass(frozen=True)
class Listing:
    """What is in a store: versions, oldest first, and what is wrong with other files, a line each."""

    versions: tuple[ModelVersion, ...]
    problems: tuple[str, ...]


class ModelStore:
    """One folder. Any number of processes may read it; versions never change once written."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()

    def path(self, version: ModelVersion) -> Path:
        """Where a version's file is."""
        return self.folder / f"{version.short}.json"

    def list(self) -> Listing:
        """All versions. A folder that is not there yet is empty."""
        versions, problems = [], []
        for path in sorted(self.folder.glob("*.json"))[:MOST_FILES]:
            try:
                versions.append(self._read(path))
            except TwinError as e:
                problems.append(str(e))
        return Listing(tuple(sorted(versions, key=lambda v: (v.created_ns, v.hash))), tuple(problems))

    def _read(self, path: Path) -> ModelVersion:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise TwinError(f"{path}: too large for a model version")
            return parse_version(path.read_text(encoding="utf-8"), str(path))
        except OSError as e:
            raise TwinError(f"{path}: cannot read the model version: {e.strerror}") from e
        except UnicodeDecodeError as e:
            raise TwinError(f"{path}: the model version is not UTF-8 text") from e

    def get(self, name: str) -> ModelVersion:
        """A version by the beginning of its hash; "in_service", "" : the one in service.

        Raises:
            TwinError: there is none, more than one, or its file is damaged.
        """
        wanted = self.in_service() if name in ("", IN_SERVICE) else name.lower()
        if not wanted:
            raise TwinError(f"{self.folder}: no model is in service")
        found = [p for p in sorted(self.folder.glob("*.json"))[:MOST_FILES] if p.stem.startswith(wanted[:12])]
        if not found:
            known = ", ".join(v.short for v in self.list().versions[-10:])
            raise TwinError(f"{self.folder}: no model '{name or wanted[:12]}'; there are: {known or 'none'}")
        if len(found) > 1:
            raise TwinError(f"{self.folder}: '{name}' begins more than one model's hash")
        return self._read(found[0])

    def add(self, version: ModelVersion) -> Path:
        """Write a version's file. The same version again changes nothing.

        Raises:
            TwinError: the folder cannot be written to.
        """
        path = self.path(version)
        try:
            if parse_version(path.read_text(encoding="utf-8"), str(path)).hash == version.hash:
                return path
        except (OSError, TwinError, UnicodeDecodeError):
            pass  # not there, or damaged: then it is written anew
        self._write(path, version.to_json())
        return path

    def _write(self, path: Path, text: str) -> None:
        """All or nothing, whenever the power goes."""
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".writing-")
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except OSError as e:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            raise TwinError(f"{self.folder}: cannot write the model store: {e.strerror or e}") from e

    # In service

    def in_service(self) -> str:
        """Content hash of the version in service; empty when nothing says so."""
        try:
            path = self.folder / IN_SERVICE
            if path.stat().st_size > 4096:
                return ""
            said = json.loads(path.read_text(encoding="utf-8"))
            return str(said["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def put_in_service(self, version: ModelVersion) -> None:
        """Say that a version is in service; its file is written if it is not there.

        Raises:
            TwinError: the folder cannot be written to.
        """
        self.add(version)
        self._write(self.folder / IN_SERVICE, json.dumps({"hash": version.hash}) + "\n")

    def rollback(self, to: str = "") -> ModelVersion:
        """Put the parent of the version in service, or the version named, into service. Returns it.

        Raises:
            TwinError: it has no parent, or that is not to be had.
        """
        if not to:
            now = self.get(IN_SERVICE)
            if not now.parent:
                raise TwinError(f"{self.folder}: model {now.short} has no parent to go back to")
            to = now.parent
        version = self.get(to)
        self.put_in_service(version)
        return version
