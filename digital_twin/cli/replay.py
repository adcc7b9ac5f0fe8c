"""digital-twin replay --fast: what goes in, what comes out, and whether it is what was recorded."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from digital_twin.bags import Bag
from digital_twin.cli.report import check_writable, write_report
from digital_twin.core.config import flatten, load_yaml
from digital_twin.recording.check import Agreement, Check, first_of
from digital_twin.recording.folder import RecordingConfig
from digital_twin.recording.forecast_replay import remake
from digital_twin.recording.recording import Recording, check_writable_folder, free_name
from digital_twin.recording.replay import Outcome, Replay
from digital_twin.settings import SETTINGS
from digital_twin.system import check_parameter_file


def replay_fast(a: argparse.Namespace) -> int:
    """Replay, print what came of it. Returns 1 when the outputs should be those recorded and are not."""
    if a.json:
        check_writable(a.json)
    settings = settings_of(a.config)
    with Bag(a.bag) as bag, ExitStack() as stack:
        replay = Replay(bag, a.robot_description, a.robot_config, settings, exact=not a.recorded_order)
        check = Check(bag, replay.prefix)
        write = stack.enter_context(_Writer(a.write, replay)) if a.write else None

        def sink(topic: str, time_ns: int, data: bytes) -> None:
            check.replayed(topic, time_ns, data)
            if write is not None:
                write(topic, time_ns, data)

        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        bar = progress.add_task("replaying", total=1.0)
        begin = time.perf_counter()
        outcome = replay.run(sink, lambda share: progress.update(bar, completed=share))
        took = time.perf_counter() - begin
        agreement = check.result()
        notes = [*bag.notes, *outcome.notes]
        remade = None
        if a.forecasts:
            task = progress.add_task("forecasts", total=1.0)
            remade = remake(bag, replay.prefix, replay.robot, lambda share: progress.update(task, completed=share))
    result = summary(outcome, agreement, took, notes)
    if remade is not None:
        result["forecasts"] = asdict(remade)
    if a.json:
        write_report(result, a.json)
    print(in_words(result))
    return 1 if (outcome.exact and result["first_difference"]) or (remade is not None and remade.different) else 0


def settings_of(config: str) -> dict[str, dict[str, Any]]:
    """The settings of nodes in a ROS parameter file, nested names dotted. Raises ConfigError."""
    if not config:
        return {}
    check_parameter_file(config)
    tree = load_yaml(config, "config") or {}
    found: dict[str, dict[str, Any]] = {}
    for key, value in tree.items():
        name = str(key).rsplit("/", 1)[-1]
        for node in SETTINGS if name == "**" else [name]:
            known = {p.name for p in flatten(SETTINGS[node])} if node in SETTINGS else set()
            given = _flat(value.get("ros__parameters", {}), "")
            found.setdefault(node, {}).update({k: v for k, v in given.items() if k in known})
    return found


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


class _Writer:
    """Outputs of a replay as a recording. A context manager."""

    def __init__(self, folder: str, replay: Replay) -> None:
        bag = replay.bag
        path = Path(folder).expanduser()
        check_writable_folder(path.parent)
        files = [(name, "", content) for name, content in bag.attachments.items()]
        meta = bag.metadata.get("digital_twin", {}) | {"replay_of": str(bag.path)}
        self._recording = Recording(free_name(path.parent, path.name), RecordingConfig(keep=0.0), meta, files)
        self._replay = replay
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> _Writer:
        return self

    def __call__(self, topic: str, time_ns: int, data: bytes) -> None:
        number = self._numbers.get(topic)
        if number is None:
            name, kind = self._replay.prefix + topic, self._replay.kinds[topic]
            number = self._numbers[topic] = self._recording.declare(name, kind)
        self._recording.add(number, time_ns, data)
        while self._recording.behind:
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._recording.close()
        print(f"written to {self._recording.path}", file=sys.stderr)


def summary(outcome: Outcome, agreement: dict[str, Agreement], took: float, notes: list[str]) -> dict[str, Any]:
    """As plain data."""
    return {
        "exact": outcome.exact,
        "seconds": outcome.seconds,
        "took_s": took,
        "speed": outcome.seconds / took,
        "messages": outcome.messages,
        "missing": outcome.missing,
        "sha256": outcome.digest,
        "outputs": {
            t: {"messages": n, "sha256": outcome.hashes[t].hexdigest()} for t, n in sorted(outcome.outputs.items())
        },
        "compared": {
            t: {
                "same": g.same,
                "different": g.different,
                "only_recorded": g.only_recorded,
                "only_replayed": g.only_replayed,
            }
            for t, g in sorted(agreement.items())
        },
        "first_difference": first_of(agreement.values()),
        "notes": notes,
    }


def in_words(r: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    how = "as the nodes handled them" if r["exact"] else "in recorded order"
    lines = [
        f"{r['seconds']:.1f} s in {r['took_s']:.2f} s ({r['speed']:.1f}x real time), {r['messages']} messages {how}"
    ]
    if r["missing"]:
        lines.append(f"{r['missing']} messages that the nodes handled are not in the recording")
    lines.append(f"{sum(o['messages'] for o in r['outputs'].values())} outputs, SHA-256 {r['sha256']}")
    same = sum(c["same"] for c in r["compared"].values())
    extra = sum(c["only_recorded"] + c["only_replayed"] for c in r["compared"].values())
    if r["first_difference"]:
        different = sum(c["different"] for c in r["compared"].values())
        lines.append(f"{same} outputs are as recorded, {different} differ; the first: {r['first_difference']}")
        lines.append("(recorded, then replayed)")
        if not r["exact"]:
            lines.append(
                "this is the recorded order, not that in which the nodes handled it: small differences are to be expected"
            )
    elif same:
        lines.append(f"all {same} outputs that were recorded came out the same, byte for byte")
    if extra:
        lines.append(f"{extra} outputs have no counterpart")
    if "forecasts" in r:
        f = r["forecasts"]
        lines.append(
            f"{f['same']} forecasts made again came out the same, {f['different']} differ{': ' if f['first'] else ''}{f['first']}"
        )
    return "\n".join([*lines, *(f"note: {n}" for n in r["notes"])])
