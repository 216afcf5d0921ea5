"""Projectors that tests advance by hand."""

from ops.db import Database, DatabaseSettings
from ops.notices import Notices
from services._events.projection import Projector
from services._events.settings import EventsSettings
from services._kit.service import Service


def projector(database: Database, service: Service) -> Projector:
    """Of one service's read models; nothing wakes it."""
    projections = {service.schema: service.projections}
    return Projector(database, Notices("", DatabaseSettings()), projections, EventsSettings())
