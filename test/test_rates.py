"""Average rates from counts of messages that statuses tell."""

import pytest

from digital_twin.cli.rates import AverageRates


def told(rows):
    r = AverageRates()
    for at, count in rows:
        r.note("odom", at, count)
    return r.rates()


def test_a_steady_topic_has_its_rate_however_long_it_was_silent_before_and_after():
    steady = [(0.5 * k, 0) for k in range(8)] + [(4.0 + 0.5 * k, 20 + 50 * k) for k in range(10)]
    silent = [(9.0, 480), (9.5, 480), (30.0, 480)]  # it ended soon after the status at 8.5
    assert told(steady)["odom"] == pytest.approx(100.0)
    assert told(steady + silent)["odom"] == pytest.approx(100.0)


def test_messages_that_stop_for_a_while_count_for_less():
    assert told([(0.0, 10), (1.0, 110), (5.0, 110), (6.0, 210), (7.0, 310)])["odom"] == pytest.approx(200 / 6.0)


def test_two_statuses_are_enough_and_one_is_not():
    assert told([(0.0, 10), (1.0, 60)])["odom"] == pytest.approx(50.0)
    assert told([(0.0, 10)]) == told([(0.0, 0), (1.0, 0)]) == {}
