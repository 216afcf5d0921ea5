"""The breaker: its table, its window, its probes, and that no order of events breaks it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.gateway.breaker import TRANSITIONS, CircuitBreaker, Event, State
from services.platform.backend_api.api import Breaker

RULE = Breaker(requests_min=10, error_percent=50, window_seconds=10, open_seconds=5, probes=2)


def asked(
    breaker: CircuitBreaker, now: float, *, ok: bool | None = True, seconds: float = 0.01
) -> bool:
    ticket = breaker.admit(now)
    if ticket is None:
        return False
    breaker.settle(ticket, ok=ok, seconds=seconds, now=now)
    return True


def test_every_state_can_be_left_and_every_target_exists() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {target for row in TRANSITIONS.values() for target in row.values()} == set(State)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_it_opens_when_half_the_answers_are_errors_and_not_before_enough_are_seen() -> None:
    breaker = CircuitBreaker(RULE)
    for at in range(9):
        assert asked(breaker, at * 0.1, ok=False)
    assert breaker.state is State.CLOSED
    assert asked(breaker, 1.0, ok=False)
    assert breaker.state is State.OPEN
    assert not asked(breaker, 1.1)
    assert breaker.wait_seconds(2.0) == pytest.approx(4.0)


def test_old_answers_do_not_count() -> None:
    breaker = CircuitBreaker(RULE)
    for at in range(9):
        asked(breaker, at * 0.1, ok=False)
    for at in range(30):
        asked(breaker, 20 + at * 0.1)
    asked(breaker, 23.1, ok=False)
    assert breaker.state is State.CLOSED


def test_slow_answers_open_it_too() -> None:
    rule = Breaker(requests_min=10, slow_ms=100, slow_percent=80)
    breaker = CircuitBreaker(rule)
    for _ in range(2):
        asked(breaker, 0.0, seconds=0.01)
    for _ in range(8):
        asked(breaker, 0.5, seconds=0.2)
    assert breaker.state is State.OPEN


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker(RULE)
    for _ in range(10):
        asked(breaker, 0.0, ok=False)
    assert breaker.state is State.OPEN
    return breaker


def test_good_probes_close_it() -> None:
    breaker = opened()
    assert breaker.admit(4.9) is None
    first, second = breaker.admit(5.0), breaker.admit(5.0)
    assert first is not None
    assert second is not None
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit(5.0) is None, "no more than the probes"
    breaker.settle(first, ok=True, seconds=0.01, now=5.1)
    assert breaker.state is State.HALF_OPEN
    breaker.settle(second, ok=True, seconds=0.01, now=5.1)
    assert breaker.state is State.CLOSED
    assert asked(breaker, 5.2, ok=False), "it begins anew"
    assert breaker.state is State.CLOSED


def test_a_bad_probe_opens_it_again() -> None:
    breaker = opened()
    assert asked(breaker, 5.0, ok=False)
    assert breaker.state is State.OPEN
    assert not asked(breaker, 9.9)
    assert asked(breaker, 10.0)


def test_a_probe_that_was_given_up_makes_room_for_another() -> None:
    breaker = opened()
    assert asked(breaker, 5.0, ok=None)
    assert asked(breaker, 5.0)
    assert asked(breaker, 5.0)
    assert breaker.state is State.CLOSED


def test_what_began_before_it_opened_does_not_count_after() -> None:
    breaker = CircuitBreaker(RULE)
    late = breaker.admit(0.0)
    assert late is not None
    for _ in range(10):
        asked(breaker, 0.0, ok=False)
    assert asked(breaker, 5.0)
    breaker.settle(late, ok=False, seconds=6.0, now=6.0)
    assert breaker.state is State.HALF_OPEN


@given(seed=st.integers(0, 10_000))
def test_any_order_of_requests_keeps_its_promises(seed: int) -> None:
    chance = random.Random(seed)
    breaker, now, under_way = CircuitBreaker(RULE), 0.0, list[int]()
    for _ in range(300):
        now += chance.choice([0.0, 0.1, 1.0, 6.0])
        if under_way and chance.random() < 0.5:
            ticket = under_way.pop(chance.randrange(len(under_way)))
            ok = chance.choice([True, False, None])
            breaker.settle(ticket, ok=ok, seconds=0.1, now=now)
        else:
            before, wait = breaker.state, breaker.wait_seconds(now)
            admitted = breaker.admit(now)
            if before is State.OPEN and wait > 0:
                assert admitted is None
            if before is State.CLOSED:
                assert admitted is not None
            if admitted is not None:
                under_way.append(admitted)
        assert 0 <= breaker._probing + breaker._probed <= RULE.probes
