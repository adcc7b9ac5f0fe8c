"""All streams that the synchronizer hears: their timing, lags between them, and whether a clock has jumped."""

from __future__ import annotations

from digital_twin.core.arrays import Array
from digital_twin.core.stream_timing import LagMeter, StreamClock

NS = 1_000_000_000
LAG = "lag"


class Streams:
    """Kept by name of the stream."""

    def __init__(self) -> None:
        self._clocks: dict[str, StreamClock] = {}
        self._arrivals: dict[str, tuple[int, int]] = {}
        self._turn = LagMeter(step=0.01)
        self._values: dict[str, dict[str, float]] = {}
        self._asked = 0

    def heard(self, stream: str, stamp_ns: int, arrival_ns: int) -> None:
        """A message came."""
        clock = self._clocks.get(stream)
        if clock is None:
            clock = self._clocks[stream] = StreamClock()
        clock.add(stamp_ns, arrival_ns)
        self._arrivals[stream] = (arrival_ns, self._arrivals.get(stream, (arrival_ns, 0))[0])

    def offset_ns(self, stream: str) -> int:
        """Clock offset plus least delay of late [ns]; 0 while nothing is known."""
        clock = self._clocks.get(stream)
        return 0 if clock is None else clock.least_ns

    def clock_jumped(self, stream: str, jump_ns: int) -> bool:
        """Whether stamps that moved by jump_ns since the last message did so without time passing."""
        arrivals = self._arrivals.get(stream)
        if jump_ns < 0:
            return True
        return arrivals is not None and arrivals[0] - arrivals[1] < jump_ns / 2

    def turned(self, source: int, stamp_ns: int, rate: Array) -> None:
        """The base's angular velocity by the gyro (0) or by the standing leg (1) [rad/s] (3,), to find their lag."""
        self._turn.add(source, stamp_ns, rate)

    def clear(self) -> None:
        """Begin again, after a hole in time."""
        for clock in self._clocks.values():
            clock.clear()
        self._turn.clear()
        self._values = {}

    def values(self) -> dict[str, float]:
        """Numbers by name: milliseconds, and parts per million for clock drift.

        Each time one stream's are computed anew, or the lag: all at once would hold up who asks, and what it is to do,
        for milliseconds. The others are as many calls old as there are streams at most.
        """
        parts = [*self._clocks, LAG]
        new = [part for part in parts if part not in self._values] or [parts[self._asked % len(parts)]]
        self._asked += 1
        for part in new:
            self._values[part] = self._lag() if part == LAG else self._timing(part)
        return {name: value for values in self._values.values() for name, value in values.items()}

    def _timing(self, stream: str) -> dict[str, float]:
        t = self._clocks[stream].timing()
        if t is None:
            return {}
        return {
            f"{stream}/offset_ms": 1e3 * t.offset, f"{stream}/offset_spread_ms": 1e3 * t.offset_spread,
            f"{stream}/drift_ppm": 1e6 * t.drift, f"{stream}/drift_spread_ppm": 1e6 * t.drift_spread,
            f"{stream}/excess_p50_ms": 1e3 * t.excess_p50, f"{stream}/excess_p99_ms": 1e3 * t.excess_p99,
        }  # fmt: skip

    def _lag(self) -> dict[str, float]:
        lag = self._turn.lag()
        if lag is None:
            return {}
        return {"joints_behind_imu_ms": 1e3 * lag.lag, "joints_behind_imu_spread_ms": 1e3 * lag.spread}
