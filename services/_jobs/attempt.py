"""One attempt at a claimed job: its effect and its end in one transaction, or neither.

    checkout as the service and the tenant ─▶ handler ─▶ the job's row is removed, if the claim is
      still the last one ─▶ commit

A worker that was taken for lost, and was not, removes no row: all that it did is rolled back. The
handler may raise anything: this module is the supervisor that catches it, counts a failure and says
when the job is tried again.
"""

import random
from asyncio import CancelledError, current_task, timeout
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from ops.db import Database, Session
from ops.errors import NexusError, Rejected, Unavailable
from ops.log import get_logger, masked
from services._jobs.desk import DONE, Claim, Desk
from services._jobs.job import Job, decode_arguments

_OUTSIDE: Final = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)"
_OUTSIDE_SPARE_SECONDS: Final = 1.0

_log = get_logger("services.jobs")


class Owner(Protocol):
    """What a service is to its jobs."""

    @property
    def schema(self) -> str: ...
    @property
    def jobs(self) -> tuple[Job, ...]: ...


Run = Callable[[Any, Job, Any, str, Session], Awaitable[None]]
"""Runs a handler: service, job, decoded arguments, tenant, and a session inside a transaction."""


@dataclass(frozen=True, slots=True)
class Work:
    """One service's jobs, and with what to run them."""

    owner: Owner
    desk: Desk
    run: Run
    database: Database
    claims: Database
    """For the desk, whose sessions have its options."""


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    LOST = "lost"
    RELEASED = "released"


class LeaseLostError(Exception):
    """Somebody else has the job now: what was done here is rolled back."""


class TimedOutError(Exception):
    """The attempt took longer than the job's `timeout_seconds`."""


async def attempt(work: Work, claim: Claim) -> Outcome:
    """Runs a job once, and writes down how it ended.

    Raises DatabaseFault when there was no connection to run it on, or to say how it ended. When
    cancelled, nothing of it has happened, unless its commit was under way.
    """
    async with work.database.session(work.owner.schema, tenant=claim.tenant) as session:
        error = await _effect(session, work, claim)
    if error is None:
        return Outcome.DONE
    if isinstance(error, LeaseLostError):
        return Outcome.LOST
    return await _failed(work, claim, error)


async def _effect(session: Session, work: Work, claim: Claim) -> Exception | None:
    """Does the job and ends it, in one transaction; what went wrong."""
    job = claim.job
    limit = timeout(job.timeout_seconds)
    try:
        async with limit, session.transaction():
            if job.outside_seconds:
                seconds = job.outside_seconds + _OUTSIDE_SPARE_SECONDS
                await session.run(_OUTSIDE, str(int(seconds * 1_000)))
            arguments = decode_arguments(job, claim.arguments)
            await work.run(work.owner, job, arguments, claim.tenant, session)
            await _end(session, claim)
    except CancelledError:
        task = current_task()
        if task is None or task.cancelling():
            raise
        return RuntimeError("the handler awaited what was cancelled")
    except Exception as error:  # noqa: BLE001  a handler may raise anything
        if limit.expired():
            return TimedOutError(f"it took longer than {job.timeout_seconds:g} s")
        return error
    return None


async def _end(session: Session, claim: Claim) -> None:
    if not await session.value(DONE, claim.id, claim.token):
        raise LeaseLostError


async def _failed(work: Work, claim: Claim, error: Exception) -> Outcome:
    """Writes a failure down: when to try again, or that it is no use."""
    job = claim.job
    failures = claim.failures + 1
    pause: float | None = None
    if failures <= job.retries_max and not isinstance(error, Rejected):
        pause = job.backoff.pause_seconds(failures, random.random())  # noqa: S311  spreads retries
        if isinstance(error, Unavailable):
            pause = max(pause, float(error.retry_after_seconds))
    text = told(error)
    async with work.claims.relay("") as session:
        ours = await work.desk.fail(session, claim, error=text, pause_seconds=pause)
    if not ours:
        return Outcome.LOST
    expected = isinstance(error, NexusError | TimedOutError)
    say = _log.error if pause is None else _log.warning
    say(
        "job is dead" if pause is None else "job failed",
        service=work.desk.schema,
        job=job.name,
        id=claim.id,
        failures=failures,
        reason=text,
        exc_info=None if expected else error,
    )
    return Outcome.DEAD if pause is None else Outcome.FAILED


def told(error: BaseException) -> str:
    """An error as operators read it, without secrets that this process knows."""
    if isinstance(error, NexusError):
        return masked(f"{error.code}: {error.message}")
    return masked(f"{type(error).__name__}: {error}".removesuffix(": "))
