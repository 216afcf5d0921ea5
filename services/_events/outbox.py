"""The way out: events are rows of the same transaction as the change they tell of."""

from collections.abc import Sequence

from ops.db import Session
from services._events.event import Event, Origin


async def publish(session: Session, events: Sequence[Event], *, origin: Origin) -> None:
    """Writes events into the schema's outbox. The session is inside the change's transaction."""
    raise NotImplementedError
