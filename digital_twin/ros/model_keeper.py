"""Keeps the model in service: has it renewed in a process of its own, proved, approved, announced, and taken back.

No ROS in here. A node gives windows and calls `poll` from a timer; that takes microseconds, as does everything else that
is called from it: files are written and processes started in a thread.
"""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digital_twin.core.drift.model_store import ModelStore
from digital_twin.core.drift.model_version import MAX_BYTES, ModelVersion, nominal, parse_version
from digital_twin.core.drift.update_config import UpdateConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.keeper_config import KeeperConfig
from digital_twin.robots import Robot, with_version
from digital_twin.ros.model_process import OUTCOME, write_request
from digital_twin.ros.model_topic import file_hash
from digital_twin.ros.model_worker import ModelWorker

LOOK_EVERY_NS = 1_000_000_000  # between two looks at what the store says is in service


@dataclass(frozen=True)
class Event:
    """Something to say: level info, warning or error."""

    level: str
    text: str


@dataclass
class _Job:
    """What is under way. `robot`, `service`: what it began with."""

    kind: str
    window: Window
    suspicion: dict[str, str]
    now_ns: int
    parent: ModelVersion | None = None
    answer: dict[str, Any] | None = None
    failed: str = ""
    given_up: str = ""


def store_of(config_store: str, robot: str) -> ModelStore:
    """The store of one robot, by its name."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in robot) or "robot"
    return ModelStore(Path(config_store).expanduser() / safe)


class ModelKeeper:
    """See the module.

    Attributes:
        service: the version in service. pending: one that has proved better and waits to be approved.
        gap: the last reality gap report, as JSON text; empty: there was none.
        parent: the version before, to go back to; None: there is none.
    """

    def __init__(self, robot: Robot, config: KeeperConfig) -> None:
        """`robot`: as it was brought, without any version. Raises nothing: what is wrong becomes an event."""
        self.robot, self.config = robot, config
        self.store = store_of(config.store, robot.description.name)
        self.pending: ModelVersion | None = None
        self.parent: ModelVersion | None = None
        self.gap = ""
        self.changed = True  # since `announcement` was last asked for
        self._events: list[Event] = []
        self._thread: threading.Thread | None = None
        self._worker: ModelWorker | None = None
        self._spare: ModelWorker | None = None
        self._starting, self._cannot_start = threading.Lock(), False
        self._job: _Job | None = None
        self._looked_ns = 0
        self._closed = False
        self.service = self._begin()

    def _begin(self) -> ModelVersion:
        """What the store says is in service, else the robot as it was brought."""
        brought = nominal(self.robot.description)
        if self.store.in_service():
            try:
                version = self.store.get("in_service")
                with_version(self.robot, version)
                self._find_parent(version)
            except TwinError as e:
                self._say("error", f"{e}; the robot as it was brought is in service")
            else:
                return version
        self._write(brought)
        return brought

    def _find_parent(self, version: ModelVersion) -> None:
        try:
            self.parent = self.store.get(version.parent) if version.parent else None
        except TwinError as e:
            self.parent = None
            self._say("warning", f"{e}; there is no going back from the model in service")

    def _write(self, version: ModelVersion) -> bool:
        try:
            self.store.put_in_service(version)
        except TwinError as e:
            self._say("error", f"{e}; the model in service stays")
            return False
        return True

    def _say(self, level: str, text: str) -> None:
        self._events.append(Event(level, text))

    # What a node calls

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._job is not None

    @property
    def under_way(self) -> str:
        """What: identification (of a suspicion), calibration, review, gap; or nothing: empty."""
        job = self._job
        if job is None:
            return ""
        return "calibration" if job.kind == "identification" and not job.suspicion else job.kind

    def give_up(self, why: str) -> None:
        """End what is under way; `poll` says so."""
        job, worker = self._job, self._worker
        if job is not None and not job.given_up:
            job.given_up = why
            if worker is not None:
                worker.kill()

    def warm_up(self) -> None:
        """Have a process ready for when there is something to do: to start one takes seconds, and most when all is busy."""
        if self._spare is None and not (self.busy or self._closed or self._cannot_start or self._starting.locked()):
            threading.Thread(target=self._start_spare, name="model", daemon=True).start()

    def _start_spare(self) -> None:
        with self._starting:
            if self._spare is None and not self._closed:
                try:
                    self._spare = ModelWorker(self.config.nice)
                except OSError:
                    self._cannot_start = True  # said when it is needed

    def ask(self, window: Window, suspicion: dict[str, str], now_ns: int) -> bool:
        """Have the model renewed from a window; `suspicion` as of `identify`, empty: everything. False: busy."""
        return self._begin_job(_Job("identification", window, suspicion, now_ns))

    def review(self, window: Window, now_ns: int) -> bool:
        """See whether the model in service is still better than the one before. False: busy, or there is none before."""
        return self.parent is not None and self._begin_job(_Job("review", window, {}, now_ns, self.parent))

    def reality_gap(self, window: Window, now_ns: int) -> bool:
        """Have the reality gap reported; `gap` holds it when it is done. False: busy."""
        return self._begin_job(_Job("gap", window, {}, now_ns))

    def approve(self) -> tuple[bool, str]:
        """Put what waits into service; whether that was done, and words."""
        if self.pending is None:
            return False, "no model waits to be approved"
        version, self.pending = self.pending, None
        if not self._adopt(version):
            return False, self._events[-1].text
        return True, f"model {version.short} is in service"

    def rollback(self, why: str) -> bool:
        """Go back to the version before."""
        if self.parent is None:
            return False
        version = self.parent
        if not self._write(version):
            return False
        self._say("warning", f"model {self.service.short} is taken back, {why}; in service again: {version.short}")
        self.service, self.changed = version, True
        self._find_parent(version)
        return True

    def announcement(self) -> str | None:
        """What to publish on twin/model, when that has changed since last asked; None: nothing new."""
        if not self.changed:
            return None
        self.changed = False
        path = self.store.path(self.service)
        try:
            found = file_hash(path)
        except TwinError as e:
            self._say("error", f"{e}; nothing is announced")
            return None
        said = {"file": str(path), "hash": found, "parent": self.service.parent, "version": self.service.hash}
        return json.dumps(said)

    def poll(self, now_ns: int) -> list[Event]:
        """Go on with what is under way; what there is to say."""
        job = self._job
        if job is not None and self._thread is not None and not self._thread.is_alive():
            self._job = self._thread = None
            self._finish(job)
        if not 0 <= now_ns - self._looked_ns < LOOK_EVERY_NS:
            self._looked_ns = now_ns
            self._look()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End what is under way."""
        self._closed = True
        if self._worker is not None:
            self._worker.kill()
        if self._thread is not None:
            self._thread.join(5.0)
        with self._starting:
            if self._spare is not None:
                self._spare.end()

    # Jobs

    def _begin_job(self, job: _Job) -> bool:
        if self._job is not None or self._closed:
            return False
        self._job = job
        self._thread = threading.Thread(target=self._run, args=(job, self.service), name="model", daemon=True)
        self._thread.start()
        return True

    def _run(self, job: _Job, service: ModelVersion) -> None:
        """In the thread: have a process do it, and wait for that."""
        try:
            with tempfile.TemporaryDirectory(prefix="digital_twin_model_") as name:
                folder = Path(name)
                r, c = self.robot, self.config
                settings = UpdateConfig(c.holdout, c.command_delay, c.residual)
                write_request(
                    folder, job.window, r.description, r.config, service, settings, job.now_ns, job.suspicion, job.parent,
                    job.kind,
                )  # fmt: skip
                self._wait(job, folder)
        except OSError as e:
            job.failed = f"cannot start: {e.strerror or e}"

    def _wait(self, job: _Job, folder: Path) -> None:
        with self._starting:
            worker, self._spare = self._spare, None
            if worker is None or not worker.alive:
                if worker is not None:
                    worker.end()
                worker = ModelWorker(self.config.nice)
            self._worker = worker
        if job.given_up or self._closed:
            worker.kill()
        try:
            code = worker.work(folder, self.config.longest)
            path = folder / OUTCOME
            if code is None:
                job.failed = f"took longer than {self.config.longest:g} s"
            elif code != 0 or not path.exists() or path.stat().st_size > 2 * MAX_BYTES:
                job.failed = f"ended with code {code}" + (f": {last}" if (last := worker.last_words()) else "")
            else:
                job.answer = json.loads(path.read_text(encoding="utf-8"))
        finally:
            worker.end()

    def _finish(self, job: _Job) -> None:
        if job.given_up:
            self._say("info", f"the {job.kind} is given up: {job.given_up}")
            return
        if job.answer is None:
            self._say("error", f"the {job.kind} {job.failed or 'was stopped'}; the model in service stays")
            return
        adopt, words, text = (job.answer.get(k) for k in ("adopt", "words", "version"))
        if job.kind == "gap":
            if adopt:
                self.gap = str(words)
            else:
                self._say("warning", f"no reality gap report: {words}")
            return
        if job.kind == "review":
            if adopt:
                self.rollback(str(words))
            else:
                self._say("info", f"model {self.service.short}: {words}")
            return
        self._say("info", str(words))
        if not adopt:
            return
        try:
            version = parse_version(str(text), "identification")  # with which the process has made forecasts
        except TwinError as e:
            self._say("error", f"{e}; the model in service stays")
            return
        if version.parent != self.service.hash:
            self._say("warning", "another model has come into service meanwhile: the new one is dropped")
        elif self.config.automatic:
            self._adopt(version)
        else:
            self.pending = version
            self._say("warning", f"model {version.short} ({version.reason}) has proved better and waits for ~/approve")

    def _adopt(self, version: ModelVersion) -> bool:
        before = self.service
        if not self._write(version):
            return False
        self.service, self.parent, self.changed = version, before, True
        self.pending = None
        self._say("info", f"model {version.short} ({version.reason}) is in service, after {before.short}")
        return True

    def _look(self) -> None:
        """Somebody may have put another version into service: digital-twin models rollback."""
        said = self.store.in_service()
        if not said or said == self.service.hash:
            return
        try:
            version = self.store.get(said)
            with_version(self.robot, version)
        except TwinError as e:
            self._say("error", f"{e}; the model in service stays")
            self._write(self.service)
            return
        self._say("warning", f"model {version.short} was put into service from outside, after {self.service.short}")
        self.service, self.changed, self.pending = version, True, None
        self._find_parent(version)
