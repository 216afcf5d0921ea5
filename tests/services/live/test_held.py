"""What a client says to have is enough to bring it up to date, wherever it was cut off."""

import json

from hypothesis import given
from hypothesis import strategies as st

from services._live import held
from services._live.held import Change, Held, Item

LISTS = st.dictionaries(
    st.sampled_from([f"it_{number}" for number in range(12)]), st.integers(0, 3), max_size=12
)


def shown(values: dict[str, int]) -> dict[str, Item]:
    return {
        key: held.item(key, json.dumps({"id": key, "value": value}).encode())
        for key, value in values.items()
    }


def between(before: dict[str, Item], now: dict[str, Item]) -> list[Change]:
    return held.changes(before, now=now, removed={key: held.named("id", key) for key in before})


def applied(values: dict[str, int], changes: list[Change]) -> dict[str, int]:
    """What a client has after these, that had `values`."""
    found = dict(values)
    for change in changes:
        told = json.loads(change.body)
        if change.kind == "kept":
            found = {key: value for key, value in found.items() if key in told["id"]}
        elif change.kind == "removed":
            del found[told["id"]]
        else:
            assert (change.kind == "created") == (told["id"] not in found)
            assert found.get(told["id"]) != told["value"], "told twice"
            found[told["id"]] = told["value"]
    return found


def id_of(values: dict[str, int]) -> str:
    return Held(item.entry for item in shown(values).values()).id


@given(LISTS, LISTS)
def test_changes_lead_from_one_reading_to_the_next(
    before: dict[str, int], now: dict[str, int]
) -> None:
    changes = between(shown(before), shown(now))
    assert applied(before, changes) == now
    assert not changes or changes[-1].id == id_of(now)


@given(LISTS, LISTS, LISTS, st.integers(0, 24))
def test_a_client_cut_off_anywhere_lacks_nothing(
    before: dict[str, int], then: dict[str, int], now: dict[str, int], seen: int
) -> None:
    """It saw some events of the first change, was away during the second, and comes again."""
    got = between(shown(before), shown(then))[:seen]
    has = applied(before, got)
    last_id = got[-1].id if got else id_of(before)
    known = Held.parse(last_id)
    assert known is not None
    changes = known.changes(shown(now), name="id")
    assert applied(has, changes) == now
    assert changes == [] if has == now else changes[-1].id == id_of(now)
    assert [change.kind for change in changes].count("kept") <= 1
    gone = has.keys() - now.keys()
    assert ("kept" in [change.kind for change in changes]) == bool(gone)


@given(LISTS, LISTS, st.integers(0, 12))
def test_a_client_cut_off_while_it_came_again_lacks_nothing(
    before: dict[str, int], now: dict[str, int], seen: int
) -> None:
    known = Held.parse(id_of(before))
    assert known is not None
    got = known.changes(shown(now), name="id")[:seen]
    has = applied(before, got)
    again = Held.parse(got[-1].id if got else id_of(before))
    assert again is not None
    assert applied(has, again.changes(shown(now), name="id")) == now


@given(st.text(max_size=40))
def test_what_is_not_ours_is_not_read(text: str) -> None:
    known = Held.parse(text)
    if known is not None:
        assert text.startswith("h")
        known.changes(shown({"it_1": 1}), name="id")


def test_ids_are_short() -> None:
    """A proxy's usual limit for a header is 8 KiB; a page has up to 200 items."""
    assert len(id_of({f"it_{number}": 0 for number in range(50)})) < 500
    assert len(id_of({f"it_{number}": 0 for number in range(200)})) < 2_000
