"""The parameters of the synchronizer and its parts."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.base_config import BaseEstimatorConfig
from digital_twin.core.config import param
from digital_twin.core.joint_filter import JointFilterConfig
from digital_twin.core.map_alignment import MapAlignmentConfig


@dataclass(frozen=True)
class SynchronizerConfig:
    """The synchronizer and its parts."""

    sync_error_threshold: float = param(
        0.05, "distance of the virtual pose from an external one above which the twin is out of step", unit="m",
        low=0.001, high=10,
    )  # fmt: skip
    history: float = param(0.2, "how late a measurement may be", unit="s", low=0.02, high=5)
    lost_after: float = param(
        0.5, "after a longer hole in time (silence, or a jump of the clock) the estimate starts anew", unit="s",
        low=0.1, high=60,
    )  # fmt: skip
    silent_after: float = param(0.5, "joint states older than this are missed", unit="s", low=0.02, high=60)
    pose_age: float = param(1.0, "an external pose older than this is called stale", unit="s", low=0.05, high=60)
    fuse_odom: bool = param(False, "take the velocity of the robot's own odom as a measurement")
    odom_noise: float = param(0.05, "least standard deviation of that velocity", unit="m/s", low=1e-4, high=10)
    estimate_effort: bool = param(True, "where the robot reports no torques, compute them by inverse dynamics")
    joints: JointFilterConfig = param(JointFilterConfig)
    base: BaseEstimatorConfig = param(BaseEstimatorConfig)
    map: MapAlignmentConfig = param(MapAlignmentConfig)
