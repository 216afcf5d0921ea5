"""Our executor gives what graphql-core's gives: for generated operations, fragments, broken data.

The reference resolves each field by itself, by the same schema: slowly, and by somebody else's
reading of the specification.
"""

import json
import os
from typing import Any

import msgspec
import pytest
from graphql import (
    ExecutionResult,
    GraphQLResolveInfo,
    execute,
    get_introspection_query,
    get_named_type,
    is_enum_type,
    is_leaf_type,
    parse,
    print_schema,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis_graphql import Mode, from_schema, nodes

from edge.graphql.arguments import bind
from edge.graphql.outputs import KIND, SOURCE
from edge.graphql.refused import Refused, encode
from edge.graphql.schema import ROOT
from edge.graphql.settings import GraphqlSettings
from tests.edge.graphql.backend import ACTOR, Client, MemoryBackend
from tests.edge.graphql.sample import EVERYTHING, guest_id, host_id

EXAMPLES = 1_500 if os.environ.get("NEXUS_PROVE") else 60
WIDE = GraphqlSettings(
    cost_max=1_000_000_000, errors_max=10_000, aliases_max=1_000, repeats_max=1_000, depth_max=50
)
IDS = st.sampled_from([guest_id(0), guest_id(1), host_id(0), guest_id(99), "x"]).map(nodes.String)
SCALARS = {
    "ID": IDS,
    "Long": st.integers(-(2**40), 2**40).map(nodes.Int),
    "JSON": st.text(max_size=3).map(nodes.String),
    "DateTime": st.datetimes().map(lambda value: nodes.String(f"{value.isoformat()}Z")),
    "Date": st.dates().map(nodes.String),
    "Duration": st.just(nodes.String("PT1S")),
    "UUID": st.uuids().map(nodes.String),
    "Decimal": st.decimals(-9, 9, places=2).map(nodes.String),
    "Base64": st.just(nodes.String("AP8=")),
}
OURS = Client(MemoryBackend(), WIDE)
THEIRS = MemoryBackend()
SDL = print_schema(OURS.engine.schema)
BROKEN: tuple[dict[str, Any], ...] = (
    {},
    {"text": None},
    {"mood": "bad"},
    {"tags": ("a", None)},
    {"shape": 5},
    {"number": 2**31},
    {"colour": "green"},
    {"maybe": None, "unset": "set"},
)


class Reference:
    """The same backend under graphql-core's executor."""

    def __init__(self, client: Client, backend: MemoryBackend) -> None:
        self._schema = client.engine.schema
        self._backend = backend

    async def ask(self, query: str, variables: dict[str, Any] | None) -> ExecutionResult:
        found = execute(
            self._schema,
            parse(query),
            variable_values=variables,
            field_resolver=self._resolve,
            type_resolver=_type_of,
        )
        return found if isinstance(found, ExecutionResult) else await found

    def _resolve(self, source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        field = info.parent_type.fields[info.field_name]
        root = field.extensions.get(ROOT)
        if root is not None:
            return self._call(root, arguments)
        origin = field.extensions[SOURCE]
        held = getattr(source, origin.attribute)
        if held is msgspec.UNSET:
            return None
        if origin.link is not None:
            return self._linked(origin.link.entity.record.__name__, held)
        inner = get_named_type(field.type)
        if not is_leaf_type(inner):
            return held
        return _leaf(held, inner, listed="[" in str(field.type))

    async def _call(self, root: Any, arguments: dict[str, Any]) -> Any:
        bound = bind(root, arguments, ACTOR)
        answer = await self._backend.invoke(root.operation, ACTOR, bound.arguments)
        return True if root.operation.result is type(None) else answer

    def _linked(self, kind: str, held: Any) -> Any:
        table: dict[str, Any] = getattr(self._backend.store, f"{kind.lower()}s")
        if held is None or isinstance(held, str):
            return table.get(held)
        return [table.get(one) for one in held]


def _type_of(value: Any, _info: Any, union: Any) -> str:
    if type(value) not in union.extensions[KIND]:
        raise TypeError("not one of the union")
    name: str = union.extensions[KIND][type(value)].name
    return name


def _leaf(held: Any, inner: Any, *, listed: bool) -> Any:
    """What graphql-core's scalars take for what ours take."""
    if listed and isinstance(held, list | tuple | frozenset):
        return [_leaf(item, inner, listed=True) for item in held]
    if is_enum_type(inner):
        return getattr(held, "value", held)
    return held


async def compare(
    query: str, variables: dict[str, Any] | None = None, broken: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Runs both on data of their own; asserts that they agree. Ours."""
    for backend in (OURS.backend, THEIRS):
        backend.fill()
        backend.store.everything = msgspec.structs.replace(EVERYTHING, **(broken or {}))
    ours = await OURS.ask(query, variables)
    theirs = await Reference(OURS, THEIRS).ask(query, variables)
    shown = json.loads(encode({"data": ours["data"]}))["data"]
    expected = json.loads(msgspec.json.encode(theirs.data))
    assert shown == expected
    assert _order(shown) == _order(expected)
    our_errors = {_place(error["path"], error["locations"]) for error in ours.get("errors", ())}
    their_errors = {
        _place(error.path, [{"line": at.line, "column": at.column} for at in error.locations or ()])
        for error in theirs.errors or ()
    }
    assert {path for path, _ in our_errors} == {path for path, _ in their_errors}
    return ours


def _place(path: Any, locations: Any) -> tuple[str, str]:
    return json.dumps(list(path)), json.dumps(locations[:1])


def _order(value: Any) -> Any:
    """The keys of objects, in order."""
    if isinstance(value, dict):
        return [(key, _order(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [_order(item) for item in value]
    return None


@settings(max_examples=EXAMPLES)
@given(
    query=from_schema(SDL, custom_scalars=SCALARS, allow_x00=False),
    broken=st.sampled_from(BROKEN),
)
async def test_generated_operations(query: str, broken: dict[str, Any]) -> None:
    wrong = validate(OURS.engine.schema, parse(query))
    if wrong:
        # The generator does not know @oneOf.
        assert all("OneOf" in error.message for error in wrong)
        return
    await compare(query, broken=broken)


@settings(max_examples=EXAMPLES)
@given(query=from_schema(SDL, custom_scalars=SCALARS, allow_x00=False, mode=Mode.NEGATIVE))
async def test_generated_operations_that_are_wrong(query: str) -> None:
    OURS.backend.fill()
    with pytest.raises(Refused) as refused:
        await OURS.ask(query)
    assert refused.value.code in {"graphql.invalid", "graphql.syntax", "graphql.operation"}
    assert refused.value.errors
    assert OURS.backend.invoked == []


@pytest.mark.parametrize("broken", BROKEN)
async def test_fragments_and_aliases(broken: dict[str, Any]) -> None:
    await compare(
        """
        query ($yes: Boolean = true, $no: Boolean = false) {
          ...All
          again: typesEverything { text @skip(if: $yes) text2: text ...Some }
          typesEverything { twin { others { name } } number @include(if: $no) }
          ... on Query @include(if: $yes) { __typename ...All }
        }
        fragment All on Query { typesEverything { ...Some twin { name ...Deep } __typename } }
        fragment Some on TypesEverything {
          text flag number mood tags maybe unset colour
          shape {
            __typename
            ... on TypesCircle { radius }
            ... on TypesSquare { side }
            ... on TypesCircleOrTypesSquare { __typename }
          }
        }
        fragment Deep on TypesTwin { others { ...Name others { ...Name } } }
        fragment Name on TypesTwin { name kind: __typename }
        """.replace("TypesCircleOrTypesSquare", "TypesCircleOrSquare"),
        broken=broken,
    )


async def test_links() -> None:
    ours = await compare(
        """query ($id: ID!, $limit: Int! = 2) {
          guestListGuest(id: $id) { host { name deputy { ...Host } } friends { name host { id } } }
          guestListGuests(limit: $limit) {
            data { friends { friends { name } friendIds } hostId } nextCursor
          }
          hosts { ...Host deputyId deputy { deputy { deputy { ...Host } } } }
        }
        fragment Host on HostsHost { id name }""",
        {"id": guest_id(2)},
    )
    assert "errors" not in ours


@pytest.mark.parametrize(
    "query",
    [
        get_introspection_query(
            specified_by_url=True,
            directive_is_repeatable=True,
            schema_description=True,
            input_value_deprecation=True,
        ),
        '{ __type(name: "TypesColour") { name enumValues { name isDeprecated } } a: __typename }',
        '{ __type(name: "None") { name } }',
        "{ __schema { __typename a: queryType { __typename name } b: types { k: kind } } }",
    ],
)
async def test_introspection(query: str) -> None:
    ours = await compare(query)
    assert "errors" not in ours


async def test_introspection_with_variables() -> None:
    query = """query ($name: String!, $all: Boolean!) {
        __type(name: $name) { name fields(includeDeprecated: $all) { name } }
    }"""
    client = Client(MemoryBackend())
    for name, found in (("GuestListGuest", {True: 10, False: 9}), ("HostsHost", {True: 4})):
        for shown, count in found.items():
            data = await client.data(query, {"name": name, "all": shown})
            assert data["__type"]["name"] == name
            assert len(data["__type"]["fields"]) == count
    await compare(query, {"name": "GuestListGuest", "all": True})
