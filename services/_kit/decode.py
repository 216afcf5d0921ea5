"""Reads what a caller sent, strictly, and says where it is wrong.

JSON (RFC 8259) with the rules of I-JSON (RFC 7493) that programs rely on: UTF-8, no name twice in
an object, no lone surrogates, no NaN, and bounded in depth and length. What msgspec then refuses
becomes a `Problem` with a JSON pointer (RFC 6901).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services._kit.errors import Invalid, Malformed, NotFound, Problem

DEPTH_MAX: Final = 32
ITEMS_MAX: Final = 10_000
"""Most members of one array or object."""
_AT: Final = re.compile(r"^(.*?)(?: - at `([^`]*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(r"(?:unknown|required) field `([^`]*)`")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[([0-9]+|\.\.\.)\]")


def check_json(body: bytes) -> None:
    """Raises Malformed when the body is not JSON as above."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_constant)
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except RecursionError:
        raise Malformed(f"the body is nested deeper than {DEPTH_MAX}") from None
    except json.JSONDecodeError as fault:
        raise Malformed(
            f"the body is not JSON: {fault.msg} (line {fault.lineno}, column {fault.colno})"
        ) from None
    except ValueError:
        raise Malformed("the body has a number that is too long") from None
    _check_shape(value, escapes=b"\\u" in body)


def decode_body(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    """The body as the decoder's type. Raises Malformed, Invalid."""
    check_json(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise _invalid(str(fault), parameter=False) from None
    except msgspec.DecodeError as fault:
        raise Malformed(f"the body is not JSON: {fault}") from None


def convert_query(values: Mapping[str, str], kind: type[Any]) -> Any:
    """Query parameters as an `Input`. Raises Invalid naming the parameter."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise _invalid(str(fault), parameter=True) from None


def convert_parameter(value: str, kind: Any, name: str) -> Any:
    """A parameter of the path. Raises NotFound: what cannot be an id leads to nothing."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        raise NotFound(name) from None


def pointer(path: str) -> str:
    """msgspec's `$.guests[0].name` as a JSON pointer, `/guests/0/name`."""
    steps = [name or index for name, index in _STEP.findall(path.removeprefix("$"))]
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def _invalid(text: str, *, parameter: bool) -> Invalid:
    match = _AT.match(text)
    assert match is not None
    message, path = match[1], match[2] or "$"
    where = pointer(path)
    named = _NAMED.search(message)
    if named is not None:
        where += "/" + named[1]
        code = "unknown" if "unknown" in message else "missing"
    else:
        code = "type" if message.startswith("Expected `") and ", got" in message else "value"
    message = message.replace("Object ", "The object ", 1)
    if parameter:
        problem = Problem(parameter=where.removeprefix("/"), code=code, message=message)
        return Invalid("a parameter is wrong", problems=(problem,))
    problem = Problem(pointer=where, code=code, message=message)
    return Invalid("a field of the body is wrong", problems=(problem,))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Malformed(f"the body has the name {name[:64]!r} twice in one object")
            seen.add(name)
    return found


def _constant(name: str) -> Any:
    raise Malformed(f"{name} is not JSON")


def _check_shape(value: Any, *, escapes: bool) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item, escapes=escapes)
            elif isinstance(item, dict | list):
                if len(item) > ITEMS_MAX:
                    raise Malformed(f"more than {ITEMS_MAX} members in one array or object")
                if isinstance(item, dict):
                    below.extend(item.keys())
                    below.extend(item.values())
                else:
                    below.extend(item)
        if not below:
            return
        level = below
    raise Malformed(f"the body is nested deeper than {DEPTH_MAX}")


def _check_text(text: str, *, escapes: bool) -> None:
    if not escapes:
        return
    if "\x00" in text:
        raise Malformed("the body has a NUL character")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed("the body has half a surrogate pair")
