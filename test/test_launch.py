"""The launch file under the real launch, where it is installed (no registry of wheels carries it)."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import REPOSITORY

launch = pytest.importorskip("launch", reason="the launch package comes with a ROS installation only")
pytest.importorskip("launch_ros")

from ament_index_python.packages import PackageNotFoundError, get_package_prefix  # noqa: E402

from digital_twin.core.errors import TwinError  # noqa: E402
from digital_twin.options import Options  # noqa: E402
from digital_twin.system import describe  # noqa: E402

FILE = REPOSITORY / "launch/twin_bringup.launch.py"
spec = importlib.util.spec_from_file_location("twin_bringup", FILE)
bringup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bringup)


def installed(*packages):
    try:
        return all(get_package_prefix(p) for p in packages)
    except PackageNotFoundError:
        return False


def started(**arguments):
    """What `start` returns for these launch arguments."""
    context = launch.LaunchContext()
    for name, default, *_ in bringup.ARGUMENTS:
        context.launch_configurations[name] = arguments.get(name, default)
    return bringup.start(context)


def nodes(actions):
    from launch.actions import TimerAction
    from launch_ros.actions import Node

    flat = [b for a in actions for b in (a.actions if isinstance(a, TimerAction) else [a])]
    return [a for a in flat if isinstance(a, Node)]


@pytest.mark.parametrize(
    "arguments", [{}, {"controller": "none"}, {"simulator": "none"}, {"namespace": "bob"}, {"use_sim_time": "true"}]
)
def test_it_starts_the_nodes_of_the_description(arguments):
    options = {k: (v == "true" if k == "use_sim_time" else v) for k, v in arguments.items()}
    ours = [n.node_executable for n in nodes(started(**arguments)) if n.node_package == "digital_twin"]
    assert sorted(ours) == sorted(s.name for s in describe(Options(dashboard=True, **options)))


def test_all_arguments_are_declared_with_their_choices():
    declared = {a.name: a for a in bringup.generate_launch_description().entities if hasattr(a, "choices")}
    assert list(declared) == [name for name, *_ in bringup.ARGUMENTS]
    assert list(declared["simulator"].choices) == ["mujoco", "gazebo", "none"]


def test_bad_arguments_are_refused_in_one_line():
    with pytest.raises(TwinError, match="cannot read the robot description"):
        started(robot_description="/no/such.urdf")
    with pytest.raises(TwinError, match="use it with simulator none"):
        started(bag="walk")


@pytest.mark.skipif(
    not installed("ros_gz_sim", "ros_gz_bridge", "robot_state_publisher"), reason="Gazebo is not installed"
)
@pytest.mark.parametrize("gazebo", ["harmonic", "fortress"])
def test_with_gazebo_the_robot_is_spawned_and_bridged(gazebo):
    executables = [n.node_executable for n in nodes(started(simulator="gazebo", gazebo=gazebo, headless="true"))]
    assert {"robot_state_publisher", "create", "parameter_bridge", "physical_bridge", "twin_synchronizer"} <= set(
        executables
    )


@pytest.mark.skipif(shutil.which("ros2") is None or not installed("digital_twin"), reason="no ros2 command here")
@pytest.mark.parametrize("extra", [[], ["simulator:=gazebo", "headless:=true"]], ids=["mujoco", "gazebo"])
def test_ros2_launch_brings_the_twin_up_and_ctrl_c_ends_it(extra, tmp_path):
    if extra and not installed("ros_gz_sim", "ros_gz_bridge", "robot_state_publisher"):
        pytest.skip("Gazebo is not installed")
    environment = os.environ | {"ROS_LOG_DIR": str(tmp_path)}
    p = subprocess.Popen(
        ["ros2", "launch", "digital_twin", "twin_bringup.launch.py", *extra], env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        stamps = virtual_states(60 if extra else 20)
    finally:
        os.killpg(p.pid, signal.SIGINT)
        out, _ = p.communicate(timeout=30)
    assert len(stamps) >= 100, out[-3000:]
    assert "Traceback" not in out


def virtual_states(seconds):
    """Stamps of the first hundred virtual joint states that come within some seconds."""
    code = (
        "import json, sys, time, rclpy; from sensor_msgs.msg import JointState; rclpy.init(); n = rclpy.create_node('ear'); "
        "s = []; n.create_subscription(JointState, 'virtual/joint_states', lambda m: s.append(m.header.stamp.nanosec), 50)\n"
        f"end = time.time() + {seconds}\n"
        "while time.time() < end and len(s) < 100: rclpy.spin_once(n, timeout_sec=0.1)\n"
        "print(json.dumps(s))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds + 30)
    return json.loads(done.stdout)
