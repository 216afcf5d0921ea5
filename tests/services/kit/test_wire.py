"""Foreign requests: forms, cookies, doubled fields."""

import pytest

from services._kit.errors import Malformed
from services._kit.wire import WireRequest

FORM = (("content-type", "application/x-www-form-urlencoded; charset=utf-8"),)


def request(
    body: bytes = b"", query: str = "", headers: tuple[tuple[str, str], ...] = FORM
) -> WireRequest:
    return WireRequest("POST", "/token", query, headers, body)


def test_a_form_is_read() -> None:
    assert request(b"grant_type=x&scope=a+b&empty=&e=%C3%A9").form() == {
        "grant_type": "x",
        "scope": "a b",
        "empty": "",
        "e": "é",
    }
    assert request(b"").form() == {}


@pytest.mark.parametrize(
    "body", [b"a=1&a=2", b"a=%ff", b"a=\xff", b"a=%00", b"a", b"&".join([b"a=1"] * 2_000)]
)
def test_a_form_that_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        request(body).form()


def test_only_forms_are_forms() -> None:
    with pytest.raises(Malformed, match="urlencoded"):
        request(b"{}", headers=(("content-type", "application/json"),)).form()


def test_headers_and_cookies() -> None:
    made = request(
        headers=(("accept", "a"), ("accept", "b"), ("cookie", "x=1; y=2"), ("cookie", "z=3"))
    )
    assert made.header("accept") == "a, b"
    assert made.header("origin") == ""
    assert made.cookies() == {"x": "1", "y": "2", "z": "3"}
    assert request(query="a=1&b=%20").parameters() == {"a": "1", "b": " "}
