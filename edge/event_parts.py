"""What a worker carries of services' events: their declarations, made into parts of its loops.

A reaction gets the hands that the kit makes, as the service itself, in the event's tenant.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from ops.db import Database, Session
from ops.notices import Notices
from ops.state.settings import KafkaSettings
from services._bus.inbox import Consumer, Reaction
from services._bus.loops import Part
from services._bus.port import Bus
from services._bus.postgres import PostgresBus
from services._events.event import Envelope, Event
from services._events.settings import EventsSettings
from services._kit.actor import Actor
from services._kit.call import Runtime
from services._kit.service import Service


def parts(services: Iterable[Service], runtime: Runtime) -> list[Part]:
    """One for each service."""
    return [
        Part(service.schema, _consumer(service, runtime), tuple(service.projections))
        for service in services
    ]


@asynccontextmanager
async def bus(
    database: Database,
    notices: Notices,
    settings: EventsSettings,
    *,
    region: str,
    kafka: KafkaSettings,
) -> AsyncIterator[Bus]:
    """The bus of this node: Kafka where its servers are known, else the embedded one."""
    if not kafka.servers:
        yield PostgresBus(database, notices, settings, region=region)
        return
    # Its client takes a tenth of a second to import, and most nodes have no Kafka.
    from services._bus.kafka import KafkaBus  # noqa: PLC0415

    async with KafkaBus(kafka, settings, region=region) as made:
        yield made


def _consumer(service: Service, runtime: Runtime) -> Consumer | None:
    if not service.consumes:
        return None
    reactions = {
        event: _reaction(service, react, runtime) for event, react in service.consumes.items()
    }
    return Consumer(service.name, service.schema, reactions, hold=service.holds_keys)


def _reaction(service: Service, react: Callable[..., Awaitable[Any]], runtime: Runtime) -> Reaction:
    async def run(session: Session, envelope: Envelope, event: Event) -> None:
        actor = Actor(
            id=f"{service.name}.events",
            tenant=envelope.tenant,
            kind="service",
            permissions=frozenset({f"{service.name}.*"}),
            trace=envelope.traceparent,
        )
        await runtime.fence(session, envelope.tenant)
        await react(runtime.store(service, session, actor), event)

    return run
