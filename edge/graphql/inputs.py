"""What operations take, as GraphQL input types; and back, from coerced input to the JSON of HTTP.

graphql-core coerces a literal or a variable into what a JSON body would hold, with the names that
the struct has in JSON, so that msgspec decodes it by the same rules as over HTTP. A union of
tagged structs is an input of which exactly one field is given (`@oneOf`), named after the tags.
Null stands for "left out" where the struct has a default and takes no null.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from graphql import (
    GraphQLArgument,
    GraphQLDefaultInput,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
)

from edge.graphql.hints import Hint, read
from edge.graphql.names import camel, enum_name, id_names, pascal
from edge.graphql.outputs import Outputs, documentation, named
from edge.graphql.scalars import scalar_of
from edge.graphql.type_names import TypeNames
from services._kit.service import Service

_STEP: Final = re.compile(r"/([^/]*)")


class Inputs:
    """The input types of one schema, made as they are first mentioned."""

    def __init__(self, names: TypeNames, outputs: Outputs) -> None:
        self._names = names
        self._outputs = outputs
        self._objects: dict[Any, GraphQLInputObjectType] = {}

    def arguments(
        self, kind: Any, service: Service
    ) -> tuple[dict[str, GraphQLArgument], dict[str, str]]:
        """One argument for each field of a query's struct, and what each is called in JSON."""
        found: dict[str, GraphQLArgument] = {}
        called: dict[str, str] = {}
        where = self._names.struct(kind, service).removeprefix(self._names.prefix(service))
        for info in msgspec.structs.fields(kind):
            hint = read(info.type)
            name, made, default = self._field(info, service, where)
            found[name] = GraphQLArgument(
                made,
                default=default,
                description=hint.description,
                deprecation_reason=None if _is_required(info) else hint.deprecated,
            )
            called[name] = info.encode_name
        return found, called

    def argument(self, hint: Any, service: Service, *, where: str) -> GraphQLArgument:
        """An argument that must be given, such as a parameter of the path."""
        read_hint = read(hint)
        return GraphQLArgument(
            GraphQLNonNull(self._inner(read_hint, service, where)),
            description=read_hint.description,
        )

    def body(self, kind: Any, service: Service) -> Any:
        """The input type of a body; JSON where the struct has no fields."""
        return self._inner(read(kind), service, "")

    def _inner(self, hint: Hint, service: Service, where: str) -> Any:
        if hint.kind == "struct":
            return self._object(hint.type, service)
        if hint.kind == "union":
            return self._one_of(hint, service)
        if hint.kind == "enum":
            return self._outputs.enumeration(hint, service, where=where)
        if hint.kind == "list":
            assert hint.item is not None
            item = self._inner(hint.item, service, where)
            return GraphQLList(item if hint.item.nullable else GraphQLNonNull(item))
        return scalar_of(hint)[0]

    def _object(self, kind: Any, service: Service) -> GraphQLInputObjectType:
        found = self._objects.get(kind)
        if found is None:
            name = self._names.struct(kind, service)
            name = name if name.endswith("Input") else self._names.claim(f"{name}Input", (kind,))
            found = self._objects[kind] = GraphQLInputObjectType(
                name,
                lambda: self._fields(kind, service, name),
                description=documentation(kind),
                out_type=_without_absent(kind),
            )
        return found

    def _fields(self, kind: Any, service: Service, name: str) -> dict[str, GraphQLInputField]:
        fields: dict[str, GraphQLInputField] = {}
        where = name.removesuffix("Input").removeprefix(self._names.prefix(service))
        for info in msgspec.structs.fields(kind):
            field, made, default = self._field(info, service, where)
            if field in fields:
                raise ValueError(f"{name} has two fields {field}")
            hint = read(info.type)
            fields[field] = GraphQLInputField(
                made,
                default=default,
                out_name=info.encode_name,
                description=hint.description,
                deprecation_reason=None if _is_required(info) else hint.deprecated,
            )
        return fields

    def _field(
        self, info: Any, service: Service, where: str
    ) -> tuple[str, Any, GraphQLDefaultInput | None]:
        hint = read(info.type)
        made = self._inner(hint, service, where + pascal(info.name))
        default = _default(info, hint)
        if not hint.nullable and (_is_required(info) or default is not None):
            made = GraphQLNonNull(made)
        return input_name(info.name, hint), made, default

    def _one_of(self, hint: Hint, service: Service) -> GraphQLInputObjectType:
        found = self._objects.get(hint.type)
        if found is None:
            tags = {camel(str(_tag(kind)[1])): kind for kind in hint.members}
            first, *others = (self._names.struct(kind, service) for kind in hint.members)
            prefix = self._names.prefix(service)
            words = [first, *(other.removeprefix(prefix) for other in others)]
            name = self._names.claim(f"{'Or'.join(words)}Input", (hint.type,))
            fields = {
                tag: GraphQLInputField(self._object(kind, service)) for tag, kind in tags.items()
            }
            found = self._objects[hint.type] = GraphQLInputObjectType(
                name,
                fields,
                description="Exactly one of these.",
                is_one_of=True,
                out_type=_tagged({tag: _tag(kind) for tag, kind in tags.items()}),
            )
        return found


def input_name(field: str, hint: Hint) -> str:
    """What a field of a struct is called; one with ids as it is in answers."""
    inner = hint.item if hint.kind == "list" and hint.item is not None else hint
    if inner.leads_to is not None and field != "id":
        return id_names(field, many=hint.kind == "list")[0]
    return camel(field)


def pointer_within(kind: Any, pointer: str) -> str:
    """A JSON pointer into a body, with the names that the input type has for its fields."""
    steps = []
    for step in _STEP.findall(pointer):
        inner = named(kind) if kind is not None else None
        kind = None
        if isinstance(inner, GraphQLInputObjectType):
            found = next(
                (item for item in inner.fields.items() if (item[1].out_name or item[0]) == step),
                None,
            )
            if found is not None:
                step, kind = found[0], found[1].type  # noqa: PLW2901  the name that it has here
        elif step.isdigit() and inner is not None:
            kind = inner
        steps.append(step)
    return "".join(f"/{step}" for step in steps)


def _is_required(info: Any) -> bool:
    return info.default is msgspec.NODEFAULT and info.default_factory is msgspec.NODEFAULT


def _default(info: Any, hint: Hint) -> GraphQLDefaultInput | None:
    """The default that the schema can show; others stay the struct's own business."""
    value = info.default
    if value is msgspec.NODEFAULT or value is msgspec.UNSET or value is None:
        return None
    if hint.kind == "enum":
        return GraphQLDefaultInput(enum_name(getattr(value, "name", value)))
    if hint.kind == "scalar" and isinstance(value, bool | int | float | str):
        return GraphQLDefaultInput(value)
    return None


def _without_absent(kind: Any) -> Callable[[dict[str, Any]], Any]:
    may_be_null = {
        info.encode_name for info in msgspec.structs.fields(kind) if read(info.type).takes_null
    }

    def drop(values: dict[str, Any]) -> Any:
        return {
            name: value
            for name, value in values.items()
            if value is not None or name in may_be_null
        }

    return drop


def _tag(kind: Any) -> tuple[str, str | int]:
    config = kind.__struct_config__
    if config.tag is None:
        raise ValueError(f"{kind.__name__} is one of several and has no tag")
    return config.tag_field, config.tag


def _tagged(tags: dict[str, tuple[str, str | int]]) -> Callable[[dict[str, Any]], Any]:
    def tag(values: dict[str, Any]) -> Any:
        ((name, value),) = values.items()
        field, text = tags[name]
        return {field: text, **value}

    return tag
