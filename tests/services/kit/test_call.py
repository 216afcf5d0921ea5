"""One call of a service: permission, decoding, versions, repeated requests, audit, tenants."""

import asyncio
import json
import re
from urllib.parse import parse_qs

import asyncpg
import pytest

from ops.db import Database, DatabaseSettings
from ops.db_faults import DatabaseFault, Duplicate, Violation
from services._kit import audit
from services._kit.actor import ANONYMOUS, Actor, Forbidden
from services._kit.call import Reply
from services._kit.errors import (
    Conflict,
    Invalid,
    Malformed,
    NoMatch,
    NotFound,
    SignedOut,
    Stale,
    UnsupportedType,
)
from services._kit.idempotency import StillRunning
from services._kit.wire import WireRequest
from tests.fakes.calls import KEYS, Calls, actor
from tests.fakes.notes.service import NOTES, NewNote
from tests.fakes.postgres import Postgres

STRANGER = actor("other")


async def add(notes: Calls, title: str, who: Actor | None = None) -> str:
    """A new note's id."""
    return str((await notes.told("add", who, body={"title": title}))["id"])


async def test_a_record_is_made_and_read(notes: Calls) -> None:
    made = await notes.call("add", body='{"title": "one"}')
    told = json.loads(made.body)
    assert (made.status, told["title"], told["version"]) == (201, "one", 1)
    assert made.headers["Location"] == f"/v1/notes/notes/{told['id']}"
    read = await notes.call("get", path={"id": told["id"]})
    assert (read.status, json.loads(read.body), read.headers["ETag"]) == (200, told, '"1"')
    again = await notes.call("get", path={"id": told["id"]}, if_none_match='"1"')
    assert (again.status, again.body) == (304, b"")
    gone = await notes.call("remove", path={"id": told["id"]})
    assert (gone.status, gone.body) == (204, b"")
    with pytest.raises(NotFound):
        await notes.call("get", path={"id": told["id"]})


async def test_who_may_not_is_told_first(notes: Calls) -> None:
    body = {"body": "not even JSON"}
    with pytest.raises(SignedOut):
        await notes.call("add", ANONYMOUS, **body)
    with pytest.raises(Forbidden) as caught:
        await notes.call("add", actor("acme", "notes.note.read", "note.*"), **body)
    assert caught.value.fields["permission"] == "notes.note.add"
    with pytest.raises(SignedOut):
        await notes.call("who", ANONYMOUS)
    assert (await notes.call("who", actor("acme", "none.at.all"))).status == 200
    with pytest.raises(Malformed):
        await notes.call("add", **body)


async def test_another_tenants_objects_do_not_exist(notes: Calls) -> None:
    note = await add(notes, "one")
    for name, asked in {
        "get": {},
        "rename": {"body": '{"title": "x"}', "if_match": '"1"'},
        "remove": {},
    }.items():
        with pytest.raises(NotFound):
            await notes.call(name, STRANGER, path={"id": note}, **asked)
    assert json.loads((await notes.call("notes", STRANGER)).body)["data"] == []
    assert (await notes.call("get", path={"id": note})).status == 200


async def test_lists_come_in_pages(notes: Calls) -> None:
    for number in range(7):
        await add(notes, f"a{number}")
    await add(notes, "b")
    found, query = [], "begins_with=a&limit=3"
    for _ in range(5):
        reply = await notes.call("notes", query=query)
        page = json.loads(reply.body)
        found.extend(note["title"] for note in page["data"])
        if page["next_cursor"] is None:
            break
        link = re.fullmatch(r'<\?([^<>"]+)>; rel="next"', reply.headers["Link"])
        assert link is not None
        query = link[1]
        assert parse_qs(query)["cursor"] == [page["next_cursor"]]
    assert found == [f"a{number}" for number in range(7)]
    with pytest.raises(Invalid):
        await notes.call("notes", query=query.replace("begins_with=a", "begins_with=b"))
    with pytest.raises(Invalid):
        await notes.call("notes", STRANGER, query=query)


async def test_a_list_or_a_record_shows_the_fields_asked_for(notes: Calls) -> None:
    note = await add(notes, "one")
    reply = await notes.call("notes", query="fields=title")
    assert json.loads(reply.body)["data"] == [{"title": "one"}]
    reply = await notes.call("get", path={"id": note}, query="fields=id,version")
    assert json.loads(reply.body) == {"id": note, "version": 1}
    with pytest.raises(Invalid) as caught:
        await notes.call("get", path={"id": note}, query="fields=secret")
    assert caught.value.problems[0].parameter == "fields"


@pytest.mark.parametrize("fields", ["secret", "", "id,", "id,,title", "x" * 1_000])
async def test_fields_are_looked_at_before_anything_is_done(notes: Calls, fields: str) -> None:
    with pytest.raises(Invalid) as caught:
        await notes.call("add", query=f"fields={fields}", body={"title": "one"})
    assert caught.value.problems[0].parameter == "fields"
    assert len(caught.value.problems[0].message) < 100
    assert (await notes.told("notes"))["data"] == []
    note = await add(notes, "one")
    with pytest.raises(Invalid):
        # It answers nothing that has fields.
        await notes.call("remove", path={"id": note}, query="fields=id")
    assert (await notes.call("get", path={"id": note})).status == 200


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("other=1", "other")],
)
async def test_a_wrong_parameter_is_refused(notes: Calls, query: str, parameter: str) -> None:
    with pytest.raises(Invalid) as caught:
        await notes.call("notes", query=query)
    assert caught.value.problems[0].parameter == parameter


async def test_what_a_route_does_not_take_is_refused(notes: Calls) -> None:
    note = await add(notes, "one")
    with pytest.raises(Malformed, match="twice"):
        await notes.call("notes", query="limit=1&limit=2")
    with pytest.raises(Invalid):
        await notes.call("get", path={"id": note}, query="x=1")
    with pytest.raises(Malformed, match="no body"):
        await notes.call("remove", path={"id": note}, body="{}")
    with pytest.raises(Malformed, match="If-Match"):
        await notes.call("remove", path={"id": note}, if_match='"1"')
    with pytest.raises(UnsupportedType):
        await notes.call("add", body='{"title": "x"}', content_type="text/plain")
    with pytest.raises(Malformed, match="missing"):
        await notes.call("add", body="", content_type="")
    with pytest.raises(NotFound):
        await notes.call("get", path={"id": "nonsense"})


async def test_a_change_names_the_version_it_saw(notes: Calls) -> None:
    asked = {"path": {"id": await add(notes, "one")}, "body": '{"title": "two"}'}
    with pytest.raises(NoMatch):
        await notes.call("rename", **asked)
    changed = await notes.call("rename", **asked, if_match='"1"')
    assert changed.headers["ETag"] == '"2"'
    with pytest.raises(Stale) as caught:
        await notes.call("rename", **asked, if_match='"1"')
    assert caught.value.fields["version"] == 2


async def test_the_databases_own_rules_are_told(notes: Calls) -> None:
    await add(notes, "one")
    with pytest.raises(Duplicate) as caught:
        await add(notes, "one")
    assert caught.value.constraint == "note_tenant_title_key"
    with pytest.raises(Violation) as broken:
        await add(notes, "forbidden")
    assert broken.value.constraint == "note_title"
    await add(notes, "one", STRANGER)


async def test_a_repeated_request_is_answered_as_the_first(notes: Calls) -> None:
    asked = {"body": '{"title": "one"}', "idempotency_key": '"k-1"'}
    first = await notes.call("add", **asked)
    again = await notes.call("add", **asked)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers == {**first.headers, "Idempotent-Replayed": "true"}
    with pytest.raises(Invalid) as caught:
        await notes.call("add", body='{"title": "two"}', idempotency_key="k-1")
    assert caught.value.code == "idempotency.reused"
    # Another principal's key, another tenant's, and another operation's are other keys.
    await notes.call("add", actor(user="usr_2"), body='{"title": "2"}', idempotency_key="k-1")
    await notes.call("add", STRANGER, **asked)
    with pytest.raises(Malformed):
        await notes.call("add", body='{"title": "3"}', idempotency_key='"' + "k" * 256 + '"')
    assert len(json.loads((await notes.call("notes")).body)["data"]) == 2


async def test_a_failure_is_not_kept(notes: Calls) -> None:
    note = await add(notes, "one")
    with pytest.raises(Duplicate):
        await notes.call("add", body='{"title": "one"}', idempotency_key="k")
    await notes.call("remove", path={"id": note})
    made = await notes.call("add", body='{"title": "one"}', idempotency_key="k")
    assert made.status == 201


async def test_fifty_repeated_at_once_happen_once(notes: Calls) -> None:
    async def ask() -> Reply | Exception:
        try:
            return await notes.call("add", body='{"title": "one"}', idempotency_key="k")
        except StillRunning as fault:
            return fault

    answers = await asyncio.gather(*(ask() for _ in range(50)))
    bodies = {answer.body for answer in answers if isinstance(answer, Reply)}
    assert len(bodies) == 1
    assert len(json.loads((await notes.call("notes")).body)["data"]) == 1


async def test_every_write_leaves_an_audit_row(notes: Calls, postgres: Postgres) -> None:
    note = await add(notes, "one")
    await notes.call("rename", path={"id": note}, body='{"title": "two"}', if_match='"1"')
    await notes.call("get", path={"id": note})
    with pytest.raises(NotFound):
        await notes.call("get", STRANGER, path={"id": note})
    await add(notes, "theirs", STRANGER)
    async with notes.database.session("notes", tenant="acme") as session:
        rows = await session.rows(
            "SELECT seq, actor, action, target, entry FROM audit ORDER BY seq"
        )
        assert [(row["seq"], row["action"], row["target"]) for row in rows] == [
            (1, "notes.add", note),
            (2, "notes.rename", note),
        ]
        assert "two" not in rows[1]["entry"]
        assert await audit.verify(session) is None
    for change, reason in (
        ("UPDATE notes.audit SET entry = replace(entry, 'usr_1', 'usr_2') WHERE seq = 1", "hash"),
        ("DELETE FROM notes.audit WHERE tenant = 'acme' AND seq = 2", "newest"),
    ):
        postgres.run(change)
        async with notes.database.session("notes", tenant="acme") as session:
            broken = await audit.verify(session)
            assert broken is not None
            assert reason in broken.reason
        postgres.run("UPDATE notes.audit SET entry = replace(entry, 'usr_2', 'usr_1')")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "INSERT INTO audit VALUES ('acme', 9, now(), '', '', '', '', '')",
        "UPDATE audit_head SET seq = 0",
        "SELECT audit_append('other', '', '', '', '')",
    ],
)
async def test_the_audit_log_is_written_one_way_only(notes: Calls, sql: str) -> None:
    await add(notes, "one")
    async with notes.database.session("notes", tenant="acme") as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run(sql)


async def test_a_sealed_field_is_not_in_the_database(notes: Calls) -> None:
    reply = await notes.call("add", body='{"title": "one", "secret": "treasure"}')
    note = json.loads(reply.body)["id"]
    async with notes.database.session("notes", tenant="acme") as session:
        sealed = await session.value("SELECT secret FROM note WHERE id = $1", note)
        place = {"column": "notes.note.secret", "tenant": "acme"}
        assert b"treasure" not in sealed
        assert KEYS.open(sealed, row=note, **place) == "treasure"


async def test_values_go_the_same_way_as_bytes(notes: Calls) -> None:
    runtime, who = notes.runtime, actor()
    adding, listing = notes.operation("add"), notes.operation("notes")
    first = await runtime.invoke(adding, who, {"body": NewNote(title="one")}, idempotency_key="k")
    again = await runtime.invoke(adding, who, {"body": NewNote(title="one")}, idempotency_key="k")
    assert first == again
    await runtime.invoke(adding, who, {"body": NewNote(title="two")})
    query = listing.query
    assert query is not None
    page = await runtime.invoke(listing, who, {"query": query(), "limit": 1})
    rest = await runtime.invoke(
        listing, who, {"query": query(), "limit": 1, "cursor": page.next_cursor}
    )
    assert [note.title for note in (*page.data, *rest.data)] == ["one", "two"]
    with pytest.raises(Forbidden):
        await runtime.invoke(adding, actor("acme", "x.y.z"), {"body": NewNote(title="3")})
    with pytest.raises(NoMatch):
        await runtime.invoke(
            notes.operation("rename"), who, {"id": first.id, "body": NewNote(title="x")}
        )
    (entity,) = NOTES.entities
    known = await runtime.many(NOTES, entity, who, (first.id, "note_eu1_unknown"))
    assert known == {first.id: first}
    assert await runtime.many(NOTES, entity, STRANGER, (first.id,)) == {}


async def test_a_foreign_protocol_gets_the_raw_request(notes: Calls) -> None:
    asked = WireRequest(
        "POST", "/", "", (("content-type", "application/x-www-form-urlencoded"),), b"b=2&a=1"
    )
    reply = await notes.call("echo", ANONYMOUS, wire=asked, body="b=2&a=1")
    assert reply.wire is not None
    assert reply.wire.body == b"a=1&b=2"
    assert [name for name, _ in reply.wire.headers] == ["Set-Cookie", "Set-Cookie"]


async def test_without_a_tenant_nothing_is_seen(notes: Calls, postgres: Postgres) -> None:
    await add(notes, "one")
    async with notes.database.session("notes", tenant="") as session:
        assert await session.rows("SELECT * FROM note") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run("INSERT INTO note (id, tenant, title) VALUES ('x', '', 'y')")
    async with notes.database.session("notes", tenant="acme") as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run("INSERT INTO note (id, tenant, title) VALUES ('x', 'other', 'y')")
    assert postgres.run("SELECT count(*) FROM notes.note") == 1


async def test_the_database_away_is_said_so(postgres: Postgres) -> None:
    del postgres  # only so that a server runs: this one's folder has none
    async with Database("postgresql://x@/x?host=/nonexistent", DatabaseSettings()) as database:
        with pytest.raises(DatabaseFault) as caught:
            async with database.session("notes", tenant="acme"):
                raise AssertionError("connected to nothing")
    assert caught.value.retry_after_seconds == 1


async def test_one_service_asks_another(notes: Calls) -> None:
    """The answer's transaction is its own: it stays when the asker fails, and is audited."""
    made = await notes.told("take_twice", body={"title": "one"})
    assert (await notes.told("get", path={"id": made["id"]}))["title"] == "one"
    with pytest.raises(Conflict, match="there is such"):
        await notes.call("take_twice", body={"title": "one"})
    with pytest.raises(Conflict, match="after 0"):
        await notes.call("take_twice", body={"title": "bad"})
    titles = [note["title"] for note in (await notes.told("notes"))["data"]]
    assert titles == ["bad", "one"]
    async with notes.database.session("notes", tenant="acme") as session:
        rows = await session.rows("SELECT action, target FROM audit ORDER BY seq")
        assert await audit.verify(session) is None
    actions = [row["action"] for row in rows]
    assert actions == ["notes.take", "notes.take_twice", "notes.take"]
    assert {rows[0]["target"], rows[1]["target"]} == {made["id"]}


async def test_who_asks_in_the_middle_waits_for_nobody(notes: Calls) -> None:
    """As many askers as there are connections, each of which holds one of them."""
    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                body = {"title": f"note {number}"}
                group.create_task(notes.call("take_twice", body=body))
    assert len((await notes.told("notes", query="limit=100"))["data"]) == 40


async def test_a_path_may_say_whose_the_call_is(notes: Calls) -> None:
    """For who has not signed in. An actor of another tenant is nobody there."""
    for number, who in enumerate((ANONYMOUS, STRANGER, actor("acme"))):
        asked = {"path": {"tenant": "acme"}, "body": {"title": f"note {number}"}}
        assert (await notes.call("board", who, **asked)).status == 201
    assert len((await notes.told("notes"))["data"]) == 3
    assert (await notes.told("notes", STRANGER))["data"] == []
    async with notes.database.session("notes", tenant="acme") as session:
        rows = await session.rows("SELECT actor FROM audit ORDER BY seq")
    assert [row["actor"] for row in rows] == ["", "", "usr_1"]
