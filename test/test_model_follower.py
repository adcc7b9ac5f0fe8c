"""twin/model is followed in order, the model that a node began with is not used again, and what is no model does no harm."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pytest
from ros_rig import rig
from std_msgs.msg import String

from digital_twin.core.config import param
from digital_twin.core.drift.model_version import ModelVersion
from digital_twin.core.drift.parameters import Changes, Payload
from digital_twin.ros.model_follower import ModelFollower
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import LATCHED


@dataclass(frozen=True)
class Settings:
    robot_config: str = param("", "of the robot")


class Follower(TwinNode[Settings]):
    """Says of which robot's mass it made something, and what it used."""

    def __init__(self, robot):
        super().__init__("follower", Settings, "twin/follower_status")
        self.made, self.used = [], []
        self.follower = ModelFollower(self, robot, self.make, self.used.append)
        self.follower.look_often()

    def make(self, robot):
        self.made.append(robot.model.mass)
        return robot.model.mass

    def status(self):
        return 0, "well", {}


@pytest.fixture
def following(robot):
    with rig(lambda: Follower(robot)) as r:
        r.publisher(String, "twin/model", LATCHED)
        r.connected("twin/model")
        yield r, r.nodes[0]


def version(robot, mass):
    changes = Changes(payloads={"torso": Payload(mass)} if mass else {})
    return ModelVersion(robot.description.name, robot.description.sha256, changes=changes).to_json()


def announce(r, folder, text):
    """And wait until it has arrived: a latched topic keeps but the last."""
    node = r.nodes[0]
    path, before = folder / f"{len(list(folder.iterdir()))}.json", node.tally.received["twin/model"]
    path.write_text(text)
    said = {"file": str(path), "hash": hashlib.sha256(text.encode()).hexdigest(), "parent": ""}
    r.publisher(String, "twin/model", LATCHED).publish(String(data=json.dumps(said)))
    r.until(lambda: node.tally.received["twin/model"] > before, "the announcement")


def test_the_model_it_began_with_is_not_used_again_until_another_was(following, robot, tmp_path):
    r, node = following
    announce(r, tmp_path, version(robot, 0.0))
    r.until(lambda: node.follower.service, "its name")
    assert not node.made and not node.used, "nothing was made of what is already in use"
    announce(r, tmp_path, version(robot, 8.0))
    r.until(lambda: len(node.used) == 1, "the heavier one")
    announce(r, tmp_path, version(robot, 0.0))
    r.until(lambda: len(node.used) == 2, "the way back")
    assert node.used == pytest.approx([robot.model.mass + 8.0, robot.model.mass])


def test_models_announced_in_quick_succession_are_used_in_that_order(following, robot, tmp_path):
    r, node = following
    for mass in (8.0, 2.0, 5.0):
        announce(r, tmp_path, version(robot, mass))
    r.until(lambda: len(node.used) == 3, "all three")
    assert node.used == pytest.approx([robot.model.mass + m for m in (8.0, 2.0, 5.0)])
    assert not node.follower.busy


def test_what_is_no_model_is_counted_and_the_next_one_is_used(following, robot, tmp_path):
    r, node = following
    announce(r, tmp_path, "[]")
    announce(r, tmp_path, version(robot, 8.0))
    r.until(lambda: node.used, "the model")
    assert node.tally.rejected["twin/model/unusable"] == 1
    assert node.used == pytest.approx([robot.model.mass + 8.0])
