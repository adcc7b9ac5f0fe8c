"""Verdicts as messages: all of it on twin/drift, what is hardware on /diagnostics (REP-107)."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from digital_twin.core.drift.verdict import HARDWARE, Verdict
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL

NS = 1_000_000_000


class DriftTopics:
    """Publishes verdicts."""

    def __init__(self, node: TwinNode[Any]) -> None:
        self._node = node
        self._drift = node.talk(DiagnosticArray, "twin/drift", INTERNAL)
        self._diagnostics = node.talk(DiagnosticArray, "/diagnostics", INTERNAL)
        self._name = node.get_fully_qualified_name().strip("/")

    def publish(self, verdict: Verdict, extra: dict[str, object]) -> None:
        """The summary first, then each subsystem; a hypothesis is told with size, interval and likelihood."""
        values = dict(extra)
        for i, h in enumerate(verdict.hypotheses):
            values[f"hypothesis/{i}"] = h.words
            values[f"hypothesis/{i}/log_likelihood_gain"] = round(h.gain, 1)
            values[f"hypothesis/{i}/explained"] = round(h.explained, 3)
        statuses = [self._status("drift", verdict.level, verdict.words, values)]
        statuses += [self._status(f"drift/{s.name}", s.level, s.words, s.values) for s in verdict.statuses]
        self._drift(self._array(statuses))

    def hardware(self, verdict: Verdict) -> None:
        """Faults as a technician knows them."""
        streams = next(s for s in verdict.statuses if s.name == "streams")
        statuses = [self._status("robot: streams", streams.level, streams.words, {})]
        broken = next((h for h in verdict.hypotheses[:1] if h.kind in HARDWARE), None)
        parts = {"joints": ("motor", "encoder"), "imu": ("gyro bias", "accelerometer bias"), "commands": ("delay",)}
        for part, kinds in parts.items():
            bad = broken is not None and broken.kind in kinds
            words = broken.words if broken is not None and bad else "as expected"
            statuses.append(self._status(f"robot: {part}", 1 if bad else 0, words, {}))
        self._diagnostics(self._array(statuses))

    def _array(self, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
        message = DiagnosticArray(status=statuses)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._node.now_ns(), NS)
        return message

    def _status(self, name: str, level: int, words: str, values: dict[str, object]) -> DiagnosticStatus:
        status = DiagnosticStatus(
            level=bytes([level]), name=f"{self._name}: {name}", message=words, hardware_id=self._name.rpartition("/")[0]
        )
        status.values = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        return status
