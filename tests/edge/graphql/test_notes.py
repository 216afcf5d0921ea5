"""GraphQL over the kit's own runtime and a real database: every rule of HTTP holds here too."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from edge.graphql.engine import Engine
from edge.graphql.http_request import Ask
from edge.graphql.settings import GraphqlSettings
from services._kit.actor import Actor
from services._kit.operation import operations
from services._kit.record import Record, Text
from services._kit.service import Route
from tests.fakes.calls import Calls, actor, served
from tests.fakes.notes.service import NOTES, NoteId
from tests.fakes.postgres import Postgres

ADD = """mutation ($title: String!, $key: String) {
  notesAdd(input: {title: $title}, idempotencyKey: $key) { id title version }
}"""


class Pin(Record):
    """A note on a board."""

    label: Text
    note: NoteId


async def pin(note: NoteId) -> Pin:
    """A note, pinned."""
    return Pin(label="here", note=note)


PINNED = replace(
    NOTES, routes=(*NOTES.routes, Route("GET", "/pins/{note}", pin, access="signed_in"))
)


class Asking:
    """An engine over the runtime."""

    def __init__(self, calls: Calls) -> None:
        services = (PINNED,)
        self.calls = calls
        self._engine = Engine(services, operations(services), calls.runtime, GraphqlSettings())

    async def ask(
        self, query: str, who: Actor | None = None, **variables: Any
    ) -> Mapping[str, Any]:
        ask = Ask(query, None, variables)
        return await self._engine.answer(ask, who or actor(), reads_only=False)

    async def data(self, query: str, who: Actor | None = None, **variables: Any) -> Any:
        answer = await self.ask(query, who, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    async def code(self, query: str, who: Actor | None = None, **variables: Any) -> str:
        """Of the one error."""
        (error,) = (await self.ask(query, who, **variables))["errors"]
        return str(error["extensions"]["code"])


@pytest.fixture
async def asking(postgres: Postgres) -> AsyncIterator[Asking]:
    async with served(postgres, PINNED) as calls:
        yield Asking(calls)


async def test_what_is_written_here_is_read_over_http(asking: Asking) -> None:
    made = (await asking.data(ADD, title="one"))["notesAdd"]
    assert (made["title"], made["version"]) == ("one", 1)
    told = await asking.calls.told("notes.get", path={"id": made["id"]})
    assert told == made
    found = await asking.data('{ notes(beginsWith: "o") { data { title } nextCursor } }')
    assert found == {"notes": {"data": [{"title": "one"}], "nextCursor": None}}


async def test_pages_go_on_where_the_last_ended(asking: Asking) -> None:
    for title in "abc":
        await asking.data(ADD, title=title)
    query = "query ($at: String) { notes(limit: 2, cursor: $at) { data { title } nextCursor } }"
    first = (await asking.data(query))["notes"]
    second = (await asking.data(query, at=first["nextCursor"]))["notes"]
    assert [note["title"] for note in (*first["data"], *second["data"])] == ["a", "b", "c"]
    assert second["nextCursor"] is None
    assert await asking.code(query, at=first["nextCursor"] + "x") == "request.invalid"


async def test_a_repeated_mutation_happens_once(asking: Asking) -> None:
    first = await asking.data(ADD, title="once", key="k1")
    assert await asking.data(ADD, title="once", key="k1") == first
    assert len((await asking.data("{ notes { data { id } } }"))["notes"]["data"]) == 1
    assert await asking.code(ADD, title="other", key="k1") == "idempotency.reused"


async def test_a_version_that_has_passed_is_refused(asking: Asking) -> None:
    made = (await asking.data(ADD, title="one"))["notesAdd"]["id"]
    rename = """mutation ($id: ID!, $seen: Long!) {
      notesRename(id: $id, expectedVersion: $seen, input: {title: "two"}) { version }
    }"""
    assert (await asking.data(rename, id=made, seen=1)) == {"notesRename": {"version": 2}}
    assert await asking.code(rename, id=made, seen=1) == "version.stale"


async def test_another_tenant_finds_nothing(asking: Asking) -> None:
    made = (await asking.data(ADD, title="one"))["notesAdd"]["id"]
    stranger = actor("other")
    read = "query ($id: ID!) { notesGet(id: $id) { title } }"
    assert await asking.code(read, stranger, id=made) == "not_found"
    pinned = "query ($id: ID!) { notesPin(noteId: $id) { noteId note { title } } }"
    assert await asking.data(pinned, stranger, id=made) == {
        "notesPin": {"noteId": made, "note": None}
    }
    assert await asking.data(pinned, id=made) == {
        "notesPin": {"noteId": made, "note": {"title": "one"}}
    }
    assert (await asking.data("{ notes { data { id } } }", stranger)) == {"notes": {"data": []}}


async def test_writes_are_audited_and_refusals_change_nothing(asking: Asking) -> None:
    reader = actor("acme", "notes.note.read")
    assert await asking.code(ADD, reader, title="no") == "auth.forbidden"
    assert await asking.code(ADD, title="") == "request.invalid"
    await asking.data(ADD, title="one")
    async with asking.calls.database.session("notes", tenant="acme") as session:
        rows = await session.rows("SELECT action FROM audit")
        notes = await session.rows("SELECT title FROM note")
    assert [row["action"] for row in rows] == ["notes.add"]
    assert [row["title"] for row in notes] == ["one"]
