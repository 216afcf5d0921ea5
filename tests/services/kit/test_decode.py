"""What callers send is read strictly, and each fault says where it is."""

from typing import Annotated

import msgspec
import pytest

from services._kit.decode import (
    DEPTH_MAX,
    ITEMS_MAX,
    check_json,
    convert_parameter,
    convert_query,
    decode_body,
)
from services._kit.errors import Invalid, Malformed, NotFound
from services._kit.places import POINTER_CHARACTERS_MAX
from services._kit.record import Input
from tests.fakes.notes.service import NewNote, NoteFilter, NoteId


class Guest(Input):
    name: str
    age: int = 0


class Party(Input):
    guests: tuple[Guest, ...] = ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"title": "a", "title": "b"}', "'title' twice"),
        (b'{"x": [{"a": 1, "a": 1}]}', "'a' twice"),
        (b'{"x": NaN}', "NaN"),
        (b'{"x": -Infinity}', "Infinity"),
        (b'"\xff"', "UTF-8"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"a\\u0000b"', "NUL"),
        (b"[" * (DEPTH_MAX + 2) + b"]" * (DEPTH_MAX + 2), "deeper"),
        (b"[" * 100_000, "JSON|deeper"),
        (b"[" + b"1," * ITEMS_MAX + b"1]", "more than"),
        (b"1" * 5_000, "too long"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        check_json(body)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"a": 1, "b": {"c/d": [0, {"x": 1, "x": 2}]}}', "/b/c~1d/1/x", "twice"),
        (b'{"a": [1, NaN]}', "/a/1", "value"),
        (b'{"a": {"\\u0000": 1}}', "/a/\0", "value"),
        (b'{"a": ["x", "\\udc00"]}', "/a/1", "value"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "/a", "value"),
        (b'{"a": ' + b"1" * 5_000 + b', "b": ' + b"[" * 10_000, "/b" + "/0" * 31, "deep"),
        (b'{"a": [' + b"1," * ITEMS_MAX + b"1]}", "/a", "long"),
        (b'{"x": 1, "a": ' + b"[" * 40 + b"]" * 40 + b"}", "/a" + "/0" * 31, "deep"),
        (b'{"x": "[", "a": [[], 2, ' + b"[" * 10_000, "/a/2" + "/0" * 30, "deep"),
        (b'{"x":' * 10_000, "/x" * 32, "deep"),
    ],
)
def test_what_is_no_json_is_pointed_at(body: bytes, pointer: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_json(body)
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == (pointer, code)


def test_pointers_say_no_more_than_is_bounded() -> None:
    long = "x" * 100_000
    with pytest.raises(Invalid) as caught:
        decode_body(msgspec.json.Decoder(NewNote), f'{{"title": "a", "{long}": 1}}'.encode())
    (problem,) = caught.value.problems
    assert len(problem.pointer or "") == POINTER_CHARACTERS_MAX
    assert len(problem.message) <= 500


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": [1, 2.5e3, null, true, "\\ud83d\\ude00"]} ',
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        '{"ü": "ß\\u00e9"}'.encode(),
    ],
)
def test_json_is_taken(body: bytes) -> None:
    check_json(body)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"title": 5}', "/title", "type"),
        (b"{}", "/title", "missing"),
        (b'{"title": "a", "colour": "red"}', "/colour", "unknown"),
        (b'{"title": ""}', "/title", "value"),
        (b'{"title": "a", "tags": ["x", 1]}', "/tags/1", "type"),
        (b"[]", "", "type"),
    ],
)
def test_a_wrong_field_is_pointed_at(body: bytes, pointer: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_body(msgspec.json.Decoder(NewNote), body)
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == (pointer, code)


class Stock(Input):
    """Whole numbers, and one that need not be."""

    count: Annotated[int, msgspec.Meta(ge=0, le=9)]
    by_shelf: dict[int, int]
    weight: float = 0.0


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing() -> None:
    taken = decode_body(
        msgspec.json.Decoder(Stock), b'{"count": 2.0, "by_shelf": {"7": 1e1}, "weight": 1.5}'
    )
    assert taken == Stock(count=2, by_shelf={7: 10}, weight=1.5)
    assert type(taken.count) is int


@pytest.mark.parametrize("count", [b"2.5", b"10.0", b"-1.0", b"1e400", b'"2.0"'])
def test_what_is_no_whole_number_is_none(count: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        decode_body(msgspec.json.Decoder(Stock), b'{"by_shelf": {}, "count": %s}' % count)
    assert caught.value.problems[0].pointer == "/count"


def test_faults_deep_inside_are_pointed_at() -> None:
    with pytest.raises(Invalid) as caught:
        decode_body(msgspec.json.Decoder(Party), b'{"guests": [{"name": "a"}, {"nam": "b"}]}')
    assert caught.value.problems[0].pointer == "/guests/1/nam"


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        convert_query({"begins_with": "a" * 51}, NoteFilter)
    assert caught.value.problems[0].parameter == "begins_with"
    with pytest.raises(Invalid) as caught:
        convert_query({"ends_with": "a"}, NoteFilter)
    assert (caught.value.problems[0].parameter, caught.value.problems[0].code) == (
        "ends_with",
        "unknown",
    )


@pytest.mark.parametrize("value", ["", "x", "note_eu1_0", "gst_eu1_01jz3k0000000000000000000"])
def test_what_cannot_be_an_id_leads_to_nothing(value: str) -> None:
    with pytest.raises(NotFound):
        convert_parameter(value, NoteId, "id")
