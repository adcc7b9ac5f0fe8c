"""What the tests share. Core tests need no ROS; tests of nodes run in a ROS domain of this process's own."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 200)
# Nodes keep models, recordings and logs there; those of the user are none of our business.
os.environ["HOME"] = tempfile.mkdtemp(prefix="digital_twin_tests_")

import pytest
from hypothesis import settings

from digital_twin.robots import Robot, load_robot

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
ICUB = SHARED / "data" / "icub_walking"

# The same examples every time, and no limit on how long one takes: these machines are shared.
settings.register_profile("twin", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("twin")

needs_icub = pytest.mark.skipif(not ICUB.exists(), reason="../shared is not beside this checkout")


@pytest.fixture(scope="session")
def robot() -> Robot:
    """The package's humanoid."""
    return load_robot()


@pytest.fixture(scope="session")
def icub() -> Robot:
    """iCub, its robot config guessed."""
    return load_robot(str(ICUB / "icub.urdf"))


STARTS = re.compile(
    r"^\s*(import|from) (rclpy|subprocess|ros_rig|browser|digital_twin\.cli\.supervisor)\b", re.MULTILINE
)


def pytest_collection_modifyitems(items):
    """live: tests of a module that starts nodes or other processes. They want the machine for themselves."""
    live = {path: bool(STARTS.search(path.read_text())) for path in {item.path for item in items}}
    for item in items:
        if live[item.path]:
            item.add_marker(pytest.mark.live)


def wait_for(condition, seconds, what):
    """Wait for something in another process; returns what the condition gave."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


def pytest_terminal_summary(terminalreporter):
    """In CI (DIGITAL_TWIN_NO_SKIPS) a skipped test is a failure, unless it needs the launch package."""
    if not os.environ.get("DIGITAL_TWIN_NO_SKIPS"):
        return
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "launch" not in str(r.longrepr)]
    for r in skipped:
        terminalreporter.write_line(f"SKIPPED, which is not allowed here: {r.nodeid}: {r.longrepr}", red=True)
    if skipped:
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
