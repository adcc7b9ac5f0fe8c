"""The core must not know ROS: it is imported with ROS blocked, in a process of its own."""

import subprocess
import sys

BLOCK_ROS = """
import importlib.abc, pkgutil, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.split('.')[0]
        if root in ('rclpy', 'rcl_interfaces', 'launch', 'launch_ros', 'ament_index_python') or root.endswith('_msgs'):
            raise ImportError(f'ROS is blocked: {name}')

sys.meta_path.insert(0, Blocker())
import digital_twin.core as core
names = [m.name for m in pkgutil.walk_packages(core.__path__, 'digital_twin.core.')]
assert len(names) > 10, names
for name in names:
    __import__(name)
import digital_twin.system, digital_twin.robots, digital_twin.cameras, digital_twin.settings, digital_twin.gazebo
print('imported', len(names))
"""


def test_core_imports_with_ros_blocked():
    done = subprocess.run([sys.executable, "-c", BLOCK_ROS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported")


def test_the_blocker_blocks():
    done = subprocess.run([sys.executable, "-c", BLOCK_ROS + "\nimport rclpy"], capture_output=True, text=True)
    assert "ROS is blocked" in done.stderr
