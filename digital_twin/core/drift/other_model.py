"""Another model is in service than the one that the monitor learned with: what that changes in what was learned."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.drift.bank import Nominal
from digital_twin.core.drift.channels import Channels, shares
from digital_twin.core.drift.dynamics import GRAVITY
from digital_twin.core.drift.residuals import Residuals
from digital_twin.core.drift.sample import Block

NS = 1_000_000_000
SMOOTH = 11  # blocks whose mean is taken for the motion; what accelerations are beside it is noise
CALMEST = 0.1  # share of a variance that stays when a model says that it is less
PLACED = 0.012  # [m] to which it is known, from some seconds, where what a robot carries is,
WEIGHED = 0.1  # and the share to which it is known what that weighs
ARM = 0.4  # [m] from the root, at which robots carry


@dataclass(frozen=True)
class Reference:
    """What was learned with. couplings: squared, (n + 6, n + 6); carried [kg] (n,): see BodyDynamics. noise (n + 6,):
    variances of the noise of accelerations, joints and root link. variance (c,): of the residuals that do not move."""

    couplings: Array
    carried: Array
    noise: Array
    variance: Array


def reference(residuals: Residuals, nominal: Nominal, blocks: Sequence[Block]) -> Reference:
    """After learning from `blocks`."""
    dynamics, stand = residuals.dynamics, residuals.joints.stand
    return Reference(
        dynamics.couplings(stand) ** 2, dynamics.carried(), acceleration_noise(blocks), nominal.variance[:, 0].copy()
    )


def expect(learned: Reference, residuals: Residuals, body: Channels) -> None:
    """Of the residuals of another model. Noise of accelerations comes out as that much more torque as there is more to
    accelerate; and a load is known to a tenth of its weight, and where it hangs to a centimetre only."""
    nominal, dynamics, parts = body.bank.nominal, residuals.dynamics, residuals.parts
    if nominal is None or body.detectors is None:
        return
    n = len(learned.carried)
    more = (dynamics.couplings(residuals.joints.stand) ** 2 - learned.couplings) @ learned.noise
    variance = learned.variance.copy()
    variance[parts["torque"]] += more[:n]
    variance[parts["balance"]] += more[n:]
    nominal.variance[:, 0] = np.maximum(variance, CALMEST * learned.variance)
    slack = np.zeros(len(variance))
    carried = np.abs(dynamics.carried() - learned.carried)
    slack[parts["torque"]] = PLACED * GRAVITY * carried
    slack[parts["balance"]] = WEIGHED * GRAVITY * carried.max(initial=0.0) * np.array([0.0, 0.0, 1.0, ARM, ARM, 0.0])
    body.detectors.allow(body.bank.shift(slack))


def acceleration_noise(blocks: Sequence[Block]) -> Array:
    """Variances of what accelerations of joints and root link are beside their means over SMOOTH blocks (n + 6,)."""
    x = np.nan_to_num(np.array([np.concatenate([b.qdd, b.accel, b.turn_rate]) for b in blocks]))
    if len(x) <= SMOOTH:
        return np.zeros(x.shape[1])
    sums = np.cumsum(np.vstack([np.zeros(x.shape[1]), x]), axis=0)
    beside = x[SMOOTH // 2 : len(x) - SMOOTH // 2] - (sums[SMOOTH:] - sums[:-SMOOTH]) / SMOOTH
    return np.asarray((beside**2).mean(axis=0) * SMOOTH / (SMOOTH - 1))


class Relearning:
    """Banks that are learned anew, each by itself, while the others watch.

    Attributes:
        shares: of the false alarms, that each bank's channels have.
    """

    def __init__(self, banks: dict[str, Channels], seconds: float, hours: float) -> None:
        """From so many `seconds`; `hours` between false alarms."""
        self._banks, self._seconds, self._hours = banks, seconds, hours
        self.shares = shares(banks)
        self.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._since

    def clear(self) -> None:
        """Nothing is learned anew."""
        self._since: dict[str, int] = {}
        self._work: Iterator[None] = iter(())

    def begin(self, now_ns: int, names: Sequence[str]) -> None:
        """Forget what was learned of these banks, as far as they exist, and learn it from now on."""
        for name in names:
            if name in self._banks:
                self._banks[name].forget()
                self._since[name] = now_ns

    def go_on(self, now_ns: int, alarm: bool) -> None:
        """A little. Nothing is learned from a robot that has changed: while there is an `alarm` it begins again."""
        next(self._work, None)
        if alarm:
            return self.begin(now_ns, list(self._since))
        for name, since_ns in list(self._since.items()):
            if (now_ns - since_ns) / NS >= self._seconds:
                del self._since[name]
                bank = self._banks[name]
                self._work = itertools.chain(self._work, bank.bank.fit(), bank.watch(self._hours, self.shares[name]))
        return None
