"""The judge of killed guest lists lets what is right pass, and sees all that can go wrong."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from services._events.event import Event, position
from services.entertainment.guest_list.api import (
    GuestAdmitted,
    GuestInvited,
    GuestListCreated,
    GuestRemoved,
)
from tests.fakes.guest_ledger import Asked, Found, Ledger, Outcome, Recorded, judge, mark_of

EVENTS: tuple[Event, ...] = (
    GuestListCreated(guest_list="gls_1", name="list", capacity=9, ends_at="later"),
    GuestInvited(guest_list="gls_1", guest="gst_1", name="ada", seats=2),
    GuestInvited(guest_list="gls_1", guest="gst_2", name="bob", seats=1),
    GuestAdmitted(guest_list="gls_1", guest="gst_1", seats=2),
    GuestRemoved(guest_list="gls_1", guest="gst_2", seats=1),
)


def recorded(number: int, event: Event) -> Recorded:
    place = position(epoch=1, xid=number, seq=number)
    data = msgspec.json.encode(event).decode()
    return Recorded(f"evt_{number}", "gls_1", number, "acme", place, data, event)


def asked(number: int, event: Event) -> Asked:
    made = Asked(mark_of(event), "acme", f"key {number}", "POST", "/")
    told: dict[str, object] = {"id": "gls_1", "version": number}
    if isinstance(event, GuestInvited):
        told = {"id": event.guest, "guest_list": "gls_1", "seats": event.seats}
    told["position"] = position(epoch=1, xid=number, seq=number)
    gone = isinstance(event, GuestRemoved)
    made.answer = b"" if gone else msgspec.json.encode(told)
    return made


def right() -> tuple[Ledger, Found]:
    ledger = Ledger()
    for number, event in enumerate(EVENTS, 1):
        ledger.note(asked(number, event), Outcome.YES if number != 3 else Outcome.UNKNOWN)
    events = tuple(recorded(number, event) for number, event in enumerate(EVENTS, 1))
    return ledger, Found(
        events=events,
        streams={"gls_1": 5},
        outbox={one.id: ("gls_1", one.data) for one in events},
        doubled=0,
        audited={"gls_1": 5},
        keys=frozenset(one.key for one in ledger.asked),
        contacts={"gst_1": "gls_1"},
        invitations=frozenset({"gst_1"}),
        arrived={"gls_1": 2},
        boards={"gls_1": ("list", 9, 2, False, 5)},
        guests={"gst_1": ("gls_1", 2, "admitted"), "gst_2": ("gls_1", 1, "removed")},
        heard=tuple(("gls_1", one.id) for one in events),
        parked=0,
        waiting_jobs=0,
        dead_jobs=0,
    )


def test_what_is_right_passes() -> None:
    ledger, found = right()
    assert found.at_rest
    judge(ledger, found)


WRONG: dict[str, Callable[[Found], Found]] = {
    "an acknowledged write is lost": lambda found: replace(found, events=found.events[:-1]),
    "a write happened twice": lambda found: replace(
        found, events=(*found.events, replace(found.events[-1], version=6))
    ),
    "a version is missing": lambda found: replace(found, streams={"gls_1": 6}),
    "an event was not published": lambda found: replace(
        found, outbox=dict(list(found.outbox.items())[1:])
    ),
    "an event was published twice": lambda found: replace(found, doubled=1),
    "an event without its row": lambda found: replace(found, contacts={}),
    "a row without its event": lambda found: replace(
        found, contacts={**found.contacts, "gst_9": "gls_1"}
    ),
    "a change without its audit row": lambda found: replace(found, audited={"gls_1": 4}),
    "a change without its stored answer": lambda found: replace(found, keys=frozenset({"key 1"})),
    "a letter was not written": lambda found: replace(found, invitations=frozenset()),
    "an arrival was counted twice": lambda found: replace(found, arrived={"gls_1": 4}),
    "a read model is behind": lambda found: replace(
        found, boards={"gls_1": ("list", 9, 3, False, 4)}
    ),
    "an event was heard twice": lambda found: replace(found, heard=(*found.heard, found.heard[-1])),
    "an event was not heard": lambda found: replace(found, heard=found.heard[1:]),
    "events were heard in another order": lambda found: replace(found, heard=found.heard[::-1]),
    "a job died": lambda found: replace(found, dead_jobs=1),
    "an event is parked": lambda found: replace(found, parked=1),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(what: str) -> None:
    ledger, found = right()
    with pytest.raises(AssertionError):
        judge(ledger, WRONG[what](found))


def test_a_refused_write_that_happened_is_seen() -> None:
    ledger, found = right()
    ledger.asked[2].outcome = Outcome.NO
    with pytest.raises(AssertionError, match="refused"):
        judge(ledger, found)


def test_an_answer_that_told_of_something_else_is_seen() -> None:
    ledger, found = right()
    ledger.asked[3].answer = ledger.asked[0].answer
    with pytest.raises(AssertionError):
        judge(ledger, found)


def test_what_nobody_asked_for_is_seen() -> None:
    ledger, found = right()
    del ledger.asked[2]
    with pytest.raises(AssertionError, match="nobody asked"):
        judge(ledger, found)
