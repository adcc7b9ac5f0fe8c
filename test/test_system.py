"""The system as described once, what the command line refuses, and how nodes are kept alive."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ICUB, REPOSITORY, needs_icub

from digital_twin.cli import page_arguments
from digital_twin.cli.main import main, parser
from digital_twin.cli.page_arguments import wants_dashboard
from digital_twin.cli.supervisor import Supervisor, command, launch
from digital_twin.cli.terminal import Ending
from digital_twin.core.errors import ConfigError, NodeError, TwinError
from digital_twin.options import Options
from digital_twin.system import NodeSpec, check_parameter_file, describe


def names(**options):
    return [n.name for n in describe(Options(**options))]


def test_which_nodes_run_for_which_robot():
    twin = [
        "physical_bridge",
        "twin_synchronizer",
        "physics_predictor",
        "virtual_sensor_publisher",
        "drift_monitor",
        "virtual_lidar_publisher",
        "virtual_camera_publisher",
    ]
    assert names() == ["simulated_robot", *twin, "command_script"]
    assert names(controller="none") == ["simulated_robot", *twin]
    assert names(controller="gait") == ["simulated_robot", *twin, "gait_controller"]
    assert names(simulator="none") == twin, "no script moves a real robot"
    assert names(simulator="none", bag="x") == ["bag_player", *twin]
    assert names(simulator="gazebo") == [*twin, "command_script"]


@needs_icub
def test_a_robot_without_cameras_or_lidars_needs_nobody_to_play_them():
    there = names(robot_description=str(ICUB / "icub.urdf"))
    assert "virtual_camera_publisher" not in there and "virtual_lidar_publisher" not in there


def test_lidars_see_a_world_only_where_there_is_one():
    def world(**options):
        return parameters("virtual_lidar_publisher", **options)["world"]

    assert world() == world(simulator="gazebo") == "humanoid_world.sdf"
    assert world(world="mine.sdf") == world(simulator="none", world="mine.sdf") == "mine.sdf"
    assert world(simulator="none") == "", "around a real robot is whatever is there"


def test_a_recorder_comes_first_and_only_a_whole_recording_is_waited_for():
    assert names(record="true")[0] == names(record="snapshots")[0] == "recorder"
    assert (
        parameters("recorder", record="true")["continuous"]
        and not parameters("recorder", record="snapshots")["continuous"]
    )
    assert parameters("physical_bridge", record="true")["wait_for_recorder"]
    assert "wait_for_recorder" not in parameters("physical_bridge", record="snapshots")
    assert "wait_for_recorder" not in parameters("physical_bridge", record="true", simulator="none", bag="x")


def test_the_page_comes_first_since_it_takes_longest_and_only_when_asked():
    assert "dashboard" not in names()
    assert names(dashboard=True)[0] == names(dashboard=True, record="true", simulator="none")[0] == "dashboard"
    assert parameters("dashboard", dashboard=True) | {"world": "humanoid_world.sdf"} == parameters(
        "dashboard", dashboard=True
    ), "the simulated robot's world is drawn; no port: the node's own"
    assert parameters("dashboard", dashboard=True, dashboard_port=99)["port"] == 99
    assert parameters("dashboard", dashboard=True, simulator="none")["world"] == "", (
        "around a real robot is whatever is there"
    )


@pytest.mark.parametrize(("arguments", "there"), [([], True), (["--headless"], False), (["--headless", "--dashboard"], True), (["--no-dashboard"], False)])  # fmt: skip
def test_who_looks_at_no_screen_gets_no_page_unasked(arguments, there):
    for words in (["run"], ["replay", "bag"]):
        assert wants_dashboard(parser().parse_args([*words, *arguments])) == there


def parameters(node, **options):
    return next(n.parameters for n in describe(Options(**options)) if n.name == node)


def test_the_gate_is_closed_on_a_real_robot_only():
    assert parameters("physical_bridge", simulator="none")["commands.gate"] == "manual"
    assert "commands.gate" not in parameters("physical_bridge")


@pytest.mark.parametrize(("options", "sim_time"), [({}, False), ({"use_sim_time": True}, True), ({"simulator": "gazebo"}, True), ({"simulator": "none", "bag": "x"}, True)])  # fmt: skip
def test_everybody_follows_one_time(options, sim_time):
    nodes = describe(Options(**options))
    followers = [n for n in nodes if n.name not in ("simulated_robot", "bag_player")]
    assert all(n.parameters["use_sim_time"] == sim_time for n in followers)
    simulated = [n for n in nodes if n.name == "simulated_robot"]
    assert all(n.parameters["publish_clock"] == sim_time and not n.parameters["use_sim_time"] for n in simulated)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"simulator": "mujco"}, "did you mean 'mujoco'"),
        ({"controller": "joystick"}, "unknown controller 'joystick'"),
        ({"bag": "x"}, "use it with simulator none"),
        ({"namespace": "a b"}, "namespace 'a b'"),
        ({"dashboard_port": 70000}, "dashboard_port 70000 is out of range"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(ConfigError, match=words):
        Options(**options)


def test_the_gait_controller_may_have_its_commands_tried_first():
    for gate in ("off", "twin"):
        (gait,) = (n for n in describe(Options(controller="gait", gate=gate)) if n.name == "gait_controller")
        assert gait.parameters["gate"] == gate
    with pytest.raises(ConfigError, match="unknown gate 'ajar'"):
        Options(gate="ajar")


def test_commands_are_quoted_for_ros():
    c = command(NodeSpec("n", {"s": "it's: here", "b": True, "f": 1.5, "l": ["a b"]}), "/ns/", "c.yaml")
    assert c[3:] == ["--ros-args", "-r", "__ns:=/ns", "-p", "s:='it''s: here'", "-p", "b:=true", "-p", "f:=1.5", "-p", "l:=['a b']", "--params-file", "c.yaml"]  # fmt: skip


GOOD = """
/**/twin_synchronizer: {ros__parameters: {sync_error_threshold: 0.1, base: {slip: 0.3}}}
physical_bridge:
  ros__parameters: {use_sim_time: true, commands.gate: manual}
bob: {simulated_robot: {ros__parameters: {rate: 500.0}}}
/**: {ros__parameters: {use_sim_time: false}}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, ""),
        ("", ""),
        ("[1]", "maps node names to ros__parameters"),
        ("physical_brige: {ros__parameters: {}}", "unknown node 'physical_brige'; did you mean 'physical_bridge'"),
        ("physical_bridge: 5", "expected ros__parameters below it"),
        ("physical_bridge: {ros__parameters: 5}", "ros__parameters must be a mapping"),
        ("twin_synchronizer: {ros__parameters: {base: {contact_om: 1}}}", "unknown parameter 'base.contact_om'"),
        ("twin_synchronizer: {ros__parameters: {sync_error_threshold: 99.0}}", "99.0 m is out of range [0.001, 10]"),
        ("twin_synchronizer: {ros__parameters: {publish_tf: 1}}", "expected bool"),
        ("a: {b", "not valid YAML"),
    ],
)
def test_parameter_files_are_checked_before_anything_starts(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    if not words:
        check_parameter_file(path)
        return
    with pytest.raises(ConfigError) as e:
        check_parameter_file(path)
    assert words in str(e.value) and "c.yaml" in str(e.value) and "\n" not in str(e.value)


# The command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--robot-description", "{tmp}/bad.urdf"], "bad.urdf: not valid XML"),
        (["run", "--robot-description", "{tmp}/no.urdf"], "no.urdf: cannot read the robot description"),
        (["run", "--robot-config", "{tmp}/bad.yaml"], "bad.yaml: unknown key 'feets'; did you mean 'feet'?"),
        (["run", "--world", "{tmp}/bad.urdf"], "bad.urdf: not valid XML"),
        (["run", "--world", "{tmp}/no.sdf"], "cannot read the world"),
        (["run", "--config", "{tmp}/bad.yaml"], "bad.yaml"),
        (["run", "--bag", "{tmp}/no"], "no such recording"),
        (["run", "--bag", "{tmp}/bad.yaml"], "not a rosbag2 recording"),
        (["run", "--report", "{tmp}/no/r.json"], "cannot write the report: no folder"),
        (["run", "--bag", "x", "--simulator", "mujoco"], "use it with simulator none"),
        (["check", "{tmp}/bad.urdf"], "bad.urdf: not valid XML"),
        (["record", "--folder", "{tmp}/bad.yaml/x"], "cannot make the folder for recordings"),
        (["replay", "{tmp}/no", "--fast"], "no such recording"),
        (["replay", "{tmp}/bad.yaml"], "not a rosbag2 recording"),
        (["report", "{tmp}/bad.yaml"], "not a rosbag2 recording"),
        (["report", "{tmp}/no", "--html", "{tmp}/no/r.html"], "no such recording"),
        (["compare", "{tmp}/no", "{tmp}/no"], "no such recording"),
        (["export", "{tmp}/no", "--to", "hdf5"], "no such recording"),
    ],
)
def test_bad_input_is_one_readable_line_and_exit_code_2(tmp_path, capsys, arguments, words):
    (tmp_path / "bad.urdf").write_text("<robot")
    (tmp_path / "bad.yaml").write_text("feets: []")
    code = main([a.format(tmp=tmp_path) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.startswith("digital-twin: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--duration", "-1"], ["run", "--duration", "x"], ["run", "--simulator", "gazebo"]])  # fmt: skip
def test_wrong_arguments(arguments):
    done = subprocess.run([sys.executable, "-m", "digital_twin", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: digital-twin" in done.stderr and "Traceback" not in done.stderr


def test_help_teaches():
    done = subprocess.run([sys.executable, "-m", "digital_twin", "run", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--simulator", "--bag", "--robot-description", "--robot-config", "--world", "--namespace", "--config", "--duration", "--headless", "--report", "--dashboard-port"):  # fmt: skip
        assert option in done.stdout
    assert "examples:" in done.stdout


def test_check_tells_what_is_in_a_robot(tmp_path, capsys):
    assert main(["check", "humanoid.urdf.xacro", "--write", str(tmp_path / "g.yaml")]) == 0
    out = capsys.readouterr().out
    for words in ("28 that move", "53.81 kg", "left: l_sole, right: r_sole", "imu_link", "l_knee", "1.6"):
        assert words in out
    assert (tmp_path / "g.yaml").read_text().startswith("# A guess by")
    assert main(["check", "humanoid.urdf.xacro", "--write", str(tmp_path / "g.yaml")]) == 2


@needs_icub
def test_check_names_what_icub_lacks(capsys):
    assert main(["check", str(ICUB / "icub.urdf")]) == 0
    out = capsys.readouterr().out
    assert "39 meshes" in out and "32 that move" in out and "33.08 kg" in out


# Keeping nodes alive


def supervise(tmp_path, code, once=False):
    """A supervisor of one process that runs some Python."""
    said = []
    s = Supervisor([NodeSpec("n", {}, once)], "", "", lambda node, line: said.append(line))
    s.children["n"].command = [sys.executable, "-c", code]
    s.start()
    return s, said


def wait(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_dead_node_is_started_again_at_once(tmp_path):
    s, _ = supervise(tmp_path, "import time; time.sleep(60)")
    try:
        process = s.children["n"].process
        process.kill()
        process.wait()
        assert s.check() == ["n"] and s.children["n"].restarts == 1
        assert s.pids()["n"] != process.pid
    finally:
        s.stop()
    assert s.pids() == {}


def test_what_was_started_before_is_watched_and_not_started_twice():
    said = []
    s = Supervisor([NodeSpec("n")], "", "", lambda node, line: said.append(line))
    s.children["n"].command = [sys.executable, "-c", "print('second')"]
    early = launch([sys.executable, "-c", "import time; print('first', flush=True); time.sleep(60)"])
    s.adopt("n", early)
    s.start()
    try:
        wait(lambda: said == ["first"])
        assert s.pids() == {"n": early.pid} and s.check() == []
    finally:
        s.stop()
    assert early.poll() is not None


def test_a_page_that_came_to_no_run_is_ended(monkeypatch):
    started = []
    monkeypatch.setattr(
        page_arguments, "start_page", lambda options: started.append(launch(["sleep", "60"])) or started[0]
    )
    with pytest.raises(TwinError, match="cannot read the robot description"):
        page_arguments.run_with_page(
            Options(robot_description="/no.urdf", dashboard=True), Ending(), duration=0.0, headless=True, report=""
        )
    assert started[0].poll() is not None


def test_ctrl_c_within_an_exec_of_an_import_is_a_clean_end_too(tmp_path):
    """Of dataclasses, say. CPython would end a `python -m` that caught a KeyboardInterrupt from there by SIGINT."""
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, sys\nfrom digital_twin.cli.terminal import Ending\n"
        "with Ending() as ending:\n    try:\n        with ending.at_once():\n"
        "            exec('os.kill(os.getpid(), signal.SIGINT)')\n"
        "    except BaseException:\n        print('caught')\nsys.exit(0)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    p = subprocess.run([sys.executable, "-m", "interrupted"], capture_output=True, text=True, env=environment)
    assert (p.returncode, p.stdout) == (0, "caught\n"), p.stderr


def test_what_a_run_imports_starts_no_process_on_our_terminal():
    """Ctrl-C would reach it there: MuJoCo's import of a window library starts a Python, which dies with a traceback."""
    code = (
        "import sys\nsys.addaudithook(lambda event, args: event == 'subprocess.Popen' and print(args))\n"
        "from digital_twin.cli.supervisor import prepare_environment\nprepare_environment()\n"
        "from digital_twin.cli import monitor, run"
    )
    plain = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=plain, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_node_that_keeps_dying_is_given_up_with_its_last_words(tmp_path):
    s, _ = supervise(tmp_path, "import sys; print('the reason'); sys.exit(3)")

    def until_given_up():
        while True:
            s.children["n"].process.wait()
            s.check()

    with pytest.raises(NodeError, match=r"n keeps dying \(exit code 3\): the reason"):
        until_given_up()
    assert s.children["n"].restarts == 4


def test_a_node_that_refuses_its_configuration_ends_the_run(tmp_path):
    s, _ = supervise(tmp_path, "import sys; print('digital_twin n: x.yaml: bad'); sys.exit(2)")
    s.children["n"].process.wait()
    with pytest.raises(TwinError, match=r"^x.yaml: bad$"):
        s.check()


def test_what_was_to_end_is_not_started_again(tmp_path):
    s, _ = supervise(tmp_path, "pass", once=True)
    s.children["n"].process.wait()
    assert s.check() == [] and s.finished


def test_nodes_that_do_not_listen_are_killed(tmp_path):
    s, said = supervise(tmp_path, "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")  # fmt: skip
    wait(lambda: said)
    begin = time.monotonic()
    s.stop(patience=0.3)
    assert s.children["n"].process.returncode == -9 and time.monotonic() - begin < 1.5


def test_a_report_survives_what_json_cannot_hold(tmp_path):
    from digital_twin.cli.report import _finite, write_report

    write_report(_finite({"a": float("nan"), "b": {"c": 1.23456789}}), str(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": None, "b": {"c": 1.234568}}


def test_files_of_the_package_are_found():
    from digital_twin.paths import find, share

    assert share("worlds/humanoid_world.sdf") == REPOSITORY / "worlds/humanoid_world.sdf"
    assert find("humanoid_world.sdf", "worlds") == REPOSITORY / "worlds/humanoid_world.sdf"
    with pytest.raises(TwinError, match=r"'worlds/moon.sdf' is not installed"):
        share("worlds/moon.sdf")
