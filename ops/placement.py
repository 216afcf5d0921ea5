"""Where a tenant lives: one home region, told by an epoch that grows whenever the answer changes.

    ten_eu1_01jz…   lives in eu1, where it was born, until the directory says otherwise (epoch 0)
    acme            lives where it was claimed first (epoch 1)

The directory of all placements is kept in one region and copied by the others
(`services/platform/placement`). What is here is the answer's shape, what a region says to a request
for a tenant that lives elsewhere, and what `services/_kit/call.py` asks of whoever knows
(`Homes`). It decides nothing.
"""

from enum import StrEnum
from typing import Final, Protocol

import msgspec

from ops import ids
from ops.db import Session
from ops.errors import Rejected, Unavailable
from ops.residency import Residency

TENANT_PREFIX: Final = "ten"
"""Ids of tenants that are born somewhere begin with it."""
RETRY_SECONDS: Final = 1
"""After how long a request may be repeated that met a tenant on the move."""


class State(StrEnum):
    """What is known of a placement."""

    FREE = "free"
    """Nobody has claimed it. Never stored."""
    RESERVED = "reserved"
    """A region has asked for it, and has not confirmed yet that it knows; nobody serves it."""
    SETTLED = "settled"
    """Its home serves it."""
    MOVING = "moving"
    """Its home shall be another one, whose turn comes when the one before has let go."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where one tenant lives."""

    tenant: str
    home: str
    epoch: int = 0
    """0: by birth; each change makes it greater."""
    state: State = State.SETTLED
    previous: str = ""
    """While it moves: the region that is to let go."""
    regions: tuple[str, ...] = ()
    """Beside its home, where its data may be (`ops/residency.py`)."""
    residency: Residency = Residency.BOUND
    lease_unix: float = 0.0
    """Until when a reservation holds, in unix seconds."""

    def served_in(self, region: str) -> bool:
        """Whether that region, and no other, reads and writes for the tenant."""
        return self.state is State.SETTLED and self.home == region

    def newer_than(self, known: "Placement") -> bool:
        """Whether it was said later. Within one epoch things only settle."""
        settled = self.state is State.SETTLED
        return (self.epoch, settled) > (known.epoch, known.state is State.SETTLED)


def by_birth(tenant: str) -> Placement | None:
    """Where a tenant with a region in its id was born; None: its name says nothing."""
    if not tenant.startswith(f"{TENANT_PREFIX}_") or not ids.is_id(tenant, prefix=TENANT_PREFIX):
        return None
    return Placement(tenant=tenant, home=ids.parse(tenant).region)


class Misdirected(Rejected):
    """This region does not serve the tenant: `region` does, at `url` where that is known."""

    code = "placement.misdirected"

    def __init__(self, region: str, *, url: str = "") -> None:
        said = {"region": region, **({"url": url} if url else {})}
        super().__init__("this is served in another region", fields=said)
        self.region = region


class Moved(Rejected):
    """The tenant has moved while this was under way, and nothing was written."""

    code = "placement.moved"

    def __init__(self, placement: Placement) -> None:
        super().__init__(
            "the tenant has moved to another region; nothing was changed",
            fields={"region": placement.home, "epoch": placement.epoch},
        )


class Unplaced(Unavailable):
    """Where the tenant lives cannot be said now.

    placement.unavailable  the directory cannot be asked     placement.moving  nobody serves it yet
    """

    code = "placement.unavailable"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code, retry_after_seconds=RETRY_SECONDS)


class Homes(Protocol):
    """Who knows where tenants live, as the kit asks."""

    async def admit(self, tenant: str, *, writes: bool) -> None:
        """Returns when the tenant is served here; the first write claims one that nobody has.

        Raises Misdirected, Unplaced.
        """
        ...

    async def fence(self, session: Session, tenant: str) -> None:
        """Within a write's transaction: from here to its end the tenant cannot move away.

        Raises Moved: it has.
        """
        ...
