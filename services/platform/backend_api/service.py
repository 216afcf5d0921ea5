"""The declaration of backend-api. Read this first."""

from typing import Final

from services._kit.service import Service
from services.platform.backend_api.api import (
    BackendApiSettings,
    BreakerClosed,
    BreakerOpened,
    ConfigActivated,
    ConfigRolledBack,
    QuotaExceeded,
)
from services.platform.backend_api.routes import ROUTES
from services.platform.backend_api.store import ConfigStore

SERVICE: Final = Service(
    name="backend-api",
    summary="What the gateway does with requests, as data in versions.",
    routes=ROUTES,
    publishes=(ConfigActivated, ConfigRolledBack, BreakerOpened, BreakerClosed, QuotaExceeded),
    store=ConfigStore,
    settings=BackendApiSettings,
)
