"""The declaration of a job: work that runs later, elsewhere, and maybe twice.

    REMIND = Job("remind", remind, timeout_seconds=30)                    # store.enqueue(REMIND, …)
    EXPIRE = Job("expire", expire, timeout_seconds=60, cron="0 3 * * *", tenants_of="guest_list")

What a handler writes to its own schema happens once: the job's end is part of the same transaction,
under a fencing token. What it does elsewhere (a mail, a payment) may happen again, so it carries an
idempotency key, made of the arguments. The transaction is open while the handler runs; it holds
nobody up until its first write, so a slow call to the outside comes before that.
"""

import functools
import inspect
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_type_hints

import msgspec

from ops.errors import Rejected
from services._jobs.slots import next_cron, next_interval

ARGUMENTS_BYTES_MAX: Final = 262_144
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ENCODER: Final = msgspec.json.Encoder()


class TooLarge(Rejected):
    """A job's arguments are more than ARGUMENTS_BYTES_MAX as JSON: store them, send their id."""

    code = "job.too_large"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure: 1, 2, 4 … seconds, each up to a fifth more or less."""

    first_seconds: float = 1.0
    factor: float = 2.0
    seconds_max: float = 3_600.0
    spread: float = 0.2
    """The part of the pause that chance adds or takes, so that what failed together comes apart."""

    def pause_seconds(self, failures: int, chance: float) -> float:
        """The pause after that many failures (1 is the first). chance: from 0 to 1."""
        doublings = min(failures - 1, 64)
        pause = min(self.first_seconds * self.factor**doublings, self.seconds_max)
        return pause * (1.0 + self.spread * (2.0 * chance - 1.0))


@dataclass(frozen=True, slots=True)
class Job:
    """Work that may run later, elsewhere, and twice. Raises ValueError when it never could."""

    name: str
    handler: Callable[..., Coroutine[Any, Any, None]]
    """`async def expire(store: Store, arguments: A) -> None`; `A` an `Input`, or absent."""
    timeout_seconds: float
    """How long one attempt may take; then it is cancelled, rolled back, and has failed."""
    retries_max: int = 5
    """Attempts after the first that failed; then the job is dead and waits for a replay. A handler
    that raises `Rejected` has said that repeating is no use: it is dead at once."""
    backoff: Backoff = Backoff()
    priority: int = 0
    """Of jobs that are enqueued without one: the greater runs first, within its service."""
    outside_seconds: float = 0.0
    """How long it may work outside the database between two statements, where that is more than
    `database.idle_in_transaction_seconds`."""
    cron: str = ""
    """When to run: five fields, or six with seconds first, as Debian's cron reads them."""
    every_seconds: float = 0.0
    """Or how often, in step with 1970 in UTC: 3600 is each full hour."""
    time_zone: str = "UTC"
    """Whose wall clock `cron` means. A time that the clock skips runs right after, one that comes
    twice runs once."""
    tenants_of: str = ""
    """The table whose tenants each get a job when the schedule fires (`audit_head`: whoever ever
    wrote to the service). Empty: one job without a tenant, which sees shared tables."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"job {self.name!r}: a lower-case name, words joined by _")
        if self.timeout_seconds <= 0 or self.retries_max < 0 or self.outside_seconds < 0:
            raise ValueError(f"job {self.name}: a time or a count below its least")
        if self.cron and self.every_seconds:
            raise ValueError(f"job {self.name}: either cron or every_seconds")
        if self.every_seconds and self.every_seconds < 1:
            raise ValueError(f"job {self.name}: every_seconds is at least 1")
        if self.tenants_of and not self.is_scheduled:
            raise ValueError(f"job {self.name}: tenants_of is for schedules")
        if list(inspect.signature(self.handler).parameters)[1:] not in ([], ["arguments"]):
            raise ValueError(f"job {self.name}: a handler takes a store, and maybe `arguments`")
        if self.is_scheduled and "arguments" in inspect.signature(self.handler).parameters:
            raise ValueError(f"job {self.name}: nothing gives a schedule's handler arguments")
        if self.is_scheduled:
            self.next_slot(datetime(2026, 1, 1, tzinfo=UTC))

    @property
    def is_scheduled(self) -> bool:
        return bool(self.cron or self.every_seconds)

    def next_slot(self, after: datetime) -> datetime:
        """When its schedule fires next after that time, in UTC."""
        if self.cron:
            return next_cron(self.cron, after, time_zone=self.time_zone)
        return next_interval(self.every_seconds, after)

    @property
    def spec(self) -> str:
        """What the schedule says, as text: when it changes, the next time is found anew."""
        return f"{self.cron} {self.time_zone}" if self.cron else f"every {self.every_seconds:g}"


def encode_arguments(job: Job, arguments: Any) -> bytes:
    """What the queue keeps. Raises TypeError when they are not what the handler takes; TooLarge."""
    kind = _arguments_type(job)
    if arguments is None and kind is None:
        return b""
    if kind is None or not isinstance(arguments, kind):
        raise TypeError(f"job {job.name} takes {kind}, not {type(arguments).__name__}")
    data = _ENCODER.encode(arguments)
    if len(data) > ARGUMENTS_BYTES_MAX:
        raise TooLarge(f"the arguments of a job are {len(data)} bytes, over {ARGUMENTS_BYTES_MAX}")
    return data


def decode_arguments(job: Job, data: bytes) -> Any:
    """What the handler takes, or None. Raises msgspec.ValidationError."""
    kind = _arguments_type(job)
    return None if kind is None else msgspec.json.decode(data, type=kind)


@functools.cache
def _arguments_type(job: Job) -> type[Any] | None:
    """Of the handler's parameter `arguments`; reading signatures is slow."""
    kind: type[Any] | None = get_type_hints(job.handler).get("arguments")
    return kind
