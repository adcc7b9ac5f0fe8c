"""Nodes as forks of one process: what they are given, how their end is told, and what is left of them."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import wait_for

from digital_twin.cli import fork_server
from digital_twin.cli.fork_server import ForkServer
from digital_twin.cli.supervisor import Supervisor, launch
from digital_twin.core.errors import NodeError
from digital_twin.node_spec import NodeSpec

PROGRAM = """
import os, signal, sys, time
def main():
    what = sys.argv[1]
    print("is", what, os.getpid(), os.getpgrp(), os.getppid(), "scipy.stats" in sys.modules)
    if what == "wait":
        time.sleep(60)
    if what == "fail":
        raise ValueError("the reason")
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(60)
    sys.exit({"two": 2, "words": "words"}.get(what))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "some_node.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", str(folder))
        s = ForkServer(launch)
        yield s
        s.close()


def start(server, what):
    return server.launch([sys.executable, "-m", "some_node", what])


@pytest.mark.parametrize(("what", "code"), [("end", 0), ("two", 2), ("words", 1), ("fail", 1)])
def test_a_fork_has_its_arguments_tells_its_words_and_how_it_ended(server, what, code):
    p = start(server, what)
    out = p.stdout.read()
    assert p.wait(10) == code == p.returncode == p.poll()
    _, said, pid, group, parent, has = out.splitlines()[0].split()
    assert (said, int(pid), int(group), has) == (what, p.pid, p.pid, "True"), "in a group of its own; scipy was there"
    assert int(parent) == server._server.pid != os.getpid()
    assert ("ValueError: the reason" in out) == (what == "fail")


def test_it_is_found_by_its_name_and_killed(server):
    p = start(server, "wait")
    wait_for(lambda: "-m some_node wait" in " ".join(psutil.Process(p.pid).cmdline()), 5, "its name")
    assert p.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.05)
    p.kill()
    assert p.wait(5) == -signal.SIGKILL and not psutil.pid_exists(p.pid)
    p.kill()


def test_ends_are_told_of_each(server):
    many = [start(server, what) for what in ("two", "wait", "end", "fail")]
    many[1].kill()
    assert [p.wait(10) for p in many] == [2, -9, 0, 1]


def test_forks_end_with_their_server_and_another_is_started(server):
    p, before = start(server, "wait"), server._server.pid
    os.kill(before, signal.SIGKILL)
    assert p.wait(5) == -signal.SIGTERM
    wait_for(lambda: not psutil.pid_exists(p.pid), 5, "the end of the fork")
    again = start(server, "end")
    assert again.wait(10) == 0 and server._server.pid != before


def test_nothing_is_left_after_close(server):
    p = start(server, "wait")
    server.close()
    wait_for(lambda: not psutil.pid_exists(p.pid), 5, "the end of the fork")


def test_a_server_that_cannot_start_says_why(server, monkeypatch):
    server.close()
    monkeypatch.setattr(fork_server.sys, "executable", "/bin/false")
    with pytest.raises(NodeError, match="some_node: no process could be started"):
        start(server, "end")


def test_a_supervisor_starts_forks_again_and_ends_those_that_do_not_listen(server):
    said = []
    s = Supervisor([NodeSpec("n")], "", "", lambda node, line: said.append(line), server.launch)
    s.children["n"].command = [sys.executable, "-m", "some_node", "deaf"]
    s.start()
    try:
        first = s.pids()["n"]
        s.children["n"].process.kill()
        wait_for(lambda: s.check() == ["n"], 5, "another one")
        wait_for(lambda: said.count("deaf") and s.pids()["n"] != first, 5, "it to run")
        wait_for(lambda: [w for w in said if "deaf" in w and str(s.pids()["n"]) in w] and said[-1] == "deaf", 5, "it")
    finally:
        s.stop(patience=0.2)
    assert s.children["n"].process.returncode == -signal.SIGKILL and s.pids() == {}
