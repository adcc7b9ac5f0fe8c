"""The page: a viser server behind our guard, with its scene and its panels."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import viser

from digital_twin.core.figure import Figure
from digital_twin.core.shapes import Part
from digital_twin.core.view import View
from digital_twin.dashboard import words
from digital_twin.dashboard.board import Board
from digital_twin.dashboard.guard import Guard
from digital_twin.dashboard.moment import Moment
from digital_twin.dashboard.panel import Action, Panel
from digital_twin.dashboard.robots import Pose
from digital_twin.dashboard.stage import Stage

MOST_ACTIONS = 100
CAMERA, LOOK_AT = (1.0, 1.85, 0.95), (0.0, 0.0, 0.46)  # in heights of the robot


class _Server(viser.ViserServer):
    """viser's own, which contacts nobody."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Never: nothing of this page leaves by way of somebody else's server."""
        return None


class Page:
    """Everything that is served. Methods never wait for a viewer.

    Attributes:
        actions: what viewers pressed, for whoever runs the page to take; when nobody does, more is lost.
    """

    def __init__(self, own: socket.socket, guard: Guard) -> None:
        """Serve an empty scene on a listening socket.

        Raises:
            TwinError: viser cannot be guarded.
        """
        self.actions: queue.Queue[Action] = queue.Queue(MOST_ACTIONS)
        self._guard = guard
        with contextlib.redirect_stdout(io.StringIO()), guard.watching(own):
            self._server = _Server(host="127.0.0.1", port=0, verbose=False)
        self._server.get_event_loop().set_exception_handler(self._odd)
        self._stage: Stage | None = None
        self._figure: Figure | None = None
        self._set_the_stage()

    def _odd(self, _: Any, context: dict[str, Any]) -> None:
        """Something a browser sent that viser stumbled over: counted."""
        self._guard.refused["rubbish"] += 1

    def _set_the_stage(self) -> None:
        scene = self._server.scene
        scene.set_up_direction("+z")
        scene.set_background_image(_sky(), format="png")
        scene.configure_environment_map("studio", environment_intensity=0.55)
        scene.add_grid(
            "/map/ground", infinite_grid=True, cell_size=0.25, section_size=1.0, cell_color=(214, 220, 226),
            section_color=(176, 186, 198), fade_distance=14.0, plane_color=(240, 243, 246), plane_opacity=0.55,
            shadow_opacity=0.22,
        )  # fmt: skip

    def furnish(
        self, figure: Figure, rest: Pose, world: tuple[Part, ...], title: str, feet: list[str], span: float
    ) -> None:
        """Put in the robot and the panels."""
        figure.place(*rest)
        height = max(0.3, *(float(position[:, 2].max()) for position, _ in figure.poses()))
        camera = self._server.initial_camera
        camera.position, camera.look_at = (tuple(height * x for x in place) for place in (CAMERA, LOOK_AT))
        camera.fov = 0.7
        self._figure, self._feet = figure, feet
        self._stage = Stage(self._server, figure, rest, world)
        self._panel = Panel(self._server, self._press, title, span)

    def _press(self, action: Action) -> None:
        with contextlib.suppress(queue.Full):
            self.actions.put_nowait(action)

    @property
    def viewers(self) -> int:
        """Pages that are open."""
        return self._guard.open

    # What is shown

    def show(self, moment: Moment) -> None:
        """A moment in the scene."""
        if self._stage is not None:
            self._stage.show(moment)

    def say(self, board: Board, view: View | None, now: float, *, simulated: bool, gait: bool) -> None:
        """Texts and curves."""
        with self._server.atomic():
            self._panel.say(words.headline(board, view, self._feet, now), words.nodes(board, now))
            self._panel.there(simulated=simulated, gait=gait)
            self._panel.plots.draw(board)

    def note(self, text: str, level: int = 0) -> None:
        """What came of something that was pressed."""
        self._panel.note(text, level)

    def time(self, paused: bool) -> None:
        """Whether time stands still."""
        self._panel.time(paused)

    def stand_still(self) -> None:
        """Walking is off."""
        self._panel.stand_still()

    def layer(self, name: str, on: bool) -> None:
        """Show one kind of thing, or no longer."""
        if self._stage is not None and name in self._stage.layers:
            self._stage.layers[name] = on

    def follow(self, on: bool) -> None:
        """Keep the robot in the middle, or no longer."""
        if self._stage is not None:
            self._stage.follow = on

    def call_in_loop(self, work: Callable[[], None]) -> None:
        """Do something in the thread that talks to the browsers."""
        self._server.get_event_loop().call_soon_threadsafe(work)

    def close(self) -> None:
        """Serve no more."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()


def _sky() -> Any:
    """A light that grows towards the horizon (64, 2, 3)."""
    top, bottom = np.array([206, 219, 232]), np.array([249, 250, 251])
    share = np.linspace(0.0, 1.0, 64)[:, None, None] ** 0.7
    return np.broadcast_to(top + share * (bottom - top), (64, 2, 3)).astype(np.uint8)
