"""What callers send is read strictly, and each fault says where it is."""

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
