"""Follows twin/model: what a node makes of another model is made in a thread, and put in use between two messages."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from std_msgs.msg import String

from digital_twin.core.errors import TwinError, one_line
from digital_twin.core.forecast_model import model_version
from digital_twin.robots import Robot
from digital_twin.ros.cdr import read_string
from digital_twin.ros.model_topic import ModelTopic
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import LATCHED

NS = 1_000_000_000
READY = NS // 2  # after an announcement the model is used: in a replay at the same event, too
PERIOD = 0.05  # [s] between looks

Made = TypeVar("Made")


class _Pending(NamedTuple):
    due_ns: int
    thread: threading.Thread
    made: list[tuple[str, Any] | TwinError]


class ModelFollower(Generic[Made]):
    """Calls `use` with what `make` made of each robot that is announced, in that order, but for the one it began with.

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
        self._begun: Robot | None = robot
        self._pending: deque[_Pending] = deque()
        self.service = ""
        node.listen(String, "twin/model", self._announced, LATCHED)

    @property
    def busy(self) -> bool:
        """Whether a model is being made ready."""
        return bool(self._pending)

    def look_often(self) -> None:
        """Look by a timer."""
        self._node.every(PERIOD, self._follow_model)

    def _follow_model(self) -> None:
        self.look(self._node.now_ns())

    def _announced(self, data: bytes) -> None:
        text, before = read_string(data, 4)[0], self._pending[-1].thread if self._pending else None
        made: list[tuple[str, Any] | TwinError] = []

        def prepare() -> None:
            if before is not None:
                before.join()
            try:
                robot = self._models.take(text)
                if robot is not None:
                    begun, self._begun = self._begun, None
                    same = begun is not None and _alike(robot, begun)
                    made.append((robot.where, None if same else self._make(robot)))
            except TwinError as e:
                made.append(e)
            except Exception as e:  # a file can be wrong in more ways than are foreseen
                made.append(TwinError(f"not a model: {one_line(e)}"))

        thread = threading.Thread(target=prepare, name="next model", daemon=True)
        thread.start()
        self._pending.append(_Pending(self._node.now_ns() + READY, thread, made))

    def look(self, now_ns: int) -> None:
        """Put in use what is ready; takes microseconds unless something is."""
        while self._pending and now_ns >= self._pending[0].due_ns:
            self._pending[0].thread.join()
            for made in self._pending.popleft().made:
                if isinstance(made, TwinError):
                    self._node.tally.reject("twin/model", "unusable")
                    self._node.get_logger().error(f"twin/model: {made}; the old model stays")
                    continue
                self.service, new = made
                if new is not None:
                    self._use(new)


def _alike(a: Robot, b: Robot) -> bool:
    """Whether two robots are the same in all that nodes compute with."""
    return a.config == b.config and model_version(a.model.mj) == model_version(b.model.mj)
