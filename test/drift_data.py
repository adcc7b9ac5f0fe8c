"""Windows of the simulated robot that several tests share; made once for each process."""

from functools import cache

import numpy as np

from digital_twin.core.drift.trial import Trial
from digital_twin.core.drift.window import Window
from digital_twin.core.plant_model import PlantConfig
from digital_twin.core.script import Script, load_script
from digital_twin.paths import find
from digital_twin.robots import load_robot

SEED = 1
PAYLOAD = 2.0


def script(name):
    """A motion of the package's."""
    robot = load_robot()
    return Script(load_script(find(name, "config/scripts")), robot.model, robot.joints.stand).sample


def trial(name="squats.yaml", seed=SEED, **plant):
    """A robot of the series at work."""
    robot = load_robot()
    return Trial(robot.description, robot.config, script(name), PlantConfig(seed=seed, **plant))


@cache
def squats() -> Window:
    """Six seconds of squats."""
    return trial().run(6.0)


@cache
def loaded() -> tuple[Window, Window]:
    """Squats with 2 kg in the left hand, and after they were taken away again."""
    t = trial()
    t.plant.set_payload("l_gripper", PAYLOAD)
    t.run(1.0)
    hung = t.run(4.0)
    t.plant.set_payload("l_gripper", 0.0)
    t.run(1.0)
    return hung, t.run(4.0)


def still(seconds=3.0, n=28, feet=2) -> Window:
    """A robot of stone: every number the same at all times."""
    k = round(200 * seconds)
    zero = np.zeros((k, n))
    stand = np.tile(load_robot().joints.stand, (k, 1))
    wrench = np.zeros((k, feet, 6))
    wrench[:, :, 2] = 250.0
    up = np.tile([0.0, 0.0, 9.81], (k, 1))
    return Window(
        np.arange(k) * 5_000_000, stand, zero, zero, zero, stand, np.tile([0.0, 0.0, 0.8], (k, 1)), np.zeros((k, 3)),
        np.tile(np.eye(3), (k, 1, 1)), np.zeros((k, 3)), wrench, np.zeros((k, 3)), up,
    )  # fmt: skip
