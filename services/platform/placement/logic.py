"""What becomes of a placement: pure rules, applied by the directory alone, one change at a time.

    free ──reserve──▶ reserved ──confirm──▶ settled ──move──▶ moving ──release──▶ settled
      │                 │    ▲               │    ▲             └────settle─────────▲
      │                 └────┘ reserve       └────┘ change
      ├──────────change──────────────────────▶        (a tenant that an operator places)
      └──────────move──────────▶ moving               (one that lives where it was born)

A claim has two steps, so that a region that asks and dies takes nothing away: whoever reserved must
confirm, and when it does not, others may reserve after the lease, under a greater epoch, with which
the late confirmation no longer fits. A tenant on the move is served by nobody until the region
before has let go (`release`), or an operator says that this region is no more (`settle`).
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from ops.placement import Placement, State, by_birth
from services._kit.errors import Conflict, Invalid, Stale
from services.platform.placement.api import ChangePlacement


class Event(StrEnum):
    """What may happen to a placement."""

    RESERVE = "reserve"
    CONFIRM = "confirm"
    CHANGE = "change"
    MOVE = "move"
    RELEASE = "release"
    SETTLE = "settle"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.FREE: {
        Event.RESERVE: State.RESERVED,
        Event.CHANGE: State.SETTLED,
        Event.MOVE: State.MOVING,
    },
    State.RESERVED: {Event.RESERVE: State.RESERVED, Event.CONFIRM: State.SETTLED},
    State.SETTLED: {Event.CHANGE: State.SETTLED, Event.MOVE: State.MOVING},
    State.MOVING: {Event.RELEASE: State.SETTLED, Event.SETTLE: State.SETTLED},
}


def follow(state: State, event: Event) -> State:
    """The state after an event. Raises Conflict: a placement in this state knows no such event."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise Conflict(
            f"a placement that is {state} knows no {event}", code=f"placement.{state.value}"
        )
    return following


def reserve(
    known: Placement | None, tenant: str, *, region: str, now: float, lease_seconds: float
) -> Placement:
    """The placement after a region has asked for a tenant; another's, when it has come too late.

    now: unix seconds.
    """
    known = known or by_birth(tenant)
    lease = now + lease_seconds
    if known is None:
        state = follow(State.FREE, Event.RESERVE)
        return Placement(tenant=tenant, home=region, epoch=1, state=state, lease_unix=lease)
    if known.state is not State.RESERVED:
        return known
    if known.home == region:
        return replace(known, state=follow(known.state, Event.RESERVE), lease_unix=lease)
    if known.lease_unix > now:
        return known
    state = follow(known.state, Event.RESERVE)
    return replace(known, home=region, epoch=known.epoch + 1, state=state, lease_unix=lease)


def confirm(known: Placement | None, *, region: str, epoch: int) -> Placement:
    """The placement after a region has confirmed its claim; twice is as good as once.

    Raises Conflict: the reservation is another region's now.
    """
    if known is None or known.home != region or known.epoch != epoch:
        raise Conflict("this reservation holds no more", code="placement.lost")
    if known.state is State.SETTLED:
        return known
    return replace(known, state=follow(known.state, Event.CONFIRM), lease_unix=0.0)


def change(
    known: Placement | None,
    tenant: str,
    wanted: ChangePlacement,
    *,
    expected: int,
    regions: Collection[str],
    now: float,
) -> Placement:
    """The placement as an operator wants it. regions: those that there are.

    Raises Stale, Conflict (a claim or a move is under way), Invalid.
    """
    _check(wanted, regions)
    if known is not None and known.state is State.RESERVED and known.lease_unix <= now:
        known = replace(known, state=State.FREE)
    current = known or by_birth(tenant)
    if current is None:
        current = Placement(tenant=tenant, home=wanted.home, state=State.FREE)
    if current.epoch != expected:
        raise Stale(current.epoch)
    moves = current.state is not State.FREE and current.home != wanted.home
    state = follow(current.state, Event.MOVE if moves else Event.CHANGE)
    return Placement(
        tenant=tenant,
        home=wanted.home,
        epoch=current.epoch + 1,
        state=state,
        previous=current.home if moves else "",
        regions=wanted.regions,
        residency=wanted.residency,
    )


def release(known: Placement | None, *, region: str, epoch: int) -> Placement:
    """The placement after the region before has let go; twice is as good as once.

    Raises Conflict: it is not for this region to let go.
    """
    if known is not None and known.epoch == epoch and known.state is State.SETTLED:
        return known
    if known is None or known.previous != region or known.epoch != epoch:
        raise Conflict("this region has nothing to let go", code="placement.lost")
    return replace(known, state=follow(known.state, Event.RELEASE), previous="")


def settle(known: Placement | None, *, expected: int) -> Placement:
    """The placement after an operator has said that the region before is no more.

    Raises Stale, Conflict (it does not move).
    """
    if known is None:
        raise Conflict("this tenant does not move", code="placement.free")
    if known.epoch != expected:
        raise Stale(known.epoch)
    return replace(
        known, state=follow(known.state, Event.SETTLE), previous="", epoch=known.epoch + 1
    )


def _check(wanted: ChangePlacement, regions: Collection[str]) -> None:
    if wanted.home not in regions:
        raise Invalid.at("/home", "There is no such region.", code="unknown")
    for number, region in enumerate(wanted.regions):
        if region not in regions:
            raise Invalid.at(f"/regions/{number}", "There is no such region.", code="unknown")
