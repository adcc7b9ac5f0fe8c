"""Definitions of message types, as a recording must hold them to be read without ROS."""

from __future__ import annotations

from functools import lru_cache

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy."""
    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=256)
def definition(kind: str) -> tuple[str, str]:
    """A type (sensor_msgs/msg/Imu) as text, with all types in it, and its hash (REP-2011); empty when not known."""
    store = typestore()
    if kind not in store.fielddefs:
        return "", ""
    text, _ = store.generate_msgdef(kind, ros_version=2)
    return text, store.hash_rihs01(kind)
