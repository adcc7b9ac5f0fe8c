"""What colour things have on the page: in the scene, its legend and the plots. RGB, 0 … 255."""

from __future__ import annotations

MEASURED = (245, 130, 32)
FORECAST = (52, 120, 246)
FORCE = (176, 8, 32)
SUPPORT = (38, 150, 90)
ZMP = (196, 30, 160)
CAPTURE = (0, 160, 190)
MASS = (60, 60, 70)
SCAN = (230, 60, 60)
FOOTPRINT = (120, 130, 145)
WORLD = (176, 184, 192)
LEVELS = {0: "#1f9d55", 1: "#c27803", 2: "#d1293d", 3: "#6b7280"}
LINES = ("#3478f6", "#f58220", "#1f9d55", "#c41ea0", "#0a9fb5", "#6b7280")


def css(colour: tuple[int, int, int]) -> str:
    """As a style sheet has it."""
    return f"rgb{colour}"
