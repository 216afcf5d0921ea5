"""Projectors that tests advance by hand."""

from ops.db import Database
from ops.wake import Wakes
from services._events.projection import Projector
from services._events.settings import EventsSettings
from services._kit.service import Service


def projector(database: Database, service: Service) -> Projector:
    """Of one service's read models; nothing wakes it."""
    projections = {service.schema: service.projections}
    return Projector(database, Wakes(database), projections, EventsSettings())
