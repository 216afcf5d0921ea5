"""The declaration of a job."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """Work that may run later, elsewhere, and twice."""

    name: str
    handler: Callable[..., Coroutine[Any, Any, None]]
    """`async def expire(store: Store, arguments: A) -> None`; `A` an `Input`, or absent."""
    timeout_seconds: float
