"""Compositions: what waits for what, and what references become."""

from typing import Any

import msgspec
import pytest

from edge.gateway.composition import (
    Composition,
    CompositionError,
    MissingError,
    body_of,
    target_of,
    waits,
)


def composed(*calls: dict[str, Any]) -> Composition:
    return msgspec.convert({"calls": calls}, Composition)


def test_calls_wait_for_those_they_name() -> None:
    order = waits(
        composed(
            {"id": "a", "path": "/v1/x"},
            {"id": "b", "path": "/v1/y/{a:/id}"},
            {"id": "c", "path": "/v1/z", "body": {"l": [{"$from": "b", "pointer": "/n"}]}},
            {"id": "d", "path": "/v1/z", "after": ["c"]},
        )
    )
    assert order == {
        "a": frozenset(),
        "b": frozenset({"a"}),
        "c": frozenset({"b"}),
        "d": frozenset({"c"}),
    }


@pytest.mark.parametrize(
    ("calls", "pointer"),
    [
        ([{"id": "a", "path": "/x"}, {"id": "a", "path": "/y"}], "/calls/1/id"),
        ([{"id": "a", "path": "/x/{b:/i}"}], "/calls/0"),
        ([{"id": "a", "path": "/x", "after": ["a"]}], "/calls/0"),
        (
            [
                {"id": "a", "path": "/x"},
                {"id": "b", "path": "/x", "after": ["c"]},
                {"id": "c", "path": "/{b:/x}"},
            ],
            "/calls/1",
        ),
    ],
)
def test_what_cannot_be_composed(calls: list[dict[str, Any]], pointer: str) -> None:
    with pytest.raises(CompositionError) as caught:
        waits(composed(*calls))
    assert caught.value.pointer == pointer


def test_a_body_nested_without_end_is_refused() -> None:
    body: Any = 1
    for _ in range(50):
        body = [body]
    with pytest.raises(CompositionError):
        waits(composed({"id": "a", "path": "/x", "body": body}))


ANSWERS = {"a": {"id": "gst 1/2", "n": 3, "ok": True, "list": [{"x": "y"}], "empty": ""}}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/{a:/id}", "/v1/gst%201%2F2"),
        ("/v1?n={a:/n}&ok={a:/ok}&x={a:/list/0/x}", "/v1?n=3&ok=true&x=y"),
        ("/v1/plain", "/v1/plain"),
    ],
)
def test_a_path_is_filled(path: str, target: str) -> None:
    (call,) = composed({"id": "b", "path": path}).calls
    assert target_of(call, ANSWERS) == target


@pytest.mark.parametrize("pointer", ["/none", "/list", "/empty", "/list/7/x"])
def test_what_is_not_there_is_missing(pointer: str) -> None:
    (call,) = composed({"id": "b", "path": "/v1/{a:" + pointer + "}"}).calls
    with pytest.raises(MissingError):
        target_of(call, ANSWERS)


def test_a_body_is_filled() -> None:
    body = {
        "all": {"$from": "a", "pointer": "/list"},
        "whole": {"$from": "a"},
        "kept": [1, {"$from": 1}, {"$from": "a", "else": 1}],
    }
    (call,) = composed({"id": "b", "path": "/x", "body": body}).calls
    assert body_of(call, ANSWERS) == {
        "all": [{"x": "y"}],
        "whole": ANSWERS["a"],
        "kept": [1, {"$from": 1}, {"$from": "a", "else": 1}],
    }
