"""Everything that a report is made of, read from a recording in one pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from digital_twin.bags import Bag, namespace_of
from digital_twin.core.errors import TwinError
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.identity import CONFIG, URDF
from digital_twin.recording.mcap_reader import Times
from digital_twin.recording.recording import Recording
from digital_twin.recording.replay import Replay
from digital_twin.recording.tables import LABELLED, Table, read_tables
from digital_twin.recording.typed import deserialize, int64_multi_array
from digital_twin.robots import Robot, load_robot

NS = 1_000_000_000
MOST_STATUSES, MOST_FORECASTS = 2000, 600  # about so many are read, spread over the recording
STATUS = "diagnostic_msgs/msg/DiagnosticArray"
TABLES = (
    "joint_states", "joint_commands", "virtual/joint_commands", "virtual/joint_states", "virtual/odom", "virtual/pose",
    "ground_truth/odom", "ground_truth/joint_states", "external_pose",
)  # fmt: skip
POSE = tuple(str(i) for i in range(7))
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Status:
    """What a node said of itself at a time [ns]."""

    time_ns: int
    node: str
    level: int
    words: str
    values: dict[str, str]


@dataclass
class Run:
    """A recording as tables; names of topics are without the namespace. Times of receipt by topic in `times`.

    replayed: virtual/… and twin/… are not from the recording but from a replay of it.
    """

    path: Path
    start_ns: int
    end_ns: int
    kinds: dict[str, str]
    times: dict[str, Times]
    tables: dict[str, Table]
    statuses: list[Status]
    arrivals: dict[int, int]
    raw: dict[str, list[tuple[int, bytes]]]
    metadata: dict[str, str]
    notes: list[str]
    robot: Robot | None
    true_frame: str = ""
    replayed: bool = False
    others: dict[str, int] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """[s]"""
        return (self.end_ns - self.start_ns) / NS

    def seconds(self, stamps: Times) -> np.ndarray:
        """Stamps [ns] as seconds since the start; where the robot's clock is another, that is taken off."""
        return (stamps - self.start_ns + self._offset()) / NS

    def _offset(self) -> int:
        table = self.tables.get("joint_states")
        if table is None or not len(table):
            return 0
        offset = int(np.median(table.received - table.stamps))
        return offset if abs(offset) > NS // 2 else 0


def gather(
    path: str, robot_description: str = "", robot_config: str = "", progress: Progress = lambda share: None
) -> Run:
    """Read a recording; where it holds no outputs of the twin and the robot is known, the twin is run over it first.

    Raises:
        TwinError: when it cannot be read.
    """
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(path))
        prefix = namespace_of(bag) or "/"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        notes: list[str] = []
        robot = _robot(bag, folder, robot_description, robot_config, notes)
        run = _read(bag, prefix, robot, notes, progress)
        known = robot_description or URDF in bag.attachments
        if "virtual/joint_states" not in run.tables and known and prefix + "joint_states" in bag.topics:
            made = stack.enter_context(_replayed(bag, folder, robot_description, robot_config, run, progress))
            more = _read(made, prefix, robot, notes, lambda share: None)
            run.tables |= more.tables
            run.kinds |= more.kinds
            run.statuses, run.raw = more.statuses, run.raw | more.raw
            run.replayed = True
        run.notes += bag.notes
    return run


def _robot(bag: Bag, folder: Path, description: str, config: str, notes: list[str]) -> Robot | None:
    if not description and URDF in bag.attachments:
        for name in (URDF, CONFIG):
            (folder / name).write_bytes(bag.attachments.get(name, b""))
        description, config = str(folder / URDF), config or str(folder / CONFIG)
    if not description:
        return None
    try:
        return load_robot(description, config)
    except TwinError as e:
        notes.append(f"the robot cannot be loaded: {e}")
        return None


def _replayed(bag: Bag, folder: Path, description: str, config: str, run: Run, progress: Progress) -> Bag:
    replay = Replay(bag, description, config, exact=False)
    recording = Recording(folder / "replayed", RecordingConfig(keep=0.0, min_free=0.0, backlog=10_000.0), {})
    numbers: dict[str, int] = {}

    def sink(topic: str, time_ns: int, data: bytes) -> None:
        if topic not in numbers:
            numbers[topic] = recording.declare(replay.prefix + topic, replay.kinds[topic])
        recording.add(numbers[topic], time_ns, data)

    outcome = replay.run(sink, progress)
    recording.close()
    run.notes += [f"replay: {note}" for note in outcome.notes]
    return Bag(folder / "replayed")


def _read(bag: Bag, prefix: str, robot: Robot | None, notes: list[str], progress: Progress) -> Run:
    own = {name[len(prefix) :]: t for name, t in bag.topics.items() if name.startswith(prefix)}
    feet = [f.wrench_topic for f in robot.config.feet if f.wrench_topic] if robot else []
    feet = feet or [t for t in own if t.startswith("feet/") and t.endswith("wrench")]
    tables = [t for t in (*TABLES, *feet) if t in own]
    labelled = [t for t, x in own.items() if x.kind == LABELLED and t.startswith(("virtual/prediction/", "twin/drift"))]
    warm = [t for t, x in own.items() if x.kind == "sensor_msgs/msg/Temperature"]
    statuses = [t for t, x in own.items() if x.kind == STATUS and t.startswith(("twin/", "virtual/prediction/"))]
    forecasts = [t for t, x in own.items() if t.startswith("virtual/prediction/") and "JointTrajectory" in x.kind]
    total = sum(bag.topics[prefix + t].count for t in (*tables, *labelled, *warm, *statuses, *forecasts)) or 1
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        progress(done / total)

    def keep(topic: str, column: str) -> bool:
        topic = topic[len(prefix) :]
        if topic in feet:
            return column == "2"
        if topic.endswith(("odom", "pose")):
            return column in POSE
        if topic in ("joint_states", "virtual/joint_states"):
            return True
        return not column.startswith(("velocity/", "effort/"))

    raw = {prefix + t: own[t].count // MOST_STATUSES for t in statuses}
    raw |= {prefix + t: own[t].count // MOST_FORECASTS for t in forecasts} | {prefix + "twin/arrivals": 1}
    found, messages = read_tables(
        bag, [prefix + t for t in (*tables, *labelled, *warm)], keep, raw=raw, exact=False,
        progress=count,
    )  # fmt: skip
    messages = {name[len(prefix) :]: m for name, m in messages.items()}
    arrivals: dict[int, int] = {}
    for _, data in messages.pop("twin/arrivals", []):
        try:
            pairs = int64_multi_array(data)[2]
        except TwinError as e:
            notes.append(f"twin/arrivals: {e}")
            break
        arrivals |= dict(zip(pairs[::2].tolist(), pairs[1::2].tolist(), strict=False))
    run = Run(
        bag.path, bag.start_ns, bag.end_ns, {t: x.kind for t, x in own.items()},
        {name.removeprefix(prefix): t for name, t in bag.times().items()},
        {name[len(prefix) :]: t for name, t in found.items()}, [], arrivals,
        {t: messages[t] for t in forecasts}, bag.metadata.get("digital_twin", {}), list(notes), robot,
    )  # fmt: skip
    run.notes += [f"{t}: {x.malformed} messages are none of their type" for t, x in run.tables.items() if x.malformed]
    run.tables = {t: x for t, x in run.tables.items() if len(x)}
    run.statuses = _statuses({t: messages[t] for t in statuses}, run.notes)
    if prefix + "ground_truth/odom" in bag.topics:
        run.true_frame = _child_frame(bag, prefix + "ground_truth/odom")
    return run


def _child_frame(bag: Bag, topic: str) -> str:
    for _, _, data in bag.messages([topic]):
        try:
            return str(deserialize(data, "nav_msgs/msg/Odometry").child_frame_id)
        except TwinError:
            return ""
    return ""


def _statuses(messages: dict[str, list[tuple[int, bytes]]], notes: list[str]) -> list[Status]:
    out = []
    for topic, all_of_it in messages.items():
        for time_ns, data in all_of_it:
            try:
                m = deserialize(data, STATUS)
            except TwinError as e:
                notes.append(f"{topic}: {e}")
                break
            for s in m.status:
                out.append(
                    Status(
                        time_ns, s.name.rsplit("/", 1)[-1], int(s.level), s.message, {v.key: v.value for v in s.values}
                    )
                )
    return sorted(out, key=lambda s: s.time_ns)
