"""What one document may hold, cost and take: refused before anything is done, and remembered."""

import hashlib
import time
from typing import Any

import pytest
from graphql import get_introspection_query

from edge.graphql.documents import Documents
from edge.graphql.engine import Engine
from edge.graphql.http_request import Ask
from edge.graphql.refused import Refused
from edge.graphql.settings import GraphqlSettings
from tests.edge.graphql.backend import ACTOR, Client, MemoryBackend, make_engine
from tests.edge.graphql.sample import guest_id


async def refused(query: str, **settings: Any) -> Refused:
    """Why a query is refused; nothing of it was done."""
    backend = MemoryBackend()
    with pytest.raises(Refused) as caught:
        await Client(backend, GraphqlSettings(**settings)).ask(query)
    assert backend.invoked == []
    return caught.value


async def allowed(query: str, **settings: Any) -> None:
    await Client(MemoryBackend(), GraphqlSettings(**settings)).data(query)


def nested(depth: int) -> str:
    """A query of so many fields within each other."""
    inside = "name"
    for _ in range(depth - 2):
        inside = f"deputy {{ {inside} }}"
    return f"{{ hosts {{ {inside} }} }}"


async def test_depth() -> None:
    await allowed(nested(5), depth_max=5)
    error = await refused(nested(6), depth_max=5)
    assert error.code == "query_depth"
    assert error.status == 400
    hidden = f"{{ ...A }} fragment A on Query {nested(6)}"
    assert (await refused(hidden, depth_max=5)).code == "query_depth"


async def test_cost_is_that_of_the_calls() -> None:
    fields = " ".join(f"a{number}: hostsCount" for number in range(8))
    await allowed(f"{{ {fields} }}", cost_max=8)
    error = await refused(f"{{ {fields} more: hostsCount }}", cost_max=8)
    assert (error.code, error.status, error.always) == ("query_cost", 400, True)
    assert error.fields == {"cost": 9, "cost_max": 8}


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("{ __typename }", 0),
        ("{ hostsCount }", 1),
        # the page, and each guest
        ("{ guestListGuests(limit: 200) { data { name } } }", 1 + 201 // 100),
        ("{ guestListGuests { data { name } } }", 1),
        ("{ guestListGuests { nextCursor } }", 1),
        # each guest, their host, ten friends with a host each
        ("{ guestListGuests(limit: 200) { data { host { id } } } }", 1 + 401 // 100),
        (
            "{ guestListGuests(limit: 100) { data { friends { host { id } } host { id } } } }",
            1 + (1 + 100 * (1 + 10 * 2 + 1)) // 100,
        ),
        ("{ guestListGuests(limit: 100000) { data { name } } }", 1 + 100_001 // 100),
        ("{ guestListGuests(limit: -5) { data { name } } }", 1),
    ],
)
async def test_cost_grows_with_what_lists_may_give(query: str, cost: int) -> None:
    charged: list[int] = []

    async def charge(tokens: int) -> None:
        charged.append(tokens)

    client = Client(MemoryBackend(), GraphqlSettings(cost_max=1_000_000), charge=charge)
    await client.ask(query)
    assert charged == [cost]


async def test_a_limit_in_a_variable_counts() -> None:
    query = "query ($limit: Int!) { guestListGuests(limit: $limit) { data { host { id } } } }"
    client = Client(MemoryBackend(), GraphqlSettings(cost_max=3))
    await client.data(query, {"limit": 100})
    with pytest.raises(Refused) as caught:
        await client.ask(query, {"limit": 200})
    assert caught.value.fields["cost"] == 5


async def test_the_usual_introspection_is_affordable() -> None:
    await allowed(get_introspection_query(input_value_deprecation=True))


async def test_fragments_that_multiply_are_refused_soon() -> None:
    parts = [
        f"fragment F{n} on HostsHost {{ a: deputy {{ ...F{n + 1} }} b: deputy {{ ...F{n + 1} }} }}"
        for n in range(20)
    ]
    parts.append("fragment F20 on HostsHost { id }")
    bomb = "{ hosts { ...F0 } } " + " ".join(parts)
    began = time.process_time()
    error = await refused(bomb, depth_max=100)
    assert error.code == "query_fields"
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("query", "setting", "code"),
    [
        (
            "{ " + " ".join(f"a{n}: hostsCount" for n in range(6)) + " }",
            {"aliases_max": 5},
            "query_aliases",
        ),
        (
            "{ hostsCount @skip(if: false) @include(if: true) }",
            {"directives_max": 1},
            "query_directives",
        ),
        ("{ hostsCount hostsCount hostsCount }", {"repeats_max": 2}, "query_repeats"),
        ("{ " + "hostsCount " * 60 + " }", {"tokens_max": 50}, "query_tokens"),
        ("{ __schema { description } }", {"introspection": False}, "graphql.introspection"),
        (
            '{ ... { __type(name: "Query") { name } } }',
            {"introspection": False},
            "graphql.introspection",
        ),
        ("{" * 5_000, {}, "graphql.syntax"),
        ("{ typesEverything(a: " + "[" * 1_900 + " }", {}, "graphql.syntax"),
        ("", {}, "graphql.syntax"),
        ("fragment F on Query { hostsCount }", {}, "graphql.invalid"),
        ("subscription { x }", {}, "graphql.invalid"),
        ("{ hostsCount } query B { hostsCount }", {}, "graphql.invalid"),
        ("query A { hostsCount } query B { hostsCount }", {}, "graphql.operation"),
        ("type A { b: C }", {}, "graphql.invalid"),
    ],
)
async def test_documents_that_are_too_much(query: str, setting: dict[str, Any], code: str) -> None:
    assert (await refused(query, **setting)).code == code


async def test_what_hides_the_schema_gives_no_hints() -> None:
    hint = "Did you mean 'hosts"
    assert hint in (await refused("{ hostsCoun }")).errors[0]["message"]
    hidden = await refused("{ hostsCoun }", introspection=False)
    assert "Did you mean" not in hidden.errors[0]["message"]


async def test_the_name_of_a_type_is_no_introspection() -> None:
    await allowed("{ __typename hosts { __typename } }", introspection=False)


def documents(**settings: Any) -> Documents:
    return Documents(make_engine(MemoryBackend()).schema, GraphqlSettings(**settings))


async def test_remembered_documents_are_bounded() -> None:
    known = documents(documents_max=10, documents_bytes_max=65_536)
    for number in range(50):
        await known.find(f"{{ a{number}: hostsCount }}")
    assert len(known) == 10
    long = "#" + "x" * 30_000
    for number in range(5):
        await known.find(f"{{ a{number}: hostsCount }} {long}")
    assert known.text_bytes <= 65_536
    assert len(known) == 2


async def test_a_document_is_read_once_right_or_wrong() -> None:
    known = documents()
    right = await known.find("{ hostsCount }")
    assert await known.find("{ hostsCount }") is right
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await known.find("{ nope }")
        assert caught.value.errors[0]["message"].startswith("Cannot query field 'nope'")
    assert len(known) == 2


async def test_plans_of_a_document_are_bounded() -> None:
    client = Client(MemoryBackend())
    names = [f"v{number}" for number in range(6)]
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: hostsCount @include(if: ${name})" for name in names)
    query = f"query ({declared}) {{ {fields} }}"
    for number in range(64):
        values = {name: bool(number >> bit & 1) for bit, name in enumerate(names)}
        data = await client.data(query, values)
        assert set(data) == {name for name, value in values.items() if value}


async def ask(engine: Engine, query: str | None, sha256: str) -> Any:
    return await engine.answer(Ask(query, None, {}, sha256), ACTOR, reads_only=False)


async def test_persisted_queries() -> None:
    engine = make_engine(MemoryBackend(), GraphqlSettings(documents_max=2))
    query = f'{{ guestListGuest(id: "{guest_id(0)}") {{ name }} }}'
    sha256 = hashlib.sha256(query.encode()).hexdigest()
    with pytest.raises(Refused) as unknown:
        await ask(engine, None, sha256)
    assert (unknown.value.code, unknown.value.status) == ("PERSISTED_QUERY_NOT_FOUND", 200)
    assert unknown.value.message == "PersistedQueryNotFound"
    answer = await ask(engine, query, sha256)
    assert answer == await ask(engine, None, sha256)
    with pytest.raises(Refused) as other:
        await ask(engine, query + " ", sha256)
    assert other.value.code == "persisted_query.hash"
    for number in range(2):
        await ask(engine, f"{{ a{number}: hostsCount }}", hash_of(f"{{ a{number}: hostsCount }}"))
    with pytest.raises(Refused):
        await ask(engine, None, sha256)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
