"""What a handler may do to the world: its schema's rows, events, jobs, ids.

A service's `store.py` has a subclass whose methods hold all its SQL; the kit makes one for each
call, around a session that is pinned to the service and the actor's tenant. Unqualified table names
are the service's own. For writes the session is inside the call's transaction.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ops.db import Session
from ops.ids import IdMaker
from ops.sealing import KeyRing
from services._events.event import Event, Origin
from services._events.outbox import publish
from services._jobs.job import Job
from services._jobs.queue import enqueue
from services._kit.actor import Actor

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Surroundings(Generic[S]):
    """What the calls of one service have in common."""

    service: str
    schema: str
    region: str
    ids: IdMaker
    keys: KeyRing
    settings: S


class Store:
    """The hands of one call. A service subclasses it."""

    __slots__ = ("actor", "around", "db")

    def __init__(self, session: Session, actor: Actor, around: Surroundings[Any]) -> None:
        self.db = session
        self.actor = actor
        self.around = around

    @property
    def tenant(self) -> str:
        return self.actor.tenant

    @property
    def origin(self) -> Origin:
        """Who is said to have caused the events of this call."""
        actor, around = self.actor, self.around
        return Origin(around.service, around.region, actor.tenant, actor.id, actor.trace)

    def new_id(self, prefix: str) -> str:
        """An id of this region."""
        return self.around.ids.new(prefix)

    def seal(self, value: str, *, column: str, row: str) -> bytes:
        """Encrypts a field of a row; column: `table.column`."""
        place = f"{self.around.schema}.{column}"
        return self.around.keys.seal(value, column=place, tenant=self.tenant, row=row)

    def open(self, sealed: bytes, *, column: str, row: str) -> str:
        """What `seal` encrypted. Raises SealBrokenError."""
        place = f"{self.around.schema}.{column}"
        return self.around.keys.open(sealed, column=place, tenant=self.tenant, row=row)

    def blind(self, value: str, *, column: str) -> bytes:
        """The blind index of a normalised value of a column."""
        place = f"{self.around.schema}.{column}"
        return self.around.keys.blind(value, column=place, tenant=self.tenant)

    async def publish(self, *events: Event) -> None:
        """Writes events into the outbox, in this transaction."""
        assert self.db.in_transaction, "events are published by writes"
        await publish(self.db, events, origin=self.origin)

    async def enqueue(self, job: Job, arguments: Any = None, **options: Any) -> str:
        """Enqueues a job in this transaction; its id. Options: see `services/_jobs/queue.py`."""
        assert self.db.in_transaction, "jobs are enqueued by writes"
        return await enqueue(
            self.db, job, arguments, tenant=self.tenant, ids=self.around.ids, **options
        )
