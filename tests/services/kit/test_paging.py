"""Cursors: opaque, signed, bound to their list, and complete."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services._kit.errors import Invalid
from services._kit.paging import Slice, slice_of

SECRET = bytes(range(32))


def ask(limit: int, cursor: str, context: bytes = b"notes") -> Slice:
    return slice_of(limit, cursor, context=context, secret=SECRET)


@given(st.sets(st.integers(0, 10**9), max_size=60), st.integers(1, 20))
def test_pages_add_up_to_the_list(numbers: set[int], limit: int) -> None:
    ordered = sorted(numbers)
    found: list[int] = []
    cursor = ""
    for _ in range(len(ordered) + 1):
        wanted = ask(limit, cursor)
        first = -1 if wanted.after is None else wanted.after[0]
        rows = [number for number in ordered if number > first][: wanted.rows]
        page = wanted.page(rows, lambda number: (number,))
        assert len(page.data) <= limit
        found.extend(page.data)
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert found == ordered


def cursor() -> str:
    made = ask(1, "").page([1, 2], lambda number: (number,)).next_cursor
    assert made is not None
    return made


@given(st.binary(max_size=60))
def test_a_made_up_cursor_is_refused(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).decode()
    if text:
        with pytest.raises(Invalid):
            ask(1, text)


def test_a_cursor_is_of_one_list() -> None:
    assert ask(1, cursor()).after == (1,)
    with pytest.raises(Invalid) as caught:
        ask(1, cursor(), context=b"others")
    assert caught.value.problems[0].parameter == "cursor"
    for text in (cursor()[:-4], cursor() + "AAAA", "ü", "a", "%"):
        with pytest.raises(Invalid):
            ask(1, text)
