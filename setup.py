"""digital_twin as an ament_python package, and as an ordinary Python one."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "digital_twin"
HERE = Path(__file__).parent
NODES = sorted(p.stem for p in (HERE / NAME / "nodes").glob("[a-z]*.py"))

RUNTIME = [
    "cma>=4",
    "lz4>=4.0",
    "mcap>=1.2",
    "mujoco>=4.0,<5",
    "numpy>=1.26",
    "psutil>=5.9",
    "pyyaml>=6.0",
    "rich>=13",
    "rosbags>=0.11",
    "scipy>=1.11",
    "setproctitle>=1.3",
    "setuptools<80",
    "viser>=1.1,<2",
    "websockets>=15",
    "xacro>=2.0",
    "zstandard>=0.20",
]
# Tables for learning: digital-twin export.
EXPORT = ["h5py>=3.8", "pyarrow>=14"]
PLOT = ["matplotlib>=3.8"]
# Gaussian processes for what no parameter of a model explains.
LEARN = ["scikit-learn>=1.3"]
# ROS 2 Jazzy as wheels, for machines without a ROS installation. Without the pin of rclpy it would be Kilted.
ROS = [
    "ros-rclpy[fastrtps]==7.1.6",
    "ros-diagnostic-msgs",
    "ros-geometry-msgs",
    "ros-nav-msgs",
    "ros-sensor-msgs",
    "ros-std-msgs",
    "ros-std-srvs",
    "ros-trajectory-msgs",
    "ros-visualization-msgs",
]
TEST = [
    *EXPORT,
    *LEARN,
    *PLOT,
    "colcon-common-extensions",
    "daqp>=0.5",  # solves mink's problems
    "hypothesis>=6.100",
    "mink>=1.0",  # whole-body inverse kinematics to hold ours against
    "mypy>=1.13",
    "pillow>=10",
    "pytest>=8,<8.4",  # launch_pytest wants it below 8.4
    "pytest-xdist>=3.6,<4",
    "river>=0.21",  # detectors to compare with, in benchmark/
    "ruff>=0.8",
    "types-psutil",
    "types-pyyaml",
]


def files(folder: str) -> list[tuple[str, list[str]]]:
    """Everything below a folder, for the share directory."""
    found: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob("*")):
        if path.is_file():
            relative = path.relative_to(HERE)
            found.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return list(found.items())


setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    python_requires=">=3.10",
    install_requires=RUNTIME,
    extras_require={"export": EXPORT, "learn": LEARN, "plot": PLOT, "ros": ROS, "test": TEST},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "README.md", "LICENSE", "CHANGELOG.md"]),
        *(entry for folder in ("launch", "config", "urdf", "worlds") for entry in files(folder)),
    ],
    entry_points={
        "console_scripts": [
            "digital-twin = digital_twin.cli.main:main",
            *(f"{node} = {NAME}.nodes.{node}:main" for node in NODES),
        ]
    },
    zip_safe=False,
    maintainer="The digital_twin developers",
    maintainer_email="maintainers@digital-twin.example.org",
    description="A living virtual counterpart of a humanoid robot, for ROS 2",
    license="Apache-2.0",
)
