"""Enqueues jobs: a row in the service's own schema, in the transaction of the change it belongs to.

So a job that was enqueued by a transaction that failed never runs, and a committed one is never
lost. Workers are told by NOTIFY when the transaction commits.
"""

from typing import Any, Final

from ops.db import Session
from ops.ids import IdMaker
from ops.metrics import counter
from services._jobs.job import Job, encode_arguments

CHANNEL: Final = "nexus_jobs"
"""Its notices say `<schema> <milliseconds until the job may run>`."""
UNIQUE_CHARACTERS_MAX: Final = 200
DELAY_SECONDS_MAX: Final = 10 * 366 * 86_400.0
PRIORITY_MAX: Final = 1_000
_ATTEMPTS_MAX: Final = 5
"""How often enqueueing is tried when the job with the same key ends just then."""

_enqueued = counter("nexus_jobs_enqueued", "Jobs enqueued.", ("service", "job"))
_doubled = counter(
    "nexus_jobs_doubled", "Jobs not enqueued: one with their key was there.", ("service", "job")
)

_INSERT: Final = """
WITH made AS (
    INSERT INTO job (id, tenant, name, arguments, unique_key, priority, state, run_at)
    VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $7::float8 > 0 THEN 'delayed' ELSE 'ready' END,
        clock_timestamp() + make_interval(secs => $7::float8))
    ON CONFLICT (tenant, name, unique_key) WHERE unique_key <> '' AND state <> 'dead' DO NOTHING
    RETURNING id
) SELECT id, pg_notify($8, $9) FROM made
"""
_FIND: Final = """
SELECT id FROM job
WHERE tenant = $1 AND name = $2 AND unique_key = $3 AND unique_key <> '' AND state <> 'dead'
"""


async def enqueue(
    session: Session,
    job: Job,
    arguments: Any = None,
    *,
    tenant: str,
    ids: IdMaker,
    delay_seconds: float = 0.0,
    unique: str = "",
    priority: int | None = None,
) -> str:
    """Writes the job into the schema's queue; its id. Inside the caller's transaction.

    unique: at most one job of this name and key waits or runs for a tenant; when there is one, its
    id is returned and nothing is written. A job that runs already may have read what the caller
    just changed: where that matters, the key says what changed (an id and its version).
    Raises TypeError when the arguments are not what the handler takes; TooLarge.
    """
    assert session.in_transaction, "a job belongs to a change"
    assert 0 <= delay_seconds <= DELAY_SECONDS_MAX, delay_seconds
    assert len(unique) <= UNIQUE_CHARACTERS_MAX, unique
    rank = job.priority if priority is None else priority
    assert abs(rank) <= PRIORITY_MAX, rank
    schema = session.pin.schema
    data = encode_arguments(job, arguments)
    notice = f"{schema} {int(delay_seconds * 1_000)}"
    for _ in range(_ATTEMPTS_MAX):
        made = ids.new("job")
        values = (made, tenant, job.name, data, unique, rank, float(delay_seconds))
        if await session.row(_INSERT, *values, CHANNEL, notice) is not None:
            _enqueued.inc(labels=(schema, job.name))
            return made
        found: str | None = await session.value(_FIND, tenant, job.name, unique)
        if found is not None:
            _doubled.inc(labels=(schema, job.name))
            return found
    raise AssertionError(f"jobs {job.name} with the key {unique!r} come and go")
