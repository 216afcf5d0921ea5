"""From the arguments of a root field to what its operation takes, by the rules of HTTP.

Whoever may not call an operation is told so before anything is said about what they sent. Bodies
are decoded by the very function that decodes them over HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from edge.graphql.inputs import pointer_within
from edge.graphql.names import camel
from edge.graphql.schema import EXPECTED, INPUT, KEY, Root
from services._kit.actor import Actor
from services._kit.call import check_access
from services._kit.decode import convert_parameter, convert_query, decode_body
from services._kit.errors import Invalid, Malformed, Problem
from services._kit.record import Paging

KEY_CHARACTERS_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Bound:
    """What an operation is called with."""

    arguments: Mapping[str, Any]
    key: str = ""
    """The idempotency key."""


def bind(root: Root, given: Mapping[str, Any], actor: Actor) -> Bound:
    """The operation's arguments, decoded. given: as graphql-core coerced them.

    Raises NexusError.
    """
    operation = root.operation
    check_access(operation, actor)
    kinds = dict(operation.parameters)
    arguments: dict[str, Any] = {
        name: convert_parameter(given[argument], kinds[name], name)
        for argument, name in root.parameters.items()
    }
    if operation.query is not None:
        filters = {
            name: given[argument]
            for argument, name in root.filters.items()
            if argument in given and (given[argument] is not None or name in root.may_be_null)
        }
        _refuse_nul(filters)
        arguments["query"] = convert_query(filters, operation.query)
    if operation.paged:
        paging = {name: given[name] for name in ("limit", "cursor") if given.get(name) is not None}
        read = convert_query(paging, Paging)
        arguments |= {"limit": read.limit, "cursor": read.cursor}
    if root.decoder is not None:
        body = msgspec.json.encode(given[INPUT])
        if len(body) > operation.route.body_bytes_max:
            raise Malformed("the input is too long", code="http.body_too_long")
        arguments["body"] = decode_body(root.decoder, body)
    if "expected" in operation.takes:
        arguments["expected"] = given.get(EXPECTED)
    return Bound(arguments, _key(given.get(KEY)))


def pointer_of(root: Root, problem: Problem) -> str:
    """Where among the field's arguments a fault of the body or of a parameter is (RFC 6901)."""
    if problem.pointer is not None:
        return f"/{INPUT}{pointer_within(root.body, problem.pointer)}"
    name, slash, rest = (problem.parameter or "").partition("/")
    found = next((argument for argument, called in root.filters.items() if called == name), None)
    return f"/{found or camel(name)}{slash}{rest}"


def _key(given: str | None) -> str:
    if given is None:
        return ""
    if not 1 <= len(given) <= KEY_CHARACTERS_MAX:
        text = f"An idempotency key has 1 to {KEY_CHARACTERS_MAX} characters."
        raise _wrong("idempotency_key", text)
    _refuse_nul({"idempotency_key": given})
    return given


def _refuse_nul(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, str) and "\0" in value:
            raise _wrong(name, "A text has no NUL character.")


def _wrong(parameter: str, message: str) -> Invalid:
    problem = Problem(parameter=parameter, code="value", message=message)
    return Invalid("a parameter is wrong", problems=(problem,))
