"""Follows twin/model: what a node makes of another model is made in a thread, and put in use between two messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from std_msgs.msg import String

from digital_twin.core.errors import TwinError
from digital_twin.robots import Robot
from digital_twin.ros.cdr import read_string
from digital_twin.ros.model_topic import ModelTopic
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import LATCHED

NS = 1_000_000_000
READY = NS // 2  # after an announcement the model is used: in a replay at the same event, too
PERIOD = 0.05  # [s] between looks

Made = TypeVar("Made")


class ModelFollower(Generic[Made]):
    """Calls `use` with what `make` made of each robot that is announced.

    A model that cannot be read, or of which nothing can be made, is said to be so; the old one stays.

    Attributes:
        service: what the model in service is called; "" before the first announcement.
    """

    def __init__(
        self, node: TwinNode[Any], robot: Robot, make: Callable[[Robot], Made], use: Callable[[Made], None]
    ) -> None:
        """`make` is called in a thread, `use` in `look`."""
        self._node, self._make, self._use = node, make, use
        self._models = ModelTopic(robot, node.settings.robot_config)
        self._making: tuple[int, threading.Thread, list[tuple[str, Made] | TwinError]] | None = None
        self.service = ""
        node.listen(String, "twin/model", self._announced, LATCHED)

    @property
    def busy(self) -> bool:
        """Whether a model is being made ready."""
        return self._making is not None

    def look_often(self) -> None:
        """Look by a timer."""
        self._node.every(PERIOD, self._follow_model)

    def _follow_model(self) -> None:
        self.look(self._node.now_ns())

    def _announced(self, data: bytes) -> None:
        text, before = read_string(data, 4)[0], self._making
        made: list[tuple[str, Made] | TwinError] = []

        def prepare() -> None:
            if before is not None:
                before[1].join()
            try:
                robot = self._models.take(text)
                if robot is not None:
                    made.append((robot.where, self._make(robot)))
            except TwinError as e:
                made.append(e)

        thread = threading.Thread(target=prepare, name="next model", daemon=True)
        thread.start()
        self._making = self._node.now_ns() + READY, thread, made

    def look(self, now_ns: int) -> None:
        """Put in use what is ready; takes microseconds unless something is."""
        if self._making is None or now_ns < self._making[0]:
            return
        _, thread, made = self._making
        thread.join()
        self._making = None
        if made and isinstance(made[0], TwinError):
            self._node.tally.reject("twin/model", "unusable")
            self._node.get_logger().error(f"twin/model: {made[0]}; the old model stays")
        elif made and made[0][0] != self.service:
            self.service = made[0][0]
            self._use(made[0][1])
