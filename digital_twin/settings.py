"""What can be set on each node: its ROS parameters, with unit, range, default and reason."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twin.core.command_gate import CommandGateConfig
from digital_twin.core.config import param
from digital_twin.core.drift.config import DriftConfig
from digital_twin.core.gait.gate_config import GateConfig
from digital_twin.core.instruments import InstrumentConfig
from digital_twin.core.intake import IntakeConfig
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.prediction_config import FIDELITIES, EnsembleConfig, ForecastConfig, ForesightConfig
from digital_twin.core.safety_config import SafetyConfig
from digital_twin.core.stamps import StampConfig
from digital_twin.core.sync_config import SynchronizerConfig
from digital_twin.keeper_config import KeeperConfig
from digital_twin.recording.folder import RecordingConfig


@dataclass(frozen=True)
class RobotSettings:
    """Which robot it is; the same for every node."""

    robot_description: str = param("", "path of a URDF or xacro, or URDF text; empty: the package's humanoid")
    robot_config: str = param("", "path of a robot config; empty: the package's of that name, else guessed")


@dataclass(frozen=True)
class LoopSettings:
    """Of a node in the loop, or whose messages must come evenly."""

    realtime: bool = param(
        True, "run before all that is not real-time, where the user may (root, or rtprio in limits.conf)"
    )


@dataclass(frozen=True)
class BridgeSettings(LoopSettings, RobotSettings):
    """physical_bridge"""

    command_output: str = param(
        "joint_state", "how the robot wants its commands: joint_state (sensor_msgs/JointState), forward_command "
        "(ros2_control's Float64MultiArray in `command_joints` order), joint_trajectory (one point), gazebo (the same, "
        "for Gazebo's JointTrajectoryController)",
        choices=("joint_state", "forward_command", "joint_trajectory", "gazebo"),
    )  # fmt: skip
    wait_for_recorder: bool = param(
        False, "take nothing from the robot before the recorder is ready, so that all is in it"
    )
    command_joints: list[str] = param([], "joint order of forward_command; empty: the model's")
    stamps: StampConfig = param(StampConfig)
    intake: IntakeConfig = param(IntakeConfig)
    commands: CommandGateConfig = param(CommandGateConfig)
    safety: SafetyConfig = param(SafetyConfig)


@dataclass(frozen=True)
class SynchronizerSettings(LoopSettings, RobotSettings, SynchronizerConfig):
    """twin_synchronizer"""

    sync_frequency: float = param(
        0.0, "most virtual states a second; 0: one for each measurement", unit="Hz", low=0, high=5000
    )
    pose_rate: float = param(50.0, "of virtual/pose and /tf", unit="Hz", low=0.1, high=1000)
    now_rate: float = param(
        0.0, "of virtual/now/…, the state extrapolated to now; 0: none", unit="Hz", low=0, high=1000
    )
    view_rate: float = param(30.0, "of virtual/view, for who shows the robot; 0: none", unit="Hz", low=0, high=200)
    publish_tf: bool = param(True, "publish map→odom, odom→base and base→base_footprint on /tf (needs tf2_msgs)")


@dataclass(frozen=True)
class SimulatedRobotSettings(LoopSettings, RobotSettings):
    """simulated_robot"""

    world: str = param("", "path of an SDF world, or the name of one of the package's; empty: humanoid_world.sdf")
    rate: float = param(200.0, "of joint_states and imu/data; must divide 1000", unit="Hz", low=10, high=1000)
    joint_rate: float = param(
        0.0, "of joint_states where it is less than `rate`; 0: the same", unit="Hz", low=0, high=1000
    )
    wrench_rate: float = param(200.0, "of the feet's wrenches, at most `rate`", unit="Hz", low=1, high=1000)
    truth_rate: float = param(50.0, "of ground_truth/…, at most `rate`", unit="Hz", low=1, high=1000)
    pose_rate: float = param(50.0, "of external_pose; 0: none", unit="Hz", low=0, high=500)
    pose_delay: float = param(0.03, "how late the tracker's poses are", unit="s", low=0, high=1)
    scan_rate: float = param(10.0, "of scan; 0: none", unit="Hz", low=0, high=50)
    scan_rays: int = param(360, "of one scan, all around", low=3, high=10000)
    real_time_factor: float = param(1.0, "simulated seconds in one of the wall clock", low=0.01, high=100)
    publish_clock: bool = param(False, "stamp with simulated time and publish it on /clock at 100 Hz")
    faults: list[str] = param([], "faults from the start, each like 'at 5: push torso 30 0 0 for 0.2' (docs/faults.md)")
    fault: str = param("", "the fault that ~/inject_fault injects, like 'payload l_gripper 2'", live=True)
    plant: PlantConfig = param(PlantConfig)
    instruments: InstrumentConfig = param(InstrumentConfig)


@dataclass(frozen=True)
class ScriptSettings(RobotSettings):
    """command_script"""

    script: str = param("", "path of a script, or the name of one of the package's; empty: the robot's own, else stand")
    rate: float = param(100.0, "of commands", unit="Hz", low=10, high=1000)
    lead_in: float = param(
        2.0, "time to go from where the robot is to the script's first pose", unit="s", low=0.1, high=60
    )


@dataclass(frozen=True)
class GaitSettings(LoopSettings, RobotSettings):
    """gait_controller"""

    gait: str = param(
        "", "path of a gait, or the name of one of the package's (config/gaits); empty: the robot config's"
    )
    state_timeout: float = param(
        0.08, "without a state of the twin for so long the robot stops", unit="s", low=0.01, high=1
    )
    gate: str = param(
        "off",
        "twin: a velocity passes only when robots in the twin, who try it first, do not fall",
        choices=("off", "twin"),
    )
    gate_world: str = param("", "path of an SDF world, or the name of one of the package's, to try it in; empty: level")
    gate_patience: float = param(10.0, "for how long a verdict holds", unit="s", low=0.1, high=1000)
    trial: GateConfig = param(GateConfig)


@dataclass(frozen=True)
class PredictorSettings(RobotSettings, ForecastConfig):
    """physics_predictor"""

    world: str = param("", "path of an SDF world, or the name of one of the package's; empty: a bare level floor")
    rate: float = param(10.0, "of forecasts", unit="Hz", low=0.1, high=200)
    ensemble_rate: float = param(
        2.0, "of ensembles; one more is made at once when the forecast falls", unit="Hz", low=0, high=50
    )
    commands_topic: str = param("joint_commands", "where the commands in force are, as sensor_msgs/JointState")
    trajectory_topic: str = param("virtual/joint_trajectory", "where a source says what it is going to command")
    step_down: bool = param(
        True, "lower the fidelity when forecasts take longer than their period and a quarter of their horizon"
    )
    yields: bool = param(True, "simulate only when nobody else wants to run")
    predict_fidelity: str = param(
        "", "of the forecast that ~/predict makes; empty: that of the others", choices=("", *FIDELITIES), live=True
    )
    predict_horizon: float = param(0.0, "of that forecast; 0: that of the others", unit="s", low=0, high=60, live=True)
    failures: str = param("", "folder for states whose simulation diverged; empty: ~/.ros/digital_twin")
    ensemble: EnsembleConfig = param(EnsembleConfig)
    warnings: ForesightConfig = param(ForesightConfig)


@dataclass(frozen=True)
class BagPlayerSettings(LoopSettings):
    """bag_player"""

    bag: str = param("", "path of a rosbag2 recording: a folder, an .mcap or a .db3")
    rate: float = param(1.0, "recorded seconds in one of the wall clock", low=0.01, high=100)
    loop: bool = param(False, "play again when it ends")
    wait: float = param(10.0, "longest time to wait for the first subscriber", unit="s", low=0, high=60)
    tail: float = param(0.5, "how long the clock goes on after the last message", unit="s", low=0, high=10)


@dataclass(frozen=True)
class SensorNodeSettings(RobotSettings):
    """What sensors and lidars share."""

    seed: int = param(1, "which specimens of the sensors these are, and all their noise", low=0, high=2**31)
    sensors: list[str] = param([], "names of the sensors to play; empty: all that the robot has")
    smoothing: int = param(3, "states on either side that an acceleration is made of", low=1, high=50)
    gap: float = param(
        0.1, "no reading is made across a longer hole in the twin's states", unit="s", low=0.001, high=10
    )
    silent_after: float = param(
        0.5, "a twin without a state for so long is said to have stopped", unit="s", low=0.02, high=60
    )


@dataclass(frozen=True)
class SensorPublisherSettings(LoopSettings, SensorNodeSettings):
    """virtual_sensor_publisher"""


@dataclass(frozen=True)
class LidarPublisherSettings(SensorNodeSettings):
    """virtual_lidar_publisher"""

    world: str = param(
        "humanoid_world.sdf", "path of an SDF world, or the name of one of the package's; empty: lidars see nothing"
    )


@dataclass(frozen=True)
class VirtualCameraSettings(RobotSettings):
    """virtual_camera_publisher"""

    world: str = param("", "path of an SDF world, or the name of one of the package's; empty: humanoid_world.sdf")
    profiles: list[str] = param([], "profile of a camera, NAME=PROFILE: a path, or a file of config/sensors")
    seed: int = param(1, "of all that is random in the cameras", low=0, high=2147483647)
    rate: float = param(
        0.0, "images a second of each camera; 0: as its URDF or profile says", unit="Hz", low=0, high=200
    )
    colour: str = param(
        "rgb8", "what image_raw holds: rgb8, or the sensor's own numbers (raw)", choices=("rgb8", "raw")
    )
    depth: str = param(
        "32FC1", "what depth/image_rect holds: metres (32FC1) or millimetres (16UC1)", choices=("32FC1", "16UC1")
    )
    shadows: bool = param(False, "render shadows, which takes about as long again")
    state_timeout: float = param(0.5, "a twin this long without a state has stopped", unit="s", low=0.05, high=60)


@dataclass(frozen=True)
class DriftSettings(RobotSettings, DriftConfig):
    """drift_monitor"""

    world: str = param(
        "",
        "path of an SDF world, or the name of one of the package's, that scans are compared with; empty: they are not",
    )
    commands_topic: str = param("joint_commands", "where the commands in force are, as sensor_msgs/JointState")
    renew_after: float = param(
        3.0,
        "a change that one hypothesis explains is waited for, then the model is renewed from it",
        unit="s",
        low=1,
        high=60,
    )
    review_after: float = param(
        20.0,
        "a model in service is judged beside the one before, and taken back when it is worse",
        unit="s",
        low=5,
        high=60,
    )
    gap_every: float = param(0.0, "between reality gap reports; 0: on demand", unit="s", low=0, high=1e6)
    models: KeeperConfig = param(KeeperConfig)


@dataclass(frozen=True)
class RecorderSettings(RobotSettings):
    """recorder"""

    folder: str = param("recordings", "where recordings are made, each in a folder of its own")
    name: str = param("", "of this recording; empty: date and time. Nothing is written over")
    topics: list[str] = param(
        [], "patterns of topics, relative to the namespace unless they begin with /; empty: what is needed to run the "
        "twin again, and what it gave out",
    )  # fmt: skip
    continuous: bool = param(
        True, "write all the time; false: keep the last minute in memory, and write snapshots only"
    )
    fall_tilt: float = param(
        60.0, "a base that leans more than this has fallen, which makes a snapshot", unit="deg", low=10, high=180
    )
    snapshot_tail: float = param(
        2.0, "how long a snapshot waits for what comes after a fall, a stop or drift", unit="s", low=0, high=30
    )
    realtime: bool = param(
        True, "receive before all that is not real-time, where the user may (Linux): nothing is lost on a busy machine"
    )
    recording: RecordingConfig = param(RecordingConfig)


@dataclass(frozen=True)
class DashboardSettings(RobotSettings):
    """dashboard"""

    world: str = param("", "path of an SDF world, or the name of one of the package's, that is drawn; empty: none")
    host: str = param("127.0.0.1", "address that the page is served at; 0.0.0.0: at all of this machine's")
    port: int = param(8090, "and its port; 0: any that is free", low=0, high=65535)
    token: str = param(
        "", "word that the page's address must hold; empty: none where only this machine can reach it, else one made up"
    )
    most_viewers: int = param(32, "pages open at a time", low=1, high=1000)
    history: float = param(60.0, "for how long one can look back", unit="s", low=1, high=600)
    yielding: bool = param(
        True, "draw and serve only while nothing else wants to run: the page never holds up the twin, but on a machine "
        "without time to spare its buttons come late",
    )  # fmt: skip


SETTINGS: dict[str, type] = {
    "physical_bridge": BridgeSettings,
    "twin_synchronizer": SynchronizerSettings,
    "virtual_sensor_publisher": SensorPublisherSettings,
    "virtual_lidar_publisher": LidarPublisherSettings,
    "virtual_camera_publisher": VirtualCameraSettings,
    "simulated_robot": SimulatedRobotSettings,
    "command_script": ScriptSettings,
    "gait_controller": GaitSettings,
    "physics_predictor": PredictorSettings,
    "drift_monitor": DriftSettings,
    "bag_player": BagPlayerSettings,
    "recorder": RecorderSettings,
    "dashboard": DashboardSettings,
}
