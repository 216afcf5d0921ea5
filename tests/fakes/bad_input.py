"""Requests to an operation that are wrong in one way each, made of its types alone.

For each it is said how it must be refused: the status, and which field of the body or which
parameter the problem must name. All else of the request is right.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from msgspec import inspect as kinds

from services._kit.decode import DEPTH_MAX, ITEMS_MAX
from services._kit.operation import Operation
from services._kit.record import Paging
from services._kit.wire import PAIRS_MAX
from tests.fakes.examples import example, example_of, example_value

JSON: Final = "application/json"
_VALUES: Final = {
    "text": '"x"',
    "integer": "5",
    "number": "1.5",
    "truth": "true",
    "null": "null",
    "list": "[]",
    "object": "{}",
}
"""One JSON value of each kind."""
_HOLE: Final = "\x00hole\x00"
_DEEP: Final = "[" * 10_000 + "]" * 10_000
_HUGE: Final = "9" * 400
_LONGEST: Final = "9" * 5_000
_LIST: Final = (kinds.ListType, kinds.VarTupleType, kinds.SetType, kinds.FrozenSetType)
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what must become of it."""

    what: str
    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    """0: it is right."""
    pointer: str | None = None
    parameter: str | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def wrong(self, what: str, status: int, **changed: Any) -> "Ask":
        """The same, wrong in this way."""
        return replace(self, what=what, status=status, **changed)


def right(operation: Operation, ids: Mapping[str, str]) -> Ask:
    """A request with nothing wrong. ids: of objects that there are, by prefix."""
    headers = {}
    if "expected" in operation.takes:
        headers["If-Match"] = '"1"'
    if operation.route.needs_key:
        headers["Idempotency-Key"] = "right"
    body = None
    if operation.body is not None:
        headers["Content-Type"] = JSON
        body = json.dumps(example(operation.body)).encode()
    query = example(operation.query) if operation.query is not None else {}
    pairs = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    path = _path(operation, ids)
    return Ask("right", operation.route.method, path, pairs, body, headers)


def _path(operation: Operation, ids: Mapping[str, str], **instead: str) -> str:
    """instead: what stands for a parameter, as it is."""
    path = operation.path
    for name, kind in operation.parameters:
        prefix = (getattr(kinds.type_info(kind), "extra", None) or {}).get("prefix")
        value = ids.get(prefix, "") or example_value(kind)
        path = path.replace(f"{{{name}}}", instead.get(name, quote(value, safe="")))
    return path


def bad(operation: Operation, ids: Mapping[str, str]) -> Iterator[Ask]:
    """Every one of them."""
    asked = right(operation, ids)
    yield from _bad_paths(operation, asked, ids)
    yield from _bad_queries(operation, asked)
    yield from _bad_headers(operation, asked)
    if operation.body is None:
        yield asked.wrong(
            "a body", 400, body=b"{}", headers={**asked.headers, "Content-Type": JSON}
        )
        return
    yield from _bad_types(asked)
    yield from _bad_texts(operation, asked)
    yield from _bad_fields(operation.body, asked)


def _bad_paths(operation: Operation, asked: Ask, ids: Mapping[str, str]) -> Iterator[Ask]:
    for name, kind in operation.parameters:
        text = _text_of(kinds.type_info(kind))
        values = {"not UTF-8": ("%ff", 400), "NUL": ("%00", 400)}
        # With a verb behind it, two dots are a name like others.
        goes_up = 404 if f"{{{name}}}:" in operation.path else 400
        values["goes up"] = ("%2e%2e", goes_up)
        for what, value in {"no id": "no-such-thing", "a line feed": "x\n"}.items():
            if text.pattern and not re.search(text.pattern, value):
                values[what] = (quote(value), 404)
        if text.max_length is not None:
            values["too long"] = ("x" * (text.max_length + 1), 404)
        for what, (value, status) in values.items():
            path = _path(operation, ids, **{name: value})
            yield asked.wrong(f"{name}: {what}", status, path=path)


def _bad_queries(operation: Operation, asked: Ask) -> Iterator[Ask]:
    def queried(what: str, text: str, status: int = 422, parameter: str | None = None) -> Ask:
        query = f"{asked.query}&{text}".lstrip("&")
        return asked.wrong(f"query: {what}", status, query=query, parameter=parameter)

    yield queried("unknown", "no_such=1", parameter="no_such")
    yield queried("not a pair", "no_such", 400)
    yield queried("too many", "&".join(f"p{at}=1" for at in range(PAIRS_MAX + 1)), 400)
    yield queried("not UTF-8", "no_such=%ff", 400)
    yield queried("fields", "fields=no_such", parameter="fields")
    structs = (Paging if operation.paged else None, operation.query)
    for struct in structs:
        for item in _fields(struct) if struct is not None else ():
            name = item.encode_name
            yield queried(f"{name} twice", f"{name}=1&{name}=1", 400, name)
            yield queried(f"{name} with NUL", f"{name}=%00", 400, name)
            for value in _bad_words(item.type):
                yield queried(f"{name}={value[:20]}", f"{name}={quote(value)}", 422, name)


def _bad_words(info: Any) -> Iterator[str]:
    """Texts that a parameter cannot be."""
    for part in _parts(info):
        match part:
            case kinds.IntType() | kinds.FloatType():
                yield from ("x", "", "1e400", _HUGE)
                if part.ge is not None:
                    yield str(part.ge - 1)
                if part.le is not None:
                    yield str(part.le + 1)
            case kinds.EnumType() | kinds.LiteralType():
                yield "no-such"
            case kinds.StrType():
                if part.max_length is not None:
                    yield "x" * (part.max_length + 1)
                if part.pattern:
                    yield f"{example_of(part)}\n"
            case kinds.BoolType():
                yield "maybe"


def _bad_headers(operation: Operation, asked: Ask) -> Iterator[Ask]:
    def headed(what: str, status: int, **named: str) -> Ask:
        headers = {
            **asked.headers,
            **{name.replace("_", "-"): value for name, value in named.items()},
        }
        headers = {name: value for name, value in headers.items() if value}
        return asked.wrong(what, status, headers=headers)

    route = operation.route
    if "expected" in operation.takes:
        for value in ("7", '"7', '"1", "2"', '"a"b'):
            yield headed(f"If-Match: {value}", 400, If_Match=value)
        if route.needs_match:
            yield headed("no If-Match", 428, If_Match="")
            yield headed("any If-Match", 428, If_Match="*")
    elif not route.reads:
        yield headed("If-Match without meaning", 400, If_Match='"1"')
    if not route.reads:
        for key in ('"a', '""', "a b", "x" * 256):
            yield headed(f"Idempotency-Key: {key[:20]}", 400, Idempotency_Key=key)
        if route.needs_key:
            yield headed("no Idempotency-Key", 400, Idempotency_Key="")


def _bad_types(asked: Ask) -> Iterator[Ask]:
    for kind in (
        "text/plain",
        "application/xml",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
    ):
        headers = {**asked.headers, "Content-Type": kind}
        yield asked.wrong(f"body as {kind}", 415, headers=headers)


def _bad_texts(operation: Operation, asked: Ask) -> Iterator[Ask]:
    body = asked.body
    assert body is not None
    most = operation.route.body_bytes_max
    for what, data in {
        "cut short": body[:-1],
        "a rest": body + b"}",
        "a mark of byte order": b"\xef\xbb\xbf" + body,
        "UTF-16": body.decode().encode("utf-16"),
        "not UTF-8": b'{"\xff": 1}',
        "an overlong form": b'{"\xc0\xaf": 1}',
        "an unescaped control character": b'{"a": "\x01"}',
        "a comment": b"/* */" + body,
        "nothing but white space": b"  ",
    }.items():
        yield asked.wrong(f"body: {what}", 400, body=data)
    yield asked.wrong("body: none", 400, body=None)
    yield asked.wrong("body: too long", 413, body=body + b" " * (most + 1 - len(body)))
    for kind in ("text", "integer", "null", "list"):
        yield asked.wrong(f"body: {kind}", 422, body=_VALUES[kind].encode(), pointer="")
    yield asked.wrong("body: deep", 400, body=_DEEP.encode(), pointer="/0" * DEPTH_MAX)
    deep = b'{"a":' * 10_000
    yield asked.wrong("body: deep objects", 400, body=deep, pointer="/a" * DEPTH_MAX)
    unknown = {**json.loads(body), "no/such~field": 1}
    yield asked.wrong(
        "unknown field", 422, body=json.dumps(unknown).encode(), pointer="/no~1such~0field"
    )


def _bad_fields(kind: Any, asked: Ask) -> Iterator[Ask]:
    assert asked.body is not None
    base = json.loads(asked.body)
    for steps, item, required in _places(kinds.type_info(kind), ()):
        here = "".join(f"/{step}" for step in steps)

        def said(what: str, status: int, raw: str, at: str = here, steps: Steps = steps) -> Ask:
            body = json.dumps(_put(kind, base, steps)).replace(json.dumps(_HOLE), raw).encode()
            return asked.wrong(f"{at or '/'}: {what}", status, body=body, pointer=at)

        if required:
            body = json.dumps(_without(_put(kind, base, steps), steps)).encode()
            yield asked.wrong(f"{here}: missing", 422, body=body, pointer=here)
        for what, raw in _bad_values(item):
            yield said(what, 422, raw)
        for what, raw in (
            ("NUL", r'"a\u0000"'),
            ("half a surrogate pair", r'"\ud800"'),
            ("NaN", "NaN"),
            ("infinite", "-Infinity"),
            ("a number of 5,000 digits", _LONGEST),
            ("too many members", "[" + "1," * ITEMS_MAX + "1]"),
        ):
            yield said(what, 400, raw)
        deep = replace(said("10,000 levels", 400, _DEEP), pointer=None)
        yield replace(deep, pointer=here + "/0" * (DEPTH_MAX - len(steps)))
        name, value = json.dumps(steps[-1]), "1"
        if isinstance(steps[-1], str):
            yield said("twice", 400, f"{value}, {name}: {value}")


def _bad_values(info: Any) -> Iterator[tuple[str, str]]:
    """JSON that a field cannot be, and what is wrong with it."""
    taken = _taken(info)
    for kind, value in _VALUES.items():
        if kind not in taken:
            yield f"wrong type, {kind}", value
    for part in _parts(info):
        match part:
            case kinds.StrType():
                yield from _bad_strings(part)
            case kinds.IntType():
                yield from _bad_numbers(part)
            case kinds.EnumType() | kinds.LiteralType() if "text" in taken:
                yield "none of those", '"no-such"'
            case kinds.ListType() | kinds.VarTupleType() if part.max_length is not None:
                several = [example_of(part.item_type)] * (part.max_length + 1)
                yield "too many", json.dumps(several)


def _bad_strings(part: kinds.StrType) -> Iterator[tuple[str, str]]:
    if part.max_length is not None:
        yield "too long", json.dumps(str(example_of(part)) + "x" * part.max_length)
    if part.min_length:
        yield "too short", '"' + "x" * (part.min_length - 1) + '"'
    if part.pattern:
        yield "a line feed behind", json.dumps(f"{example_of(part)}\n")


def _bad_numbers(part: kinds.IntType) -> Iterator[tuple[str, str]]:
    yield "huge", "1e400"
    if part.ge is not None:
        yield "too small", str(part.ge - 1)
        yield "far too small", "-" + _HUGE
    if part.le is not None:
        yield "too large", str(part.le + 1)
        yield "far too large", _HUGE


def _taken(info: Any) -> set[str]:
    """The kinds of JSON values that a type takes."""
    found: set[str] = set()
    for part in _parts(info):
        match part:
            case kinds.StrType():
                found.add("text")
            case kinds.IntType():
                found.add("integer")
            case kinds.FloatType():
                found |= {"integer", "number"}
            case kinds.BoolType():
                found.add("truth")
            case kinds.NoneType():
                found.add("null")
            case kinds.EnumType():
                values = [member.value for member in part.cls]
                found.add("text" if isinstance(values[0], str) else "integer")
            case kinds.LiteralType():
                found.add("text" if isinstance(part.values[0], str) else "integer")
            case kinds.StructType() | kinds.DictType() | kinds.TypedDictType():
                found.add("object")
            case kinds.AnyType():
                found |= _VALUES.keys()
            case _ if isinstance(part, _LIST):
                found.add("list")
            case _:
                raise AssertionError(f"what JSON does {part} take? add it")
    return found


def _parts(info: Any) -> Sequence[Any]:
    """The types of a union, or the one."""
    if isinstance(info, kinds.Metadata):
        return _parts(info.type)
    if isinstance(info, kinds.UnionType):
        return [part for one in info.types for part in _parts(one)]
    return [info]


def _text_of(info: Any) -> kinds.StrType:
    return next((one for one in _parts(info) if isinstance(one, kinds.StrType)), kinds.StrType())


def _fields(kind: Any) -> Sequence[Any]:
    info = kinds.type_info(kind)
    assert isinstance(info, kinds.StructType)
    return info.fields


def _places(info: Any, steps: Steps) -> Iterator[tuple[Steps, Any, bool]]:
    """Every field of a body, however deep: its place, its type, whether it must be there."""
    for part in _parts(info):
        if isinstance(part, kinds.StructType):
            for item in part.fields:
                here = (*steps, item.encode_name)
                yield here, item.type, item.required
                yield from _places(item.type, here)
        elif isinstance(part, _LIST):
            here = (*steps, 0)
            yield here, part.item_type, False
            yield from _places(part.item_type, here)


def _put(kind: Any, base: Any, steps: Steps) -> Any:
    """The body with a hole in this place, and around it whatever its types ask for."""
    info = kinds.type_info(kind)
    made = json.loads(json.dumps(base))
    inside = made
    for at, step in enumerate(steps):
        part = next(one for one in _parts(info) if isinstance(one, (kinds.StructType, *_LIST)))
        if isinstance(part, kinds.StructType):
            info = next(one.type for one in part.fields if one.encode_name == step)
        else:
            info = part.item_type
        below: Any = _HOLE
        if at + 1 < len(steps):
            inner = next(one for one in _parts(info) if isinstance(one, (kinds.StructType, *_LIST)))
            known = inside.get(step) if isinstance(inside, dict) else None
            below = known or (example(inner.cls) if isinstance(inner, kinds.StructType) else [])
        if isinstance(inside, list):
            inside[:] = [below]
        else:
            inside[step] = below
        inside = below
    return made


def _without(made: Any, steps: Steps) -> Any:
    inside = made
    for step in steps[:-1]:
        inside = inside[step]
    del inside[steps[-1]]
    return made
