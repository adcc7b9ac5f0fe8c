"""Start a robot side and its twin: ros2 launch digital_twin twin_bringup.launch.py [simulator:=gazebo …].

The nodes are those of digital_twin.system, the same that the digital-twin command starts.
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    Shutdown,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from digital_twin.core.description import load_description
from digital_twin.core.errors import TwinError
from digital_twin.gazebo import BRIDGED_ROBOT, VERSIONS, bridge_for, spawn_height, world_for
from digital_twin.node_spec import HEAD_START
from digital_twin.options import CONTROLLERS, GATES, RECORD, SIMULATORS, Options
from digital_twin.paths import find, share
from digital_twin.robots import Robot, load_robot
from digital_twin.system import NodeSpec, check_parameter_file, describe
from launch import LaunchDescription

ARGUMENTS = [
    ("simulator", "mujoco", "what plays the robot; none: a real robot or a bag", SIMULATORS),
    ("gazebo", "harmonic", "release of Gazebo, for its plugin names", tuple(VERSIONS)),
    ("robot_description", "", "URDF or xacro; empty: the package's humanoid", None),
    ("robot_config", "", "what the URDF does not say; empty: found by the robot's name, else guessed", None),
    ("world", "", "SDF world; empty: humanoid_world.sdf", None),
    ("namespace", "", "of this robot and its twin", None),
    ("use_sim_time", "false", "follow /clock; always so with gazebo and with a bag", ("true", "false")),
    ("config", "", "ROS parameter file with settings of the nodes", None),
    ("bag", "", "recording that plays the robot (with simulator:=none)", None),
    ("controller", "script", "who moves the robot", CONTROLLERS),
    ("gate", "off", "twin: what the gait controller is asked for is tried in the twin first", GATES),
    ("record", "false", "write a recording, or keep the last minute for snapshots", RECORD),
    ("dashboard", "true", "serve a live page for a browser", ("true", "false")),
    ("dashboard_port", "8090", "port of that page", None),
    ("rviz", "false", "start RViz", ("true", "false")),
    ("headless", "false", "gazebo without its window", ("true", "false")),
]


def generate_launch_description() -> LaunchDescription:
    """All arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context, *_):
    """Everything to start, once the arguments have values."""
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    options = Options(
        simulator=value["simulator"], robot_description=value["robot_description"], robot_config=value["robot_config"],
        world=value["world"], namespace=value["namespace"].strip("/"), config=value["config"], bag=value["bag"],
        controller=value["controller"], gate=value["gate"], use_sim_time=value["use_sim_time"] == "true",
        record=value["record"], dashboard=value["dashboard"] == "true", dashboard_port=_port(value["dashboard_port"]),
    )  # fmt: skip
    if options.config:
        check_parameter_file(options.config)
    gazebo = value["gazebo"] if options.simulator == "gazebo" else "none"
    robot = load_robot(options.robot_description, options.robot_config)
    nodes = describe(options)
    sim_time = any(spec.parameters.get("use_sim_time") for spec in nodes)
    # As under `digital-twin run`: what is not in the loop lets what is start first.
    actions = [twin_node(spec, options) for spec in nodes if not spec.later]
    actions += [TimerAction(period=HEAD_START, actions=[twin_node(s, options) for s in nodes if s.later])]
    actions += state_publisher(options, gazebo, sim_time)
    if gazebo != "none":
        actions += start_gazebo(options, gazebo, robot, headless=value["headless"] == "true")
    if value["rviz"] == "true":
        actions += start_rviz(options, sim_time)
    return actions


def _port(text: str) -> int:
    if not text.isdecimal():
        raise TwinError(f"dashboard_port '{text}' is not a number")
    return int(text)


def twin_node(spec: NodeSpec, options: Options) -> Node:
    """A node of the twin. It is started again when it dies; the end of a recording ends everything."""
    return Node(
        package="digital_twin",
        executable=spec.name,
        name=spec.name,
        namespace=options.namespace,
        parameters=[spec.parameters, *([options.config] if options.config else [])],
        output="screen",
        respawn=not spec.once,
        respawn_delay=0.5,
        on_exit=[Shutdown(reason="the recording has ended")] if spec.once else None,
    )


def state_publisher(options: Options, gazebo: str, sim_time: bool) -> list:
    """robot_state_publisher on virtual/joint_states: the frames of all links, for RViz and for spawning."""
    if not installed("robot_state_publisher"):
        if gazebo != "none":
            raise TwinError("simulator:=gazebo needs the package robot_state_publisher")
        return [LogInfo(msg="robot_state_publisher is not installed: the frames of the links are not published")]
    path = find(options.robot_description or "humanoid.urdf.xacro", "urdf")
    arguments = {"gazebo": gazebo, "topic_prefix": options.namespace or BRIDGED_ROBOT} if gazebo != "none" else {}
    description = load_description(path, arguments)
    prefix = f"{options.namespace}/" if options.namespace else ""
    return [
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            namespace=options.namespace,
            parameters=[
                {
                    "robot_description": ParameterValue(description.urdf, value_type=str),
                    "frame_prefix": prefix,
                    "use_sim_time": sim_time,
                }
            ],
            remappings=[("joint_states", "virtual/joint_states")],
            output="screen",
        )
    ]


def start_gazebo(options: Options, gazebo: str, robot: Robot, *, headless: bool) -> list:
    """Gazebo with the world, the robot in it, and the bridge between its topics and ROS."""
    for package in ("ros_gz_sim", "ros_gz_bridge"):
        if not installed(package):
            raise TwinError(f"simulator:=gazebo needs the package {package}")
    prefix = options.namespace or BRIDGED_ROBOT
    world = find(options.world or "humanoid_world.sdf", "worlds")
    if not world.is_file():
        raise TwinError(f"{world}: cannot read the world: no such file")
    translated = temporary("world.sdf", world_for(world.read_text(encoding="utf-8"), gazebo))
    bridge = temporary("bridge.yaml", bridge_for(share("config/ros_gz_bridge.yaml").read_text(), prefix))
    flags = "-r -v 1" + (" -s --headless-rendering" if headless else "")
    launch_file = Path(get_package_share_directory("ros_gz_sim")) / "launch" / "gz_sim.launch.py"
    height = spawn_height(robot.model, [foot.frame for foot in robot.config.feet])
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(launch_file)),
            launch_arguments={
                "gz_args": f"{flags} {translated}",
                "gz_version": VERSIONS[gazebo],
                "on_exit_shutdown": "true",
            }.items(),
        ),
        Node(
            package="ros_gz_sim",
            executable="create",
            namespace=options.namespace,
            arguments=["-topic", "robot_description", "-name", prefix, "-z", f"{height:.3f}"],
            output="screen",
        ),
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            namespace=options.namespace,
            parameters=[{"config_file": str(bridge), "use_sim_time": True}],
            output="screen",
        ),
    ]


def start_rviz(options: Options, sim_time: bool) -> list:
    """RViz showing the virtual robot, its path, the scan and the frames."""
    if not installed("rviz2"):
        return [LogInfo(msg="rviz2 is not installed: rviz:=true does nothing")]
    text = share("config/twin.rviz").read_text(encoding="utf-8")
    if options.namespace:
        text = text.replace("Fixed Frame: map", f"Fixed Frame: {options.namespace}/map")
        text = text.replace('TF Prefix: ""', f"TF Prefix: {options.namespace}")
        text = text.replace("Value: /", f"Value: /{options.namespace}/")
    config = temporary("twin.rviz", text)
    return [
        Node(
            package="rviz2", executable="rviz2", arguments=["-d", str(config)], parameters=[{"use_sim_time": sim_time}]
        )
    ]


def installed(package: str) -> bool:
    """Is this ROS package there?"""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def temporary(name: str, text: str) -> Path:
    """A file of this launch's own."""
    path = Path(tempfile.mkdtemp(prefix="digital_twin_")) / name
    path.write_text(text, encoding="utf-8")
    return path
