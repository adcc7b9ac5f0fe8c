"""The scene: robots, forces, feet, balance, forecast, scan, on a ground."""

from __future__ import annotations

import numpy as np
import viser

from digital_twin.core.arrays import Array
from digital_twin.core.balance import capture_point, support_polygon, zero_moment_point
from digital_twin.core.figure import Figure
from digital_twin.core.rotation import matrix_from_quat, rot_z
from digital_twin.core.shapes import Part, cylinder, sphere
from digital_twin.dashboard import colours
from digital_twin.dashboard.moment import Ahead, Moment
from digital_twin.dashboard.robots import Batches, Pose
from digital_twin.dashboard.trail import Accelerometer, Trail

GHOSTS = (0.34, 0.26, 0.18, 0.12)  # opacities of the forecast, from soon to late
SPREADS = 4
BESIDE = 0.11  # [m] from a sole to its arrow
FLAT = 0.004  # [m] above the ground, for what lies on it
LAYERS = ("measured", "forecast", "spread", "forces", "balance", "footprints", "scan", "world")


class Stage:
    """Shows moments. `show` sends what has changed; it never waits for a viewer.

    Attributes:
        follow: keep the robot in the middle. layers: what is shown.
    """

    def __init__(self, server: viser.ViserServer, figure: Figure, rest: Pose, world: tuple[Part, ...]) -> None:
        """rest: how the robot stands until something is known of it."""
        self._server, self._figure, self.follow = server, figure, True
        self.layers = dict.fromkeys(LAYERS, True)
        self._weight = figure.model.mass * 9.81
        # The robot's weight is an arrow as long as its base is high.
        self._metres_per_newton = max(float(rest[0][2]), 0.2) / self._weight
        scene = server.scene
        self._map = scene.add_frame("/map", show_axes=False)
        self._virtual = Batches(server, "/map/virtual", figure.parts, shadow=True)
        self._virtual.move(figure, [rest])
        self._world = Batches(server, "/map/world", world) if world else None
        self._measured = Batches(
            server, "/map/measured", figure.parts, colour=colours.MEASURED, opacity=[0.38], swell=0.004, visible=False
        )
        self._ahead = Batches(
            server, "/map/forecast", figure.parts, colour=colours.FORECAST, opacity=GHOSTS, visible=False
        )
        self._add_marks()
        self._trail, self._pull = Trail(), Accelerometer()
        self._drawn: dict[str, object] = {}

    def _add_marks(self) -> None:
        scene, nothing = self._server.scene, np.zeros((1, 2, 3))
        self._path = scene.add_line_segments("/map/path", nothing, colours.FORECAST, thickness=0.012)
        round_ = sphere()
        self._clouds = scene.add_batched_meshes_simple(
            "/map/spread", round_.vertices, round_.faces, np.tile([1.0, 0, 0, 0], (SPREADS, 1)), np.zeros((SPREADS, 3)),
            batched_scales=np.full((SPREADS, 3), 1e-3, np.float32), batched_colors=colours.FORECAST, opacity=0.16, lod="off",
            cast_shadow=False, receive_shadow=False, visible=False,
        )  # fmt: skip
        self._forces = scene.add_arrows(
            "/map/forces", np.zeros((1, 2, 3)), colours.FORCE, shaft_radius=0.013, head_radius=0.032, head_length=0.075
        )
        self._support = scene.add_line_segments("/map/support", nothing, colours.SUPPORT, thickness=0.014)
        self._prints = scene.add_line_segments("/map/footprints", nothing, colours.FOOTPRINT, thickness=0.008)
        disc = cylinder()
        self._discs = scene.add_batched_meshes_simple(
            "/map/balance", disc.vertices, disc.faces, np.tile([1.0, 0, 0, 0], (3, 1)), np.zeros((3, 3)),
            batched_scales=np.array([[r, r, 0.006] for r in (0.016, 0.022, 0.028)], np.float32),
            batched_colors=np.array([colours.MASS, colours.ZMP, colours.CAPTURE], np.uint8), lod="off", cast_shadow=False,
            receive_shadow=False, visible=False,
        )  # fmt: skip
        self._points = scene.add_point_cloud(
            "/map/scan", np.zeros((1, 3), np.float32), colours.SCAN, point_size=0.014, point_shape="circle",
            precision="float32", visible=False,
        )  # fmt: skip
        for handle in (self._path, self._forces, self._support, self._prints):
            handle.visible = False

    def show(self, m: Moment) -> None:
        """Draw a moment."""
        v = m.view
        rotation = matrix_from_quat(v.quaternion)
        with self._server.atomic():
            self._figure.place(v.position, rotation, v.q)
            self._virtual.put([self._figure.poses()])
            if self.follow:
                # The ground moves instead of everybody's camera.
                self._map.position = (-float(v.position[0]), -float(v.position[1]), 0.0)
            self._draw_feet(m)
            self._draw_scan(m)
            self._draw_measured(m, rotation)
            self._draw_forecast(m)
            if self._world is not None and self._world.visible != self.layers["world"]:
                self._world.visible = self.layers["world"]

    # The figure is where the virtual robot is while feet and scan are drawn

    def _draw_feet(self, m: Moment) -> None:
        v, soles = m.view, self._figure.soles()
        stand = [corners for (_, _, corners), on in zip(soles, v.contacts, strict=True) if on]
        arrows = []
        middle = np.mean([p for p, _, _ in soles], axis=0) if soles else np.zeros(3)
        for (position, R, _), wrench in zip(soles, v.wrenches, strict=True):
            force = R @ wrench[:3]
            if np.isfinite(force).all() and np.linalg.norm(force) > 0.02 * self._weight:
                up = force if force[2] > 0.0 else -force  # some sensors report what the foot exerts
                # Beside the foot: a leg would hide it.
                aside = position + BESIDE * (position - middle) / max(float(np.linalg.norm(position - middle)), 1e-6)
                arrows.append([aside, aside + self._metres_per_newton * up])
        self._forces.visible = bool(arrows) and self.layers["forces"]
        if arrows:
            self._forces.points = np.array(arrows)
        self._trail.step(m.stamp_ns, soles, v.contacts)
        prints = self._trail.segments
        self._prints.visible = len(prints) > 0 and self.layers["footprints"]
        if self._changed("prints", self._trail.count) and len(prints):
            self._prints.points = prints
        self._draw_balance(m, stand)

    def _draw_balance(self, m: Moment, stand: list[Array]) -> None:
        v = m.view
        com, velocity = self._figure.mass_motion(v.velocity, v.turning, v.qd)
        pull = self._pull.step(m.stamp_ns, velocity)
        on = bool(stand) and self.layers["balance"]
        self._support.visible = self._discs.visible = on
        if not on:
            return
        corners = np.concatenate(stand)
        floor = float(corners[:, 2].mean())
        ring = support_polygon(corners[:, :2])
        if len(ring):
            ring = np.column_stack([ring, np.full(len(ring), floor + FLAT)])
            self._support.points = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
        places = [com[:2], zero_moment_point(com, pull, floor), capture_point(com, velocity, floor)]
        self._discs.batched_positions = np.array([[*p, floor + FLAT] for p in places], np.float32)

    def _draw_scan(self, m: Moment) -> None:
        scan = m.scan.get() if m.scan else None
        self._points.visible = scan is not None and len(scan.points) > 0 and self.layers["scan"]
        if scan is not None and self._points.visible and self._changed("scan", m.scan):
            position, R = self._figure.frame(scan.frame)
            self._points.points = (position + scan.points @ R.T).astype(np.float32)

    def _draw_measured(self, m: Moment, rotation: Array) -> None:
        v = m.view
        known = bool(np.isfinite(v.measured).any()) and self.layers["measured"]
        if self._measured.visible != known:
            self._measured.visible = known
        if known:
            q = np.where(np.isfinite(v.measured), v.measured, v.q)
            position = v.position
            if np.isfinite(v.seen).all():
                position, rotation = v.seen[:3], matrix_from_quat(v.seen[3:])
            self._measured.move(self._figure, [(position, rotation, q)])

    def _draw_forecast(self, m: Moment) -> None:
        f = m.ahead.get() if m.ahead else None
        on = f is not None and self.layers["forecast"]
        if self._ahead.visible != on:
            self._ahead.visible = self._path.visible = on
        clouds = f is not None and m.spread is not None and self.layers["spread"]
        self._clouds.visible = clouds
        if f is None or not self._changed("ahead", m.ahead):
            return
        R, v = rot_z(m.view.odom_yaw), m.view
        position = v.odom_position + f.position @ R.T
        if on:
            last = len(f.times) - 1
            chosen = [round(last * (i + 1) / len(GHOSTS)) for i in range(len(GHOSTS))]
            self._ahead.move(
                self._figure, [(position[i], R @ matrix_from_quat(f.quaternion[i]), f.q[i]) for i in chosen]
            )
            self._path.points = np.stack([position[:-1], position[1:]], axis=1)
        if clouds and m.spread is not None:
            self._draw_spread(f, position, *m.spread)

    def _draw_spread(self, f: Ahead, position: Array, times: Array, widths: Array) -> None:
        within = np.flatnonzero(times <= f.times[-1] + 1e-6)[-SPREADS:]
        at, scale = np.zeros((SPREADS, 3), np.float32), np.full((SPREADS, 3), 1e-3, np.float32)
        for row, i in enumerate(within):
            at[row] = [np.interp(times[i], f.times, column) for column in position.T]
            scale[row] = np.maximum(widths[i], 1e-3)
        self._clouds.batched_positions, self._clouds.batched_scales = at, scale

    def _changed(self, what: str, now: object) -> bool:
        """Whether it is another thing than the one drawn last."""
        before = self._drawn.get(what)
        self._drawn[what] = now
        return before is not now and before != now
