"""The live status in the terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from digital_twin.cli.monitor import Monitor, NodeState

COLOURS = {0: "green", 1: "yellow", 2: "red", 3: "red"}


def render(
    title: str, monitor: Monitor, names: list[str], usage: dict[str, dict[str, float]], restarts: dict[str, int]
) -> Any:
    """The whole picture: what the twin does, a line a node, warnings in words."""
    return Panel(
        Group(_summary(monitor), Text(""), _nodes(monitor, names, usage, restarts), *_warnings(monitor, names)),
        title=title, subtitle="Ctrl-C ends it", border_style="cyan",
    )  # fmt: skip


def _summary(monitor: Monitor) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    sync = monitor.nodes.get("twin_synchronizer", NodeState())
    latency = monitor.recent_latency.summary()
    table.add_row("sync latency", f"p50 {latency['p50']:.2f} ms   p99 {latency['p99']:.2f} ms" if latency else "–")
    score = monitor.score
    if score.position.count:
        rms = (score.position.root or 0.0, score.attitude.root or 0.0, score.joints.root)
        text = f"base {100 * score.position_now:.1f} cm, {score.attitude_now:.2f} deg from the truth"
        text += f"   (RMS {100 * rms[0]:.1f} cm, {rms[1]:.2f} deg)"
        text += f"   joints RMS {1000 * rms[2]:.2f} mrad" if rms[2] is not None else ""
        table.add_row("tracking error", text)
    error = sync.values.get("sync_error_m", "nan")
    if error != "nan":
        table.add_row("external pose", f"{100 * float(error):.1f} cm from the virtual one")
    paces = [s.values["real_time_factor"] for s in monitor.nodes.values() if "real_time_factor" in s.values]
    if paces:
        table.add_row("real-time factor", f"{float(paces[0]):.3f}")
    contacts = sync.numbers("contact")
    if contacts:
        table.add_row("standing on", ", ".join(foot for foot, on in contacts.items() if on) or "nothing")
    return table


def _nodes(monitor: Monitor, names: list[str], usage: dict[str, dict[str, float]], restarts: dict[str, int]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name, justify in (
        ("node", "left"), ("state", "left"), ("output", "right"), ("work avg/max", "right"), ("refused", "right"),
        ("CPU", "right"), ("memory", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in names:
        s = monitor.nodes.get(name)
        used = usage.get(name, {})
        cpu = f"{used['cpu_percent']:.0f} %" if used else ""
        memory = f"{used['rss_mb']:.0f} MB" if used else ""
        if s is None:
            table.add_row(name, Text("starting", "yellow"), "", "", "", cpu, memory)
            continue
        loop = s.numbers("loop_ms")
        rates = s.numbers("rate_hz")
        # The main output of a node is its first one that flows.
        rate = next((f"{topic} {hz:.0f} Hz" for topic, hz in _main_first(rates) if hz > 0), "")
        work = f"{loop['avg']:.2f}/{loop['max']:.1f} ms" if loop else ""
        refused = sum(s.counts("rejected").values())
        table.add_row(name, _state(s, restarts.get(name, 0)), rate, work, str(refused), cpu, memory)
    return table


def _main_first(rates: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(rates.items(), key=lambda item: not item[0].endswith(("joint_states", "joint_commands")))


def _state(s: NodeState, restarts: int) -> Text:
    if time.monotonic() - s.heard > 2.5:
        return Text("silent", "red")
    words = {0: "ok", 1: "warning", 2: "error"}.get(s.level, "error")
    again = f" (restarted {restarts}x)" if restarts else ""
    return Text(words + again, COLOURS.get(s.level, "red"))


def _warnings(monitor: Monitor, names: list[str]) -> list[Text]:
    said = [(n, monitor.nodes[n]) for n in names if n in monitor.nodes and monitor.nodes[n].words]
    return [Text("")] * bool(said) + [Text(f"{n}: {s.words}", COLOURS.get(s.level, "red")) for n, s in said]
