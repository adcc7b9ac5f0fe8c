"""From residuals to scores: what is learned makes them white and normal; what cannot be learned is named."""

import numpy as np
import pytest

from digital_twin.core.drift.bank import LAGS, Bank, remaining
from digital_twin.core.drift.channels import Channels, shares


def learned(residuals, features=None, spreads=None):
    t, c = residuals.shape
    features = np.ones((t, c, 1)) if features is None else features
    spreads = np.zeros((t, c)) if spreads is None else spreads
    bank = Bank([f"c{i}" for i in range(c)], ["u"] * c, features.shape[2])
    for i in range(t):
        bank.learn(i * 10_000_000, residuals[i], features[i], spreads[i])
    for _ in bank.fit():
        pass
    return bank


def coloured(rng, t, c):
    """Autocorrelated noise of order two."""
    x = np.zeros((t, c))
    for i in range(2, t):
        x[i] = 0.6 * x[i - 1] + 0.2 * x[i - 2] + rng.standard_normal(c)
    return x


def test_scores_are_white_and_of_unit_variance():
    rng = np.random.default_rng(0)
    t = 6000
    speed = np.abs(np.sin(np.arange(2 * t) * 0.01))[:, None] * np.ones((1, 3))
    noise = coloured(rng, 2 * t, 3) * np.sqrt(0.2 + speed**2)
    law = np.sin(np.arange(2 * t) * 0.003)[:, None] * np.ones((1, 3))
    features = np.stack([np.ones_like(law), law], axis=-1)
    residuals = 3.0 + 7.0 * law + noise
    bank = learned(residuals[:t], features[:t], speed[:t])
    scores = np.array([bank.score(residuals[i], features[i], speed[i]) for i in range(t, 2 * t)])[10:]
    assert bank.nominal.rate == pytest.approx(100.0)
    assert np.allclose(bank.nominal.mean, [[3.0, 7.0]] * 3, atol=0.3)
    for x in scores.T:
        assert abs(x.mean()) < 0.15 and 0.75 < x.std() < 1.1
        assert remaining(x) < 0.1, f"at lags up to {LAGS}"
    assert (bank.nominal.left < 0.1).all()


def test_tails_are_no_heavier_than_normal():
    rng = np.random.default_rng(0)
    bank = learned(rng.standard_t(3, (8000, 1)))
    x = np.array([bank.score(r, np.ones((1, 1)), np.zeros(1)) for r in rng.standard_t(3, (8000, 1))])
    assert np.mean(np.abs(x) > 3.29) < 0.003


def test_what_cannot_be_learned_is_named():
    rng = np.random.default_rng(0)
    r = rng.standard_normal((500, 4))
    r[:, 1], r[:, 2] = 5.0, np.nan
    r[::2, 3] = np.nan
    bank = learned(r)
    assert bank.nominal.good.tolist() == [True, False, False, True]
    assert bank.nominal.why == {"c1": "constant", "c2": "too few readings"}
    scores = bank.score(np.zeros(4), np.ones((4, 1)), np.zeros(4))
    assert np.isnan(scores[[1, 2]]).all()


def test_a_gap_costs_only_the_scores_that_need_it():
    rng = np.random.default_rng(0)
    bank = learned(rng.standard_normal((2000, 1)))
    seen = []
    for i in range(20):
        seen.append(bank.score(np.array([np.nan if i == 10 else 0.1]), np.ones((1, 1)), np.zeros(1))[0])
    assert np.isnan(seen[10]) and np.isfinite(seen[15:]).all() and np.isfinite(seen[5:10]).all()


def test_effects_are_whitened_as_scores_are():
    """The score of residual + effect is that of the residual, plus the whitened effect."""
    rng = np.random.default_rng(1)
    noise = coloured(rng, 3000, 2)
    bank = learned(noise)
    effect = rng.standard_normal((40, 2))
    plain, changed = [], []
    for out, add in ((plain, 0.0), (changed, 1.0)):
        bank.reset()
        for i in range(60):
            bank.score(noise[i] + (add * effect[i - 20] if i >= 20 else 0.0), np.ones((2, 1)), np.zeros(2))
            out.append((bank.scores, bank.sigma))
    difference = np.array([b[0] - a[0] for a, b in zip(plain, changed, strict=True)])[20:]
    sigma = np.array([s for _, s in changed])[20:]
    assert np.allclose(difference, bank.whiten(effect, sigma))


def test_leftovers_of_the_model_are_allowed_for():
    """A mean that wanders while all is well must not be taken for a change later."""
    rng = np.random.default_rng(2)
    wander = 0.5 * np.sin(np.arange(6000) * 2 * np.pi / 1500)
    quiet, restless = rng.standard_normal(6000), rng.standard_normal(6000) + wander
    allowance = learned(np.column_stack([quiet, restless])).nominal.allowance
    assert allowance[0, 0] < 0.1 < allowance[1, 0]


@pytest.mark.parametrize("slope", [0.0, -0.1])
def test_noise_that_a_feature_shares_with_the_residual_is_no_slope(slope):
    """The torque of a servo's law is made of noisy readings. Sample by sample, the slope would be off by a third."""
    rng = np.random.default_rng(6)
    noise, torque = rng.standard_normal(6000), 1.5 * np.sin(np.arange(6000) * 2 * np.pi / 400)
    residual = slope * torque - noise
    bank = Bank(["c"], ["u"], features=2)
    for i in range(6000):
        bank.learn(i * 10_000_000, residual[i : i + 1], np.array([[1.0, torque[i] + noise[i]]]), np.zeros(1))
    for _ in bank.fit():
        pass
    assert abs(bank.nominal.mean[0, 1] - slope) < 0.06


@pytest.mark.parametrize(("strength", "alarms"), [(1.0, False), (0.9, True)])
def test_that_noise_is_no_weak_motor_either(strength, alarms):
    """A robot that stands still for long after a minute of motion: what drives do is then all noise."""
    rng = np.random.default_rng(7)
    noise = 0.15 * rng.standard_normal(10_000)
    torque = np.where(
        np.arange(10_000) < 6000, 3.0 * np.sin(np.arange(10_000) * 2 * np.pi / 400), 0.0 if strength == 1.0 else 3.0
    )
    channels = Channels("x", ["c"], ["N m"], features=2, sizes=np.array([-0.1]), usual=np.array([[1e6, 0.02]]))
    still = np.zeros(1)
    for i in range(6000):
        channels.bank.learn(i * 10_000_000, -noise[i : i + 1], np.array([[1.0, torque[i] + noise[i]]]), still)
    for _ in (*channels.bank.fit(), *channels.watch(1.0, 1.0)):
        pass
    for i in range(6000, 10_000):
        residual = (strength - 1.0) * torque[i] - noise[i]
        channels.add(i * 10_000_000, np.array([residual]), np.array([[1.0, torque[i] + noise[i]]]), still)
        if channels.alarm.any():
            break
    assert channels.alarm.any() == alarms


@pytest.mark.parametrize(
    ("slack", "forgiven", "alarms"), [(0.0, None, True), (0.0, 0.0, True), (1.5, None, False), (0.0, 1.5, False)]
)
def test_a_mean_may_wander_within_its_slack_and_what_is_forgiven_now(slack, forgiven, alarms):
    rng = np.random.default_rng(4)
    noise = coloured(rng, 10_000, 1)
    channels = Channels("x", ["c"], ["u"], slack=np.array([slack]))
    for i, x in enumerate(noise[:6000]):
        channels.learn(i * 10_000_000, x)
    for _ in (*channels.bank.fit(), *channels.watch(1.0, 1.0)):
        pass
    for i, x in enumerate(noise[6000:] + 1.0):
        channels.add((6000 + i) * 10_000_000, x, forgiven=None if forgiven is None else np.array([forgiven]))
    assert channels.alarm.any() == alarms


@pytest.mark.parametrize(
    ("after", "alarms"), [((0.0, 0.0), True), ((-7.0, 0.0), False), ((np.nan, 0.0), False), ((-4.0, -4.0), False)]
)
def test_one_jump_is_an_alarm_where_a_reading_stays_away_and_none_where_it_comes_back(after, alarms):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((6300, 2))
    channels = Channels("c", ["encoder/a", "torque/a"], ["u"] * 2, jumps=slice(0, 1), clip=np.inf)
    for i, x in enumerate(noise[:6000]):
        channels.learn(i * 10_000_000, x)
    for _ in (*channels.bank.fit(), *channels.watch(1.0, 1.0)):
        pass
    seen = np.zeros(2, dtype=bool)
    for i, x in enumerate(noise[6000:]):
        row = 0.1 * x if 100 <= i < 104 else x
        row += 7.0 * (i == 100)
        if 0 < i - 100 <= 2:
            row += after[i - 101]
        channels.add((6000 + i) * 10_000_000, row)
        seen |= channels.alarm
    assert seen.tolist() == [alarms, False]


def test_no_residual_is_taken_to_be_less_noisy_than_is_known():
    """A robot at rest says nothing of what its encoders' steps do when it moves."""
    rng = np.random.default_rng(0)
    bank = Bank(["encoder/a", "encoder/b"], ["rad"] * 2)
    bank.least[:] = 1e-3, 0.0
    rows = 1e-5 * rng.standard_normal((2000, 2))
    for i, x in enumerate(rows):
        bank.learn(i * 10_000_000, x, np.ones((2, 1)), np.zeros(2))
    for _ in bank.fit():
        pass
    for x in rows[:10]:
        bank.score(x, np.ones((2, 1)), np.zeros(2))
    scores = bank.score(np.full(2, 2e-3), np.ones((2, 1)), np.zeros(2))
    assert scores[0] == pytest.approx(2.0, abs=0.05) and scores[1] > 150.0
    assert bank.spread(slice(0, 1)) == pytest.approx([1e-3])


def test_false_alarms_are_shared_by_kinds_of_channels_and_then_by_channels():
    rng = np.random.default_rng(0)
    banks = {
        "body": Channels("body", ["gyro/x", *(f"torque/{i}" for i in range(5))], ["u"] * 6),
        "feet": Channels("feet", ["foot/left/x", "foot/right/x"], ["u"] * 2),
    }
    assert all(np.isfinite(x).all() for x in shares(banks).values()), "before anything is learned"
    for bank in banks.values():
        for k in range(400):
            residual = rng.standard_normal(len(bank.bank.names))
            if bank.name == "body":
                residual[-1] = 0.0  # cannot be judged, and needs no share
            bank.learn(k * 10_000_000, residual)
        for _ in bank.bank.fit():
            pass
    body, feet = shares(banks)["body"], shares(banks)["feet"]
    assert body[0] == pytest.approx(1 / 3) and body[1:5] == pytest.approx([1 / 12] * 4)
    assert feet == pytest.approx([1 / 6] * 2)
    for _ in banks["body"].watch(1.0, body):
        pass
    thresholds = banks["body"].detectors.cusum.thresholds
    # A quarter of the share is a run length four times as long.
    assert np.all(thresholds[:, 0] < thresholds[:, 1]) and np.all(np.ptp(thresholds[:, 1:5], axis=1) == 0.0)
