"""How the nodes' messages travel."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import rclpy

from digital_twin.paths import share

pytestmark = pytest.mark.skipif(
    not rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps"), reason="is about Fast DDS"
)
SCRIPT = """
import os, socket, sys, time
from digital_twin.ros.transport import use_sockets
import rclpy
from std_msgs.msg import String

use_sockets()
rclpy.init()
node = rclpy.create_node("one")
out = node.create_publisher(String, "word", 10)
threads = [open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")]
mine = {os.readlink(f"/proc/self/fd/{f}").strip("socket:[]") for f in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{f}")}
udp = {row.split()[9] for row in open("/proc/net/udp").readlines()[1:]}
bound = {row.split()[1].split(":")[0] for row in open("/proc/net/udp").readlines()[1:] if row.split()[9] in mine}
room = lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
usual = room(socket.socket(type=socket.SOCK_DGRAM))
rooms = [room(socket.socket(fileno=os.dup(int(f)))) for f in os.listdir("/proc/self/fd")
         if os.path.islink(f"/proc/self/fd/{f}") and os.readlink(f"/proc/self/fd/{f}").strip("socket:[]") in mine & udp]
print(any("shm" in t for t in threads), max(rooms) > usual, " ".join(sorted(bound)), flush=True)
while True:
    out.publish(String(data="hello"))
    time.sleep(0.02)
"""
LISTEN = """
import rclpy, sys, time
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("two")
heard = []
node.create_subscription(String, "word", lambda m: heard.append(m.data), 10)
end = time.monotonic() + 20.0
while (not heard or "stay" in sys.argv) and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
print(heard[:1])
"""
WAKES = """
import os, time
from pathlib import Path
from digital_twin.ros.transport import use_sockets
import rclpy
from std_msgs.msg import String

use_sockets()
rclpy.init()
node = rclpy.create_node("one")
out = node.create_publisher(String, "word", 10)
while not out.get_subscription_count():
    time.sleep(0.01)
timers = next(t for t in Path("/proc/self/task").iterdir() if (t / "comm").read_text().startswith("dds.ev"))
wakes = lambda: int(next(x.split()[1] for x in (timers / "status").open() if x.startswith("voluntary")))
before = wakes()
for i in range(1000):
    out.publish(String(data="hello"))
    time.sleep(0.001)
print(wakes() - before)
"""
LOOPBACK, ALL = "0100007F", "00000000"


def plain(**environment: str) -> dict[str, str]:
    """This environment without what says how messages travel, and with these."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("FAST", "ROS_AUTOMATIC", "ROS_STATIC"))
    } | environment


def talks(listener: str, **environment: str) -> tuple[list[str], str]:
    """What a process that was given an environment uses and binds, and what another hears of it."""
    talker = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=plain(**environment), stdout=subprocess.PIPE, text=True
    )
    try:
        assert talker.stdout is not None
        used = talker.stdout.readline().split()
        heard = subprocess.run(
            [sys.executable, "-c", LISTEN], env=plain(ROS_AUTOMATIC_DISCOVERY_RANGE=listener),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return used, heard.stdout.strip()
    finally:
        talker.kill()
        talker.wait()


@pytest.mark.parametrize("listener", ["LOCALHOST", "SUBNET"])
def test_on_this_machine_alone_only_the_loopback_is_bound_and_all_hear(listener):
    used, heard = talks(listener, ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    assert used == ["False", "True", LOOPBACK] and heard == "['hello']"


def test_on_the_network_only_sockets_are_used():
    used, heard = talks("SUBNET", ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET")
    assert used[:2] == ["False", "True"] and ALL in used and heard == "['hello']"


def test_what_the_user_says_stays():
    used, heard = talks("SUBNET", FASTDDS_BUILTIN_TRANSPORTS="DEFAULT")
    assert used[:2] == ["True", "False"] and heard == "['hello']"


@pytest.mark.parametrize("where", ["LOCALHOST", "SUBNET"])
def test_a_reliable_writer_wakes_no_thread_for_each_message(where):
    environment = plain(ROS_AUTOMATIC_DISCOVERY_RANGE=where)
    listener = subprocess.Popen([sys.executable, "-c", LISTEN, "stay"], env=environment, stdout=subprocess.DEVNULL)
    try:
        said = subprocess.run(
            [sys.executable, "-c", WAKES], env=environment, capture_output=True, text=True, timeout=60
        )
        assert int(said.stdout) < 500, said.stderr
    finally:
        listener.kill()
        listener.wait()


def test_both_profiles_of_the_loopback_say_the_same_of_where_messages_go():
    one, two = (ET.parse(share(f"config/{n}.xml")).getroot()[0] for n in ("fastdds_loopback", "fastdds2_loopback"))
    writers = ET.parse(share("config/fastdds2.xml")).getroot()[0]
    text = lambda each: [ET.canonicalize(ET.tostring(x), strip_text=True) for x in each]  # noqa: E731
    assert text(two) == [*text(one), *text(writers)] and len(writers) == 1
