"""Errors meant for people: one line that names the bad thing and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TwinError(Exception):
    """An error whose message is one readable line. The command line prints it and exits with `exit_code`."""

    exit_code = 2


class ConfigError(TwinError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class DescriptionError(TwinError):
    """A robot description (URDF or xacro) cannot be used."""


class WorldError(TwinError):
    """A world (SDF) cannot be used."""


class BagError(TwinError):
    """A recording cannot be read."""


class NodeError(TwinError):
    """A node keeps dying."""

    exit_code = 1


def unknown(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Say that `name` is no known `kind`; suggest the nearest name, or list what there is."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        return f"unknown {kind} '{name}'; did you mean '{near[0]}'?"
    shown = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    return f"unknown {kind} '{name}'; known: {shown or 'none'}"


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its class when it has none."""
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
