"""ROS parameters: declared from dataclasses, checked at the start with one readable line."""

import subprocess
import sys

import pytest
from ros_rig import rig

from digital_twin.core.config import flatten
from digital_twin.core.errors import ConfigError
from digital_twin.nodes.physical_bridge import PhysicalBridge
from digital_twin.nodes.twin_synchronizer import TwinSynchronizer
from digital_twin.settings import SETTINGS, BridgeSettings


def test_every_setting_is_a_parameter_with_a_descriptor():
    with rig(PhysicalBridge) as r:
        for p in flatten(BridgeSettings):
            d = r.nodes[0].describe_parameter(p.name)
            assert d.description.startswith(p.meta.doc) and d.read_only != p.meta.live, p.name
        assert r.nodes[0].describe_parameter("stamps.history").floating_point_range[0].to_value == 5.0


def test_values_arrive_where_they_belong():
    with rig(TwinSynchronizer, sync_error_threshold=0.2, base__contact__on=0.3, map__drift=1) as r:
        s = r.nodes[0].settings
        assert (s.sync_error_threshold, s.base.contact.on, s.map.drift) == (0.2, 0.3, 1.0)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sync_eror_threshold": 0.2}, "unknown parameter 'sync_eror_threshold'; did you mean 'sync_error_threshold'?"),
        (
            {"sync_error_threshold": 20.0},
            "sync_error_threshold: 20.0 is not valid; expected float, allowed: [0.001, 10]",
        ),
        ({"sync_error_threshold": "much"}, "sync_error_threshold: 'much' is not valid; expected float"),
        ({"publish_tf": 3}, "publish_tf: 3 is not valid; expected bool"),
        ({"robot_description": "/no/such.urdf"}, "/no/such.urdf: cannot read the robot description"),
        ({"robot_config": "/no/such.yaml"}, "/no/such.yaml: cannot read the robot config"),
    ],
)
def test_a_bad_parameter_stops_the_node_with_one_line(parameters, words):
    with (
        pytest.raises(ConfigError if "robot" not in next(iter(parameters)) else Exception) as e,
        rig(TwinSynchronizer, **parameters),
    ):
        pass
    assert words in str(e.value) and "\n" not in str(e.value)


def test_choices_are_checked():
    with pytest.raises(ConfigError, match="command_output: 'pigeon' is not one of joint_state, forward_command"), rig(PhysicalBridge, command_output="pigeon"):  # fmt: skip
        pass


@pytest.mark.parametrize("node", SETTINGS)
def test_a_node_as_a_process_says_one_line_and_exits_with_2(node):
    done = run(node, "-p", "no_such_parameter:=1")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "unknown parameter 'no_such_parameter'" in done.stderr


def test_a_parameter_file_that_is_none(tmp_path):
    (tmp_path / "p.yaml").write_text("{")
    done = run("physical_bridge", "--params-file", str(tmp_path / "p.yaml"))
    assert done.returncode == 2 and "Traceback" not in done.stderr and "p.yaml" in done.stderr


@pytest.mark.parametrize("node", SETTINGS)
def test_help_teaches_all_parameters(node):
    done = subprocess.run(
        [sys.executable, "-m", f"digital_twin.nodes.{node}", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for p in flatten(SETTINGS[node]):
        assert p.name in done.stdout and p.meta.doc in done.stdout


def run(node, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"digital_twin.nodes.{node}", "--ros-args", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
