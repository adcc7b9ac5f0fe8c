"""A living virtual counterpart of a humanoid robot, for ROS 2."""

__version__ = "0.1.0"
