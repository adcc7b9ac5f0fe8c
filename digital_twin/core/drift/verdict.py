"""From detectors, streams and hypotheses to a verdict: one status for each subsystem, one level over all, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from digital_twin.core.drift.hypotheses import Hypothesis
from digital_twin.core.drift.monitor import Monitor
from digital_twin.core.drift.stream_watch import StreamFault

NS = 1_000_000_000
OK, WARN, ERROR = 0, 1, 2
# Subsystems, and the families of channels that tell of them.
SUBSYSTEMS = {
    "drives": ("body", "tracking"),
    "dynamics": ("body", "torque"),
    "balance": ("body", "balance"),
    "gyro": ("body", "gyro"),
    "accelerometer": ("body", "accelerometer"),
    "encoders": ("body", "encoder"),
    "commands": ("body", "timing"),
    "feet": ("feet", "foot"),
    "forecasts": ("forecast", ""),
    "base pose": ("pose", "pose"),
    "scan": ("scan", "scan"),
}
# Kinds that say that hardware is broken, not that a model is old (REP-107).
HARDWARE = ("motor", "encoder", "gyro bias", "accelerometer bias", "missing", "frozen", "delay")


@dataclass(frozen=True)
class Status:
    """Of one subsystem: level, a sentence, and values with their units in the names."""

    name: str
    level: int
    words: str
    values: dict[str, object] = field(default_factory=dict)
    hardware: bool = False


@dataclass(frozen=True)
class Verdict:
    """Summary level and words, and a status for each subsystem."""

    level: int
    words: str
    statuses: list[Status]
    hypotheses: list[Hypothesis]
    streams: list[StreamFault]


class Judge:
    """Makes verdicts of a monitor; one that is bad stays for a while, so that it does not flap."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._held: dict[str, tuple[int, Status]] = {}
        self._names: tuple[list[Hypothesis], int] = [], 0

    def verdict(self, now_ns: int) -> Verdict:
        """At a time of arrival [ns]."""
        m = self._monitor
        streams = m.stream_faults(now_ns)
        fresh = [self._streams(streams), *self._subsystems()]
        statuses = [self._hold(s, now_ns) for s in fresh]
        hypotheses = self._hypotheses(now_ns)
        level = max(s.level for s in statuses)
        return Verdict(level, self._words(level, streams, hypotheses), statuses, hypotheses, streams)

    def _hold(self, status: Status, now_ns: int) -> Status:
        """A level stays for `hold` seconds after it was last reached."""
        until, old = self._held.get(status.name, (0, status))
        if status.level >= old.level or now_ns >= until:
            self._held[status.name] = now_ns + round(self._monitor.config.hold * NS), status
            return status
        return old

    def _hypotheses(self, now_ns: int) -> list[Hypothesis]:
        found = self._monitor.hypotheses
        if found or now_ns > self._names[1]:
            self._names = found, now_ns + round(self._monitor.config.hold * NS)
        return self._names[0]

    def _streams(self, faults: list[StreamFault]) -> Status:
        words = "; ".join(f.words for f in faults)
        periods = self._monitor.streams.periods()
        values: dict[str, object] = {f"period_ms/{name}": round(1e3 * p, 3) for name, p in periods.items()}
        level = ERROR if any(f.kind != "delay" for f in faults) else WARN if faults else OK
        return Status("streams", level, words or "all there and alive", values, True)

    def _subsystems(self) -> list[Status]:
        m = self._monitor
        out = []
        for name, (bank, family) in SUBSYSTEMS.items():
            if bank in m.banks:
                out.append(self._subsystem(name, bank, family))
        return out

    def _subsystem(self, name: str, bank: str, family: str) -> Status:
        m = self._monitor
        c = m.banks[bank]
        nominal, d = c.bank.nominal, c.detectors
        which = [i for i, channel in enumerate(c.bank.names) if channel.startswith(family)]
        if d is None or nominal is None or not nominal.good[which].any():
            why = (
                sorted({nominal.why[c.bank.names[i]] for i in which if c.bank.names[i] in nominal.why})
                if nominal
                else []
            )
            return Status(name, OK, f"not judged: {', '.join(why) or m.phase}")
        level = d.level[which]
        worst = which[int(level.argmax())]
        alarms = [i for i in which if d.alarm[i]]
        values: dict[str, object] = {
            "channels": int(nominal.good[which].sum()), "worst": c.bank.names[worst],
            "level_of_threshold": round(float(level.max()), 4),
            "autocorrelation_left": round(float(nominal.left[which].max()), 3),
            "allowance_sigma": round(float(nominal.allowance[which, 0].max()), 3),
        }  # fmt: skip
        for i in sorted(alarms, key=lambda i: -d.level[i])[:5]:
            values[f"alarm/{c.bank.names[i]}"] = d.kind(i)
            values[f"sigma/{c.bank.names[i]} [{c.bank.units[i]}]"] = round(float(c.bank.sigma[i]), 6)
        if not alarms:
            return Status(name, OK, "as expected", values)
        kinds = sorted({d.kind(i) for i in alarms})
        words = f"{', '.join(c.bank.names[i] for i in alarms[:3])}{' …' if len(alarms) > 3 else ''}: {', '.join(kinds)}"
        return Status(name, WARN, words, values)

    def _words(self, level: int, streams: list[StreamFault], hypotheses: list[Hypothesis]) -> str:
        m = self._monitor
        if m.phase in ("waiting", "calibrating", "learning") and level == OK:
            return {"waiting": "waiting for data", "calibrating": "learning what is normal"}.get(m.phase, "learning")
        if level == OK:
            return "behaves like its model"
        said = [f.words for f in streams[:3]]
        if hypotheses:
            said.append(hypotheses[0].words)
        elif m.since_ns is not None:
            said.append(
                "something has changed; none of the hypotheses explains it"
                if m.attributed_ns
                else "something has changed"
            )
        return "; ".join(said) or "it was not as expected a moment ago"
