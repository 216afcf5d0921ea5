"""A declaration that breaks a rule is refused when it is imported."""

import pytest

from services._kit.errors import NotFound
from services._kit.operation import operations
from services._kit.paging import Slice
from services._kit.record import Input, Page, Record
from services._kit.service import Route, Service
from services._kit.store import Store
from tests.fakes.notes.service import NOTES, NoteId


async def good(store: Store, id: NoteId) -> Record:
    """Fine."""
    raise NotFound(f"{store} {id}")


async def silent(store: Store) -> None:
    raise NotFound(str(store))


async def needy(store: Store, weather: str) -> None:
    """Wants what nobody gives."""
    raise NotFound(f"{store} {weather}")


async def with_body(store: Store, body: Input) -> None:
    """Takes a body."""
    raise NotFound(f"{store} {body}")


async def listing(store: Store, page: Slice) -> Page[Record]:
    """A list."""
    raise NotFound(f"{store} {page}")


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (Route("FETCH", "/a/{id}", good, needs="x.a.read"), "method"),
        (Route("GET", "a/{id}", good, needs="x.a.read"), "begins with /"),
        (Route("GET", "/a/{id}/", good, needs="x.a.read"), "does not end"),
        (Route("GET", "/a/{id}", good), "permission"),
        (Route("GET", "/a/{id}", good, needs="x.a.read", access="public"), "permission"),
        (Route("GET", "/a/{id}", good, needs="x.read"), "service.resource.verb"),
        (Route("GET", "/a/{id}", good, needs="y.a.read"), "begins with x."),
        (Route("POST", "/a", silent, needs="x.a.add"), "docstring"),
        (Route("GET", "/a/{other}", good, needs="x.a.read"), "does not take other"),
        (Route("GET", "/a", good, needs="x.a.read"), "nothing gives the handler id"),
        (Route("POST", "/a", needy, needs="x.a.add"), "nothing gives the handler weather"),
        (Route("GET", "/a", with_body, needs="x.a.read"), "no body"),
        (Route("PUT", "/a", with_body, needs="x.a.change", needs_match=True), "expected"),
    ],
)
def test_a_rule_is_named(route: Route, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Service(name="x", summary="X.", routes=(route,))


def test_a_name_is_lower_case() -> None:
    with pytest.raises(ValueError, match="hyphens"):
        Service(name="Guest_List", summary="X.")


def test_a_declaration_knows_where_it_is() -> None:
    assert NOTES.package == "tests.fakes.notes"
    assert NOTES.folder.name == "notes"
    assert NOTES.permissions == (
        "notes.note.add",
        "notes.note.change",
        "notes.note.read",
        "notes.note.remove",
    )


def test_operations_know_their_types() -> None:
    found = {operation.name: operation for operation in operations([NOTES])}
    listing_of_notes = found["notes.notes"]
    assert (listing_of_notes.is_list, listing_of_notes.paged) == (True, True)
    assert listing_of_notes.item.__name__ == "Note"
    assert found["notes.add"].creates
    assert found["notes.remove"].result is type(None)
    assert found["notes.get"].path == "/v1/notes/notes/{id}"
