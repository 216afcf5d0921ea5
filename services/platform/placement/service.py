"""The declaration of placement. Read this first."""

from typing import Final

from ops.region_settings import RegionSettings
from services._kit.service import Service
from services.platform.placement.routes import ROUTES
from services.platform.placement.store import PlacementStore

SERVICE: Final = Service(
    name="placement",
    summary="Which region is home to which tenant.",
    routes=ROUTES,
    store=PlacementStore,
    settings=RegionSettings,
)
