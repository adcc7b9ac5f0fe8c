"""The package as others see it: its layout, its build, its descriptions, its documents."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import yaml
from conftest import REPOSITORY

from digital_twin import __version__
from digital_twin.core.config import flatten, span
from digital_twin.core.contact_config import ContactConfig
from digital_twin.core.description import load_description
from digital_twin.core.motor_config import BatteryConfig, MotorConfig
from digital_twin.gazebo import bridge_for
from digital_twin.robots import load_robot
from digital_twin.settings import SETTINGS

README = (REPOSITORY / "README.md").read_text()
URDF = REPOSITORY / "urdf/humanoid.urdf.xacro"


def test_top_level():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    top = {p.split("/")[0] for p in tracked} or {p.name for p in REPOSITORY.iterdir()}
    expected = {
        "package.xml", "setup.py", "setup.cfg", "resource", "digital_twin", "launch", "config", "urdf", "worlds", "test",
        "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "docs", "benchmark", ".ci", ".github", ".gitignore", ".ruff.toml",
    }  # fmt: skip
    assert top == expected


def test_one_version_everywhere():
    assert ET.parse(REPOSITORY / "package.xml").findtext("version") == __version__
    assert f'version="{__version__}"' in (REPOSITORY / "setup.py").read_text()
    assert f"## [{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_beside_an_installed_ros_everything_needed_is_installed_too():
    """By rosdep from package.xml, by the README's line for pip, or with one of these."""
    runtime = re.search(r"RUNTIME = \[(.*?)\]", (REPOSITORY / "setup.py").read_text(), re.DOTALL)[1]
    needed = set(re.findall(r'"([a-z0-9]+)', runtime))
    rosdep = {e.text.removeprefix("python3-") for e in ET.parse(REPOSITORY / "package.xml").iter("exec_depend")}
    rosdep |= {"setuptools"} | ({"pyyaml"} if "yaml" in rosdep else set())
    by_pip = set(re.findall(r'"([a-z0-9]+)[><=]', re.search(r"^pip install .*$", README, re.MULTILINE)[0]))
    with_these = {"lz4": "mcap", "zstandard": "mcap", "websockets": "viser"}
    assert needed - rosdep - by_pip == {name for name, brings in with_these.items() if brings in by_pip}


def test_it_builds_into_a_workspace_and_is_found(tmp_path):
    """colcon build, then: the ament index knows it, its files are there, ros2 run would find its nodes, they start."""
    (tmp_path / "src").mkdir()
    shutil.copytree(
        REPOSITORY,
        tmp_path / "src/digital_twin",
        ignore=shutil.ignore_patterns(".venv", ".git", "build", "install", "log", "*.egg-info"),
    )
    bin_first = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "colcon", "build"], cwd=tmp_path, env=bin_first, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = tmp_path / "install/digital_twin"
    assert (prefix / "share/ament_index/resource_index/packages/digital_twin").exists()
    for path in ("launch/twin_bringup.launch.py", "config/robots/humanoid.yaml", "config/ros_gz_bridge.yaml", "config/twin.rviz",
                 "urdf/humanoid.urdf.xacro", "urdf/humanoid.gazebo.xacro", "worlds/humanoid_world.sdf", "package.xml"):  # fmt: skip
        assert (prefix / "share/digital_twin" / path).exists(), path
    assert {p.name for p in (prefix / "lib/digital_twin").iterdir()} == {*SETTINGS, "digital-twin"}
    site = next(prefix.glob("lib/python*/site-packages"))
    code = (
        "import digital_twin, digital_twin.paths as p; from ament_index_python import get_package_share_directory as g; "
        "print(digital_twin.__file__); print(p.share('worlds/humanoid_world.sdf')); print(g('digital_twin'))"
    )
    environment = bin_first | {"AMENT_PREFIX_PATH": str(prefix), "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(prefix)) for line in done.stdout.split()), done.stdout
    done = subprocess.run([prefix / "lib/digital_twin/physical_bridge", "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "command_output" in done.stdout


# The robot and the world, by the tools of others


def tool(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(params=["none", "harmonic", "fortress"])
def urdf(request, tmp_path):
    path = tmp_path / f"{request.param}.urdf"
    path.write_text(load_description(URDF, {"gazebo": request.param}).urdf)
    return request.param, path


def test_check_urdf_accepts_the_humanoid(urdf):
    done = tool("check_urdf", str(urdf[1]))
    assert done.returncode == 0 and "Successfully Parsed XML" in done.stdout and "root Link: base_link" in done.stdout


def test_sdf_keeps_every_sensor_and_plugin_of_the_humanoid(urdf):
    gazebo, path = urdf
    done = tool("ign", "sdf", "-p", str(path))
    if gazebo == "none":
        assert done.returncode == 0
        return
    sdf = ET.fromstring(done.stdout[done.stdout.index("<sdf") :])
    sensors = {s.get("name"): s for s in sdf.iter("sensor")}
    assert {n: s.get("type") for n, s in sensors.items()} == {
        "imu": "imu", "left_foot_force_torque": "force_torque", "right_foot_force_torque": "force_torque",
        "lidar": "gpu_lidar", "camera": "camera",
    }  # fmt: skip
    links = {link.get("name") for link in sdf.iter("link")}
    assert {"imu_link", "lidar_link", "camera_link"} <= links
    # What the foot exerts on the leg, along its z: positive under load.
    for side in ("left", "right"):
        ft = sensors[f"{side}_foot_force_torque"].find("force_torque")
        assert (ft.findtext("frame"), ft.findtext("measure_direction")) == ("child", "child_to_parent")
    library, system = (
        ("gz-sim", "gz::sim::systems") if gazebo == "harmonic" else ("ignition-gazebo", "ignition::gazebo::systems")
    )
    plugins = {p.get("filename"): p for p in sdf.iter("plugin")}
    assert {f: p.get("name") for f, p in plugins.items()} == {
        f"{library}-joint-trajectory-controller-system": f"{system}::JointTrajectoryController",
        f"{library}-joint-state-publisher-system": f"{system}::JointStatePublisher",
        f"{library}-odometry-publisher-system": f"{system}::OdometryPublisher",
    }
    driven = set(load_description(URDF).driven_joints())
    controller = plugins[f"{library}-joint-trajectory-controller-system"]
    for plugin in (controller, plugins[f"{library}-joint-state-publisher-system"]):
        assert {e.text for e in plugin.findall("joint_name")} == driven, "all that move, none that is fixed"
    assert len(controller.findall("position_p_gain")) == len(controller.findall("velocity_p_gain")) == 28
    assert "warning" not in done.stderr.lower(), done.stderr


def test_gazebos_stiffness_is_the_robots():
    """Gains in the xacro follow the robot config, in the order of the names."""
    robot = load_robot()
    tree = ET.fromstring(load_description(URDF, {"gazebo": "harmonic"}).urdf)
    plugin = next(p for p in tree.iter("plugin") if "JointTrajectory" in p.get("name"))
    names = [e.text for e in plugin.findall("joint_name")]
    gains = [float(e.text) for e in plugin.findall("position_p_gain")]
    damping = [float(e.text) for e in plugin.findall("velocity_p_gain")]
    for name, kp, kd in zip(names, gains, damping, strict=True):
        i = robot.model.joint_index[name]
        assert kp == robot.joints.kp[i], name
        assert 0 < kd <= robot.joints.kd[i], name


@pytest.mark.parametrize("world", sorted((REPOSITORY / "worlds").glob("*.sdf")), ids=lambda p: p.stem)
def test_sdf_accepts_the_worlds(world):
    done = tool("ign", "sdf", "-k", str(world))
    assert done.returncode == 0 and "Valid" in done.stdout


def test_the_gazebo_bridge_carries_what_the_twin_reads():
    entries = yaml.safe_load((REPOSITORY / "config/ros_gz_bridge.yaml").read_text())
    by_ros = {e["ros_topic_name"]: e for e in entries}
    expected = {
        "/clock": ("rosgraph_msgs/msg/Clock", "gz.msgs.Clock"),
        "joint_states": ("sensor_msgs/msg/JointState", "gz.msgs.Model"),
        "imu/data": ("sensor_msgs/msg/Imu", "gz.msgs.IMU"),
        "feet/left/wrench": ("geometry_msgs/msg/WrenchStamped", "gz.msgs.Wrench"),
        "feet/right/wrench": ("geometry_msgs/msg/WrenchStamped", "gz.msgs.Wrench"),
        "scan": ("sensor_msgs/msg/LaserScan", "gz.msgs.LaserScan"),
        "camera/image_raw": ("sensor_msgs/msg/Image", "gz.msgs.Image"),
        "ground_truth/odom": ("nav_msgs/msg/Odometry", "gz.msgs.Odometry"),
        "ground_truth/joint_states": ("sensor_msgs/msg/JointState", "gz.msgs.Model"),
        "joint_commands": ("trajectory_msgs/msg/JointTrajectory", "gz.msgs.JointTrajectory"),
    }
    assert {t: (e["ros_type_name"], e["gz_type_name"]) for t, e in by_ros.items()} == expected
    assert {t for t, e in by_ros.items() if e["direction"] == "ROS_TO_GZ"} == {"joint_commands"}
    # What the bridge names is what the robot's own file publishes.
    urdf = load_description(URDF, {"gazebo": "harmonic"}).urdf
    topics = set(re.findall(r"<(?:odom_)?topic>([^<]+)<", urdf))
    assert {e["gz_topic_name"] for e in entries} - {"/clock"} == topics
    other = load_description(URDF, {"gazebo": "harmonic", "topic_prefix": "bob"}).urdf
    renamed = {
        e["gz_topic_name"]
        for e in yaml.safe_load(bridge_for((REPOSITORY / "config/ros_gz_bridge.yaml").read_text(), "bob"))
    }
    assert renamed - {"/clock"} == set(re.findall(r"<(?:odom_)?topic>([^<]+)<", other))


def test_rviz_shows_topics_that_exist():
    config = yaml.safe_load((REPOSITORY / "config/twin.rviz").read_text())
    topics = set(re.findall(r"Value: (/\S+)", (REPOSITORY / "config/twin.rviz").read_text()))
    assert topics == {"/robot_description", "/virtual/odom", "/virtual/pose", "/physical/scan"}
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == "map"


# Documents


def rows(text, heading):
    """The rows of the table below a heading, as lists of cells without markup."""
    section = text.split(heading, 1)[1].split("\n#", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [
        [c.strip().replace("`", "").replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]


def cell(value):
    if value == "" or value == []:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


ROBOT_PARTS = {"motor": MotorConfig, "battery": BatteryConfig, "contact": ContactConfig}


@pytest.mark.parametrize("name", [*SETTINGS, *ROBOT_PARTS])
def test_the_parameter_tables_are_true(name):
    in_readme = name in SETTINGS
    got = rows(README if in_readme else (REPOSITORY / "docs/robots.md").read_text(), f"#### {name}\n")
    want = [
        [p.name, cell(p.default), p.meta.unit or "–", span(p.meta) or "–", p.meta.doc.replace("`", "")]
        for p in flatten(SETTINGS[name] if in_readme else ROBOT_PARTS[name])
    ]
    assert got == want, "run: python docs/make_tables.py"


def test_the_pictures_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (REPOSITORY / path).stat().st_size > 10_000, path


@pytest.mark.parametrize(
    "document", sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]), ids=lambda p: p.name
)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_topic_and_service_tables_are_true(tmp_path):
    """Against the graph of the running nodes."""
    from ros_rig import rig
    from sensor_msgs.msg import CameraInfo, Imu, LaserScan

    from digital_twin.nodes.command_script import CommandScript
    from digital_twin.nodes.dashboard import Dashboard
    from digital_twin.nodes.drift_monitor import DriftMonitor
    from digital_twin.nodes.gait_controller import GaitControllerNode
    from digital_twin.nodes.physical_bridge import PhysicalBridge
    from digital_twin.nodes.physics_predictor import PhysicsPredictor
    from digital_twin.nodes.simulated_robot import SimulatedRobot
    from digital_twin.nodes.twin_synchronizer import TwinSynchronizer
    from digital_twin.nodes.virtual_camera_publisher import VirtualCameraPublisher
    from digital_twin.nodes.virtual_lidar_publisher import VirtualLidarPublisher
    from digital_twin.nodes.virtual_sensor_publisher import VirtualSensorPublisher

    documented = {(r[0], r[1], r[2].replace("/", "/msg/", 1), r[3]) for r in rows(README, "### Topics\n")}
    standard = ("/rosout", "/parameter_events", "/tf")
    real, services = set(), set()

    def look(node):
        for found, direction in (
            (node.get_publisher_names_and_types_by_node(node.get_name(), "/"), "out"),
            (node.get_subscriber_names_and_types_by_node(node.get_name(), "/"), "in"),
        ):
            real.update(
                (node.get_name(), t.lstrip("/"), kinds[0], direction) for t, kinds in found if t not in standard
            )
        own = node.get_service_names_and_types_by_node(node.get_name(), "/")
        services.update((n.lstrip("/"), k[0].replace("/srv/", "/")) for n, k in own if k[0].startswith("std_srvs/"))

    with rig(SimulatedRobot, PhysicalBridge, TwinSynchronizer, CommandScript, GaitControllerNode) as r:
        for node in r.nodes:
            look(node)
    with rig(VirtualSensorPublisher, VirtualLidarPublisher) as r:
        # Sensors, like cameras, read the twin's state only while somebody listens to them.
        r.listen(Imu, "virtual/imu/data")
        r.listen(LaserScan, "virtual/scan")
        r.until(lambda: r.nodes[0].count_subscribers("virtual/pose") == 2, "the sensors to listen")
        for node in r.nodes:
            look(node)
    with rig(DriftMonitor, models__store=str(tmp_path)) as r:
        look(r.nodes[0])
    with rig(PhysicsPredictor) as r:
        look(r.nodes[0])
        services.add(("physics_predictor/predict", "std_srvs/Trigger"))  # served beside it; its own test calls it
    with rig(VirtualCameraPublisher) as r:
        r.listen(CameraInfo, "virtual/camera/camera/camera_info")
        r.until(lambda: r.nodes[0].count_subscribers("virtual/pose") > 0, "the cameras to listen")
        look(r.nodes[0])
    with rig(Dashboard, port=0, yielding=False) as r:
        look(r.nodes[0])
    # It reads the status of whatever node there is.
    statuses = {row for row in real if row[0] == "dashboard" and row[1].endswith("_status") and row[3] == "in"}
    assert documented == real - statuses
    assert {(r[0], r[1]) for r in rows(README, "### Services\n")} == services


def test_the_launch_arguments_are_documented():
    launch = (REPOSITORY / "launch/twin_bringup.launch.py").read_text()
    declared = re.findall(r'^    \("(\w+)", "[^"]*", "', launch, re.MULTILINE)
    assert [r[0] for r in rows(README, "### With ROS 2 (Jazzy, Humble)\n")] == declared
