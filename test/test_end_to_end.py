"""Everything started as `make run` does, as a user would see it: whole runs of the digital-twin command."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from conftest import ICUB, REPOSITORY, needs_icub, wait_for
from ros_rig import rig
from sensor_msgs.msg import JointState

from digital_twin.options import Options
from digital_twin.system import describe

COMMAND = [sys.executable, "-m", "digital_twin", "run"]


@pytest.fixture
def domain(request):
    """A ROS domain for the processes of one test."""
    return os.environ | {"ROS_DOMAIN_ID": str(1 + (os.getpid() + 7 * len(request.node.name)) % 200), "MAKELEVEL": ""}


def run(environment, *arguments, timeout=90):
    return subprocess.run(
        [*COMMAND, "--headless", *arguments], env=environment, capture_output=True, text=True, timeout=timeout
    )


def nodes_of(parent):
    """The node processes of a run, by name."""
    found = {}
    for p in psutil.Process(parent).children(recursive=True):
        try:
            match = re.search(r"digital_twin\.nodes\.(\w+)", " ".join(p.cmdline()))
        except psutil.Error:  # it ended meanwhile
            continue
        if match:
            found[match.group(1)] = p
    return found


def test_fifteen_seconds_of_a_simulated_humanoid_and_its_twin(domain, tmp_path):
    report_path = tmp_path / "report.json"
    done = run(domain, "--duration", "15", "--report", str(report_path))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    r = json.loads(report_path.read_text())
    assert 14.5 < r["duration_s"] < 18.0
    for topic, hz in {
        "joint_states": 200, "imu/data": 200, "feet/left/wrench": 200, "external_pose": 50, "scan": 10,
        "physical/joint_states": 200, "virtual/joint_states": 200, "virtual/odom": 200, "virtual/pose": 50,
        "virtual/joint_commands": 100, "joint_commands": 100, "ground_truth/odom": 50,
    }.items():  # fmt: skip
        assert r["rates_hz"][topic] == pytest.approx(hz, rel=0.15), topic
    assert set(r["sync_latency_ms"]) == {"p50", "p99", "max"} and r["sync_latency_ms"]["p50"] > 0
    for node in ("simulated_robot", "physical_bridge", "twin_synchronizer"):
        assert set(r["loop"][node]) == {"min", "avg", "max", "overruns"}
    assert 0 < r["joint_rmse_rad"] < 0.003
    assert 0 < r["base_position_rmse_m"] < 0.02 and 0 < r["base_attitude_rmse_deg"] < 2.0
    assert r["distance_m"] > 0.2, "the robot did move"
    assert 0.9 < r["real_time_factor"] < 1.05
    assert r["messages"]["received"] > 5000 and sum(r["messages"]["rejected"].values()) < 50
    assert r["node_restarts"] == {n.name: 0 for n in describe(Options())}
    for node in r["nodes"].values():
        assert 0 < node["rss_mb"] < 300 and 0 < node["cpu_percent"] < 100
    assert "real-time factor" in done.stderr and "base within" in done.stderr


@needs_icub
def test_a_real_walk_is_tracked_no_worse_than_leg_odometry_with_a_gyro(domain, tmp_path):
    """Limits: the published figures of leg odometry + gyro on this recording (its README), the better of each pair."""
    report_path = tmp_path / "report.json"
    done = run(
        domain, "--simulator", "none", "--bag", str(ICUB), "--robot-description", str(ICUB / "icub.urdf"), "--report",
        str(report_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    r = json.loads(report_path.read_text())
    assert r["base_position_rmse_m"] < 0.027 and r["base_position_end_m"] < 0.072 and r["base_attitude_rmse_deg"] < 1.4
    assert r["distance_m"] == pytest.approx(1.53, abs=0.02) and r["joint_rmse_rad"] is None
    assert r["messages"]["rejected"] == {} and r["messages"]["received_by_topic"]["joint_states"] >= 1180
    assert r["rates_hz"]["virtual/odom"] == pytest.approx(99, rel=0.05)
    assert "39 meshes" in done.stderr, "what is left out is said once"
    assert done.stderr.count("39 meshes") == 1


@pytest.mark.parametrize("victim", ["twin_synchronizer", "physical_bridge"])
def test_a_killed_node_is_started_again_and_gives_data_again(tmp_path, victim):
    """Started within a second, and virtual states flow again within five."""
    report_path = tmp_path / "report.json"
    with rig() as r:  # in this process's own domain, where the run is too
        r.listen(JointState, "virtual/joint_states")
        p = subprocess.Popen([*COMMAND, "--headless", "--report", str(report_path)], stderr=subprocess.PIPE, text=True)
        try:
            states = r.messages["virtual/joint_states"]
            r.until(lambda: len(states) > 400, "the twin to run", timeout=40)
            before = nodes_of(p.pid)[victim]
            killed_at = time.time_ns()
            before.kill()
            r.until(lambda: nodes_of(p.pid).get(victim, before).pid != before.pid, "a new process", timeout=1.0)
            newer = lambda: states and stamp_ns(states[-1]) > killed_at + 200_000_000  # noqa: E731
            r.until(newer, "virtual states after the kill", timeout=5.0)
            r.settle(2.0)
        finally:
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=20)
    assert p.returncode == 0
    assert json.loads(report_path.read_text())["node_restarts"][victim] == 1
    assert f"{victim}: died (killed by SIGKILL); starting it again" in err


def stamp_ns(m):
    return m.header.stamp.sec * 10**9 + m.header.stamp.nanosec


class Terminal:
    """A program on a terminal of its own, as a user has it."""

    def __init__(self, command, environment, cwd):
        self.output = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return
            if not data:
                return
            self.output += data.decode(errors="replace")

    def press(self, key):
        os.write(self._fd, key)

    def wait(self, seconds):
        def ended():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return [os.waitstatus_to_exitcode(status)] if pid else None

        return wait_for(ended, seconds, "the program to end")[0]


def catches_hangup(pid):
    """Has one of the processes below `pid` installed its own handlers?

    Python alone leaves SIGHUP as it is; make does not, and what it forks has its handlers until it is something else.
    """
    for p in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(OSError, StopIteration, psutil.NoSuchProcess):
            if p.name() == "make":
                continue
            lines = Path(f"/proc/{p.pid}/status").read_text().splitlines()
            if int(next(x for x in lines if x.startswith("SigCgt")).split()[1], 16) & 1:
                return True
    return False


@pytest.mark.parametrize("after", [0.0, 0.8, 7.0])
def test_ctrl_c_on_a_terminal_ends_everything_within_two_seconds(domain, after):
    """`make run` in a terminal: the live table is there, Ctrl-C ends it with exit code 0 and nothing is left."""
    makefile = "run:\n\t@exec " + " ".join(COMMAND) + "\n"
    environment = {k: v for k, v in domain.items() if k != "MAKELEVEL"} | {
        "TERM": "xterm",
        "COLUMNS": "120",
        "LINES": "40",
    }
    t = Terminal(["make", "-f", "-", "--eval", makefile, "run"], environment, REPOSITORY)
    t.press(b"\x04")  # the makefile comes from --eval alone
    wait_for(lambda: catches_hangup(t.pid), 10, "the command to start")
    words = ("digital twin of humanoid", "twin_synchronizer", "sync latency", "real-time factor", "tracking error")
    if after > 2:
        wait_for(lambda: all(w in t.output for w in words), 30, "the table")
    else:
        time.sleep(after)
    nodes = [] if after < 2 else list(wait_for(lambda: nodes_of(t.pid), 10, "nodes").values())
    pressed = time.monotonic()
    t.press(b"\x03")
    code = t.wait(6)
    took = time.monotonic() - pressed
    assert code == 0, t.output[-2000:]
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in nodes), "no process is left"
    assert "Traceback" not in t.output
    if after > 2:
        assert took < 2.0


def test_two_robots_in_one_domain_do_not_meet(domain, tmp_path):
    """At a quarter of the rate: it is not about how much a machine can do."""
    config = tmp_path / "slow.yaml"
    config.write_text("/**/simulated_robot: {ros__parameters: {rate: 50.0, wrench_rate: 50.0}}\n"
                      "/**/physics_predictor: {ros__parameters: {rate: 2.0, ensemble_rate: 0.5}}\n")  # fmt: skip
    reports = [tmp_path / f"{n}.json" for n in "ab"]
    options = ["--headless", "--duration", "20", "--config", str(config)]
    runs = [
        subprocess.Popen([*COMMAND, *options, "--namespace", n, "--report", str(r)], env=domain, stderr=subprocess.PIPE)
        for n, r in zip("ab", reports, strict=True)
    ]
    for p in runs:
        _, err = p.communicate(timeout=60)
        assert p.returncode == 0, err
    for path in reports:
        r = json.loads(path.read_text())
        assert r["base_position_rmse_m"] < 0.03 and "duplicate" not in r["messages"]["rejected"]
        assert 40 < r["rates_hz"]["virtual/odom"] < 62, "with what the other says, too, it would be 100"


def runs(process):
    """Not when it has ended and waits for whoever inherited it to notice."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("what", ["terminate", "supervisor killed"])
def test_no_node_outlives_its_supervisor(domain, what):
    p = subprocess.Popen([*COMMAND, "--headless"], env=domain, stderr=subprocess.DEVNULL)
    count = len(describe(Options()))
    nodes = wait_for(lambda: list(n.values()) if len(n := nodes_of(p.pid)) == count else None, 20, "all nodes")
    time.sleep(2)
    if what == "terminate":
        p.terminate()
        assert p.wait(10) == 0
    else:
        p.kill()
        p.wait(10)
    wait_for(lambda: not [n for n in nodes if runs(n)], 5, "the end of all nodes")
