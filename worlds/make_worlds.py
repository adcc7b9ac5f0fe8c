"""Writes the worlds to walk in, flat.sdf, rough.sdf, slope.sdf, stairs.sdf, low_friction.sdf: python worlds/make_worlds.py

The robot starts at the origin, on level ground, and walks along x.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
MU = 0.9
WET = 0.3  # about that of rubber on wet tiles
HALF_WIDTH = 1.5  # [m] of what is built on the ground
UNEVEN, TILE, ROUGH_LENGTH = 0.02, 0.3, 12.0  # [m]
SLOPE, RAMP = math.radians(5.0), 5.0  # and its length on the ground [m]
RISE, TREAD, STEPS = 0.04, 0.6, 4  # [m] of each step
START = 1.0  # [m] of level ground before anything comes
THICK = 0.2  # [m] of boxes: what is below their top is not seen

HEAD = """<?xml version="1.0"?>
<!--
  {about}
  Written by make_worlds.py. Plugin names are Gazebo Harmonic's; the launch file translates them for Fortress.
-->
<sdf version="1.9">
  <world name="{name}">
    <physics name="1ms" type="dart">
      <max_step_size>0.001</max_step_size>
      <real_time_factor>1.0</real_time_factor>
    </physics>
    <gravity>0 0 -9.81</gravity>
    <plugin filename="gz-sim-physics-system" name="gz::sim::systems::Physics"/>
    <plugin filename="gz-sim-user-commands-system" name="gz::sim::systems::UserCommands"/>
    <plugin filename="gz-sim-scene-broadcaster-system" name="gz::sim::systems::SceneBroadcaster"/>
    <plugin filename="gz-sim-imu-system" name="gz::sim::systems::Imu"/>
    <plugin filename="gz-sim-forcetorque-system" name="gz::sim::systems::ForceTorque"/>
    <plugin filename="gz-sim-sensors-system" name="gz::sim::systems::Sensors">
      <render_engine>ogre2</render_engine>
    </plugin>
    <scene>
      <ambient>0.5 0.5 0.5 1</ambient>
      <background>0.75 0.82 0.90 1</background>
    </scene>
    <light name="sun" type="directional">
      <pose>0 0 10 0 0 0</pose>
      <cast_shadows>true</cast_shadows>
      <diffuse>0.9 0.9 0.88 1</diffuse>
      <direction>-0.4 0.2 -0.9</direction>
    </light>
"""
TAIL = "  </world>\n</sdf>\n"


class Box(NamedTuple):
    """A box by the middle of its top face [m], its length and width, how far it climbs along x [rad], its shade of grey."""

    x: float
    y: float
    top: float
    length: float
    width: float
    pitch: float
    shade: float


def link(name: str, pose: str, geometry: str, mu: float, shade: float) -> str:
    """A link whose visual is its collision."""
    colour = f"{shade:.2f} {shade:.2f} {shade + 0.02:.2f} 1"
    return (
        f'      <link name="{name}">\n        <pose>{pose}</pose>\n'
        f'        <collision name="collision"><geometry>{geometry}</geometry>'
        f"<surface><friction><ode><mu>{mu:g}</mu><mu2>{mu:g}</mu2></ode></friction></surface></collision>\n"
        f'        <visual name="visual"><geometry>{geometry}</geometry>'
        f"<material><ambient>{colour}</ambient><diffuse>{colour}</diffuse></material></visual>\n"
        "      </link>\n"
    )


def box(i: int, b: Box) -> str:
    """A box as a link."""
    depth = THICK / 2  # from the top, across it, to the middle
    x, z = b.x + depth * math.sin(b.pitch), b.top - depth * math.cos(b.pitch)
    pose = f"{x:.4f} {b.y:.4f} {z:.4f} 0 {-b.pitch:.6f} 0"
    return link(f"box{i}", pose, f"<box><size>{b.length:.4f} {b.width:.4f} {THICK:g}</size></box>", MU, b.shade)


def world(name: str, about: str, boxes: list[Box], mu: float = MU) -> str:
    """A world of boxes on a floor."""
    plane = "<plane><normal>0 0 1</normal><size>60 60</size></plane>"
    text = HEAD.format(name=name, about=about)
    text += '    <model name="ground">\n      <static>true</static>\n' + link("link", "0 0 0 0 0 0", plane, mu, 0.72)
    text += "    </model>\n"
    if boxes:
        text += '    <model name="terrain">\n      <static>true</static>\n'
        text += "".join(box(i, b) for i, b in enumerate(boxes)) + "    </model>\n"
    return text + TAIL


def rough() -> list[Box]:
    """Tiles of random height."""
    rng = np.random.default_rng(20)
    across = round(2 * HALF_WIDTH / TILE)
    tiles = []
    for i in range(round(ROUGH_LENGTH / TILE)):
        for j in range(across):
            height = round(rng.uniform(0.0, UNEVEN), 3)
            x, y = START + (i + 0.5) * TILE, (j + 0.5 - across / 2) * TILE
            tiles.append(Box(x, y, height, TILE, TILE, 0.0, 0.5 + 15.0 * height))
    return tiles


def slope() -> list[Box]:
    """Up, level, down."""
    height, length, level = RAMP * math.tan(SLOPE), RAMP / math.cos(SLOPE), 2.0
    wide = 2 * HALF_WIDTH
    return [
        Box(START + RAMP / 2, 0.0, height / 2, length, wide, SLOPE, 0.62),
        Box(START + RAMP + level / 2, 0.0, height, level, wide, 0.0, 0.68),
        Box(START + 1.5 * RAMP + level, 0.0, height / 2, length, wide, -SLOPE, 0.62),
    ]


def stairs() -> list[Box]:
    """Up, a landing of two treads, down."""
    heights = [*range(1, STEPS + 1), STEPS, STEPS, *range(STEPS - 1, 0, -1)]
    return [
        Box(START + (i + 0.5) * TREAD, 0.0, h * RISE, TREAD, 2 * HALF_WIDTH, 0.0, 0.56 + 0.12 * (i % 2))
        for i, h in enumerate(heights)
    ]


def worlds() -> dict[str, str]:
    """The text of each, by its name."""
    return {
        "flat": world("flat", "A bare level floor.", []),
        "rough": world("rough", f"Tiles of {TILE} m whose heights differ by up to {UNEVEN} m at random.", rough()),
        "slope": world("slope", "Up a slope of 5 degrees, and down again.", slope()),
        "stairs": world("stairs", f"{STEPS} steps of {RISE} m up and down again, {TREAD} m deep.", stairs()),
        "low_friction": world("low_friction", f"A level floor with a coefficient of friction of {WET}.", [], WET),
    }


if __name__ == "__main__":
    for stem, text in worlds().items():
        (HERE / f"{stem}.sdf").write_text(text, encoding="utf-8")
