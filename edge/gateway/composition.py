"""Several calls in one request: which of them wait for which, and what each sends.

    {"calls": [
        {"id": "guest", "path": "/v1/guest-list/guests/gst_eu1_…"},
        {"id": "order", "path": "/v1/orders/orders/{guest:/order}"},
        {"id": "note", "method": "POST", "path": "/v1/notes/notes",
         "body": {"text": {"$from": "order", "pointer": "/title"}}, "after": ["order"]}
    ]}

A call that refers to another one's answer waits for it, as does one that names it in `after`; all
others run at once, as many as may. A call whose answer is a failure leaves those that refer to it
undone; the others go on, and the whole says which are there (partial results). An engine: who makes
the calls is `compose.py`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from edge.gateway.transformation import found_at
from services._kit.record import SPACE, shaped

REFERENCE: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31}):((?:/[^{}]*)+)\}")
DEPTH_MAX: Final = 32
_FROM: Final = "$from"

CallId = Annotated[str, shaped(r"^[a-z][a-z0-9_]{0,31}$")]


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call."""

    id: CallId
    path: Annotated[str, shaped(rf"^/[^#{SPACE}]*$", max_length=4_000)]
    """Path and query; `{id:/pointer}` is replaced by what another call answered, encoded."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    body: Any = None
    """JSON; `{"$from": id, "pointer": "/…"}` is replaced by what another call answered."""
    if_match: Annotated[str, shaped(r"^[\t -~]*$", max_length=200)] = ""
    after: tuple[CallId, ...] = ()


class Composition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All calls of one request."""

    calls: Annotated[tuple[Call, ...], Meta(min_length=1)]


class Result(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a call. Status 424: it was not made, since what it refers to is not there."""

    status: int
    body: Any = None
    etag: str = ""
    location: str = ""


class Composed(msgspec.Struct, kw_only=True):
    """What became of all of them."""

    complete: bool
    """Whether every call succeeded."""
    results: dict[str, Result]


class CompositionError(ValueError):
    """What cannot be composed; `pointer` says where."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class MissingError(LookupError):
    """A call refers to something that is not in the answer."""


def waits(composition: Composition) -> dict[str, frozenset[str]]:
    """For each call those that it waits for. Raises CompositionError: an id that is there twice or
    not at all, a circle."""
    ids = [call.id for call in composition.calls]
    found: dict[str, frozenset[str]] = {}
    for at, call in enumerate(composition.calls):
        if call.id in found:
            raise CompositionError(f"/calls/{at}/id", f"there are two calls {call.id}")
        needed = {*call.after, *references(call)}
        for name in sorted(needed):
            if name not in ids:
                raise CompositionError(f"/calls/{at}", f"there is no call {name}")
        found[call.id] = frozenset(needed)
    left = dict(found)
    while left:
        ready = [name for name, needed in left.items() if not needed & left.keys()]
        if not ready:
            name = next(iter(left))
            raise CompositionError(f"/calls/{ids.index(name)}", f"{name} waits for itself")
        for name in ready:
            del left[name]
    return found


def references(call: Call) -> frozenset[str]:
    """The calls whose answers this one uses. Raises CompositionError: nested too deep."""
    in_path = {name for name, _ in REFERENCE.findall(call.path)}
    return frozenset({*in_path, *_in_body(call.body, 0)})


def target_of(call: Call, answers: Mapping[str, Any]) -> str:
    """Path and query with every reference replaced. Raises MissingError."""

    def replaced(match: re.Match[str]) -> str:
        value = _value(answers, match[1], match[2])
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, str | int | float):
            raise MissingError(f"{match[1]} has no text or number at {match[2]}")
        text = str(value)
        if text in {"", ".", ".."}:
            raise MissingError(f"{match[1]} has nothing for a path at {match[2]}")
        return quote(text, safe="")

    return REFERENCE.sub(replaced, call.path)


def body_of(call: Call, answers: Mapping[str, Any]) -> Any:
    """The body with every reference replaced. Raises MissingError."""
    return _filled(call.body, answers)


def _filled(value: Any, answers: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if _is_reference(value):
            return _value(answers, value[_FROM], value.get("pointer", ""))
        return {name: _filled(item, answers) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, answers) for item in value]
    return value


def _in_body(value: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise CompositionError("/calls", f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        if _is_reference(value):
            yield value[_FROM]
            return
        for item in value.values():
            yield from _in_body(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _in_body(item, depth + 1)


def _is_reference(value: dict[str, Any]) -> bool:
    pointer = value.get("pointer", "")
    named = isinstance(value.get(_FROM), str) and isinstance(pointer, str)
    return named and value.keys() <= {_FROM, "pointer"}


def _value(answers: Mapping[str, Any], name: str, pointer: str) -> Any:
    if not pointer:
        return answers[name]
    found, there = found_at(answers[name], pointer)
    if not there:
        raise MissingError(f"{name} has nothing at {pointer}")
    return found
