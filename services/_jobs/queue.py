"""Enqueues jobs."""

from typing import Any

from ops.db import Session
from ops.ids import IdMaker
from services._jobs.job import Job


async def enqueue(
    session: Session,
    job: Job,
    arguments: Any = None,
    *,
    tenant: str,
    ids: IdMaker,
    delay_seconds: float = 0.0,
    unique: str = "",
    priority: int = 0,
) -> str:
    """Writes the job into the schema's queue; its id. Inside the caller's transaction."""
    raise NotImplementedError
