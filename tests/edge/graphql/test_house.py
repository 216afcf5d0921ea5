"""The house's own services in one schema, and the sample service asked through it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from graphql import validate_schema

from edge.graphql.engine import Engine
from edge.graphql.http_request import Ask
from edge.graphql.schema import ROOT, make_schema
from edge.graphql.settings import GraphqlSettings
from services._kit.load import load_all
from services._kit.operation import operations
from tests.fakes.calls import actor, served
from tests.fakes.postgres import Postgres

SERVICES = load_all()
GUEST_LIST = load_all(only=("guest-list",))


def test_every_operation_is_a_field_of_one_schema() -> None:
    every = operations(SERVICES)
    schema = make_schema(SERVICES, every)
    assert validate_schema(schema) == []
    assert schema.query_type is not None
    assert schema.mutation_type is not None
    fields = [*schema.query_type.fields.values(), *schema.mutation_type.fields.values()]
    shown = {field.extensions[ROOT].operation.name for field in fields}
    assert shown == {operation.name for operation in every if not operation.route.wire}
    assert all(field.description for field in fields)


@pytest.fixture
async def engine(postgres: Postgres) -> AsyncIterator[Engine]:
    async with served(postgres, *GUEST_LIST) as calls:
        yield Engine(GUEST_LIST, operations(GUEST_LIST), calls.runtime, GraphqlSettings())


async def asked(engine: Engine, query: str, **variables: Any) -> Any:
    answer = await engine.answer(Ask(query, None, variables), actor(), reads_only=False)
    assert "errors" not in answer, answer
    return answer["data"]


async def test_a_guest_list_is_made_and_changed(engine: Engine) -> None:
    made = await asked(
        engine,
        """mutation { guestListCreate(
            input: {name: "Opening", capacity: 2, endsAt: "2099-01-31T18:00:00Z"}
        ) { id version capacity } }""",
    )
    one, version = made["guestListCreate"]["id"], made["guestListCreate"]["version"]
    change = """mutation ($id: ID!, $seen: Long!) {
        guestListChange(id: $id, expectedVersion: $seen, input: {capacity: 5}) { capacity taken }
    }"""
    changed = await asked(engine, change, id=one, seen=version)
    assert changed == {"guestListChange": {"capacity": 5, "taken": 0}}
    invite = """mutation ($id: ID!) {
        guestListInvite(id: $id, input: {name: "Ada", email: "ada@example.org", seats: 2}) {
            name seats status guestListId
        }
    }"""
    invited = await asked(engine, invite, id=one)
    assert invited["guestListInvite"] == {
        "name": "Ada",
        "seats": 2,
        "status": "INVITED",
        "guestListId": one,
    }
    shown = await asked(engine, "query ($id: ID!) { guestList(id: $id) { name taken } }", id=one)
    assert shown == {"guestList": {"name": "Opening", "taken": 2}}
