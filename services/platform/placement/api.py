"""What others may use of placements: the record, and what an operator says to change one."""

from typing import Annotated

import msgspec

from ops.placement import Placement, State
from ops.residency import Residency
from services._kit.record import Input, Record, shaped

TenantName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Region = Annotated[str, shaped(r"^[a-z]{2}[0-9]{1,3}$", max_length=5)]
Regions = Annotated[tuple[Region, ...], msgspec.Meta(max_length=100)]


class TenantPlacement(Record):
    """Where a tenant lives. `version` is the placement's epoch, which If-Match names."""

    tenant: TenantName
    home: Region
    state: State
    previous: str
    """While it moves: the region that has not let go yet."""
    regions: Regions
    """Beside its home, where its data may be."""
    residency: Residency
    version: int


class ChangePlacement(Input):
    """Where a tenant shall live."""

    home: Region
    regions: Regions = ()
    residency: Residency = Residency.BOUND


def shown(placement: Placement) -> TenantPlacement:
    """A placement as the API tells it."""
    return TenantPlacement(
        tenant=placement.tenant,
        home=placement.home,
        state=placement.state,
        previous=placement.previous,
        regions=placement.regions,
        residency=placement.residency,
        version=placement.epoch,
    )
