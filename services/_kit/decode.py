"""Reads what a caller sent, strictly, and says where it is wrong.

JSON (RFC 8259) with the rules of I-JSON (RFC 7493) that programs rely on: UTF-8, no name twice in
an object, no lone surrogates, no NaN, and bounded in depth and length. What of it or of msgspec's
rules does not hold becomes a `Problem` with a JSON pointer (RFC 6901).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from services._kit.errors import Invalid, Malformed, NotFound, Problem
from services._kit.places import joined, place_of, place_of_depth
from services._kit.record import WHOLE

DEPTH_MAX: Final = 32
ITEMS_MAX: Final = 10_000
"""Most members of one array or object."""
_AT: Final = re.compile(r"^(.*?)(?: - at `([^`]*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(r"(?:unknown|required) field `([^`]*)`")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[([0-9]+|\.\.\.)\]")
_GUARD: Final = repr(WHOLE)[1:-1]
"""As messages show it."""
_DIGITS_MAX: Final = 4_000
_MESSAGE_CHARACTERS_MAX: Final = 500
"""Of what somebody sent, no more is told again."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong; in decoded JSON it stands where no value can."""

    code: str
    message: str


_DEEP: Final = _Fault("deep", f"the body is nested deeper than {DEPTH_MAX}")
_CROWDED: Final = _Fault("long", f"more than {ITEMS_MAX} members in one array or object")
_LONG: Final = _Fault("value", "the body has a number that is too long")
_NUL: Final = _Fault("value", "the body has a NUL character")
_HALF: Final = _Fault("value", "the body has half a surrogate pair")


class _Refused(Exception):  # noqa: N818  it does not leave this module
    """An item of decoded JSON that cannot be taken."""

    def __init__(self, item: Any, fault: _Fault) -> None:
        super().__init__(fault.message)
        self.item = item
        self.fault = fault


def check_json(body: bytes) -> None:
    """Raises Malformed when the body is not JSON as above."""
    try:
        value = _read(body, None)
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except ValueError:
        # Python reads no number as long as that. Once more, to find it.
        value = _read(body, _integer)
    try:
        _check_shape(value, escapes=b"\\u" in body)
    except _Refused as refused:
        raise _malformed(refused.fault, at=place_of(value, refused.item)) from None


def decode_body(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    """The body as the decoder's type. Raises Malformed, Invalid."""
    check_json(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        told = str(fault)
    except msgspec.DecodeError as fault:
        raise Malformed(f"the body is not JSON: {fault}") from None
    if "got `float`" in told:
        # To JSON Schema 2.0 is an integer; to msgspec it is not.
        value = json.loads(body, parse_float=_number)
        try:
            return msgspec.convert(value, decoder.type, str_keys=True)
        except msgspec.ValidationError as fault:
            told = str(fault)
    raise _invalid(told, parameter=False)


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
    return joined(*steps)


def _invalid(text: str, *, parameter: bool) -> Invalid:
    match = _AT.match(text)
    assert match is not None
    message, path = match[1], match[2] or "$"
    where = pointer(path)
    named = _NAMED.search(message)
    if named is not None:
        where += joined(named[1])
        code = "unknown" if "unknown" in message else "missing"
    else:
        code = "type" if message.startswith("Expected `") and ", got" in message else "value"
    message = message.replace("Object ", "The object ", 1).replace(_GUARD, "")
    message = message[:_MESSAGE_CHARACTERS_MAX]
    if parameter:
        name = named[1] if named is not None else where.removeprefix("/")
        problem = Problem(parameter=name[:_MESSAGE_CHARACTERS_MAX], code=code, message=message)
        return Invalid("a parameter is wrong", problems=(problem,))
    problem = Problem(pointer=where, code=code, message=message)
    return Invalid("a field of the body is wrong", problems=(problem,))


def _read(body: bytes, parse_int: Callable[[str], Any] | None) -> Any:
    """Decoded JSON. Raises Malformed, ValueError: a number is too long."""
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_once, parse_constant=_constant, parse_int=parse_int
        )
    except RecursionError:
        raise _malformed(_DEEP, at=place_of_depth(body, DEPTH_MAX)) from None
    except json.JSONDecodeError as fault:
        raise Malformed(
            f"the body is not JSON: {fault.msg} (line {fault.lineno}, column {fault.colno})"
        ) from None


def _malformed(fault: _Fault, *, at: str) -> Malformed:
    problem = Problem(
        pointer=at, code=fault.code, message=f"{fault.message[0].upper()}{fault.message[1:]}."
    )
    return Malformed(fault.message, problems=(problem,))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                message = f"the body has the name {name[:64]!r} twice in one object"
                found[name] = _Fault("twice", message)
            seen.add(name)
    return found


def _constant(name: str) -> _Fault:
    return _Fault("value", f"{name} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _integer(digits: str) -> int | _Fault:
    return int(digits) if len(digits) <= _DIGITS_MAX else _LONG


def _check_shape(value: Any, *, escapes: bool) -> None:
    """Raises _Refused."""
    level: list[Any] = [value]
    for depth in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if escapes:
                    _check_text(item)
            elif isinstance(item, dict | list):
                if len(item) > ITEMS_MAX:
                    raise _Refused(item, _CROWDED)
                if item and depth == DEPTH_MAX:
                    raise _Refused(item, _DEEP)
                if isinstance(item, dict):
                    below.extend(item.keys())
                    below.extend(item.values())
                else:
                    below.extend(item)
            elif isinstance(item, _Fault):
                raise _Refused(item, item)
        level = below


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _Refused(text, _NUL)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _Refused(text, _HALF)
