"""One schema's queue as workers see it, as the role `nexus_relay`; its SQL is `desk.sql`.

Claims are fair between tenants. The best priority that has a ready job is served; within it the
claim goes round the tenants, from the one after the last one served, and takes one job of each.
Where all tenants are in sight and places are left, each gets as many. So who has one job waits for
one of each other tenant, whatever lies in their queues. It costs a few probes of one index for each
job taken, however many tenants and jobs there are.

The time is the database's, which all workers share; `now` is for tests. Names of tables are written
out with their schema, so that one connection serves all of them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from ops.db import Database, Row, Session
from services._jobs.job import Job
from services._jobs.queue import CHANNEL

SWEEP_MAX: Final = 500
"""Jobs that one sweep moves."""
LOOK_MAX: Final = 16
"""Schemas that one question asks: the client library keeps no plan of one over 15 KiB."""
ERROR_CHARACTERS_MAX: Final = 2_000
SCHEDULED_KEY: Final = "schedule"
"""The key of scheduled jobs: while one waits or runs, its next time makes no second one."""
LOST: Final = "its worker was lost while it ran"
_INSERT_MAX: Final = 1_000

DONE: Final = "SELECT job_done($1, $2)"
"""Ends a job inside its own transaction, as the service's role; false when the claim is not the
last one any more."""
_WAYS: Final = ("bitmapscan", "hashjoin", "mergejoin", "seqscan", "sort")
BY_INDEX: Final = {f"enable_{way}": "off" for way in _WAYS}
"""Options of the sessions that a desk works with. Plans are kept for long, and made while a queue
is empty, when reading all of it looks cheap: so they are told to use the indexes."""

_FILE: Final = Path(__file__).with_suffix(".sql")
_NOW: Final = "coalesce($1::timestamptz, statement_timestamp())"
_SHARE: Final = "(SELECT greatest(1, $3::int / nullif(count(*), 0)) FROM turn)"

NewId = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker may run until its lease ends."""

    id: str
    token: int
    tenant: str
    job: Job
    arguments: bytes
    failures: int
    waited_seconds: float
    """From when it was to run until now."""


_COLUMNS: Final = ("id", "token", "tenant", "arguments", "failures", "waited_seconds")


class Outlook(NamedTuple):
    """What one schema has for workers."""

    ready: bool
    due_seconds: float | None
    """Until a delayed job is due or a lease ends; None: nothing is ahead."""
    slot_seconds: float | None
    """Until a schedule fires."""


class Desk:
    """The queue of one schema, for the jobs that this worker knows."""

    def __init__(self, schema: str, jobs: Iterable[Job], *, now: datetime | None = None) -> None:
        """now: instead of the database's time."""
        assert schema.isidentifier(), schema
        self.schema = schema
        self.jobs: Mapping[str, Job] = {job.name: job for job in jobs}
        self.names = list(self.jobs)
        self.scheduled = [job.name for job in self.jobs.values() if job.is_scheduled]
        self.now = now
        self._after: str | None = None
        """The tenant that was served last, while others come after it."""
        self._sql = {name: _filled(text, schema) for name, text in _STATEMENTS.items()}

    async def claim(self, session: Session, most: int, lease_seconds: float) -> list[Claim]:
        """Takes up to that many ready jobs, in turn between tenants."""
        rows = await self._take(session, most, lease_seconds)
        if not rows and self._after is not None:
            self._after = None
            rows = await self._take(session, most, lease_seconds)
        last = max(rows, key=lambda row: int(row["number"]), default=None)
        self._after = last["tenant"] if last is not None and last["more"] else None
        return [
            Claim(job=self.jobs[row["name"]], **{name: row[name] for name in _COLUMNS})
            for row in rows
        ]

    async def sweep(self, session: Session, losses_max: int) -> tuple[int, list[str]]:
        """Makes due jobs and those of lost workers ready. How many were moved; the names of those
        that are dead now, since they lost their worker `losses_max` times."""
        moved = await session.run(self._sql["promote"], self.now)
        lost = await session.rows(self._sql["expire"], self.now, losses_max, LOST)
        return moved + len(lost), [row["name"] for row in lost if row["state"] == "dead"]

    async def extend(
        self, session: Session, claims: Sequence[Claim], lease_seconds: float
    ) -> set[str]:
        """Renews the leases; the ids of those that are still ours."""
        ids, tokens = _keys(claims)
        rows = await session.rows(self._sql["extend"], self.now, lease_seconds, ids, tokens)
        return {row["id"] for row in rows}

    async def release(self, session: Session, claims: Sequence[Claim]) -> None:
        """Gives jobs back that were not run to their end."""
        await session.run(self._sql["release"], *_keys(claims))

    async def fail(
        self, session: Session, claim: Claim, *, error: str, pause_seconds: float | None
    ) -> bool:
        """Has a job tried again after a pause, or (None) be dead. False: it was not ours."""
        text = error.replace("\0", "")[:ERROR_CHARACTERS_MAX]
        values = (self.now, claim.id, claim.token, text, pause_seconds is None)
        return await session.run(self._sql["fail"], *values, pause_seconds or 0.0) == 1

    async def register(self, session: Session) -> None:
        """Notes when each schedule fires first; one that is known and unchanged stays as it is."""
        now = self.now or await session.value("SELECT statement_timestamp()")
        for name in self.scheduled:
            job = self.jobs[name]
            await session.run(self._sql["register"], name, job.spec, job.next_slot(now))

    async def fire(self, session: Session, new_id: NewId) -> int:
        """Makes the jobs of all schedules that are due, and moves them on; how many jobs.

        Times that passed while no worker ran are made up for by one job.
        """
        made = 0
        async with session.transaction():
            rows = await session.rows(self._sql["due_slots"], self.now, self.scheduled)
            for row in rows:
                job = self.jobs[row["name"]]
                made += await self._insert(session, job, row["next_at"], new_id)
                await session.run(self._sql["move_slot"], job.name, job.next_slot(row["now"]))
            if made:
                await session.run("SELECT pg_notify($1, $2)", CHANNEL, f"{self.schema} 0")
        return made

    async def dead(self, session: Session, name: str = "", most: int = 100) -> Sequence[Row]:
        """The jobs (of that name) that died last: id, tenant, name, failures, losses, error,
        ended_at."""
        return await session.rows(self._sql["dead"], name, most)

    async def replay(self, session: Session, id: str) -> bool:
        """Has a dead job tried again as if it had never failed; False: it is not dead.

        Raises Duplicate when one with its key waits or runs."""
        return await session.row(self._sql["replay"], self.now, id) is not None

    async def forget(self, session: Session, seconds: float) -> int:
        """Removes what died that long ago; how many are dead still."""
        await session.run(self._sql["forget"], self.now, seconds)
        return int(await session.value(self._sql["count_dead"]))

    async def _insert(self, session: Session, job: Job, slot: datetime, new_id: NewId) -> int:
        tenants = [""]
        if job.tenants_of:
            found = await session.rows(self._sql["tenants"], job.tenants_of)
            tenants = [row[0] for row in found]
        made = 0
        for start in range(0, len(tenants), _INSERT_MAX):
            part = tenants[start : start + _INSERT_MAX]
            ids = [new_id() for _ in part]
            values = (ids, part, job.name, job.priority, slot)
            made += await session.run(self._sql["insert_slot"], *values)
        return made

    async def _take(self, session: Session, most: int, lease_seconds: float) -> Sequence[Row]:
        values = (self.now, self.names, most, lease_seconds)
        if self._after is None:
            return await session.rows(self._sql["claim"], *values)
        return await session.rows(self._sql["claim_after"], *values, self._after)


class Desks:
    """The queues of all schemas. They share the question what there is to do."""

    def __init__(self, desks: Iterable[Desk]) -> None:
        self.by_schema = {desk.schema: desk for desk in desks if desk.jobs}
        self._names = sorted({name for desk in self.by_schema.values() for name in desk.scheduled})
        parts = [_filled(_STATEMENTS["look"], schema) for schema in self.by_schema]
        self._looks = [
            " UNION ALL ".join(parts[start : start + LOOK_MAX])
            for start in range(0, len(parts), LOOK_MAX)
        ]

    async def look(self, claims: Database, *, now: datetime | None = None) -> dict[str, Outlook]:
        """What each schema has for workers, in a question for each LOOK_MAX of them."""
        async with claims.relay("") as session:
            rows = [
                row for look in self._looks for row in await session.rows(look, now, self._names)
            ]
        return {row["schema"]: Outlook(row["ready"], row["due"], row["slot"]) for row in rows}


def _keys(claims: Sequence[Claim]) -> tuple[list[str], list[int]]:
    return [claim.id for claim in claims], [claim.token for claim in claims]


def _read_statements() -> dict[str, str]:
    """The statements of `desk.sql` by name; the claim in its two forms."""
    parts = re.split(r"^-- name: (\w+)$", _FILE.read_text(), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    claim = found["claim"]
    found["claim"] = claim.replace("{after}", "").replace("{share}", _SHARE)
    found["claim_after"] = claim.replace("{after}", "AND tenant > $5").replace("{share}", "1")
    return found


def _filled(text: str, schema: str) -> str:
    """A statement for one schema."""
    return text.strip().format(
        name=schema,
        job=f"{schema}.job",
        schedule=f"{schema}.job_schedule",
        now=_NOW,
        max=SWEEP_MAX,
        channel=CHANNEL,
        key=SCHEDULED_KEY,
    )


_STATEMENTS: Final = _read_statements()
