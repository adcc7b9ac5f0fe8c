"""Recordings: what the recorder costs and loses, how fast it writes, how fast replay and report are.

The recorder runs beside a twin of 28 joints at 200 Hz and records everything; in the same run a process that only
subscribes to the same topics, as bytes, is the floor that the middleware sets.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from mcap.writer import Writer

from benchmark.table import Row, main
from benchmark.twin_run import cpu_seconds, helper, twin
from digital_twin.bags import Bag
from digital_twin.recording.check import Check
from digital_twin.recording.folder import RecordingConfig, RecordingFolder
from digital_twin.recording.mcap_file import ChunkBuilder, channel
from digital_twin.recording.message_types import definition
from digital_twin.recording.recording import Recording
from digital_twin.recording.replay import Replay

ICUB = Path(__file__).parents[2] / "shared" / "data" / "icub_walking"
NS = 1_000_000_000
KEPT = 60.0  # [s] that it keeps in memory
FILLED = 90.0  # [s] after which the last minute that it keeps in memory has filled
Message = tuple[str, int, bytes]


def measure(a: argparse.Namespace) -> list[Row]:
    """All figures."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bag = record(Path(folder), a.seconds, rows)
        throughput(bag, Path(folder), rows)
        if a.minutes > 0:
            report(bag, Path(folder), a.minutes, rows)
    replay(rows)
    return rows


def record(folder: Path, seconds: float, rows: list[Row]) -> Path:
    """Run a twin with the recorder, and beside it bare subscriptions to the same topics."""
    others = f"/**/recorder: {{ros__parameters: {{folder: {folder}, name: run}}}}\n"
    with twin(200.0, 10.0, others, 0.0, "--record") as run:
        with Bag(folder / "run") as bag:
            topics = [f"{t.name}:{t.kind.replace('/msg/', '/')}" for t in bag.topics.values()]
        with helper("bytes", *topics) as bare:
            time.sleep(6.0)
            processes = [run.nodes()["recorder"], psutil.Process(bare.pid)]
            before = [cpu_seconds(p) for p in processes]
            memory, begin = [], time.monotonic()
            while (took := time.monotonic() - begin) < seconds:
                size = sum(f.stat().st_size for f in (folder / "run").glob("*.mcap")) / 1e6
                memory.append((took, processes[0].memory_info().rss / 1e6, size))
                time.sleep(1.0)
            cores = [(cpu_seconds(p) - b) / took for p, b in zip(processes, before, strict=True)]
    with Bag(folder / "run") as bag:
        rate = sum(t.count for t in bag.topics.values()) / ((bag.end_ns - bag.start_ns) / NS)
        counted = short_of_counters(bag)
    lacking, unheard, different = replayed(folder / "run")
    rows += [
        Row(
            f"recorder beyond bare subscriptions, {rate:.0f} messages/s",
            100 * (cores[0] - cores[1]),
            "% of a core",
            10.0,
        ),
        Row("recorder, beside bare subscriptions", 100 * cores[0], "% of a core", None, 100 * cores[1], "bare"),
        Row(f"messages of {took + 16:.0f} s that the nodes handled and that are not recorded", lacking, "", 0.0),
        Row("outputs of the nodes that are not recorded", unheard, "", 0.0),
        Row("outputs that replay gives otherwise than recorded", different, "", 0.0),
        Row("messages missing, by the publishers' counters", counted, "", 0.0),
        *memory_rows(np.array(memory)),
    ]
    return folder / "run"


def memory_rows(memory: np.ndarray) -> list[Row]:
    """Of time [s], memory and size of the files [MB] (n, 3). The last minute is in memory as it is in the files, and its
    size is that of what was sent: lidars that run when nothing else does send now more, now less."""
    t, total, size = memory.T
    kept = size - np.interp(t - KEPT, t, size)
    settled = t > min(FILLED, t[-1] / 2)
    own = total - kept
    return [
        Row("memory of the recorder, at most", float(total.max()), "MB"),
        Row("the last minute in it, after it has filled, from", float(kept[settled].min()), "MB"),
        Row("to", float(kept[settled].max()), "MB"),
        Row("memory beyond the last minute, at most", float(own[settled].max()), "MB"),
        Row("memory beyond the last minute, growth in 10 minutes", 600.0 * float(np.polyfit(t[settled], own[settled], 1)[0]), "MB", 5.0),
    ]  # fmt: skip


def replayed(path: Path) -> tuple[int, int, int]:
    """The recording run again: messages that the nodes handled and that it lacks, outputs that it lacks, that differ."""
    with Bag(path) as bag:
        run = Replay(bag)
        check = Check(bag, run.prefix)
        outcome = run.run(check.replayed)
        result = check.result().values()
    if not outcome.exact:
        return -1, -1, -1
    return outcome.missing, sum(a.only_replayed for a in result), sum(a.different for a in result)


def short_of_counters(bag: Bag) -> int:
    """What publishers sent between their first and last status, less what was recorded between these.

    A message is on its way for some milliseconds: two of each topic may lie on the other side.
    """
    from digital_twin.recording.gather import gather

    run = gather(str(bag.path))
    first: dict[str, tuple[int, int]] = {}
    last: dict[str, tuple[int, int]] = {}
    for s in run.statuses:
        for key, value in s.values.items():
            if key.startswith("sent/") and int(value) > 0:
                first.setdefault(key[5:], (s.time_ns, int(value)))
                last[key[5:]] = (s.time_ns, int(value))
    short = 0
    for topic, (begin, n) in first.items():
        times = run.times.get(topic.lstrip("/"))
        if times is not None and begin >= times[0]:
            end, m = last[topic]
            there = int(((times > begin) & (times <= end)).sum())
            short += max(0, (m - n) - there - 2)
    return short


def throughput(bag: Path, folder: Path, rows: list[Row]) -> None:
    """The same messages, written by the bare mcap writer and by us."""
    with Bag(bag) as opened:
        messages = list(opened.messages())
        kinds = {t.name: t.kind for t in opened.topics.values()}
    size = sum(len(m[2]) for m in messages) / 1e6
    ours, bare = [], []
    for k in range(5):
        ours.append(size / timed(lambda k=k: write_ours(messages, kinds, folder / f"ours{k}")))  # type: ignore[misc]
        bare.append(size / timed(lambda k=k: write_bare(messages, kinds, folder / f"bare{k}.mcap")))  # type: ignore[misc]
    rows.append(
        Row("write throughput", statistics.median(ours), "MB/s", 0.7, statistics.median(bare), "mcap writer", True)
    )


def timed(work: object) -> float:
    """Seconds it takes."""
    begin = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begin


def write_ours(messages: list[Message], kinds: dict[str, str], path: Path) -> None:
    """As the recorder does."""
    recording = Recording(path, RecordingConfig(min_free=0.0, backlog=10_000.0), {})
    numbers = {name: recording.declare(name, kind) for name, kind in kinds.items()}
    for topic, t, data in messages:
        recording.add(numbers[topic], t, data)
    recording.close()
    if recording.lost:
        raise RuntimeError(f"{recording.lost} messages lost")


def write_bare(messages: list[Message], kinds: dict[str, str], path: Path) -> None:
    """As the mcap package does by default: zstd, chunks of a megabyte."""
    with path.open("wb") as f:
        w = Writer(f)
        w.start("ros2")
        numbers = {}
        for name, kind in kinds.items():
            schema = w.register_schema(kind, "ros2msg", definition(kind)[0].encode())
            numbers[name] = w.register_channel(name, "cdr", schema)
        for topic, t, data in messages:
            w.add_message(numbers[topic], t, data, t)
        w.finish()


def replay(rows: list[Row]) -> None:
    """The iCub bag through bridge and synchronizer (and drift monitor), twice at least."""
    if not ICUB.exists():
        return
    speeds, of_core, digests = [], [], set()
    for _ in range(7):
        with Bag(ICUB) as bag:
            begin, busy = time.perf_counter(), time.process_time()
            outcome = Replay(bag, str(ICUB / "icub.urdf")).run()
            speeds.append(outcome.seconds / (time.perf_counter() - begin))
            of_core.append(outcome.seconds / (time.process_time() - busy))
        digests.add(outcome.digest)
    rows.append(Row("the same, for a second of a core", statistics.median(of_core), "x real time"))
    rows.insert(
        -1,
        Row(
            "replay of the iCub bag, loading the robot included",
            statistics.median(speeds),
            "x real time",
            8.0,
            at_least=True,
        ),
    )
    rows.append(Row("different outputs in seven replays", len(digests) - 1, "", 0.0))


def report(bag: Path, folder: Path, minutes: float, rows: list[Row]) -> None:
    """A report on a long recording: the one just made, again and again, with stamps that go on."""
    long = folder / "long"
    extend(bag, long, minutes)
    with Bag(long) as made:
        length, count = (made.end_ns - made.start_ns) / 60e9, sum(t.count for t in made.topics.values())
        mb = sum(f.stat().st_size for f in long.glob("*.mcap")) / 1e6
    html = folder / "report.html"
    command = [
        sys.executable,
        "-m",
        "digital_twin",
        "report",
        str(long),
        "--html",
        str(html),
        "--json",
        str(folder / "r.json"),
    ]
    took = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    rows.append(
        Row(f"report on {length:.1f} minutes ({count / 1e6:.1f} million messages, {mb:.0f} MB)", took, "s", 60.0)
    )
    rows.append(Row("its HTML", html.stat().st_size / 1e6, "MB", 20.0))


def extend(bag: Path, long: Path, minutes: float) -> None:
    """A recording played again and again, with stamps that go on, in chunks as the recorder writes them."""
    with Bag(bag) as opened:
        topics = [t for t in opened.topics.values() if "journal" not in t.name]
        channels = {i: channel(i, t.name, t.kind, *definition(t.kind)) for i, t in enumerate(topics, 1)}
        numbers = {t.name: (i, t.kind) for i, t in enumerate(topics, 1)}
        messages = [(*numbers[m[0]], *m[1:]) for m in opened.messages(numbers) if m[1] > opened.start_ns + 6 * NS]
    out, builder = RecordingFolder(long, RecordingConfig(), {"robot": "humanoid"}, ()), ChunkBuilder()
    span = messages[-1][2] - messages[0][2] + 5_000_000
    due = messages[0][2]
    for k in range(round(minutes * 60 * NS / span)):
        for number, kind, t, data in messages:
            if t + k * span > due:
                due = t + k * span + round(RecordingConfig().flush_period * NS)
                chunk = builder.finish()
                if chunk is not None:
                    out.append(chunk, channels)
            builder.add(number, t + k * span, moved(data, kind, k * span))
    out.close()


def moved(data: bytes, kind: str, shift: int) -> bytes:
    """A message of another time."""
    if kind == "std_msgs/msg/Int64MultiArray":
        n = (len(data) - 24) // 8
        return data[: len(data) - 8 * n] + (np.frombuffer(data, "<i8", n, len(data) - 8 * n) + shift).tobytes()
    if kind == "std_msgs/msg/Float64MultiArray":
        return data
    sec, nanosec = struct.unpack_from("<iI", data, 4)
    return data[:4] + struct.pack("<iI", *divmod(sec * NS + nanosec + shift, NS)) + data[12:]


if __name__ == "__main__":
    main(
        "recording", measure, ("seconds", 60.0, "that the recorder is watched"),
        ("minutes", 60.0, "of the recording that is reported on; 0: none"),
    )  # fmt: skip
