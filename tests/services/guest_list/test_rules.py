"""No seat is given twice, whatever is asked in whatever order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services._kit.errors import Conflict, Invalid, NotFound
from services.entertainment.guest_list.api import GuestStatus
from services.entertainment.guest_list.logic import (
    INITIAL,
    Admit,
    ChangeCapacity,
    Close,
    Command,
    Create,
    Invite,
    Remove,
    State,
    decide,
    evolve,
)

LIST = "gls_eu1_1"
guests = st.sampled_from([f"gst_{number}" for number in range(6)])
commands = st.one_of(
    st.builds(Invite, st.just(LIST), guests, st.just("x"), st.integers(1, 5)),
    st.builds(Admit, st.just(LIST), guests),
    st.builds(Remove, st.just(LIST), guests),
    st.builds(ChangeCapacity, st.just(LIST), st.integers(1, 12)),
    st.builds(Close, st.just(LIST)),
)


def after(state: State, command: Command) -> State:
    for event in decide(state, command):
        state = evolve(state, event)
    return state


def made(capacity: int = 4) -> State:
    return after(INITIAL, Create(LIST, "Show", capacity, "2030-01-01T00:00:00Z"))


@given(st.lists(commands, max_size=40))
def test_seats_never_exceed_the_capacity(asked: list[Command]) -> None:
    state, known = made(), set[str]()
    for command in asked:
        if isinstance(command, Invite):
            if command.guest in known:
                continue  # ids are new
            known.add(command.guest)
        before = state
        try:
            state = after(state, command)
        except (Conflict, Invalid, NotFound):
            assert state == before
        assert state.taken <= state.capacity
        if before.closed:
            assert state == before


def test_a_full_list_takes_nobody() -> None:
    state = after(made(3), Invite(LIST, "gst_1", "x", 3))
    with pytest.raises(Conflict) as caught:
        decide(state, Invite(LIST, "gst_2", "y", 1))
    assert caught.value.code == "guest_list.full"
    state = after(state, Remove(LIST, "gst_1"))
    assert after(state, Invite(LIST, "gst_2", "y", 1)).taken == 1


def test_a_guest_is_admitted_once() -> None:
    state = after(after(made(), Invite(LIST, "gst_1", "x", 2)), Admit(LIST, "gst_1"))
    assert state.places["gst_1"].status == GuestStatus.ADMITTED
    for command in (Admit(LIST, "gst_1"), Remove(LIST, "gst_1")):
        with pytest.raises(Conflict):
            decide(state, command)
    with pytest.raises(NotFound):
        decide(state, Admit(LIST, "gst_2"))


def test_the_capacity_stays_above_what_is_taken() -> None:
    state = after(made(), Invite(LIST, "gst_1", "x", 3))
    with pytest.raises(Invalid) as caught:
        decide(state, ChangeCapacity(LIST, 2))
    assert caught.value.problems[0].pointer == "/capacity"
    assert decide(state, ChangeCapacity(LIST, 4)) == []


def test_closing_twice_is_closing() -> None:
    state = after(made(), Close(LIST))
    assert decide(state, Close(LIST)) == []
    with pytest.raises(Conflict):
        decide(state, Invite(LIST, "gst_1", "x", 1))
