"""A bank of channels of one rhythm: from raw residuals to independent N(0, 1) scores.

A residual's mean is a linear function of its features, its variance grows with a motion (`spread`), and what is left is
autocorrelated. All three are learned while the robot is healthy, channel by channel, a little at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solve_toeplitz
from scipy.stats import norm

from digital_twin.core.arrays import Array, Index

ORDER = 4  # of the autoregression that whitens
LATE = ORDER + 1  # samples by which an effect is taken later: its own noise is in none of the residuals of that score
PIECE = 500  # samples that are put together at a time
LEAST = 200  # samples that a channel is learned from
CLIP = 5.0  # of scores, in what is learned: an outlier says little of what is usual
LEVELS = (0.6827, 0.95, 0.99, 0.999)  # at which the tails of scores are made no heavier than the normal's
SHIFTS = (0.5, 1.0, 2.0, 4.0, 8.0)  # that CUSUMs are made for; any shift between is within 1.8 of the best delay
LENGTHS = (160, 40, 12, 4, 2)  # samples in which each of them is found: what the model leaves unexplained over as many
LAGS = 20
BLOCK, ALIKE = 20, 10  # samples whose means the mean's coefficients are fitted to; that count as one
DOUBT = 2.0  # standard deviations of a mean's uncertainty that are forgiven
UNBOUNDED = 1e5  # coefficients of which nothing is known before
WINDOW = 0.5  # [s] over which squares are summed
STRONGEST = 3.0  # [standard deviations] of an effect that is looked for


@dataclass
class Nominal:
    """What is learned, of c channels.

    mean (c, p) and its covariance, doubt (c, p, p); variance (c, 2), weights of the autoregression (c, ORDER), scale (c,), and allowance (c, LENGTHS): by how
    much the mean of a stretch may differ from zero without any change, in standard deviations; directed_allowance (c,)
    the same along what the channel responds to. unrest (c,): largest mean square of a window. left (c,): the largest
    autocorrelation of the scores. good (c,): whether a channel can be judged. rate: samples a second.
    """

    mean: Array
    doubt: Array
    variance: Array
    weights: Array
    scale: Array
    allowance: Array
    directed_allowance: Array
    unrest: Array
    left: Array
    good: Array
    rate: float = 0.0
    why: dict[str, str] = field(default_factory=dict)


class Bank:
    """Scores of c channels. `learn` while calibrating, `fit` piece by piece, then `score`.

    Attributes:
        names, units: of the channels. nominal: what was learned; None before.
        scores: the last ones (c,), NaN where there is none, without clipping. sigma: standard deviations of residuals.
        unsure: by how much the mean of the last scores may be off, for all that is known (c,).
        effect: what the change that is looked for would add to the last scores (c,). healthy: scores, and effects, of
            what was learned from (t, c); the owner may empty it. least (c,): standard deviations that no residual has less of.
    """

    def __init__(
        self, names: Sequence[str], units: Sequence[str], features: int = 1, sizes: Array | None = None,
        usual: Array | None = None, slack: Array | None = None,
    ) -> None:  # fmt: skip
        """`sizes` (c,): of changes that are looked for, in second features; 0: none. `usual` (c, p): standard deviations
        of the coefficients of features. `slack` (c,): by how much a mean may wander without any change."""
        self.names, self.units = list(names), list(units)
        self.sizes = np.zeros(len(self.names)) if sizes is None else sizes
        self._c, self._p = len(self.names), features
        self.usual = np.full((self._c, features), 1e6) if usual is None else usual
        self.slack = np.zeros(self._c) if slack is None else slack
        self.least = np.zeros(self._c)
        self.nominal: Nominal | None = None
        self._rows: list[tuple[int, Array, Array, Array]] = []
        self.healthy = np.empty((0, self._c)), np.empty((0, self._c))
        self.reset()

    def reset(self) -> None:
        """Forget the last samples, not what was learned."""
        self._past = np.full((ORDER, self._c), np.nan)
        self._past_effect = np.zeros((ORDER, self._c))
        self._early = np.zeros((LATE, self._c))  # what is yet to be taken for an effect
        self.effect = np.zeros(self._c)
        self.scores = np.full(self._c, np.nan)
        self.sigma = np.full(self._c, np.nan)
        self.unsure = np.zeros(self._c)

    # Learning

    def learn(self, stamp_ns: int, residual: Array, features: Array, spread: Array) -> None:
        """A sample of a healthy robot: (c,), (c, p), (c,)."""
        self._rows.append((stamp_ns, residual, features, spread))

    def forget(self) -> None:
        """Learn anew."""
        self.nominal, self._rows = None, []
        self.reset()

    def fit(self) -> Iterator[None]:
        """Learn from what was given, one channel a step; `nominal` is there at the end."""
        c, rows = self._c, self._rows
        out = Nominal(
            np.zeros((c, self._p)), np.zeros((c, self._p, self._p)), np.ones((c, 2)), np.zeros((c, ORDER)), np.ones(c), np.zeros((c, len(LENGTHS))),
            np.zeros(c), np.zeros(c), np.zeros(c), np.zeros(c, dtype=bool),
        )  # fmt: skip
        if len(rows) > 1:
            out.rate = (len(rows) - 1) * 1e9 / max(rows[-1][0] - rows[0][0], 1)
        self.healthy = np.full((max(len(rows) - ORDER, 0), c), np.nan), np.zeros((max(len(rows) - ORDER, 0), c))
        R, F, G = np.empty((len(rows), c)), np.empty((len(rows), c, self._p)), np.empty((len(rows), c))
        for i, (_, r, f, g) in enumerate(rows):
            R[i], F[i], G[i] = r, f, g
            if i % PIECE == PIECE - 1:
                yield
        self._rows = []
        yield
        for i, name in enumerate(self.names):
            why = _fit_channel(
                out, i, R[:, i], F[:, i], G[:, i], float(self.sizes[i]), self.usual[i], float(self.least[i]), self.healthy
            )  # fmt: skip
            out.allowance[i] = np.maximum(out.allowance[i], _shift(out, self.slack, _calm(out))[i])
            if why:
                out.why[name] = why
            out.good[i] = not why
            yield
        self.nominal = out
        self.reset()

    # Scoring

    def score(self, residual: Array, features: Array, spread: Array) -> Array:
        """Scores (c,) of a sample; NaN where a channel has none."""
        m = self.nominal
        if m is None:
            return self.scores
        self.sigma = np.sqrt(m.variance[:, 0] + m.variance[:, 1] * spread * spread)
        u = (residual - (m.mean * features).sum(axis=1)) / self.sigma
        self.scores = np.where(m.good, (u - (m.weights.T * self._past).sum(axis=0)) / m.scale, np.nan)
        self._past = np.vstack([u, self._past[:-1]])
        if self._p > 1:
            v = self.sizes * self._early[-1] / self.sigma
            self._early = np.vstack([features[:, 1], self._early[:-1]])
            self.effect = (v - (m.weights.T * self._past_effect).sum(axis=0)) / m.scale
            self._past_effect = np.vstack([v, self._past_effect[:-1]])
        # What the mean's own coefficients leave open is no change: it grows where the calibration has not been.
        doubt = np.sqrt(np.maximum(np.einsum("ci,cij,cj->c", features, m.doubt, features), 0.0))
        self.unsure = self.lasting(DOUBT * doubt)
        return self.scores

    def lasting(self, change: Array) -> Array:
        """By how much a change of residuals (c,) that lasts shifts the last scores (c,)."""
        m = self.nominal
        if m is None:
            return np.zeros(self._c)
        return np.asarray(np.nan_to_num(_shift(m, change, self.sigma), nan=UNBOUNDED))

    def spread(self, part: slice) -> Array:
        """Standard deviations of the last scores' residuals, of some channels, as heavy as their tails are; NaN before
        there is a nominal."""
        return self.sigma[part] * (np.nan if self.nominal is None else self.nominal.scale[part])

    def shift(self, change: Array) -> Array:
        """By how much a lasting change of residuals (c,) shifts their scores (c,)."""
        return np.zeros(self._c) if self.nominal is None else _shift(self.nominal, change, _calm(self.nominal))

    def whiten(self, signature: Array, sigma: Array, part: slice | Index = slice(None)) -> Array:
        """What an effect (…, t, c) on residuals of standard deviation sigma (t, c) is among the scores (…, t, c): the change
        comes with the first row. `part`: of the channels, of which c are given."""
        m = self.nominal
        if m is None:
            return np.full_like(signature, np.nan)
        u = signature / sigma
        out, weights = u.copy(), m.weights[part]
        for lag in range(1, ORDER + 1):
            out[..., lag:, :] -= weights[:, lag - 1] * u[..., :-lag, :]
        return np.asarray(out / m.scale[part])


def _shift(n: Nominal, change: Array, sigma: Array) -> Array:
    """By how much a lasting change (c,) of residuals of standard deviations sigma (c,) shifts their scores (c,)."""
    return np.asarray(np.maximum(change / sigma * (1.0 - n.weights.sum(axis=1)) / n.scale, 0.0))


def _calm(n: Nominal) -> Array:
    """Standard deviations of residuals (c,) where nothing moves."""
    return np.asarray(np.sqrt(np.maximum(n.variance[:, 0], 1e-24)))


def _fit_channel(
    out: Nominal, i: int, r: Array, F: Array, g: Array, size: float, usual: Array, least: float,
    healthy: tuple[Array, Array],
) -> str:  # fmt: skip
    """Learn one channel; returns in words why it cannot be judged, or nothing."""
    there = np.isfinite(r)
    if there.sum() < LEAST:
        return "too few readings"
    r, F, g = r[there], F[there], g[there]
    if np.ptp(r) == 0.0:
        return "constant"
    out.mean[i], out.doubt[i] = _mean(r, F, usual)
    e = r - F @ out.mean[i]
    limit = 8.0 * max(float(np.median(np.abs(e))), 1e-12)
    e = np.clip(e, -limit, limit)
    out.variance[i] = _variance(e, g)
    out.variance[i, 0] = max(out.variance[i, 0], least**2)
    u = e / np.sqrt(out.variance[i, 0] + out.variance[i, 1] * g * g)
    out.weights[i] = _autoregression(u)
    sigma = np.sqrt(out.variance[i, 0] + out.variance[i, 1] * g * g)
    x = _filter((r - F @ out.mean[i]) / sigma, out.weights[i])
    out.scale[i] = max(_scale(x), 1.0) if least > 0.0 else _scale(x)
    healthy[0][: len(x), i] = x / out.scale[i]
    x = np.clip(x / out.scale[i], -CLIP, CLIP)
    out.allowance[i] = [_allowance(x, np.ones_like(x), length) for length in LENGTHS]
    if size:
        early = np.concatenate([np.zeros(LATE), F[:-LATE, 1]])
        effect = _filter(size * early / sigma, out.weights[i]) / out.scale[i]
        effect = np.clip(effect, -STRONGEST, STRONGEST)
        healthy[1][: len(x), i] = effect
        out.directed_allowance[i] = max(_allowance(x, effect, length) for length in LENGTHS[:2])
    window = max(5, round(WINDOW * out.rate))
    sums = np.convolve(x * x, np.ones(window), "valid")
    out.unrest[i] = float(sums.max()) / window if len(sums) else 1.0
    out.left[i] = remaining(x)
    return ""


def _filter(u: Array, weights: Array) -> Array:
    """Whitened (t − ORDER,)."""
    past = sum(weights[k] * u[ORDER - 1 - k : len(u) - 1 - k] for k in range(ORDER))
    return np.asarray(u[ORDER:] - past)


def _mean(r: Array, F: Array, usual: Array) -> tuple[Array, Array]:
    """Least squares with what coefficients usually are (p,) as a prior: what the calibration does not tell stays small.

    Features that are not there are left out. Means of BLOCK samples are fitted: noise that a feature shares with the
    residual (the torque of a servo's law is made of noisy readings) would else be taken for a slope. ALIKE neighbouring
    samples count as one. Coefficients (p,), and their covariance (p, p).
    """
    used = np.sqrt((F * F).mean(axis=0)) > 1e-9
    out, covariance = np.zeros(F.shape[1]), np.diag(np.where(usual < UNBOUNDED, usual**2, 0.0))
    few = len(r) // BLOCK * BLOCK
    y, A = r[:few].reshape(-1, BLOCK).mean(axis=1), F[:few, used].reshape(few // BLOCK, BLOCK, -1).mean(axis=1)
    plain = np.linalg.lstsq(A, y, rcond=None)[0]
    weight = BLOCK / ALIKE / max(float(np.var(r - F[:, used] @ plain)), 1e-18)
    spread = np.linalg.inv(weight * (A.T @ A) + np.diag(usual[used] ** -2.0))
    out[used] = spread @ (weight * (A.T @ y))
    covariance[np.ix_(used, used)] = spread
    return out, covariance


def _variance(e: Array, g: Array) -> Array:
    """Of e: a + b g², both not negative, by least squares on squares weighted twice."""
    y, x = e * e, g * g
    total = max(float(y.mean()), 1e-18)
    best = np.array([total, 0.0])
    if float(np.ptp(x)) > 1e-12:
        w = np.ones_like(y)
        for _ in range(3):
            A = np.column_stack([np.ones_like(x), x]) * w[:, None]
            a, b = np.linalg.lstsq(A, y * w, rcond=None)[0]
            if b <= 0.0:
                return np.array([total, 0.0])
            a = max(a, 0.05 * total)
            best = np.array([a, b])
            w = 1.0 / (a + b * x)
    return best


def _autoregression(u: Array) -> Array:
    """Weights of the last ORDER values, by Yule and Walker's equations: always stable."""
    v = u - u.mean()
    r = np.array([v @ v, *(v[k:] @ v[:-k] for k in range(1, ORDER + 1))]) / len(v)
    r[0] *= 1.0 + 1e-6
    return np.asarray(solve_toeplitz(r[:-1], r[1:]))


def _scale(x: Array) -> float:
    """So large that no tail is heavier than the normal one."""
    a = np.abs(x)
    found = [float(np.quantile(a, level)) / float(norm.ppf(0.5 + level / 2)) for level in LEVELS]
    return max(*found, 1e-9)


def _allowance(x: Array, along: Array, length: int) -> float:
    """By how much x follows `along` over stretches of a length, beyond what chance would do; for each unit of it."""
    count = len(x) // length
    if count < 4:
        return 0.0
    cut = slice(0, count * length)
    product = (x * along)[cut].reshape(count, length).sum(axis=1)
    power = (along**2)[cut].reshape(count, length).sum(axis=1)
    amount = np.abs(along)[cut].reshape(count, length).sum(axis=1)
    chance = float(norm.isf(0.5 / count)) * np.sqrt(power)
    much = (amount > 0.3 * amount.max()) & (amount > 0.0)
    return 1.2 * max(0.0, float(((np.abs(product) - chance)[much] / amount[much]).max())) if much.any() else 0.0


def remaining(x: Array) -> float:
    """The largest autocorrelation of x at lags up to LAGS."""
    v = x - x.mean()
    power = max(float(v @ v), 1e-18)
    return max(abs(float(v[k:] @ v[:-k])) / power for k in range(1, min(LAGS, len(v) - 1) + 1))
