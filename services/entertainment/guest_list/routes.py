"""The routes of guest lists: path, permission, typed handler."""

from typing import Final

from services._kit.paging import Slice
from services._kit.record import Page
from services._kit.service import Route
from services.entertainment.guest_list import logic
from services.entertainment.guest_list.api import (
    ChangeGuestList,
    Guest,
    GuestAdmitted,
    GuestFilter,
    GuestId,
    GuestList,
    GuestListId,
    GuestStatus,
    NewGuest,
    NewGuestList,
)
from services.entertainment.guest_list.jobs import WRITE_INVITATION, Invitation
from services.entertainment.guest_list.store import GuestStore


async def guest_lists(store: GuestStore, page: Slice) -> Page[GuestList]:
    """Guest lists by name."""
    return await store.guest_lists(page)


async def guest_list(store: GuestStore, id: GuestListId) -> GuestList:
    """One guest list."""
    return await store.guest_list(id)


async def create_guest_list(store: GuestStore, body: NewGuestList) -> GuestList:
    """Makes a guest list."""
    made = store.new_id("gls")
    return await store.run(logic.Create(made, body.name, body.capacity, body.ends_at))


async def change_guest_list(
    store: GuestStore, id: GuestListId, body: ChangeGuestList, expected: int | None
) -> GuestList:
    """Gives a guest list another capacity."""
    await store.guest_list(id)
    return await store.run(logic.ChangeCapacity(id, body.capacity), expected=expected)


async def close_guest_list(store: GuestStore, id: GuestListId) -> GuestList:
    """Closes a guest list: nobody is invited or admitted any more."""
    await store.guest_list(id)
    return await store.run(logic.Close(id))


async def guests(
    store: GuestStore, id: GuestListId, query: GuestFilter, page: Slice
) -> Page[Guest]:
    """A list's guests by name."""
    return await store.guests(id, query, page)


async def guest(store: GuestStore, guest: GuestId) -> Guest:
    """One guest."""
    return await store.guest(guest)


async def invite(store: GuestStore, id: GuestListId, body: NewGuest) -> Guest:
    """Invites a guest, if there are seats left."""
    await store.guest_list(id)
    made = store.new_id("gst")
    changed = await store.run(logic.Invite(id, made, body.name, body.seats))
    await store.add_contact(made, guest_list=id, email=body.email)
    await store.enqueue(WRITE_INVITATION, Invitation(guest=made), unique=made)
    return Guest(
        id=made,
        guest_list=id,
        name=body.name,
        seats=body.seats,
        status=GuestStatus.INVITED,
        position=changed.position,
    )


async def admit(store: GuestStore, id: GuestListId, guest: GuestId) -> GuestList:
    """Lets a guest in, once."""
    await store.guest_list(id)
    return await store.run(logic.Admit(id, guest))


async def remove(store: GuestStore, id: GuestListId, guest: GuestId) -> None:
    """Takes a guest off the list, and forgets who it was."""
    await store.guest_list(id)
    await store.run(logic.Remove(id, guest))
    await store.forget_contact(guest)


async def count_arrival(store: GuestStore, event: GuestAdmitted) -> None:
    """Counts who is in; once for each admission, however often its event comes."""
    await store.count_arrival(event.guest_list, event.seats)


async def many(store: GuestStore, ids: tuple[str, ...]) -> dict[str, GuestList]:
    """For links to a guest list."""
    return await store.many(ids)


ROUTES: Final = (
    Route("GET", "/guest-lists", guest_lists, needs="guest-list.list.read"),
    Route("POST", "/guest-lists", create_guest_list, needs="guest-list.list.create"),
    Route("GET", "/guest-lists/{id}", guest_list, needs="guest-list.list.read"),
    Route(
        "PATCH",
        "/guest-lists/{id}",
        change_guest_list,
        needs="guest-list.list.change",
        needs_match=True,
    ),
    Route("POST", "/guest-lists/{id}:close", close_guest_list, needs="guest-list.list.change"),
    Route(
        "GET",
        "/guest-lists/{id}/guests",
        guests,
        needs="guest-list.guest.read",
        problems=(425,),
    ),
    Route("POST", "/guest-lists/{id}/guests", invite, needs="guest-list.guest.invite"),
    Route(
        "POST",
        "/guest-lists/{id}/guests/{guest}:admit",
        admit,
        needs="guest-list.guest.admit",
    ),
    Route("DELETE", "/guest-lists/{id}/guests/{guest}", remove, needs="guest-list.guest.remove"),
    Route("GET", "/guests/{guest}", guest, needs="guest-list.guest.read"),
)
