"""What a run was like, as JSON and in a few lines of words."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from digital_twin.cli.monitor import Monitor
from digital_twin.core.errors import TwinError


def check_writable(path: str) -> None:
    """Raises TwinError when a report cannot be written there."""
    folder = Path(path).expanduser().resolve().parent
    if not folder.is_dir():
        raise TwinError(f"{path}: cannot write the report: no folder {folder}")
    try:
        with Path(path).expanduser().open("a"):
            pass
    except OSError as e:
        raise TwinError(f"{path}: cannot write the report: {e.strerror}") from e


def build_report(
    monitor: Monitor, duration: float, restarts: dict[str, int], usage: dict[str, dict[str, float]],
    rates: dict[str, float], pace: list[float],
) -> dict[str, Any]:  # fmt: skip
    """The report as plain data; null stands for what could not be measured."""
    score = monitor.score
    bridge = monitor.nodes.get("physical_bridge")
    received = bridge.counts("received") if bridge else {}
    rejected: Counter[str] = Counter()
    for state in monitor.nodes.values():
        for key, count in state.counts("rejected").items():
            rejected[key.rsplit("/", 1)[-1]] += count
    loops = {name: state.numbers("loop_ms") for name, state in monitor.nodes.items()}
    sync = monitor.nodes.get("twin_synchronizer")
    return _finite(
        {
            "duration_s": duration,
            "rates_hz": rates,
            "sync_latency_ms": monitor.latency.summary() or {"p50": None, "p99": None, "max": None},
            "loop": {name: loop for name, loop in loops.items() if loop},
            "joint_rmse_rad": score.joints.root,
            "base_position_rmse_m": score.position.root,
            "base_attitude_rmse_deg": score.attitude.root,
            "base_tilt_rmse_deg": score.tilt.root,
            "base_position_end_m": score.position_now,
            "distance_m": score.distance if score.position.count else None,
            "sync_error_m": float(sync.values.get("sync_error_m", "nan")) if sync else None,
            "real_time_factor": sum(pace) / len(pace) if pace else None,
            "messages": {
                "received": sum(received.values()),
                "received_by_topic": received,
                "answered": sync.counts("sent").get("virtual/joint_states", 0) if sync else 0,
                "rejected": dict(sorted(rejected.items())),
            },
            "node_restarts": restarts,
            "nodes": usage,
        }
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def write_report(report: dict[str, Any], path: str) -> None:
    """Write it as JSON, whole or not at all."""
    target = Path(path).expanduser()
    draft = target.with_name(target.name + ".part")
    draft.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draft.replace(target)


def in_words(report: dict[str, Any]) -> str:
    """One paragraph for the terminal."""
    r = report
    parts = [f"ran {r['duration_s']:.1f} s"]
    if r["real_time_factor"] is not None:
        parts.append(f"real-time factor {r['real_time_factor']:.3f}")
    if r["sync_latency_ms"]["p50"] is not None:
        latency = r["sync_latency_ms"]
        parts.append(f"sync latency p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms")
    if r["joint_rmse_rad"] is not None:
        parts.append(f"joints within {1000 * r['joint_rmse_rad']:.2f} mrad RMS of the truth")
    if r["base_position_rmse_m"] is not None:
        parts.append(
            f"base within {100 * r['base_position_rmse_m']:.2f} cm and {r['base_attitude_rmse_deg']:.2f} deg RMS "
            f"over {r['distance_m']:.2f} m, {100 * r['base_position_end_m']:.2f} cm at the end"
        )
    rejected = sum(r["messages"]["rejected"].values())
    parts.append(f"{r['messages']['received']} messages received, {rejected} refused")
    restarts = sum(r["node_restarts"].values())
    if restarts:
        parts.append(f"{restarts} node restart{'s' if restarts > 1 else ''}")
    return "; ".join(parts) + "."
