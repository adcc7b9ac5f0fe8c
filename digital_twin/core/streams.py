"""All streams that the synchronizer hears: their timing, lags between them, and whether a clock has jumped."""

from __future__ import annotations

from digital_twin.core.arrays import Array
from digital_twin.core.stream_timing import LagMeter, StreamClock

NS = 1_000_000_000
EVERY = 4  # times that values are asked for they are computed: that costs milliseconds, and they do not change fast


class Streams:
    """Kept by name of the stream."""

    def __init__(self) -> None:
        self._clocks: dict[str, StreamClock] = {}
        self._arrivals: dict[str, tuple[int, int]] = {}
        self._turn = LagMeter(step=0.01)
        self._values: dict[str, float] = {}
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
        """Numbers by name: milliseconds, and parts per million for clock drift. They are some seconds old at most."""
        if not self._values or self._asked % EVERY == 0:
            self._values = self._timing()
        self._asked += 1
        return self._values

    def _timing(self) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, clock in self._clocks.items():
            t = clock.timing()
            if t is None:
                continue
            out[f"{name}/offset_ms"], out[f"{name}/offset_spread_ms"] = 1e3 * t.offset, 1e3 * t.offset_spread
            out[f"{name}/drift_ppm"], out[f"{name}/drift_spread_ppm"] = 1e6 * t.drift, 1e6 * t.drift_spread
            out[f"{name}/excess_p50_ms"], out[f"{name}/excess_p99_ms"] = 1e3 * t.excess_p50, 1e3 * t.excess_p99
        lag = self._turn.lag()
        if lag is not None:
            out["joints_behind_imu_ms"] = 1e3 * lag.lag
            out["joints_behind_imu_spread_ms"] = 1e3 * lag.spread
        return out
