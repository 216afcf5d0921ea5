"""The schema of all services: a root field an operation, GET in Query, all others in Mutation.

Root fields are flat, `guestListInvite`, not under an object a service: the specification runs only
root fields of a mutation one after another, and client caches merge the root by field. Arguments:
the path's parameters by name, a query's fields by name, `limit` and `cursor` of a list, the body as
`input`, the version that If-Match would name as `expectedVersion`, `idempotencyKey`. Root fields
are nullable, so that one that is refused leaves the others' answers whole. Foreign protocols are
left out. A line `Deprecated: why.` in a handler's docstring deprecates its field.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLDefaultInput,
    GraphQLField,
    GraphQLInt,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
)

from edge.graphql.hints import read
from edge.graphql.inputs import Inputs, input_name
from edge.graphql.names import pascal
from edge.graphql.outputs import Linked, Outputs
from edge.graphql.scalars import LONG, Leaf
from edge.graphql.type_names import TypeNames
from services._kit.operation import Operation
from services._kit.record import LIMIT_DEFAULT, LIMIT_MAX
from services._kit.service import Service

ROOT: Final = "nexus.root"
INPUT: Final = "input"
EXPECTED: Final = "expectedVersion"
KEY: Final = "idempotencyKey"
_DEPRECATED: Final = re.compile(r"^Deprecated: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """A root field: an operation, and how its arguments reach it."""

    operation: Operation
    parameters: Mapping[str, str]
    """Arguments that are the path's, and what the handler calls them."""
    filters: Mapping[str, str]
    """Arguments that are fields of the query, and what they are called in JSON."""
    may_be_null: frozenset[str]
    """Of those fields, in JSON: null is a value, not an absence."""
    leaf: Leaf | None
    """Of an answer that is no object."""
    body: Any = None
    """The type of `input`, if there is one."""
    decoder: "msgspec.json.Decoder[Any] | None" = None
    """Of the body."""


def make_schema(services: Sequence[Service], operations: Sequence[Operation]) -> GraphQLSchema:
    """The schema of these operations. Raises ValueError: two things have one name.

    Cost: about a millisecond an operation.
    """
    names = TypeNames(services)
    names.claim("Query", None)
    names.claim("Mutation", None)
    outputs = Outputs(names, _linked(services))
    inputs = Inputs(names, outputs)
    roots: dict[bool, dict[str, GraphQLField]] = {True: {}, False: {}}
    served = [operation for operation in operations if not operation.route.wire]
    answers = {operation.name: _answer(operation, outputs) for operation in served}
    # Before any input, so that enumerations without a name are called after what shows them.
    outputs.settle()
    for operation in served:
        fields = roots[operation.route.reads]
        name = names.field(operation.service, operation.route.operation)
        if name in fields:
            raise ValueError(f"two operations are called {name}")
        fields[name] = _field(operation, answers[operation.name], inputs)
    if not roots[True]:
        roots[True]["nothing"] = GraphQLField(
            GraphQLBoolean, description="No service answers queries; GraphQL wants a field."
        )
    mutation = GraphQLObjectType("Mutation", roots[False]) if roots[False] else None
    return GraphQLSchema(
        GraphQLObjectType("Query", roots[True]),
        mutation,
        description="The business services of Nexus COS.",
    )


def _linked(services: Sequence[Service]) -> dict[tuple[str, str], Linked]:
    """By the prefix of a record's own id, and the record's name."""
    found: dict[tuple[str, str], Linked] = {}
    for service in services:
        for entity in service.entities:
            own = {info.name: read(info.type) for info in msgspec.structs.fields(entity.record)}
            leads_to = own["id"].leads_to if "id" in own else None
            if leads_to is None:
                raise ValueError(f"{service.name}: {entity.record.__name__} has no id of its own")
            if leads_to in found:
                raise ValueError(f"{service.name}: two entities have ids {leads_to[0]}_…")
            found[leads_to] = Linked(service, entity)
    return found


def _answer(operation: Operation, outputs: Outputs) -> tuple[Any, Leaf | None]:
    kind = bool if operation.result is type(None) else operation.result
    return outputs.result(read(kind), operation.service, where=pascal(operation.route.operation))


def _field(operation: Operation, answer: tuple[Any, Leaf | None], inputs: Inputs) -> GraphQLField:
    service, route = operation.service, operation.route
    where = pascal(route.operation)
    arguments: list[tuple[str, GraphQLArgument]] = []
    parameters: dict[str, str] = {}
    for name, kind in operation.parameters:
        argument = input_name(name, read(kind))
        parameters[argument] = name
        made = inputs.argument(kind, service, where=where + pascal(name))
        arguments.append((argument, made))
    filters: dict[str, str] = {}
    if operation.query is not None:
        fields, filters = inputs.arguments(operation.query, service)
        arguments.extend(fields.items())
    if operation.paged:
        arguments.extend(_paging())
    body = inputs.body(operation.body, service) if operation.body is not None else None
    if body is not None:
        arguments.append((INPUT, GraphQLArgument(GraphQLNonNull(body))))
    arguments.extend(_guards(operation))
    twice = {name for name, _ in arguments if sum(name == other for other, _ in arguments) > 1}
    if twice:
        raise ValueError(f"{operation.name} has two arguments {min(twice)}")
    result, leaf = answer
    description, reason = _documentation(operation)
    decoder = msgspec.json.Decoder(operation.body) if operation.body is not None else None
    root = Root(
        operation, parameters, filters, _nulls(operation.query), leaf, body=body, decoder=decoder
    )
    return GraphQLField(
        result,
        dict(arguments),
        description=description,
        deprecation_reason=reason,
        extensions={ROOT: root},
    )


def _paging() -> list[tuple[str, GraphQLArgument]]:
    limit = GraphQLArgument(
        GraphQLNonNull(GraphQLInt),
        default=GraphQLDefaultInput(LIMIT_DEFAULT),
        description=f"How many at most, 1 to {LIMIT_MAX}.",
    )
    text = "The `nextCursor` of the page before."
    return [("limit", limit), ("cursor", GraphQLArgument(GraphQLString, description=text))]


def _guards(operation: Operation) -> list[tuple[str, GraphQLArgument]]:
    """What stands in header fields over HTTP."""
    route = operation.route
    found = []
    if "expected" in operation.takes:
        kind: Any = GraphQLNonNull(LONG) if route.needs_match else LONG
        text = "The version that is to change; another one is refused."
        found.append((EXPECTED, GraphQLArgument(kind, description=text)))
    if not route.reads:
        kind = GraphQLNonNull(GraphQLString) if route.needs_key else GraphQLString
        text = "Makes a repeated call harmless: its first answer is given again."
        found.append((KEY, GraphQLArgument(kind, description=text)))
    return found


def _documentation(operation: Operation) -> tuple[str | None, str | None]:
    """The handler's docstring, and why it is deprecated, if it is."""
    text = inspect.getdoc(operation.route.handler) or ""
    found = _DEPRECATED.search(text)
    return _DEPRECATED.sub("", text).strip() or None, found[1] if found else None


def _nulls(query: Any) -> frozenset[str]:
    if query is None:
        return frozenset()
    fields = msgspec.structs.fields(query)
    return frozenset(info.encode_name for info in fields if read(info.type).takes_null)
