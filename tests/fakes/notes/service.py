"""The declaration of the notes service; not one of the house's, so it is not loaded by itself."""

from typing import Annotated

import msgspec

from services._kit.actor import Actor
from services._kit.errors import Conflict, NotFound, Stale
from services._kit.paging import Slice
from services._kit.question import Question
from services._kit.record import Input, Page, Record, TenantInPath, Text, entity
from services._kit.service import Entity, Route, Service
from services._kit.store import Store
from services._kit.wire import WireRequest, WireResponse

NoteId = Annotated[str, entity("note", of="Note")]


class Note(Record):
    """A note."""

    id: NoteId
    title: str
    version: int


class NewNote(Input):
    """What a note is made of."""

    title: Text
    secret: str = ""
    tags: tuple[str, ...] = ()


class NoteFilter(Input):
    """Which notes to list."""

    begins_with: Annotated[str, msgspec.Meta(max_length=50)] = ""


class NoteStore(Store):
    """The notes' SQL."""

    async def get(self, id: str) -> Note:
        row = await self.db.row("SELECT id, title, version FROM note WHERE id = $1", id)
        if row is None:
            raise NotFound("note")
        return Note(**row)

    async def add(self, body: NewNote) -> Note:
        made = self.new_id("note")
        sealed = self.seal(body.secret, column="note.secret", row=made) if body.secret else None
        await self.db.run(
            "INSERT INTO note (id, tenant, title, secret) VALUES ($1, $2, $3, $4)",
            made,
            self.tenant,
            body.title,
            sealed,
        )
        return Note(id=made, title=body.title, version=1)

    async def list(self, begins_with: str, page: Slice) -> Page[Note]:
        rows = await self.db.rows(
            "SELECT id, title, version FROM note WHERE starts_with(title, $1)"
            " AND ($2::text IS NULL OR (title, id) > ($2, $3)) ORDER BY title, id LIMIT $4",
            begins_with,
            *(page.after or (None, None)),
            page.rows,
        )
        return page.page([Note(**row) for row in rows], lambda note: (note.title, note.id))

    async def rename(self, id: str, title: str, expected: int | None) -> Note:
        row = await self.db.row("SELECT version FROM note WHERE id = $1 FOR UPDATE", id)
        if row is None:
            raise NotFound("note")
        if expected is not None and row["version"] != expected:
            raise Stale(row["version"])
        await self.db.run(
            "UPDATE note SET title = $2, version = version + 1 WHERE id = $1", id, title
        )
        return await self.get(id)


async def add(store: NoteStore, body: NewNote) -> Note:
    """Adds a note."""
    return await store.add(body)


async def get(store: NoteStore, id: NoteId) -> Note:
    """A note."""
    return await store.get(id)


async def notes(store: NoteStore, query: NoteFilter, page: Slice) -> Page[Note]:
    """Notes by title."""
    return await store.list(query.begins_with, page)


async def rename(store: NoteStore, id: NoteId, body: NewNote, expected: int | None) -> Note:
    """Gives a note another title."""
    return await store.rename(id, body.title, expected)


async def remove(store: NoteStore, id: NoteId) -> None:
    """Removes a note."""
    if not await store.db.run("DELETE FROM note WHERE id = $1", id):
        raise NotFound("note")


async def who(actor: Actor) -> Record:
    """Nothing but that somebody asked."""
    assert actor.kind != "anonymous"
    return Record()


async def echo(request: WireRequest) -> WireResponse:
    """A foreign protocol: the form's fields in another order."""
    form = request.form()
    text = "&".join(f"{name}={form[name]}" for name in sorted(form))
    return WireResponse(200, (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), text.encode())


async def many(store: NoteStore, ids: tuple[str, ...]) -> dict[str, Note]:
    rows = await store.db.rows("SELECT id, title, version FROM note WHERE id = ANY($1)", ids)
    return {row["id"]: Note(**row) for row in rows}


class AskNote(Input):
    """Which note another service wants to know of, or to have."""

    title: Text


COUNT_NOTES = Question("notes.count", AskNote, int)
TAKE_NOTE = Question("notes.take", AskNote, Note, writes=True)


async def count_notes(store: NoteStore, asked: AskNote) -> int:
    """How many notes of the tenant have this title."""
    return int(await store.db.value("SELECT count(*) FROM note WHERE title = $1", asked.title))


async def take_note(store: NoteStore, asked: AskNote) -> Note:
    """Adds one, unless there is one."""
    if await count_notes(store, asked):
        raise Conflict("there is such a note", code="note.there")
    return await store.add(NewNote(title=asked.title))


async def take_twice(store: NoteStore, body: NewNote) -> Note:
    """Asks itself, as another service would, and fails with a bad title after that."""
    before = await store.ask(COUNT_NOTES, AskNote(title=body.title))
    note = await store.ask(TAKE_NOTE, AskNote(title=body.title))
    if body.title == "bad":
        raise Conflict(f"after {before}", code="note.late")
    return note


async def board(store: NoteStore, tenant: TenantInPath, body: NewNote) -> Note:
    """Whoever comes by may leave a note."""
    assert store.tenant == tenant
    return await store.add(body)


NOTES = Service(
    name="notes",
    summary="Notes with a title.",
    routes=(
        Route("POST", "/notes", add, needs="notes.note.add"),
        Route("GET", "/notes", notes, needs="notes.note.read"),
        Route("GET", "/notes/{id}", get, needs="notes.note.read"),
        Route("PUT", "/notes/{id}", rename, needs="notes.note.change", needs_match=True),
        Route("DELETE", "/notes/{id}", remove, needs="notes.note.remove"),
        Route("GET", "/who", who, access="signed_in"),
        Route("POST", "/notes:twice", take_twice, needs="notes.note.add"),
        Route("POST", "/t/{tenant}/notes", board, access="public", of_tenant=True),
        Route("POST", "/echo", echo, access="public", wire="forms"),
    ),
    entities=(Entity(Note, many, needs="notes.note.read"),),
    answers={COUNT_NOTES: count_notes, TAKE_NOTE: take_note},
    store=NoteStore,
)
