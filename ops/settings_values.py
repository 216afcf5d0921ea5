"""Turns what a file, a variable or a flag says into a setting's value, or says why it cannot.

Types it knows: bool, int, float, str, Path, Literal, `X | None`, tuples, lists and dicts of these,
and dataclasses of these (tables in the file, JSON elsewhere). It never guesses: "8080" is no number
in a TOML file, and 1 is no bool.
"""

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

_ITEMS_MAX: Final = 1_000
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest number allowed, inclusive; None: no bound."""

    min: float | None = None
    max: float | None = None


_NO_BOUNDS: Final = Bounds()


class UnfitError(ValueError):
    """A value that a setting cannot have; the message is the reason and quotes no secret."""


def from_text(kind: Any, text: str, bounds: Bounds = _NO_BOUNDS) -> Any:
    """The value that a variable or a flag spells. Raises UnfitError with the reason."""
    optional = _optional(kind)
    if optional is not None:
        return None if text == "" else from_text(optional, text, bounds)
    origin = get_origin(kind)
    if kind is str or kind is Path or origin is Literal:
        data: Any = text
    elif kind is bool:
        data = _bool(text)
    elif kind is int or kind is float:
        data = _number(kind, text)
    elif origin in (tuple, list):
        data = _items(kind, text)
    else:
        data = _json(text)
    return from_data(kind, data, bounds)


def from_data(kind: Any, data: Any, bounds: Bounds = _NO_BOUNDS) -> Any:
    """The value that a file's data stands for. Raises UnfitError with the reason."""
    optional = _optional(kind)
    if optional is not None:
        return None if data is None else from_data(optional, data, bounds)
    if kind in _NAMES:
        return _scalar(kind, data, bounds)
    origin = get_origin(kind)
    if origin is Literal:
        return _choice(kind, data)
    if origin in (tuple, list):
        return _sequence(kind, data, bounds)
    if origin is dict:
        return _mapping(kind, data, bounds)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, data)
    raise TypeError(f"settings cannot be of type {kind}")


def type_name(kind: Any) -> str:
    """What a type is called on the reference page."""
    optional = _optional(kind)
    if optional is not None:
        return f"{type_name(optional)} or nothing"
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(str(choice) for choice in get_args(kind))
    if origin in (tuple, list):
        return f"list of {type_name(get_args(kind)[0])}"
    if origin is dict:
        return "table"
    if dataclasses.is_dataclass(kind):
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        return f"table ({names})"
    return _PLAIN_NAMES.get(kind, str(kind))


_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}
_PLAIN_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
}


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."


def _optional(kind: Any) -> Any | None:
    """X of `X | None`, or None when it is not such a type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    rest = [choice for choice in get_args(kind) if choice is not types.NoneType]
    if len(rest) != 1:
        raise TypeError(f"settings cannot be of type {kind}")
    return rest[0]


def _scalar(kind: Any, data: Any, bounds: Bounds) -> Any:
    if kind is float and type(data) is int:
        data = float(data)
    if type(data) is not (str if kind is Path else kind):
        raise UnfitError(f"{_shown(data)} is not {_NAMES[kind]}")
    if kind is Path:
        return _path(data)
    if isinstance(data, int | float) and kind is not bool:
        return _within(data, bounds)
    return data


def _bool(text: str) -> bool:
    lower = text.strip().lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise UnfitError(f"{_shown(text)} is not true or false")


def _number(kind: Any, text: str) -> float:
    try:
        number: float = kind(text.strip())
    except ValueError:
        raise UnfitError(f"{_shown(text)} is not {_NAMES[kind]}") from None
    return number


def _within(number: float, bounds: Bounds) -> float:
    if not math.isfinite(number):
        raise UnfitError(f"{number} is not a number")
    if bounds.min is not None and number < bounds.min:
        raise UnfitError(f"{number} is below {_plain(bounds.min)}")
    if bounds.max is not None and number > bounds.max:
        raise UnfitError(f"{number} is above {_plain(bounds.max)}")
    return number


def _plain(bound: float) -> str:
    return f"{bound:.0f}" if bound == int(bound) else f"{bound:g}"


def _path(text: str) -> Path:
    if "\0" in text:
        raise UnfitError("a path holds no zero byte")
    return Path(text).expanduser() if text else Path()


def _choice(kind: Any, data: Any) -> Any:
    choices = get_args(kind)
    if data in choices:
        return data
    close = difflib.get_close_matches(str(data), [str(choice) for choice in choices], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    names = ", ".join(str(choice) for choice in choices)
    raise UnfitError(f"{_shown(data)} is none of {names}{hint}")


def _items(kind: Any, text: str) -> list[Any]:
    """A list in a variable: JSON when it starts so, else comma separated."""
    if text.lstrip().startswith("["):
        data = _json(text)
        return list(data)
    inner = get_args(kind)[0]
    if dataclasses.is_dataclass(inner):
        raise UnfitError("this is not a JSON list of tables")
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    return [piece if inner is Path else from_text(inner, piece) for piece in pieces]


def _json(text: str) -> Any:
    """The text is not quoted in the reason: tables may hold secrets."""
    try:
        return json.loads(text)
    except ValueError as fault:
        raise UnfitError(f"this is not JSON: {fault}") from None


def _sequence(kind: Any, data: Any, bounds: Bounds) -> Any:
    inner = get_args(kind)[0]
    if not isinstance(data, list | tuple):
        raise UnfitError(f"{type(data).__name__} is not a list")
    if len(data) > _ITEMS_MAX:
        raise UnfitError(f"a list of more than {_ITEMS_MAX} items")
    items = []
    for number, item in enumerate(data, start=1):
        try:
            items.append(from_data(inner, item, bounds))
        except ValueError as fault:
            raise UnfitError(f"item {number}: {fault}") from None
    return tuple(items) if get_origin(kind) is tuple else items


def _mapping(kind: Any, data: Any, bounds: Bounds) -> dict[str, Any]:
    inner = get_args(kind)[1]
    if not isinstance(data, Mapping):
        raise UnfitError(f"{type(data).__name__} is not a table")
    if len(data) > _ITEMS_MAX:
        raise UnfitError(f"a table of more than {_ITEMS_MAX} entries")
    made = {}
    for key, item in data.items():
        try:
            made[str(key)] = from_data(inner, item, bounds)
        except ValueError as fault:
            raise UnfitError(f"{key}: {fault}") from None
    return made


def _record(kind: type[Any], data: Any) -> Any:
    """A dataclass from a table. An unknown field is refused with a hint; no secret is quoted."""
    if not isinstance(data, Mapping):
        raise UnfitError(f"{type(data).__name__} is not a table")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    made = {}
    for key, item in data.items():
        field = fields.get(key)
        if field is None:
            close = difflib.get_close_matches(str(key), list(fields), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UnfitError(f"there is no field {key}{hint}")
        bounds = Bounds(field.metadata.get("min"), field.metadata.get("max"))
        try:
            made[key] = from_data(hints[key], item, bounds)
        except ValueError as fault:
            hidden = field.metadata.get("secret", False)
            raise UnfitError(f"{key}: {'not a value it can have' if hidden else fault}") from None
    try:
        return kind(**made)
    except TypeError as fault:
        raise UnfitError(str(fault).partition(" ")[2] or "a field is missing") from None
