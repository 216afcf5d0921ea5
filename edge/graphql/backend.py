"""What GraphQL needs of the process that it runs in; `services/_kit/call.py` has the first."""

from collections.abc import Mapping
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


class Purse(Protocol):
    """Who counts what callers use: the gateway's limit."""

    async def charge(self, actor: Actor, tokens: int) -> None:
        """Takes tokens from the caller's limit. Raises Refusal (429) when it is used up."""


class OpenPurse:
    """Charges nobody."""

    async def charge(self, actor: Actor, tokens: int) -> None:
        """Nothing to do."""
