"""Values that are right, for any input of any service: made of its types alone."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ops.ids import IdMaker


def example(kind: type[Any]) -> dict[str, Any]:
    """The required fields of an input, with values that are right."""
    shape = msgspec.inspect.type_info(kind)
    assert isinstance(shape, msgspec.inspect.StructType)
    return {field.encode_name: example_of(field.type) for field in shape.fields if field.required}


def example_value(kind: Any) -> str:
    return str(example_of(msgspec.inspect.type_info(kind)))


def example_of(info: Any) -> Any:
    kinds = msgspec.inspect
    match info:
        case kinds.Metadata():
            prefix = (info.extra or {}).get("prefix")
            found = IdMaker("eu1").new(prefix) if prefix else example_of(info.type)
        case kinds.StrType():
            found = _text(info.pattern or "", info.min_length)
        case kinds.IntType():
            found = info.ge if info.ge is not None else (info.gt or 0) + 1
        case kinds.BoolType():
            found = False
        case kinds.EnumType():
            found = next(iter(info.cls)).value
        case kinds.UnionType():
            found = None if info.includes_none else example_of(info.types[0])
        case kinds.StructType():
            found = example(info.cls)
        case kinds.DictType():
            found = {}
        case _:
            found = []
    return found


def _text(pattern: str, least: int | None) -> str:
    """A text for the few patterns that inputs use."""
    for known in (
        "x" * (least or 1),
        "x@example.org",
        "2030-01-01T00:00:00Z",
        "EUR",
        "eu1",
        "2030-01-01",
        "",
    ):
        if re.search(pattern, known) and len(known) >= (least or 0):
            return known
    raise AssertionError(f"no example fits {pattern}: add one")


def leaves(kind: Any) -> Iterator[tuple[str, Any]]:
    """What an input is made of in the end, however deep, and where it is."""
    kinds = msgspec.inspect
    left = [(getattr(kind, "__name__", ""), kinds.type_info(kind))]
    while left:
        where, info = left.pop()
        match info:
            case kinds.Metadata():
                left.append((where, info.type))
            case kinds.UnionType():
                left.extend((where, one) for one in info.types)
            case kinds.StructType():
                left.extend((f"{where}.{item.name}", item.type) for item in info.fields)
            case kinds.ListType() | kinds.VarTupleType():
                left.append((f"{where}[]", info.item_type))
            case _:
                yield where, info
