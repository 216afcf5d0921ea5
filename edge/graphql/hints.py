"""Reads a type as a struct or a handler declares it, into the few kinds that GraphQL tells apart.

`tuple[GuestId, ...] | None` is a nullable list of ids that lead to a Guest. What GraphQL has no
shape for, such as dictionaries or tuples of different things, is of the kind "json".
"""

import enum
import types
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

import msgspec

from services._kit.record import is_record

Kind = Literal["struct", "list", "enum", "union", "id", "scalar", "json"]

_LISTS: Final = (list, tuple, set, frozenset, Sequence, AbstractSet)
_INT_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Hint:
    """A type, read."""

    kind: Kind
    type: Any
    """Of a struct the class, perhaps with parameters; of an enum the class or the Literal."""
    nullable: bool = False
    takes_null: bool = False
    """Not so when it is nullable only because it may be left out (`UNSET`)."""
    item: "Hint | None" = None
    """Of a list."""
    members: tuple[Any, ...] = ()
    """Of a union the structs, of an enum the values."""
    metas: tuple[msgspec.Meta, ...] = ()

    @property
    def description(self) -> str | None:
        return next((meta.description for meta in self.metas if meta.description), None)

    @property
    def deprecated(self) -> str | None:
        """Why it should not be used any more, if so: `Meta(extra={"deprecated": "…"})`."""
        found = (meta.extra.get("deprecated") for meta in self.metas if meta.extra)
        return next((str(reason) for reason in found if reason), None)

    @property
    def leads_to(self) -> tuple[str, str] | None:
        """Prefix and entity of an id, if it is one with a name."""
        if self.kind != "id":
            return None
        found = next((meta.extra for meta in self.metas if _has(meta, "entity")), None)
        return (str(found["prefix"]), str(found["entity"])) if found else None

    @property
    def is_int(self) -> bool:
        """Whether the numbers that it allows fit GraphQL's Int, of 32 bits."""
        least = max((_bound(meta.ge, meta.gt) for meta in self.metas), default=-_INT_MAX - 2)
        most = [bound for meta in self.metas for bound in (meta.le, meta.lt) if bound is not None]
        return least >= -_INT_MAX - 1 and bool(most) and min(most) <= _INT_MAX

    @property
    def length_max(self) -> int | None:
        """Most items of a list, where it says."""
        return min((m.max_length for m in self.metas if m.max_length is not None), default=None)


def read(  # noqa: PLR0911  one a kind
    hint: Any, metas: tuple[msgspec.Meta, ...] = ()
) -> Hint:
    """Reads a type; never fails, since what it does not know is JSON."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *notes = get_args(hint)
        return read(inner, (*metas, *(note for note in notes if isinstance(note, msgspec.Meta))))
    if isinstance(hint, NewType):
        return read(hint.__supertype__, metas)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), metas)
    if origin is Literal:
        return _literal(hint, metas)
    if is_record(origin or hint):
        has_fields = bool((origin or hint).__struct_fields__)
        return Hint("struct" if has_fields else "json", hint, metas=metas)
    if origin in _LISTS or hint in (list, tuple, set, frozenset):
        return _list(origin, get_args(hint), metas)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return Hint("enum", hint, members=tuple(item.value for item in hint), metas=metas)
    if hint is str and any(_has(meta, "prefix") for meta in metas):
        return Hint("id", str, metas=metas)
    if isinstance(hint, type) and hint not in (dict, object, msgspec.Raw):
        return Hint("scalar", hint, metas=metas)
    null = hint is Any
    return Hint("json", Any, nullable=null, takes_null=null, metas=metas)


def _union(members: tuple[Any, ...], metas: tuple[msgspec.Meta, ...]) -> Hint:
    present = tuple(kind for kind in members if kind not in (type(None), msgspec.UnsetType))
    nullable = len(present) < len(members)
    if len(present) == 1:
        made = read(present[0], metas)
    elif all(is_record(get_origin(kind) or kind) for kind in present):
        made = Hint("union", present, members=present, metas=metas)
    else:
        made = Hint("json", Any, metas=metas)
    return replace(made, nullable=nullable, takes_null=type(None) in members)


def _literal(hint: Any, metas: tuple[msgspec.Meta, ...]) -> Hint:
    values = get_args(hint)
    present = tuple(value for value in values if value is not None)
    nullable = len(present) < len(values)
    if all(isinstance(value, str) for value in present):
        made = Hint("enum", Literal[present], members=present, metas=metas)
    else:
        made = Hint("scalar", int, metas=(*metas, msgspec.Meta(ge=-_INT_MAX, le=_INT_MAX)))
    return replace(made, nullable=nullable, takes_null=nullable)


def _list(origin: Any, arguments: tuple[Any, ...], metas: tuple[msgspec.Meta, ...]) -> Hint:
    items = [kind for kind in arguments if kind is not Ellipsis]
    if not items or (origin is tuple and any(kind != items[0] for kind in items)):
        return Hint("json", Any, metas=metas)
    if origin is tuple and Ellipsis not in arguments:
        metas = (*metas, msgspec.Meta(max_length=len(items)))
    return Hint("list", list, item=read(items[0]), metas=metas)


def _has(meta: msgspec.Meta, name: str) -> bool:
    return meta.extra is not None and bool(meta.extra.get(name))


def _bound(inclusive: float | None, exclusive: float | None) -> float:
    bounds = [bound for bound in (inclusive, exclusive) if bound is not None]
    return max(bounds, default=-_INT_MAX - 2)
