"""Leaves: which scalar a type of Python is, and what of its values an answer takes as they are.

Times, ids and amounts are texts as everywhere in the API; the encoder of the answer writes them.
Input is checked here and handed on as the JSON that it was: the service's own struct decodes it.
"""

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLScalarType,
    GraphQLString,
)

from edge.graphql.hints import Hint

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """How a value of a leaf gets into the answer."""

    classes: frozenset[type]
    """Values of exactly these go as they are."""
    convert: Callable[[Any], Any] | None = None
    """For all others. Raises TypeError or ValueError for what cannot be shown."""


def _text(name: str, kind: type, description: str, url: str | None = None) -> GraphQLScalarType:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise GraphQLError(f"{name} is written as a text.")
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as fault:
            raise GraphQLError(f"This is no {name}: {fault}") from None
        return value

    return GraphQLScalarType(
        name, coerce_input_value=check, description=description, specified_by_url=url
    )


def _long(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LONG_MAX:
        raise GraphQLError("Long is a whole number of at most 64 bits.")
    return value


LONG: Final = GraphQLScalarType(
    "Long",
    coerce_input_value=_long,
    description="A whole number that may be longer than 32 bits, as a JSON number.",
)
JSON: Final = GraphQLScalarType(
    "JSON", description="Any JSON.", specified_by_url="https://www.rfc-editor.org/rfc/rfc8259"
)
_RFC3339: Final = "https://www.rfc-editor.org/rfc/rfc3339"
_TEXTS: Final[dict[type, GraphQLScalarType]] = {
    dt.datetime: _text(
        "DateTime",
        dt.datetime,
        "A moment, RFC 3339, such as 2026-01-31T18:00:00Z.",
        "https://scalars.graphql.org/andimarek/date-time",
    ),
    dt.date: _text("Date", dt.date, "A day, such as 2026-01-31.", _RFC3339),
    dt.time: _text("Time", dt.time, "A time of day, such as 18:00:00.", _RFC3339),
    dt.timedelta: _text("Duration", dt.timedelta, "A length of time, ISO 8601, such as PT90S."),
    uuid.UUID: _text(
        "UUID", uuid.UUID, "A UUID, RFC 9562.", "https://www.rfc-editor.org/rfc/rfc9562"
    ),
    decimal.Decimal: _text("Decimal", decimal.Decimal, "A decimal number, as a text."),
    bytes: _text(
        "Base64", bytes, "Bytes in base64, RFC 4648.", "https://www.rfc-editor.org/rfc/rfc4648"
    ),
}
_PLAIN: Final[dict[type, GraphQLScalarType]] = {
    str: GraphQLString,
    bool: GraphQLBoolean,
    int: LONG,
}


def scalar_of(hint: Hint) -> tuple[GraphQLScalarType, Leaf]:
    """The scalar of a type that is no struct, list, union or enumeration."""
    kind = hint.type if hint.kind != "json" else object
    if hint.kind == "id":
        return GraphQLID, Leaf(frozenset({str}))
    if kind is int and hint.is_int:
        return GraphQLInt, Leaf(frozenset(), _int)
    if kind is float:
        return GraphQLFloat, Leaf(frozenset(), _float)
    found = _PLAIN.get(kind) or _TEXTS.get(kind)
    if found is not None:
        return found, Leaf(frozenset({kind}))
    return JSON, Leaf(frozenset(), _as_it_is)


def enum_leaf(names: dict[Any, str]) -> Leaf:
    """names: what each value, as Python has it, is called."""

    def convert(value: Any) -> str:
        name = names.get(value)
        if name is None:
            raise ValueError("not one of the enumeration's values")
        return name

    return Leaf(frozenset(), convert)


def _as_it_is(value: Any) -> Any:
    return value


def _int(value: Any) -> int:
    if value.__class__ is not int or not -_INT_MAX - 1 <= value <= _INT_MAX:
        raise TypeError("not a whole number of 32 bits")
    number: int = value
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return value
