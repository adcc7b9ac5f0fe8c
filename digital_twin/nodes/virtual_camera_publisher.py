"""virtual_camera_publisher: what should the robot's cameras see?

Follows virtual/joint_states, virtual/odom and virtual/pose, and publishes virtual/camera/NAME/image_raw, camera_info and
depth/image_rect of every camera in the robot's URDF. A process of its own, whose rendering yields to all others.
While nobody listens nothing is read and nothing is rendered.
"""

from __future__ import annotations

from digital_twin.cameras import make_cameras, parse_profiles, robot_cameras
from digital_twin.core.errors import WorldError
from digital_twin.core.sensors.camera_scene import CameraScene, frame_note
from digital_twin.core.world import World, load_world
from digital_twin.paths import find
from digital_twin.robots import load_robot
from digital_twin.ros.camera_topics import CameraTopics
from digital_twin.ros.camera_worker import CameraWorker, View
from digital_twin.ros.node import TwinNode
from digital_twin.ros.process import run
from digital_twin.ros.twin_state import TwinState
from digital_twin.settings import VirtualCameraSettings

LOOK_PERIOD = 0.25


class VirtualCameraPublisher(TwinNode[VirtualCameraSettings]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("virtual_camera_publisher", VirtualCameraSettings, "twin/camera_status")
        s = self.settings
        robot = load_robot(s.robot_description, s.robot_config)
        mounts, problems = robot_cameras(s.robot_description)
        profiles = parse_profiles(s.profiles, [m.name for m in mounts])
        cameras, unusable = make_cameras(mounts, robot.model, profiles, seed=s.seed, rate=s.rate)
        self._problems = problems + unusable
        scene = CameraScene(robot.model, self._world([m.name for m in mounts]), cameras, shadows=s.shadows)
        self._views = [
            View(i, c, CameraTopics(self, m, c, raw=s.colour == "raw", depth_encoding=s.depth))
            for i, (m, c) in enumerate(cameras)
        ]
        for problem in self._problems:
            self.get_logger().error(problem)
        for note in filter(None, (frame_note(m, robot.model) for m, _ in cameras)):
            self.get_logger().warning(note)
        if not mounts:
            self.get_logger().info("this robot has no camera")
        self._twin = TwinState(self, robot.model)
        self._stopped = False
        self._worker = CameraWorker(
            self, self._twin, scene, self._views, depth_16=s.depth == "16UC1", shadows=s.shadows
        )
        if self._views:
            self._worker.start()
            self.every(LOOK_PERIOD, self._look)

    def _world(self, names: list[str]) -> World | None:
        """What the cameras see beside the robot. Without a shape in it they see the robot alone, and it is said."""
        path = find(self.settings.world or "humanoid_world.sdf", "worlds")
        try:
            world = load_world(path)
        except WorldError as e:
            self._problems += [f"camera '{name}': sees nothing but the robot: {e}" for name in names]
            return None
        for what in world.skipped:
            self.get_logger().warning(f"{world.source}: left out {what}")
        return world

    def _look(self) -> None:
        """See who listens, whether the twin goes on, and say what there is to say."""
        listened_to = [view.topics.look() for view in self._views]
        wanted = any(listened_to)
        self._twin.listen(wanted and not self._worker.problem)
        while self._worker.events:
            level, text = self._worker.events.pop(0)
            self.say_once(level, text)
        stopped = wanted and self._twin.silent_for() > self.settings.state_timeout
        if stopped != self._stopped:
            self._stopped = stopped
            names = ", ".join(f"'{v.camera.name}'" for v in self._views)
            if stopped:
                self.get_logger().warning(
                    f"camera {names}: no images: virtual/joint_states and virtual/odom have stopped"
                )
            elif wanted:
                self.get_logger().info(f"camera {names}: images again")

    def status(self) -> tuple[int, str, dict[str, object]]:
        """What is rendered with what, and what cannot be."""
        values: dict[str, object] = {"renderer": self._worker.backend or "none yet"}
        for v in self._views:
            values[f"{v.camera.name}/exposure_ms"] = 1e3 * v.camera.exposure
            values[f"{v.camera.name}/missed"] = v.missed
        words = [*self._problems, *([self._worker.problem] if self._worker.problem else [])]
        if self._stopped:
            words.append("the twin's state has stopped: no images")
        return (2 if self._worker.problem else 1 if words else 0), "; ".join(words), values

    def destroy_node(self) -> None:
        """The thread first: it uses the publishers."""
        self._worker.stop()
        super().destroy_node()


def main() -> None:
    """Entry point."""
    run("virtual_camera_publisher", VirtualCameraPublisher, VirtualCameraSettings, shared_memory=True)


if __name__ == "__main__":
    main()
