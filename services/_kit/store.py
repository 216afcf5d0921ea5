"""What a handler may do to the world: its schema's rows, events, jobs, ids.

A service's `store.py` has a subclass whose methods hold all its SQL; the kit makes one for each
call, around a session that is pinned to the service and the actor's tenant. Unqualified table names
are the service's own. For writes the session is inside the call's transaction.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ops.clock import Clock
from ops.db import Session
from ops.frozen import Frozen
from ops.ids import IdMaker
from ops.sealing import KeyRing
from services._events.event import Event, Origin
from services._events.outbox import publish
from services._jobs.job import Job
from services._jobs.queue import enqueue
from services._kit.actor import Actor
from services._kit.question import Question

S = TypeVar("S")
A = TypeVar("A", bound=Frozen)
R = TypeVar("R")
Ask = Callable[..., Coroutine[Any, Any, Any]]
"""`Runtime.ask`."""


@dataclass(frozen=True, slots=True)
class Surroundings(Generic[S]):
    """What the calls of one service have in common."""

    service: str
    schema: str
    region: str
    ids: IdMaker
    keys: KeyRing
    settings: S
    ask: Ask
    clock: Clock


class Store:
    """The hands of one call. A service subclasses it."""

    __slots__ = ("_depth", "actor", "around", "db")

    def __init__(
        self, session: Session, actor: Actor, around: Surroundings[Any], *, depth: int = 0
    ) -> None:
        """depth: how many connections those hold who wait for this call."""
        self.db = session
        self.actor = actor
        self.around = around
        self._depth = depth

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

    @property
    def now_unix(self) -> float:
        """The time of the wall clock, in unix seconds."""
        return self.around.clock.unix()

    async def ask(self, question: Question[A, R], asked: A, *, tenant: str = "") -> R:
        """What another service answers; tenant: another one than the actor's.

        Raises what it refuses. Cost: a connection beside this one, so ask early.
        """
        actor = self.actor if not tenant else replace(self.actor, tenant=tenant)
        answer: R = await self.around.ask(question, asked, actor, depth=self._depth + 1)
        return answer

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
