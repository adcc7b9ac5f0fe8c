"""A real browser: Debian's chromium, headless, in software; driven over the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections import deque
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
PATIENCE = 120.0


class Browser:
    """One tab. `requests`: addresses of all that it asked for; `errors`: what its console complained of."""

    def __init__(self, width=1280, height=800):
        from websockets.sync.client import connect

        self._folder = tempfile.mkdtemp(prefix="chromium_")
        self._process = subprocess.Popen(
            ["nice", "-n", "19", CHROMIUM, "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-component-update",
             "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
             f"--window-size={width},{height}", f"--user-data-dir={self._folder}", "--remote-debugging-port=0", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        note = Path(self._folder) / "DevToolsActivePort"
        self._wait(lambda: note.exists() and len(note.read_text().splitlines()) > 1, "the browser to start")
        port = note.read_text().splitlines()[0]
        from urllib.request import urlopen

        tabs = json.load(urlopen(f"http://127.0.0.1:{port}/json"))
        address = next(t["webSocketDebuggerUrl"] for t in tabs if t["type"] == "page")
        self._socket = connect(address, max_size=None)
        self._numbers = itertools.count(1)
        self.requests, self.errors = [], []
        self.frames = deque(maxlen=100_000)  # of websockets: (time of arrival, size)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def _wait(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            assert self._process.poll() is None, "the browser ended"
            time.sleep(0.02)

    def call(self, method, **parameters):
        """One command; what happens meanwhile is noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            m = json.loads(self._socket.recv(timeout=PATIENCE))
            if m.get("id") == number:
                return m["result"] if "result" in m else {"error": m["error"]}
            self._note(m)

    def _note(self, m):
        p = m.get("params", {})
        if m.get("method") == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])
        elif m.get("method") == "Network.webSocketCreated":
            self.requests.append(p["url"])
        elif m.get("method") == "Network.webSocketFrameReceived":
            self.frames.append((time.monotonic(), len(p["response"]["payloadData"])))
        elif m.get("method") == "Runtime.exceptionThrown":
            self.errors.append(p["exceptionDetails"].get("exception", {}).get("description", str(p)))
        elif m.get("method") == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.errors.append(p["entry"]["text"])

    def open(self, url):
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def js(self, expression):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return result.get("result", {}).get("value")  # none while a page is being left

    def until(self, expression, what=""):
        """Wait until an expression is true in the page; returns its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.js(expression)):
            assert time.monotonic() < end, (
                f"waited in vain for {what or expression}; the page says: {self.text()[-500:]}"
            )
            time.sleep(0.05)
        return value

    def text(self):
        """All that can be read."""
        return self.js("document.body ? document.body.innerText : ''") or ""

    def click(self, label):
        """Press what bears this text, with a mouse."""
        place = self.until(
            f"(() => {{ const all = [...document.querySelectorAll('body *')].filter(e => e.innerText && e.innerText.trim().startsWith({json.dumps(label)}));"
            " const e = all[all.length - 1]; if (!e) return null; const r = e.getBoundingClientRect();"
            " return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null })()",
            f"something called {label}",
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def picture(self, path=None):
        """A screenshot as PNG bytes."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            Path(path).write_bytes(data)
        return data

    def close(self):
        """End it."""
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
