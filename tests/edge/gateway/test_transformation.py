"""Requests and answers changed as a configuration says."""

import json
from typing import Any

import pytest

from edge.gateway.transformation import changed_headers, changed_json, changed_path, is_json
from services.platform.backend_api.api import HeaderChange, JsonChange


def change(body: Any, **members: Any) -> Any:
    return json.loads(changed_json(json.dumps(body).encode(), JsonChange(**members)))


def test_headers_are_removed_renamed_set_and_added() -> None:
    rule = HeaderChange(
        remove=("x-gone",), rename={"x-old": "x-new"}, set={"x-set": "2"}, add={"x-more": "b"}
    )
    before = [("x-gone", "1"), ("x-old", "o"), ("x-set", "1"), ("x-more", "a"), ("x-kept", "k")]
    assert changed_headers(before, rule) == [
        ("x-new", "o"),
        ("x-more", "a"),
        ("x-kept", "k"),
        ("x-set", "2"),
        ("x-more", "b"),
    ]


@pytest.mark.parametrize(
    ("value", "path"),
    [("7", "/v2/7/x"), ("a b", "/v2/a%20b/x"), ("a?b#c", "/v2/a%3Fb%23c/x"), ("é", "/v2/%C3%A9/x")],
)
def test_a_path_is_made_of_the_parameters(value: str, path: str) -> None:
    assert changed_path("/v2/{id}/x", {"id": value}) == path


def test_the_rest_of_a_path_keeps_its_slashes() -> None:
    assert changed_path("/in/{rest}", {"rest": "a/b c"}) == "/in/a/b%20c"


def test_members_are_kept_removed_renamed_and_set() -> None:
    body = {"a": {"b": 1, "c": 2}, "list": [{"x": 1}, {"x": 2}], "d": 3, "e/f": 4}
    assert change(body, keep=("/a/b", "/d")) == {"a": {"b": 1}, "d": 3}
    assert change(body, remove=("/a/b", "/nowhere/x", "/list/0")) == {
        "a": {"c": 2},
        "list": [{"x": 2}],
        "d": 3,
        "e/f": 4,
    }
    assert change(body, keep=("/d", "/e~1f"), rename={"/e~1f": "/g/h", "/no": "/p"}) == {
        "d": 3,
        "g": {"h": 4},
    }
    assert change({}, set={"/x/y": [1], "/z": None}) == {"x": {"y": [1]}, "z": None}
    assert change(body, keep=("/list",), set={"/list/1/x": 9})["list"] == [{"x": 1}, {"x": 9}]


@pytest.mark.parametrize("body", [[1, 2], "text", 3, None])
def test_what_is_no_object_stays_when_nothing_of_it_is_named(body: Any) -> None:
    assert change(body, remove=("/a",), rename={"/b": "/c"}) == body


def test_what_is_no_json_is_told() -> None:
    with pytest.raises(ValueError):
        changed_json(b"{", JsonChange())


def test_which_media_types_are_json() -> None:
    assert all(map(is_json, ("application/json", "Application/JSON; charset=utf-8", "a/b+json")))
    assert not any(map(is_json, ("", "text/json", "application/jsonl", "application/xml")))
