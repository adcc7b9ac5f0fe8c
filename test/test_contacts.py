"""Which feet stand, by forces and without them."""

import numpy as np
import pytest

from digital_twin.core.contacts import ContactConfig, Contacts, ContactState

MS = 1_000_000
WEIGHT = 500.0
LEVEL, STILL = np.zeros(2), np.zeros(2)


def run(loads, config=None, height=LEVEL, speed=STILL, step=10):
    """Whether the left foot stands after each of its loads [shares of the weight], `step` ms apart."""
    contacts, s, seen = Contacts(config or ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2), []
    for k, share in enumerate(loads):
        for foot, x in enumerate((share, 1.0 - share)):
            s = contacts.load(s, k * step * MS, foot, x * WEIGHT)
        s = contacts.decide(s, k * step * MS, height, speed)
        seen.append(s.stands[0])
    return seen


def test_contact_is_a_schmitt_trigger_on_the_share_of_the_weight():
    loads = (0.0, 0.34, 0.36, 0.30, 0.26, 0.24, 0.30, 0.34, 0.36)
    assert run(loads) == [False, False, True, True, True, False, False, False, True]


@pytest.mark.parametrize("weight", [100.0, 2000.0])
def test_the_thresholds_go_with_the_weight(weight):
    contacts, s = Contacts(ContactConfig(on_time=0.0), weight), ContactState.unknown(1)
    for share, stands in ((0.34, False), (0.36, True)):
        s = contacts.decide(contacts.load(s, 0, 0, share * weight), 0, np.zeros(1), np.zeros(1))
        assert s.stands == (stands,)


def test_a_foot_must_be_loaded_for_a_while():
    config = ContactConfig(on_time=0.02)
    assert run([0.5] * 4, config) == [False, False, True, True]
    assert run([0.5, 0.5, 0.0, 0.5, 0.5, 0.5], config) == [False, False, False, False, False, True], "all over again"
    assert run([0.5] * 3 + [0.1, 0.5], config)[2:] == [True, False, False], "but it leaves at once"


def test_a_foot_at_rest_between_the_thresholds_stays_what_it_was():
    assert run([0.5] + [0.3] * 20)[-1] and not run([0.1] + [0.3] * 20)[-1]


def silent_after(stamp_ms, height, speed, loads=(0.0, 500.0), config=None):
    """Loads are reported once, at 0; who stands at a later stamp, asked every 10 ms."""
    contacts, s = Contacts(config or ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2)
    for foot, load in enumerate(loads):
        s = contacts.load(s, 0, foot, load)
    for t in range(0, stamp_ms + 1, 10):
        s = contacts.decide(s, t * MS, np.array(height), np.array(speed))
    return s.stands


def test_forces_that_are_stale_are_not_believed_any_more():
    """By the forces the right foot stands; by kinematics, the left."""
    height, speed = (0.0, 0.05), (0.0, 0.0)
    assert silent_after(100, height, speed) == (False, True)
    assert silent_after(110, height, speed) == (True, False)


def test_one_silent_sensor_leaves_the_other_its_word():
    contacts, s = Contacts(ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2)
    s = contacts.load(s, 0, 0, WEIGHT)
    for k in range(50):
        s = contacts.load(s, k * 10 * MS, 1, 0.0)
        s = contacts.decide(s, k * 10 * MS, np.zeros(2), np.zeros(2))
    assert s.stands == (True, False), "the right foot is as low and still, but its sensor says that it bears nothing"


@pytest.mark.parametrize(
    ("height", "speed", "stands"),
    [
        ((0.0, 0.0), (0.0, 0.0), (True, True)),
        ((0.0, 0.009), (0.0, 0.0), (True, True)),
        ((0.0, 0.011), (0.0, 0.0), (True, False)),
        ((-0.5, -0.6), (0.0, 0.0), (False, True)),
        ((0.0, 0.0), (0.0, 0.11), (True, False)),
        ((0.0, 0.001), (0.5, 0.45), (True, True)),
        ((0.0, 0.0), (0.0, 9.0), (True, False)),
    ],
)
def test_without_forces_those_near_the_lowest_and_as_still_stand(height, speed, stands):
    contacts, s = Contacts(ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2)
    assert contacts.decide(s, 0, np.array(height), np.array(speed)).stands == stands


def test_without_forces_there_is_hysteresis_too():
    contacts, s, seen = Contacts(ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2), []
    for k, height in enumerate((0.005, 0.015, 0.021, 0.015, 0.005)):
        s = contacts.decide(s, k * 10 * MS, np.array([0.0, height]), np.zeros(2))
        seen.append(s.stands[1])
    assert seen == [True, True, False, False, True]
    s = contacts.decide(ContactState.unknown(2), 0, np.zeros(2), np.zeros(2))
    for speed, stands in ((0.15, True), (0.21, False), (0.15, False)):
        s = contacts.decide(s, 10 * MS, np.zeros(2), np.array([0.0, speed]))
        assert s.stands[1] is stands


def test_without_forces_the_lowest_stands_however_fast_once_it_has_been_so_for_a_while():
    contacts, s, seen = Contacts(ContactConfig(on_time=0.02), WEIGHT), ContactState.unknown(1), []
    for k in range(3):
        s = contacts.decide(s, k * 10 * MS, np.zeros(1), np.full(1, 3.0))
        seen.append(s.stands[0])
    assert seen == [False, False, True]


def test_a_robot_without_feet_has_none_that_stand():
    assert Contacts(ContactConfig(), WEIGHT).decide(ContactState.unknown(0), 0, np.zeros(0), np.zeros(0)).stands == ()


def test_states_are_never_changed():
    contacts, first = Contacts(ContactConfig(on_time=0.0), WEIGHT), ContactState.unknown(2)
    second = contacts.load(first, 7, 1, 300.0)
    third = contacts.decide(second, 7, np.array([0.0, 1.0]), np.zeros(2))
    assert first == ContactState.unknown(2)
    assert (second.load, second.stamp, second.stands) == ((0.0, 300.0), (-1, 7), (False, False))
    assert third.stands == (True, True) and third.since == (7, 7)
