"""From the name of a message type to its class."""

from __future__ import annotations

import importlib
from typing import Any


def message_class(kind: str) -> Any:
    """The class of a type like sensor_msgs/msg/Imu; None when it is not installed here."""
    try:
        package, _, name = kind.split("/")
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError):
        return None
