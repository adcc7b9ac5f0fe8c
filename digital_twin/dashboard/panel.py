"""The page's panels: verdict, time, controls, layers, curves, nodes. What somebody presses is handed on as an Action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import viser

from digital_twin.core.faults import KINDS
from digital_twin.dashboard import words
from digital_twin.dashboard.plots import Plots
from digital_twin.dashboard.stage import LAYERS

EXAMPLES = ("push torso 30 0 0 for 0.2", "payload l_gripper 2.0", "motor l_knee 0.8", "friction l_knee 2.0",
            "encoder l_knee 0.0175", "imu_bias gyro 0.01 0 0", "delay joint_states 0.05", "drop imu/data for 1")  # fmt: skip
MOST_WORDS = 200


@dataclass(frozen=True)
class Action:
    """Something to be done: pause, live, scrub, layer, follow, stop, release, resync, fault, mend, walk."""

    name: str
    value: Any = None


class Panel:
    """Builds the panels. `act` is called in threads of viser's."""

    def __init__(self, server: viser.ViserServer, act: Callable[[Action], None], title: str, span: float) -> None:
        self._server, self._act, self._quiet = server, act, False
        gui = server.gui
        gui.set_panel_label(title)
        gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(52, 120, 246), control_width="large")
        self._headline = gui.add_html("")
        with gui.add_folder("Stop"):
            stop = gui.add_button("Emergency stop", color="red", icon=viser.Icon.HAND_STOP)
            stop.on_click(lambda _: act(Action("stop")))
            release = gui.add_button(
                "Release: let commands pass again", color="gray", hint="physical_bridge/enable_commands"
            )
            release.on_click(lambda _: act(Action("release")))
            self._note = gui.add_html("")
        self._add_time(span)
        with gui.add_folder("Colours"):
            gui.add_html(words.legend())
        with gui.add_folder("Twin", expand_by_default=False):
            resync = gui.add_button("Resync", hint="twin_synchronizer/resync: start again from what the sensors say")
            resync.on_click(lambda _: act(Action("resync")))
            self._add_faults()
        self._add_walk()
        with gui.add_folder("Show", expand_by_default=False):
            self._add_layers()
        gui.main_panel.dock_right()
        side = gui.add_panel()
        with side.add_tab("Curves", viser.Icon.CHART_LINE):
            self.plots = Plots(server, span)
        with side.add_tab("Nodes", viser.Icon.TOPOLOGY_STAR_3):
            self._nodes = gui.add_html("")
        side.dock_left()

    def _add_time(self, span: float) -> None:
        gui = self._server.gui
        with gui.add_folder("Time"):
            self._pause = gui.add_button("Pause", icon=viser.Icon.PLAYER_PAUSE)
            self._pause.on_click(lambda _: self._act(Action("pause")))
            self._ago = gui.add_slider("Ago [s]", 0.0, float(span), 0.1, 0.0, hint="how long before the pause")

            @self._ago.on_update
            def _(_: Any) -> None:
                if not self._quiet:
                    self._act(Action("scrub", float(self._ago.value)))

    def _add_faults(self) -> None:
        gui = self._server.gui
        with gui.add_folder("Faults of the simulated robot") as self._faults:
            example = gui.add_dropdown("Example", EXAMPLES)
            text = gui.add_text("Fault", EXAMPLES[0], hint="kinds: " + ", ".join(KINDS))

            @example.on_update
            def _(_: Any) -> None:
                text.value = example.value

            inject = gui.add_button("Inject", color="orange")
            inject.on_click(lambda _: self._act(Action("fault", str(text.value)[:MOST_WORDS])))
            mend = gui.add_button("Mend everything", color="gray")
            mend.on_click(lambda _: self._act(Action("mend")))

    def _add_walk(self) -> None:
        gui = self._server.gui
        with gui.add_folder("Walk", expand_by_default=False):
            self._no_gait = gui.add_html(words.note("no gait controller runs", 3))
            with gui.add_folder("Speeds", visible=False) as self._walk:
                forward = gui.add_slider("Ahead [m/s]", -0.5, 0.5, 0.05, 0.0)
                left = gui.add_slider("Left [m/s]", -0.3, 0.3, 0.05, 0.0)
                turn = gui.add_slider("Turn left [rad/s]", -0.6, 0.6, 0.05, 0.0)
                go = gui.add_checkbox("Walk", False, hint="cmd_vel goes out while this is on and a page is open")

                def changed(_: Any) -> None:
                    speeds = (forward.value, left.value, turn.value) if go.value else None
                    self._act(Action("walk", speeds))

                for handle in (forward, left, turn, go):
                    handle.on_update(changed)
                self._go = go

    def _add_layers(self) -> None:
        gui = self._server.gui
        follow = gui.add_checkbox("Follow the robot", True)
        follow.on_update(lambda _: self._act(Action("follow", bool(follow.value))))
        for name in LAYERS:
            box = gui.add_checkbox(name.capitalize(), True)
            box.on_update(lambda _, name=name, box=box: self._act(Action("layer", (name, bool(box.value)))))

    # Out

    def say(self, headline: str, nodes: str) -> None:
        """The texts."""
        self._headline.content, self._nodes.content = headline, nodes

    def note(self, text: str, level: int = 0) -> None:
        """What came of the last thing pressed."""
        self._note.content = words.note(text, level)

    def time(self, paused: bool) -> None:
        """Whether time stands still."""
        self._pause.label = "Go on live" if paused else "Pause"
        self._pause.icon = viser.Icon.PLAYER_PLAY if paused else viser.Icon.PLAYER_PAUSE
        if not paused and self._ago.value != 0.0:
            self._quiet = True
            self._ago.value = 0.0
            self._quiet = False

    def there(self, *, simulated: bool, gait: bool) -> None:
        """What can be done depends on who runs."""
        self._faults.visible = simulated
        self._walk.visible, self._no_gait.visible = gait, not gait

    def stand_still(self) -> None:
        """Walking is off."""
        self._go.value = False
