"""Which fidelity a forecast can afford: down by one when forecasts take too long, up again when there is time."""

from __future__ import annotations

from collections.abc import Sequence

DOWN_AFTER, UP_AFTER = 5, 50  # forecasts in a row
HELD = 200  # forecasts after which a fidelity has held: what came between was a disturbance
# Shares of the time there is. What simulates takes at most 1.3 times as long as the next cheaper one that does.
BUSY, IDLE = 0.8, 0.5


class Governor:
    """Feed it how long each forecast took; `fidelity` is the one to use."""

    def __init__(self, wanted: str, ladder: Sequence[str], budget: float, active: bool = True) -> None:
        """`ladder`: fidelities from cheap to dear. `budget` [s] that one forecast may take."""
        self._ladder, self._top = list(ladder), list(ladder).index(wanted)
        self._at, self._budget, self._active = self._top, budget, active
        self._busy = self._idle = 0
        self._patience, self._since_up = UP_AFTER, HELD

    @property
    def fidelity(self) -> str:
        """That can be afforded."""
        return self._ladder[self._at]

    def took(self, seconds: float) -> str:
        """A forecast took so long. Returns what to say, empty when nothing changes."""
        self._since_up += 1
        self._busy = self._busy + 1 if seconds > BUSY * self._budget else 0
        self._idle = self._idle + 1 if seconds < IDLE * self._budget else 0
        if not self._active:
            return ""
        if self._busy >= DOWN_AFTER and self._at > 0:
            self._patience = UP_AFTER if self._since_up > HELD else min(2 * self._patience, 32 * UP_AFTER)
            return self._move(-1, f"forecasts take {1000 * seconds:.0f} ms, too long to be of use")
        if self._idle >= self._patience and self._at < self._top:
            self._since_up = 0
            return self._move(1, "there is time again")
        return ""

    def _move(self, by: int, why: str) -> str:
        self._at += by
        self._busy = self._idle = 0
        return f"{why}: the fidelity is now {self.fidelity}"
