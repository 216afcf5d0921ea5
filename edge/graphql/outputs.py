"""What operations answer, as GraphQL types: objects of records, enumerations, unions, links.

Nullability is that of the types, but for what may be missing although the rest is there: a link is
null when its record is gone, or not the caller's to see. Each field says in its extensions where
its value comes from (`Source`), which is all that `plan.py` needs to know of Python.
"""

import enum
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_origin

import msgspec
from graphql import (
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
)

from edge.graphql.hints import Hint, read
from edge.graphql.names import camel, enum_name, id_names, pascal
from edge.graphql.scalars import Leaf, enum_leaf, scalar_of
from edge.graphql.type_names import TypeNames
from services._kit.record import Page
from services._kit.service import Entity, Service

SOURCE: Final = "nexus.source"
KIND: Final = "nexus.kind"
"""Of an object the class of its values, of a union {class: object}."""
_PAGE: Final = "A part of a list; `nextCursor` asks for the next, null: this was the last."


@dataclass(frozen=True, slots=True, eq=False)
class Linked:
    """Records that ids lead to."""

    service: Service
    entity: Entity


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the value of a field comes from."""

    attribute: str
    leaf: Leaf | None = None
    """Of a leaf, or of the leaves of a list."""
    link: Linked | None = None
    """The attribute holds ids, and these are what they lead to."""
    items_max: int | None = None
    """Most items of a list, where its type says."""


class Outputs:
    """The output types of one schema, made as they are first mentioned."""

    def __init__(self, names: TypeNames, linked: Mapping[tuple[str, str], Linked]) -> None:
        """linked: by an id's prefix and the entity that it names."""
        self._names = names
        self._linked = linked
        self._objects: dict[Any, GraphQLObjectType] = {}
        self._unions: dict[Any, GraphQLUnionType] = {}
        self._enums: dict[Any, tuple[GraphQLEnumType, Leaf]] = {}

    def result(self, hint: Hint, service: Service, *, where: str) -> tuple[Any, Leaf | None]:
        """The type of an answer, nullable, and how it is shown if it is a leaf."""
        return self._inner(hint, service, where)

    def settle(self) -> None:
        """Reads the fields of every object, and of those that they mention."""
        done = 0
        while done < len(self._objects):
            waiting = list(self._objects.values())[done:]
            done += len(waiting)
            for made in waiting:
                assert made.fields

    def enumeration(self, hint: Hint, service: Service, *, where: str) -> GraphQLEnumType:
        """The enumeration, the same one for inputs and outputs."""
        return self._enum(hint, service, where)[0]

    def _type(self, hint: Hint, service: Service, where: str) -> tuple[Any, Leaf | None]:
        inner, leaf = self._inner(hint, service, where)
        return (inner if hint.nullable else GraphQLNonNull(inner)), leaf

    def _inner(self, hint: Hint, service: Service, where: str) -> tuple[Any, Leaf | None]:
        if hint.kind == "struct":
            return self._object(hint.type, service), None
        if hint.kind == "union":
            return self._union(hint, service), None
        if hint.kind == "enum":
            return self._enum(hint, service, where)
        if hint.kind == "list":
            assert hint.item is not None
            item, leaf = self._type(hint.item, service, where)
            return GraphQLList(item), leaf
        return scalar_of(hint)

    def _object(self, kind: Any, service: Service) -> GraphQLObjectType:
        found = self._objects.get(kind)
        if found is None:
            name = self._names.struct(kind, service)
            found = self._objects[kind] = GraphQLObjectType(
                name,
                lambda: self._fields(kind, service, name),
                description=_PAGE if get_origin(kind) is Page else documentation(kind),
                extensions={KIND: get_origin(kind) or kind},
            )
        return found

    def _fields(self, kind: Any, service: Service, name: str) -> dict[str, GraphQLField]:
        fields: dict[str, GraphQLField] = {}
        where = name.removeprefix(self._names.prefix(service))
        for info in msgspec.structs.fields(kind):
            hint = read(info.type)
            for field, made in self._field(info.name, hint, service, where):
                if field in fields:
                    raise ValueError(f"{name} has two fields {field}")
                fields[field] = made
        return fields

    def _field(
        self, attribute: str, hint: Hint, service: Service, where: str
    ) -> list[tuple[str, GraphQLField]]:
        kind, leaf = self._type(hint, service, where + pascal(attribute))
        source = Source(attribute, leaf, items_max=hint.length_max)
        plain = GraphQLField(
            kind,
            description=hint.description,
            deprecation_reason=hint.deprecated,
            extensions={SOURCE: source},
        )
        id_hint = hint.item if hint.kind == "list" and hint.item is not None else hint
        leads_to = id_hint.leads_to
        if leads_to is None or attribute == "id":
            return [(camel(attribute), plain)]
        id_name, link_name = id_names(attribute, many=hint.kind == "list")
        linked = self._linked.get(leads_to)
        if linked is None:
            return [(id_name, plain)]
        target: Any = self._object(linked.entity.record, linked.service)
        if hint.kind == "list":
            target = GraphQLList(target)
            target = target if hint.nullable else GraphQLNonNull(target)
        link = GraphQLField(
            target,
            description=f"What {id_name} leads to; null: it is gone, or not yours to see.",
            deprecation_reason=hint.deprecated,
            extensions={SOURCE: Source(attribute, link=linked, items_max=hint.length_max)},
        )
        return [(id_name, plain), (link_name, link)]

    def _union(self, hint: Hint, service: Service) -> GraphQLUnionType:
        found = self._unions.get(hint.type)
        if found is None:
            members = {
                get_origin(kind) or kind: self._object(kind, service) for kind in hint.members
            }
            first, *others = (made.name for made in members.values())
            prefix = self._names.prefix(service)
            words = [first, *(other.removeprefix(prefix) for other in others)]
            name = self._names.claim("Or".join(words), hint.type)
            found = self._unions[hint.type] = GraphQLUnionType(
                name, tuple(members.values()), extensions={KIND: members}
            )
        return found

    def _enum(self, hint: Hint, service: Service, where: str) -> tuple[GraphQLEnumType, Leaf]:
        key = hint.type if isinstance(hint.type, type) else (service.name, frozenset(hint.members))
        found = self._enums.get(key)
        if found is None:
            found = self._enums[key] = self._new_enum(hint, service, where)
        return found

    def _new_enum(self, hint: Hint, service: Service, where: str) -> tuple[GraphQLEnumType, Leaf]:
        kind = hint.type
        shown: dict[Any, str] = {}
        values: dict[str, GraphQLEnumValue] = {}
        is_class = isinstance(kind, type) and issubclass(kind, enum.Enum)
        members = (
            [(item.name, item) for item in kind]
            if is_class
            else [(value, value) for value in hint.members]
        )
        for label, member in members:
            name = enum_name(label)
            if name in values:
                raise ValueError(f"two values of {kind} are called {name}")
            wire = member.value if is_class else member
            values[name] = GraphQLEnumValue(wire)
            shown[member] = shown[wire] = name
        name = self._names.enum(kind, service, where=where)
        description = documentation(kind) if is_class else None
        made = GraphQLEnumType(name, values, description=description)
        return made, enum_leaf(shown)


def documentation(kind: Any) -> str | None:
    """A class's own docstring; not its parent's, as inspect would have it."""
    text = (get_origin(kind) or kind).__dict__.get("__doc__")
    return inspect.cleandoc(str(text)) if text else None


def named(kind: Any) -> GraphQLNamedType:
    """What is inside of lists and non-nulls."""
    while isinstance(kind, GraphQLNonNull | GraphQLList):
        kind = kind.of_type
    assert isinstance(kind, GraphQLNamedType)
    return kind
