"""Renders and publishes cameras in a thread of its own, so that the executor goes on taking states meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from digital_twin.core.errors import TwinError, one_line
from digital_twin.core.sensors.camera import Camera
from digital_twin.core.sensors.camera_scene import SHOWN, CameraScene, TwinPose
from digital_twin.core.sensors.depth_camera import millimetres
from digital_twin.core.sensors.rendering import Renderer
from digital_twin.ros.camera_topics import CameraTopics
from digital_twin.ros.node import TwinNode
from digital_twin.ros.scheduling import yield_to_others
from digital_twin.ros.twin_state import TwinState

NS = 1_000_000_000
LONGEST_GAP_NS = NS  # after more, nobody looked meanwhile, or the twin had stopped
LONGEST_HOLD = 5.0  # [s] a stamp this far ahead is another clock's: its image is sent at once


class View:
    """One camera at work: when its next image is due, and how it went.

    Attributes:
        missed: images that were due while another was made.
    """

    def __init__(self, index: int, camera: Camera, topics: CameraTopics) -> None:
        self.index, self.camera, self.topics = index, camera, topics
        self.missed = 0
        self._period = round(NS / camera.config.rate)
        self._slot = -1
        self._error_ns, self._lost = 0, False

    def due(self, stamp_ns: int) -> bool:
        """Whether an image is due by the stamps, one in each period; those that get lost are not."""
        slot = (stamp_ns - self._error_ns) // self._period
        if self._slot - 1 <= slot <= self._slot:  # further back: time began anew
            return False
        skipped = slot - self._slot - 1
        if 0 <= skipped * self._period < LONGEST_GAP_NS:
            self.missed += skipped
        self._slot = slot
        lost = self._lost
        error, self._lost = self.camera.next_frame()
        # It must not fall into another period than its own.
        self._error_ns = round(max(-0.4, min(0.4, error * NS / self._period)) * self._period)
        return not lost


class CameraWorker(threading.Thread):
    """The thread.

    Attributes:
        problem: why nothing can be rendered, in one line; empty while all is well.
        backend: what renders: egl or osmesa; empty before the first image.
        events: (level, line) that a person should read, for the executor's thread to say.
    """

    def __init__(
        self,
        node: TwinNode[Any],
        state: TwinState,
        scene: CameraScene,
        views: list[View],
        *,
        depth_16: bool = False,
        shadows: bool = False,
    ) -> None:
        super().__init__(name="cameras", daemon=True)
        self._node, self._state, self._scene, self._views = node, state, scene, views
        self._depth_16, self._shadows = depth_16, shadows
        self._held: list[tuple[int, Callable[[], None]]] = []
        self._stopped = threading.Event()
        self.problem = self.backend = ""
        self.events: list[tuple[str, str]] = []

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self._state.fresh.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        """Until stopped, or until nothing can be rendered."""
        yield_to_others()
        while not self._state.fresh.wait(0.1) and not self._stopped.is_set():
            pass
        if self._stopped.is_set():
            return
        names = ", ".join(f"'{v.camera.name}'" for v in self._views)
        try:
            sources = [v.camera.optics.source for v in self._views]
            renderer = Renderer(
                self._scene.mj, max(s.width for s in sources), max(s.height for s in sources), shadows=self._shadows
            )
        except TwinError as e:
            self.problem = f"camera {names}: {e}"
            self.events.append(("error", self.problem))
            return
        renderer.show(SHOWN)
        self.backend = renderer.backend
        self.events.append(("info", f"camera {names}: rendered with {renderer.backend}"))
        try:
            while not self._stopped.is_set():
                self._state.fresh.wait(self._send_held())
                if self._state.fresh.is_set():
                    self._state.fresh.clear()
                    self._round(renderer)
        finally:
            renderer.close()

    def _round(self, renderer: Renderer) -> None:
        """Make the images that are due at the newest state."""
        pose: TwinPose | None = None
        for view in self._views:
            if not (view.topics.colour_wanted or view.topics.depth_wanted):
                continue
            pose = pose or self._state.take()
            if pose is None or not view.due(pose.stamp_ns):
                continue
            begin = time.perf_counter()
            try:
                self._image(renderer, view, pose)
            except Exception as e:  # one bad image must not end the others
                self._node.tally.reject(f"camera/{view.camera.name}", "failed")
                self.events.append(("error", f"camera '{view.camera.name}': an image failed: {one_line(e)}"))
            self._node.loop.add(1e3 * (time.perf_counter() - begin))

    def _image(self, renderer: Renderer, view: View, pose: TwinPose) -> None:
        camera, topics = view.camera, view.topics
        c, source = camera.config, camera.optics.source
        colour, depth = topics.colour_wanted, topics.depth_wanted
        motion = self._scene.motion(view.index, source, pose, camera.span()) if colour else 0.0
        times = camera.render_times(motion)
        renders, z = [], None
        for k, ahead in enumerate(times):
            data = self._scene.place(pose, ahead)
            middle = depth and k == len(times) // 2
            rgb, rendered = renderer.render(data, view.index, source, c.near, c.far, colour=colour, depth=middle)
            if rgb is not None:
                renders.append(rgb)
            if rendered is not None:
                z = rendered
        if renders:
            raw = camera.raw(renders)
            pixels = camera.packed(raw) if topics.raw else camera.colour(raw)
            self._hold(view, pose.stamp_ns, "colour", pixels)
        if z is not None:
            metric = camera.depth(z)
            self._hold(view, pose.stamp_ns, "depth", millimetres(metric) if self._depth_16 else metric)

    # Latency

    def _hold(self, view: View, stamp_ns: int, what: str, pixels: Any) -> None:
        latency = 0.0 if "latency" in view.camera.off else view.camera.config.latency
        due = stamp_ns + round(latency * NS)
        if due - self._node.now_ns() > LONGEST_HOLD * NS:
            due = 0
        self._held.append((due, lambda: view.topics.publish(what, stamp_ns, pixels)))

    def _send_held(self) -> float:
        """Send what is due; returns how long [s] nothing will be."""
        if not self._held:
            return 0.1
        now = self._node.now_ns()
        for entry in [e for e in self._held if e[0] <= now]:
            self._held.remove(entry)
            entry[1]()
        return min([0.1, *(max((due - now) / NS, 0.0) for due, _ in self._held)])
