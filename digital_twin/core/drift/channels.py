"""A bank of channels with its detectors and its recent past."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

import numpy as np

from digital_twin.core.arrays import Array, Mask
from digital_twin.core.drift.bank import CLIP, Bank
from digital_twin.core.drift.detectors import Detectors

LEAP = 6.0  # standard deviations that a reading jumps
CALM = 1 / 3  # of a jump, which the next score must not reach


def shares(banks: dict[str, Channels]) -> dict[str, Array]:
    """Of the false alarms, of each bank's channels (c,): kinds of channels (tracking, gyro, ...) share equally, and so do the
    channels of a kind that can be judged. A robot has many joints and one gyro, which is no reason to hear it less."""
    kinds = {name: [n.split("/")[0] for n in b.bank.names] for name, b in banks.items()}
    good = Counter(
        k
        for name, b in banks.items()
        if b.bank.nominal is not None
        for k, g in zip(kinds[name], b.bank.nominal.good, strict=True)
        if g
    )
    return {name: np.array([1.0 / (max(len(good), 1) * max(good[k], 1)) for k in ks]) for name, ks in kinds.items()}


class Channels:
    """Residuals of one rhythm: learned while calibrating, then scored and watched.

    Attributes:
        name: of the bank. bank, detectors (None before there is a nominal). recent: stamp, scores without clipping and
            standard deviations of the last samples.
    """

    def __init__(
        self, name: str, names: Sequence[str], units: Sequence[str], features: int = 1, keep: int = 400,
        sizes: Array | None = None, usual: Array | None = None, caution: float = 1.0, slack: Array | None = None,
        clip: float = CLIP, jumps: slice = slice(0),
    ) -> None:  # fmt: skip
        """`clip`: of scores that are watched; where now and then one is far out without any change, no more than CLIP.
        `jumps`: channels that a lasting change moves but once."""
        self.name, self.bank = name, Bank(names, units, features, sizes, usual, slack)
        self._clip, self._jumps, self._sought = clip, jumps, bool(self.bank.sizes.any())
        self._jumped = np.zeros(len(self.bank.names[jumps]))
        self.detectors: Detectors | None = None
        self._caution = caution
        self.recent: deque[tuple[int, Array, Array]] = deque(maxlen=keep)
        self._plain = np.ones((len(self.bank.names), 1))
        self._still = np.zeros(len(self.bank.names))

    def learn(self, stamp_ns: int, residual: Array) -> None:
        """A healthy sample of a bank without features."""
        self.bank.learn(stamp_ns, residual, self._plain, self._still)

    def forget(self) -> None:
        """What was learned, and alarms: to be learned anew."""
        self.detectors = None
        self.bank.forget()
        self.recent.clear()

    def watch(self, hours: float, share: float | Array) -> Iterator[None]:
        """Make detectors for what was learned, a little at a time."""
        nominal = self.bank.nominal
        if nominal is not None and nominal.good.any():
            self.detectors = Detectors(nominal, hours, share, caution=self._caution)
            scores, effects = self.bank.healthy
            scores = np.clip(scores, -self._clip, self._clip)
            yield from self.detectors.rehearse(np.array([self._twice(x) for x in scores]), effects)
        c = len(self.bank.names)
        self.bank.healthy = np.empty((0, c)), np.empty((0, c))

    def add(
        self, stamp_ns: int, residual: Array, features: Array | None = None, spread: Array | None = None,
        judged: Mask | bool = True, forgiven: Array | None = None,
    ) -> None:  # fmt: skip
        """A sample to be judged; where `judged` is False it only keeps the whitening up to date. `forgiven` (c,): by how
        much residuals may be off without any change."""
        if self.detectors is None:
            return
        f = self._plain if features is None else features
        g = self._still if spread is None else spread
        scores = np.clip(self.bank.score(residual, f, g), -self._clip, self._clip)
        self.recent.append((stamp_ns, self.bank.scores, self.bank.sigma))
        heard = self._twice(np.where(judged, scores, np.nan))
        unsure = self.bank.unsure if forgiven is None else self.bank.unsure + self.bank.lasting(forgiven)
        self.detectors.add(heard, self.bank.effect if self._sought else None, unsure)

    def _twice(self, scores: Array) -> Array:
        """A jump after which all is calm counts again: one outlier is no alarm, but has jumped back by then."""
        out: Array = scores.copy()
        now = scores[self._jumps]
        out[self._jumps] += np.where(np.abs(now) < CALM * np.abs(self._jumped), self._jumped, 0.0)
        away = np.where(np.abs(now) > LEAP, self._jumped + now, 0.0)
        self._jumped = np.where(np.abs(away) > LEAP, away, 0.0)
        return out

    def reset(self) -> None:
        """Forget alarms, not what was learned."""
        self.recent.clear()
        self._jumped[:] = 0.0
        if self.detectors is not None:
            self.detectors.reset()

    @property
    def alarm(self) -> Mask:
        """Which channels have an alarm (c,)."""
        return np.zeros(len(self.bank.names), dtype=bool) if self.detectors is None else self.detectors.alarm

    def worst(self) -> tuple[str, float, str]:
        """The channel that is nearest to an alarm, or furthest beyond: name, level in thresholds, kind of change."""
        if self.detectors is None:
            return "", 0.0, ""
        level = self.detectors.level
        i = int(level.argmax())
        return self.bank.names[i], float(level[i]), self.detectors.kind(i)

    def since(self, stamp_ns: int) -> tuple[Array, Array]:
        """Scores and standard deviations (t, c) from a stamp on."""
        rows = [(x, s) for t, x, s in self.recent if t >= stamp_ns]
        c = len(self.bank.names)
        if not rows:
            return np.empty((0, c)), np.empty((0, c))
        return np.array([x for x, _ in rows]), np.array([s for _, s in rows])
