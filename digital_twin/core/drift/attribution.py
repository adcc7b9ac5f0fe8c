"""Which hypothesis explains the recent residuals best? Generalised least squares on whitened scores.

Scores are independent and of unit variance, so for a signature s (whitened the same way) the size is sᵀx / sᵀs, its
variance 1 / sᵀs, and it gains (sᵀx)² / 2 sᵀs in log-likelihood. Each parameter costs the logarithm of how much narrower it
became by the data than such changes are (Occam's factor: MacKay 1992, "Bayesian interpolation").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Index, Mask
from digital_twin.core.drift.bank import Bank
from digital_twin.core.drift.hypotheses import Hypothesis, Signature, Signatures
from digital_twin.core.drift.residuals import Residuals
from digital_twin.core.drift.sample import Block

PIECE = 3  # samples, or frames, whose signatures are computed at a time
ENOUGH = 0.4  # of what is too much must be explained, else it is none of these
RIVAL = 0.5  # of what the best explains: who explains less of the alarms is not in question, whatever else it gains
LEAST_GAIN = 8.0
# How large such changes are when they come, in the units of Hypothesis; of feet in standard deviations of innovations.
USUAL = {
    "payload": 2.0, "friction": 1.0, "motor": 0.3, "encoder": 0.03, "gyro bias": 0.02, "accelerometer bias": 0.3,
    "delay": 0.02, "slip": 3.0, "ground": 3.0,
}  # fmt: skip
LOST = 3.0  # by how much less likely it is that a link became lighter than that it became heavier [nat]


@dataclass(frozen=True)
class Evidence:
    """The recent past: blocks, their scores (t, c) without clipping and standard deviations (t, c); which channels alarm
    (c,); of the feet scores (u, 6 f) and which of them alarm; of joints whose readings jumped the score and by how much
    [rad]."""

    blocks: list[Block]
    scores: Array
    sigma: Array
    alarm: Mask
    feet: Array
    feet_alarm: Mask
    leaps: dict[int, tuple[float, float]]


class Attribution:
    """Fits the bank of hypotheses. `rank` works piece by piece, so that nobody waits for it."""

    def __init__(self, residuals: Residuals, bank: Bank, feet: list[str], keep: int) -> None:
        """`keep`: how many blocks there are in an evidence at most."""
        self._bank, self._feet, self._keep = bank, feet, 2 * keep
        self.use(residuals)

    def use(self, residuals: Residuals) -> None:
        """Another model is in service."""
        self._r, self.signatures = residuals, Signatures(residuals)
        self._known: dict[int, Signature] = {}  # of blocks, by their stamps

    def note(self, block: Block) -> None:
        """A block that will be among the evidence: what is to be computed of it once."""
        if block.stamp_ns not in self._known:
            self._known[block.stamp_ns] = self.signatures.of(block)
            if len(self._known) > self._keep:
                del self._known[next(iter(self._known))]

    def rank(self, e: Evidence, found: list[Hypothesis]) -> Iterator[None]:
        """Put what explains the evidence into `found`, the most likely first; empty when none does."""
        parts, names, fitter = self._r.parts, self._r.model.joint_names, _Fitter(e, self._bank)
        yield
        for i, block in enumerate([b for b in e.blocks if b.stamp_ns not in self._known]):
            if i % PIECE == PIECE - 1:
                yield
            self.note(block)
        each = [self._known[b.stamp_ns] for b in e.blocks]
        tracking, torque = parts["tracking"], parts["torque"]
        fitter.joints("friction", names, torque, np.array([s.passive for s in each]), lambda s: 1.0 + s)
        fitter.joints("motor", names, tracking, -np.array([s.law for s in each]), lambda s: 1.0 - s)
        yield
        fitter.encoders(names, tracking, parts["encoder"], self._r.joints.kp)
        fitter.columns("delay", "", parts["timing"], np.ones((1, len(each), 1)))
        yield
        body, loads = np.r_[torque, parts["balance"]], np.array([s.loads for s in each])
        for i, frame in enumerate(self.signatures.frames):
            if i % PIECE == 0:
                yield
            fitter.columns("payload", frame, body, loads[None, :, i])
        yield
        shaken = np.array([np.hstack([s.shakes, np.eye(3)]) for s in each]).swapaxes(0, 1)
        fitter.columns("accelerometer bias", "", np.r_[body, parts["accelerometer"]], shaken, with_feet=True)
        yield
        turned = np.repeat(np.eye(3)[:, None], len(each), axis=1)
        fitter.columns("gyro bias", "", parts["gyro"], turned, with_feet=True)
        fitter.feet("slip", self._feet, (0, 1, 5))
        fitter.feet("ground", self._feet, (2, 3, 4))
        found[:] = fitter.ranked()


class _Fitter:
    """The sums of one evidence."""

    def __init__(self, e: Evidence, bank: Bank) -> None:
        self._e, self._bank = e, bank
        self._there = np.isfinite(e.scores)
        self._x = np.where(self._there, e.scores, 0.0)
        self._found: list[tuple[float, Hypothesis]] = []
        feet = np.where(np.isfinite(e.feet), e.feet, 0.0)
        self._foot = feet
        excess = 0.5 * np.maximum((self._x**2).sum(axis=0) - self._there.sum(axis=0), 0.0)
        foot_excess = 0.5 * np.maximum((feet**2).sum(axis=0) - np.isfinite(e.feet).sum(axis=0), 0.0)
        self._total = float(excess[e.alarm].sum() + foot_excess[e.feet_alarm].sum())
        # Of a kind and a joint: mean square that it leaves in its channel.
        self._left: dict[tuple[str, int], float] = {}

    def _whiten(self, signature: Array, part: slice | Index) -> Array:
        """Of an effect (…, t, c) on some channels."""
        white = self._bank.whiten(signature, self._e.sigma[:, part], part)
        return np.where(self._there[:, part] & np.isfinite(white), white, 0.0)

    def _add(
        self,
        kind: str,
        target: str,
        size: float,
        spread: float,
        gain: float,
        heard: float,
        left: float,
        vector: tuple[float, ...] = (),
    ) -> None:
        """`heard`: the part of the gain that lies in channels that alarm; `left`: mean square that is left."""
        if (kind == "friction" and size < 0.0) or (kind == "motor" and size < -0.05):
            return  # no friction drives, and no motor turns the wrong way
        margin = 1.96 * spread * max(1.0, math.sqrt(max(left, 0.0)))
        explained = float(max(heard, 0.0) / max(self._total, heard, 1e-9)) if self._total > 0.0 else 0.0
        h = Hypothesis(kind, target, size, size - margin, size + margin, gain, explained, vector)
        price = max(1, len(vector)) * math.log1p(USUAL[kind] / max(spread, 1e-12))
        if kind == "payload" and size < 0.0:
            price += LOST
        self._found.append((gain - price, h))

    def joints(self, kind: str, names: list[str], part: slice, signature: Array, size) -> None:  # type: ignore[no-untyped-def]
        """One parameter for each joint, seen in its own channel."""
        white, x = self._whiten(signature, part), self._x[:, part]
        power, product = (white**2).sum(axis=0), (white * x).sum(axis=0)
        for i, name in enumerate(names):
            if power[i] > 1e-9:
                theta = float(product[i] / power[i])
                gain = 0.5 * float(product[i] ** 2 / power[i])
                left = self._left[kind, i] = float(((x[:, i] - theta * white[:, i]) ** 2).mean())
                heard = gain * self._e.alarm[part][i]
                self._add(kind, name, size(theta), 1.0 / math.sqrt(power[i]), gain, heard, left)

    def encoders(self, names: list[str], tracking: slice, encoder: slice, stiff: Array) -> None:
        """A joint's zero: a jump of its reading, and a torque, by the servos' stiffness (n,), that the set point does not
        explain from then on."""
        x = self._x[:, tracking]
        white = self._whiten(np.broadcast_to(stiff, x.shape), tracking)
        power, product = (white**2).sum(axis=0), (white * x).sum(axis=0)
        sigma = self._e.sigma[:, encoder].mean(axis=0)
        for i, name in enumerate(names):
            score, jump = self._e.leaps.get(i, (0.0, 0.0))
            size, spread, gain, left = jump, abs(jump) / max(abs(score), 1e-9), 0.5 * score**2, 1.0
            if power[i] > 1e-9:
                by_torque = float(product[i] / power[i])
                seen = 0.5 * float(product[i] ** 2 / power[i])
                # A zero that moved without a jump of the reading, or with one of another size, is none.
                missing = min(0.5 * ((by_torque - jump) / sigma[i]) ** 2, 0.5 * seen) if sigma[i] > 0.0 else 0.0
                rest = float(((x[:, i] - by_torque * white[:, i]) ** 2).mean())
                if 0.5 <= by_torque / (jump or math.inf) <= 2.0:
                    # What neither motor nor encoder explains of the torque is that much coarser a witness than the jump.
                    gain *= max(1.0, min(rest, self._left.get(("motor", i), rest)))
                gain = seen + gain - missing
                if not jump:
                    size, spread, left = by_torque, 1.0 / math.sqrt(power[i]), rest
            if gain > 0.0:
                heard = gain * (self._e.alarm[tracking][i] or self._e.alarm[encoder][i])
                self._add("encoder", name, size, spread, gain, heard, left)

    def _shared(self) -> tuple[float, float]:
        """What a mean that the innovations of all feet share gains, less its price, and how much of it is heard.

        A foot that errs alone is that foot's matter; where all err alike it is the body's, and of that the IMU tells.
        """
        count = np.isfinite(self._e.feet).sum(axis=0).reshape(-1, 6)
        if count.any(axis=1).sum() < 2:
            return 0.0, 0.0
        total, n = self._foot.sum(axis=0).reshape(-1, 6), np.maximum(count.sum(axis=0), 1)
        mean = total.sum(axis=0) / n
        price = np.log1p(USUAL["slip"] * np.sqrt(n)).sum()
        heard = (mean * (total - 0.5 * mean * count))[self._e.feet_alarm.reshape(-1, 6)].sum()
        return max(float(0.5 * (n * mean**2).sum() - price), 0.0), max(float(heard), 0.0)

    def columns(self, kind: str, target: str, part: slice | Index, signatures: Array, with_feet: bool = False) -> None:
        """One parameter for each signature (k, t, c), over some channels, and with_feet what the feet share of it, which
        counts for no more than what the channels tell."""
        white, x = self._whiten(signatures, part), self._x[:, part]
        N = np.einsum("atc,btc->ab", white, white)
        v = np.einsum("atc,tc->a", white, x)
        if np.diag(N).min() < 1e-9:
            return
        N += 1e-9 * np.trace(N) * np.eye(len(N))
        theta = np.linalg.solve(N, v)
        gain = 0.5 * float(v @ theta)
        seen = (white != 0.0).any(axis=0)
        fit = np.tensordot(theta, white, 1)
        rest = x - fit
        heard = float((fit * (x - 0.5 * fit))[:, self._e.alarm[part]].sum())
        left = float((rest[seen] ** 2).mean()) if seen.any() else 1.0
        if with_feet:
            shared, shared_heard = self._shared()
            counts = min(shared, gain)
            gain, heard = gain + counts, heard + shared_heard * counts / max(shared, 1e-9)
        covariance = np.linalg.inv(N)
        if len(theta) == 1:
            self._add(kind, target, float(theta[0]), math.sqrt(covariance[0, 0]), gain, heard, left)
            return
        size = float(np.linalg.norm(theta))
        along = theta / max(size, 1e-12)
        self._add(
            kind, target, size, math.sqrt(float(along @ covariance @ along)), gain, heard, left, tuple(theta.tolist())
        )

    def feet(self, kind: str, names: list[str], axes: tuple[int, ...]) -> None:
        """Means of some innovations of one foot."""
        if len(self._foot) < 3:
            return
        for i, name in enumerate(names):
            which = [6 * i + a for a in axes]
            own = self._foot[:, which]
            mean = own.mean(axis=0)
            each = 0.5 * len(own) * mean**2
            gain, heard = float(each.sum()), float(each[self._e.feet_alarm[which]].sum())
            size, spread = float(np.linalg.norm(mean)), 1.0 / math.sqrt(len(own))
            self._add(kind, name, size, spread, gain, heard, 1.0, tuple(mean.tolist()))

    def ranked(self) -> list[Hypothesis]:
        """The most likely first; none when too little is explained."""
        good = [f for f in self._found if f[1].gain > LEAST_GAIN]
        most = max((h.explained for _, h in good), default=0.0)
        if most < ENOUGH:
            return []
        best = sorted(good, key=lambda f: (f[1].explained < RIVAL * most, -f[0]))
        return [h for _, h in best[:5]]
