"""Renders the picture of the live page: python docs/make_page_picture.py (needs chromium, and pillow).

A twin runs for a while in front of a dashboard in this process; then it ends, and a browser, which takes all of a small
machine when it renders in software, looks at what the dashboard remembers.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "test"))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 200)

import rclpy
from browser import Browser
from PIL import Image

from digital_twin.dashboard.panel import Action
from digital_twin.nodes.dashboard import Dashboard
from digital_twin.ros.process import make_executor

RUN = 27.0  # [s] until the humanoid is in the middle of its script
SIZE = (1250, 750)


def main() -> None:
    """Run, pause, look."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "page.png"
    rclpy.init(args=["--ros-args", "-p", "port:=0", "-p", "yielding:=false", "-p", "world:=humanoid_world.sdf"])
    node = Dashboard()
    executor = make_executor()
    executor.add_node(node)

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.02)

    command = [sys.executable, "-m", "digital_twin", "run", "--headless", "--no-dashboard"]
    twin = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    node.guard.open = 1  # as if somebody looked
    spin(RUN)
    node.page.actions.put(Action("pause"))
    spin(0.6)
    node.guard.open = 0

    twin.terminate()
    twin.wait(20)
    with Browser(1500, 900) as browser:
        browser.open(node.url)
        browser.until("document.body.innerText.includes('Go on live')")
        close = "[...document.querySelectorAll('.mantine-Notification-closeButton')]"
        browser.until(f"{close}.length > 0", "the complaint about software rendering")
        browser.js(f"{close}.forEach(b => b.click())")
        for _ in range(4):  # the first pictures of a scene are still being put together
            picture = browser.picture()
        for error in browser.errors:
            print(error, file=sys.stderr)
    image = Image.open(io.BytesIO(picture)).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    image.save(out, optimize=True)
    sys.stdout.flush()
    os._exit(0)  # without rclpy's slow teardown


if __name__ == "__main__":
    main()
