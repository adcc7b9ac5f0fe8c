"""The thread in which a lidar's rays are cast, so that the fast sensors never wait for them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

from digital_twin.core.sensors.suite import Scanner, SweepJob
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import SENSOR_OUT
from digital_twin.ros.scheduling import yield_to_others
from digital_twin.ros.sensor_topics import scanner_topic


class RayCaster:
    """Casts the sweeps of one lidar and publishes them, while somebody listens.

    Attributes:
        behind: how many sweeps were left out because the one before was not done.
    """

    def __init__(self, node: TwinNode[Any], scanner: Scanner) -> None:
        self.name, self.behind = scanner.spec.name, 0
        self._node = node
        kind, self._write = scanner_topic(scanner, node.frame(scanner.spec.frame))
        self._topic = f"virtual/{scanner.spec.topic}"
        self._send = node.talk(kind, self._topic, SENSOR_OUT)
        self._jobs: queue.Queue[SweepJob | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name=f"rays of {self.name}", daemon=True)
        self._thread.start()

    def take(self, job: SweepJob) -> None:
        """A sweep to be cast; left out when there is still another to begin with."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.behind += 1

    def end(self) -> None:
        """Finish the sweep under way, and stop."""
        with contextlib.suppress(queue.Empty):
            self._jobs.get_nowait()
        self._jobs.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        yield_to_others()
        topic = self._node.resolve_topic_name(self._topic)
        while (job := self._jobs.get()) is not None:
            # A sweep's noise depends on its own number alone, so one that nobody hears need not be cast.
            if not self._node.context.ok() or not self._node.count_subscribers(topic):
                continue
            begin = time.monotonic()
            message = self._write(job.stamp_ns, job.run())
            time.sleep(max(0.0, job.delay - (time.monotonic() - begin)))
            if self._node.context.ok():
                self._send(message)
