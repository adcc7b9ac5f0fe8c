"""dashboard: a live page of the twin, in a browser.

Shows what the other nodes say and calls their services; nothing in the twin waits for it. Its port is opened before
anything slow is loaded; one that is in use costs the page, not the twin.
"""

from __future__ import annotations

import math
import queue
import socket
import time
from typing import TYPE_CHECKING

from digital_twin.core.errors import TwinError
from digital_twin.core.history import History, Playhead
from digital_twin.dashboard.board import Board
from digital_twin.dashboard.guard import Guard, open_socket
from digital_twin.dashboard.painter import Painter
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.scheduling import yield_to_others
from digital_twin.settings import DashboardSettings

if TYPE_CHECKING:
    from digital_twin.dashboard.moment import Moment
    from digital_twin.dashboard.page import Page
    from digital_twin.dashboard.panel import Action

TRY_AGAIN = 5.0  # [s] after which a port that was in use is tried again
WORDS, WALKING, LOOK = 0.5, 0.1, 0.05  # [s] between texts, commands, looks at what was pressed


class Dashboard(TwinNode[DashboardSettings]):
    """See the module.

    Attributes:
        page: what is served; None while the port is in use. url: where; holds the token.
    """

    def __init__(self) -> None:
        super().__init__("dashboard", DashboardSettings, "twin/dashboard_status")
        s = self.settings
        self.board = Board(s.history)
        self._past: History[Moment] = History(s.history)
        self.playhead = Playhead(self._past)
        self.guard = Guard(s.host, s.token, s.most_viewers)
        self.page: Page | None = None
        self.url, self._trouble, self._watched = "", "", False
        self._try()
        self.every(TRY_AGAIN, self._try)

    def _try(self) -> None:
        """Serve the page, unless it is served already or cannot be."""
        if self.page is not None:
            return
        s = self.settings
        try:
            own = open_socket(s.host, s.port)
            self.url = self.guard.url(s.host, own.getsockname()[1])
            self._serve(own)
        except TwinError as e:
            if str(e) != self._trouble:
                self._trouble = str(e)
                self.get_logger().error(f"{e}. The twin goes on; trying again every {TRY_AGAIN:g} s")

    def _serve(self, own: socket.socket) -> None:
        # All that is slow to import comes after the port is open.
        try:
            from digital_twin.dashboard.page import Page
        except ImportError as e:
            own.close()
            raise TwinError(f"the page needs viser ({e}): pip install viser") from e
        from digital_twin.dashboard.cast import load_cast
        from digital_twin.ros.page_controls import PageControls
        from digital_twin.ros.page_feed import PageFeed

        s = self.settings
        page = Page(own, self.guard)
        cast = load_cast(s.robot_description, s.robot_config, s.world)
        for what in cast.missing:
            self.get_logger().warning(what)
        title = f"Digital twin of {cast.robot.description.name or 'a robot'}"
        page.furnish(cast.figure, cast.rest, cast.world, title, [f.name for f in cast.robot.config.feet], s.history)
        self._controls = PageControls(self, self._note)
        self._feed = PageFeed(self, cast.robot, self.board, self._moment, self.get_namespace())
        self.page, self._trouble = page, ""
        begin = yield_to_others if s.yielding else lambda: None
        self._painter = Painter(begin)
        self.every(LOOK, self._look)
        self.every(WORDS, self._say)
        self.every(WALKING, self._walk)
        self.get_logger().info(f"the page is at {self.url}")
        page.call_in_loop(begin)

    def destroy_node(self) -> None:
        """Close the page first."""
        if self.page is not None:
            self._painter.close()
            self.page.close()
        super().destroy_node()

    # What is shown

    def _moment(self, stamp_ns: int, moment: Moment) -> None:
        self._past.add(stamp_ns, moment)
        if not self.playhead.paused:
            self._show()

    def _show(self) -> None:
        """Draw the moment at the playhead, if anybody looks."""
        shown = self.playhead.shown()
        if self.page is not None and self.page.viewers and shown is not None:
            self._painter.ask("moment", lambda: self._paint(shown[1]))

    def _paint(self, moment: Moment) -> None:
        start = time.perf_counter()
        self.page.show(moment)
        self.loop.add(1000.0 * (time.perf_counter() - start))

    def _note(self, text: str, level: int) -> None:
        """What came of something that was pressed."""
        self._painter.ask("note", lambda: self.page.note(text, level))

    def _say(self) -> None:
        """Words and curves."""
        if self.page is None:
            return
        now = time.monotonic()
        self.board.sample(now)
        self._controls.look()
        watched, self._watched = self._watched, self.page.viewers > 0
        if self._watched and not watched:
            self._show()
        if self._watched:
            there = {"simulated": self._controls.simulated, "gait": self._controls.gait}
            self._painter.ask("words", lambda: self.page.say(self.board, self._feed.latest, now, **there))

    # What is pressed

    def _look(self) -> None:
        """Take what was pressed."""
        while self.page is not None:
            try:
                action = self.page.actions.get_nowait()
            except queue.Empty:
                return
            self._do(self.page, action)

    def _do(self, page: Page, a: Action) -> None:
        controls = self._controls
        simple = {"stop": controls.emergency_stop, "release": controls.release, "resync": controls.resync}
        simple["mend"] = controls.mend
        if a.name in simple:
            self._note(f"{a.name} …", 1)
            simple[a.name]()
        elif a.name == "fault":
            self._note(f"{a.value} …", 1)
            controls.fault(str(a.value))
        elif a.name == "walk":
            controls.walk(a.value)
        elif a.name == "layer":
            page.layer(*a.value)
            self._show()
        elif a.name == "follow":
            page.follow(bool(a.value))
        else:
            self._wind(page, a)

    def _wind(self, page: Page, a: Action) -> None:
        """Pause, go on, look back."""
        if a.name == "scrub" and math.isfinite(a.value):
            self.playhead.scrub(a.value)
        elif a.name == "pause" and not self.playhead.paused:
            self.playhead.pause()
        elif a.name == "pause":
            self.playhead.live()
        self._painter.ask("time", lambda: page.time(self.playhead.paused))
        self._show()

    def _walk(self) -> None:
        """Repeat the speeds; nobody walks a robot from a page that is gone."""
        if self._controls.speeds is None or self.page is None:
            return
        if self.page.viewers:
            self._controls.tell()
        else:
            self._controls.walk(None)
            self._painter.ask("stand", self.page.stand_still)

    def status(self) -> tuple[int, str, dict[str, object]]:
        """Who looks, and who was refused."""
        values: dict[str, object] = {"viewers": self.guard.open, "moments": len(self._past)}
        values |= {f"refused/{reason}": count for reason, count in self.guard.refused.items()}
        return int(bool(self._trouble)), self._trouble, values


def main() -> None:
    """Entry point."""
    run("dashboard", Dashboard, DashboardSettings)


if __name__ == "__main__":
    main()
