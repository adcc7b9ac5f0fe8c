"""A service whose answers take long, served in a thread of its own, so that a node's other callbacks do not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger


class Desk:
    """Serves ~/NAME of a node with a callback that may block. The service belongs to a hidden node beside it."""

    def __init__(
        self, node: Node, name: str, callback: Callable[[Trigger.Request, Trigger.Response], Trigger.Response]
    ) -> None:
        own = f"_{node.get_name()}_{name}"
        self._node: Any = Node(
            own, namespace=node.get_namespace(), context=node.context, start_parameter_services=False,
            enable_rosout=False, use_global_arguments=False,
        )  # fmt: skip
        self._node.create_service(Trigger, f"{node.get_fully_qualified_name()}/{name}", callback)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._open = True
        self._thread = threading.Thread(target=self._serve, name=own, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._open:
            self._executor.spin_once(timeout_sec=0.2)

    def close(self) -> None:
        """Serve no more."""
        self._open = False
        self._thread.join(2.0)
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
