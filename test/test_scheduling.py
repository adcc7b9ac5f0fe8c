"""Who runs first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, threading, time
from digital_twin.ros.scheduling import go_first, yield_to_others

held, native, idle = threading.Event(), [], []
def wait(begin, ids):
    begin()
    ids.append(threading.get_native_id())
    held.wait()
def policies(ids):
    return [os.sched_getscheduler(t) for t in ids]
for begin, ids in ((lambda: None, native), (yield_to_others, idle)):
    threading.Thread(target=wait, args=(begin, ids), daemon=True).start()
    while not ids:
        time.sleep(0.001)
if sys.argv[1] == "nobody":
    os.setgroups([])
    os.setuid(65534)
said = []
if sys.argv[1] == "by name":
    with open(f"/proc/self/task/{native[0]}/comm", "w") as name:
        name.write("dds.udp.7000")
print(go_first(lambda: said.append(True), "dds." if sys.argv[1] == "by name" else ""), policies([0, *native, *idle]))
end = time.monotonic() + 5.0
while not said and time.monotonic() < end and sys.argv[1] == "restless":
    pass
print(len(said), policies([0, *native, *idle]))
"""
RR, OTHER, IDLE = (getattr(os, f"SCHED_{n}", None) for n in ("RR", "OTHER", "IDLE"))


def allowed() -> bool:
    """Whether this user may be real-time here."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def schedules(how: str) -> list[str]:
    """What a process of its own says before and after it worked."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_all_threads_go_first_but_those_that_yield():
    if not allowed():
        assert schedules("as I am")[0] == f"False {[OTHER, OTHER, IDLE]}"
        return
    assert schedules("as I am") == [f"True {[RR, RR, IDLE]}", f"0 {[RR, RR, IDLE]}"]


def test_threads_can_be_named_that_alone_go_first():
    if not allowed():
        assert schedules("by name")[0].startswith("False")
        return
    assert schedules("by name")[0] == f"True {[OTHER, RR, IDLE]}"


def test_a_process_that_never_rests_goes_back_to_normal():
    before, after = schedules("restless")
    if not allowed():
        assert before.startswith("False")
        return
    assert before == f"True {[RR, RR, IDLE]}" and after == f"1 {[OTHER, OTHER, IDLE]}"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be nobody")
def test_who_may_not_runs_as_before():
    assert schedules("nobody") == [f"False {[OTHER, OTHER, IDLE]}", f"0 {[OTHER, OTHER, IDLE]}"]
