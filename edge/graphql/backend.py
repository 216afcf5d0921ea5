"""What GraphQL needs of the process that it runs in: a runtime, and who asks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services._kit.actor import Actor
from services._kit.operation import Operation
from services._kit.service import Entity, Service


class Backend(Protocol):
    """Runs operations and finds records, by every rule: `Runtime` is one."""

    async def invoke(
        self,
        operation: Operation,
        actor: Actor,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str = "",
    ) -> Any:
        """The operation's answer. Raises NexusError."""

    async def many(
        self, service: Service, entity: Entity, actor: Actor, ids: tuple[str, ...]
    ) -> Mapping[str, Any]:
        """Records by id, without those that the actor may not see. Raises NexusError."""


Charge = Callable[[int], Awaitable[None]]
"""Takes tokens from the caller's limit. Raises Refusal (429) when it is used up."""


async def free(_tokens: int) -> None:
    """Charges nobody."""


@dataclass(slots=True)
class Caller:
    """Who asks, and on whose account."""

    actor: Actor
    charge: Charge = free
    headers: dict[str, str] = field(default_factory=dict)
    """Fields that the answer carries; `charge` may add what is left of the limit."""
