"""Where the package's own files are: config, urdf, worlds, launch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from digital_twin.core.errors import TwinError

PACKAGE = "digital_twin"


def share(relative: str) -> Path:
    """A file of the package by its path below the share directory ("config/robots/humanoid.yaml").

    Looked for beside the source (a checkout), then where ament and pip install it.

    Raises:
        TwinError: when it is in none of these places.
    """
    places = [Path(__file__).resolve().parents[1]]
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    places += [Path(p) / "share" / PACKAGE for p in [*prefixes, sys.prefix]]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise TwinError(f"the package's own file '{relative}' is not installed (looked in {', '.join(map(str, places))})")


def find(name: str, folder: str) -> Path:
    """A file that a user names: a path, or the name of one of the package's own in `folder` ("humanoid.yaml").

    A path that does not exist is returned as it is, for its reader to complain about.
    """
    path = Path(name).expanduser()
    if not path.exists() and "/" not in name:
        try:
            return share(f"{folder}/{name}")
        except TwinError:
            pass
    return path
