"""The port between relays and consumers: a log of events, ordered by key, read at least once.

What every back end promises, and `tests/services/bus/test_contract.py` asks of each:

- `send` returns when the events are safe, or raises; events of one key keep their order, also when
  a sender that failed or was fenced sends some again;
- each consumer has places of its own in the log, from the oldest event kept on; several processes
  of one consumer share its partitions, one process a partition;
- what was fetched and not settled comes again, to this process or another.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ops.errors import Unavailable
from services._events.event import Envelope


class BusFault(Unavailable):
    """The bus cannot be reached, or refuses for now."""

    code = "bus.unavailable"


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one partition, in its order."""

    token: Any
    """What the back end knows the partition and its lease by."""
    events: tuple[Envelope, ...]
    places: tuple[Any, ...]
    """Behind each event: the place to go on from, once it was handled."""


class Receiver(Protocol):
    """One process's part in a consumer."""

    async def fetch(self, seconds: float) -> Sequence[Batch]:
        """Batches of different partitions; waits that long for some. Raises Unavailable."""

    async def settle(self, done: Sequence[tuple[Batch, int]]) -> None:
        """So many of each batch's events were handled; the others come again.

        A lease that was lost meanwhile is not an error: somebody else handles them again.
        """


class Bus(Protocol):
    """A back end."""

    async def send(self, events: Sequence[Envelope]) -> None:
        """Appends them, each key's in this order. Raises Unavailable: some may be there."""

    def receiver(
        self, consumer: str, types: Sequence[str]
    ) -> AbstractAsyncContextManager[Receiver]:
        """`async with` it to consume events of these types, and others of the same topics."""

    async def sweep(self) -> None:
        """Forgets what everybody has read and is old, where brokers do not do that themselves."""
