"""The routes of placement: path, permission, typed handler.

Whoever is of the operators' tenant sees and changes all placements; everybody else sees their own
tenant's alone. Changes are made where the directory is kept: elsewhere a call is misdirected, and
the door passes it on.
"""

from typing import Final

from ops.clock import SYSTEM
from ops.placement import Misdirected, Placement, State, by_birth
from ops.region_settings import RegionSettings
from services._kit.actor import Forbidden
from services._kit.errors import NotFound
from services._kit.paging import Slice
from services._kit.record import Page, TenantInPath
from services._kit.service import Route
from services.platform.placement import logic
from services.platform.placement.api import ChangePlacement, TenantPlacement, shown
from services.platform.placement.store import PlacementStore


async def placements(store: PlacementStore, page: Slice) -> Page[TenantPlacement]:
    """Placements by tenant: all of them to operators, to others their own."""
    after = str(page.after[0]) if page.after is not None else ""
    only = None if _operates(store) else store.tenant
    found = await store.page(after=after, limit=page.rows, only=only)
    return page.page([shown(one) for one in found], lambda one: (one.tenant,))


async def placement(store: PlacementStore, tenant: TenantInPath) -> TenantPlacement:
    """Where one tenant lives."""
    _check_seen(store, tenant)
    found = await store.placements.find(tenant) or by_birth(tenant)
    if found is None:
        raise NotFound("placement")
    return shown(found)


async def place(
    store: PlacementStore, tenant: TenantInPath, body: ChangePlacement, expected: int | None
) -> TenantPlacement:
    """Says where a tenant shall live; another home than before begins a move.

    If-Match is the epoch; "0" for a tenant that nobody has placed.
    """
    settings = _check_changes(store, tenant)
    assert expected is not None
    known = await store.placements.lock(tenant)
    around = store.around
    wanted = logic.change(
        known,
        tenant,
        body,
        expected=expected,
        regions={around.region, *(peer.region for peer in settings.peers)},
        now=SYSTEM.unix(),
    )
    return await _put(store, wanted)


async def settle(
    store: PlacementStore, tenant: TenantInPath, expected: int | None
) -> TenantPlacement:
    """Ends a move whose old home is gone for good and cannot let go by itself.

    Whoever says so vouches that the old home no longer serves: it would still write.
    """
    _check_changes(store, tenant)
    assert expected is not None
    return await _put(store, logic.settle(await store.placements.lock(tenant), expected=expected))


async def _put(store: PlacementStore, wanted: Placement) -> TenantPlacement:
    """Writes it; where this very region is to let go, it just has: the row is locked."""
    if wanted.state is State.MOVING and wanted.previous == store.around.region:
        wanted = logic.release(wanted, region=wanted.previous, epoch=wanted.epoch)
    await store.placements.put(wanted)
    return shown(wanted)


def _operates(store: PlacementStore) -> bool:
    settings: RegionSettings = store.around.settings
    return store.tenant == settings.operators


def _check_seen(store: PlacementStore, tenant: str) -> None:
    """Raises NotFound."""
    if tenant != store.tenant and not _operates(store):
        raise NotFound("placement")


def _check_changes(store: PlacementStore, tenant: str) -> RegionSettings:
    """Raises NotFound, Forbidden, Misdirected."""
    _check_seen(store, tenant)
    settings: RegionSettings = store.around.settings
    if not _operates(store):
        raise Forbidden("operators alone place tenants")
    directory = settings.directory or store.around.region
    if directory != store.around.region:
        raise Misdirected(directory, url=settings.public_url(directory))
    if tenant == settings.operators:
        raise Forbidden("the operators' tenant is at home in every region")
    return settings


ROUTES: Final = (
    Route("GET", "/placements", placements, needs="placement.placement.read"),
    Route("GET", "/placements/{tenant}", placement, needs="placement.placement.read"),
    Route(
        "PUT",
        "/placements/{tenant}",
        place,
        needs="placement.placement.change",
        needs_match=True,
    ),
    Route(
        "POST",
        "/placements/{tenant}:settle",
        settle,
        needs="placement.placement.change",
        needs_match=True,
    ),
)
