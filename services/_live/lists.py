"""Follows lists for one process: who shows what, and when it is read again.

    a transaction commits ─▶ ops/changes.py ─▶ lists of that service and tenant are read again,
      once for all who are shown the same ─▶ compared with what they were ─▶ each stream's queue

A list is read when it is first asked for, when something of its tenant has changed (at most once in
`gather_ms`), and once in `look_seconds`, since what a killed process had not told yet nobody else
knows. Streams cost no reading of their own. Each reading is a call like any other: permission,
tenant and home are checked by the kit; when they no longer hold, the streams end.

Owns: its streams and the task of each list that is being read again.
"""

import asyncio
import math
from collections.abc import Hashable
from types import TracebackType
from typing import Any, Final, Self

from ops.clock import SYSTEM, Clock
from ops.errors import NexusError, Rejected, Unavailable
from ops.metrics import counter, gauge
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from services._kit.call import Request, Runtime, Standing
from services._kit.operation import Operation
from services._kit.record import Page
from services._live import held, stream
from services._live.held import Change, Held, Item
from services._live.settings import LiveSettings
from services._live.stream import Stream

RETRY_SECONDS: Final = 1.0
"""After which a list is tried again that could not be read."""
FULL_SECONDS: Final = 5
"""When to come again, if there are too many streams."""
TASKS_BESIDE: Final = 8
"""Tasks beside those of lists that are read again."""
_STOPPING: Final = Unavailable("this node stops", code="node.stopping")
_RENEW: Final = Unavailable("credentials are looked at anew", code="auth.renew")

_streams = gauge("nexus_live_streams", "Streams of lists that are open.")
_lists = gauge("nexus_live_lists", "Lists that are followed; many streams may show one.")
_reads = counter("nexus_live_reads", "Readings of lists that are followed, by outcome.", ("how",))
_reads.expect(("same",), ("changed",), ("failed",))
_events = counter("nexus_live_events", "Changes of lists, each told to all its streams.", ("kind",))
_refused = counter("nexus_live_refused", "Streams refused because of a limit.", ("per",))
_refused.expect(("node",), ("tenant",))


class _Followed:
    """One list, as it was last read."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.streams: set[Stream] = set()
        self.lock = asyncio.Lock()
        self.joining = 0
        """Clients that wait for its first reading."""
        self.page: Page[Any] | None = None
        self.items: dict[str, Item] = {}
        self.dirty = False
        self.refreshing = False
        self.ended = False
        """Nobody is to join it any more."""
        self.read_at = -math.inf
        self.key = item_key(standing.operation)
        self.rows = (standing.operation.service.schema, standing.tenant)
        """Whose rows it shows."""

    def take(self, page: Page[Any]) -> list[Change]:
        """What has changed with this reading."""
        now: dict[str, Item] = {}
        for record in page.data:
            key = str(getattr(record, self.key))
            now[key] = held.item(key, self.standing.show(record))
        first, before = self.page is None, self.items
        self.page, self.items = page, now
        if first:
            return []
        gone = {key: held.named(self.key, key) for key in before if key not in now}
        return held.changes(before, now=now, removed=gone)

    def begin(self, resume: str) -> list[Change]:
        """What a client gets first, that has said what it has."""
        assert self.page is not None
        known = Held.parse(resume)
        if known is not None:
            return known.changes(self.items, name=self.key)
        everything = Held(item.entry for item in self.items.values())
        return [Change("page", self.standing.show(self.page), everything.id)]


class Lists:
    """All lists that clients of one process follow. `async with` it; `changed` is to be called
    with what has changed (`ops/changes.py`)."""

    def __init__(
        self,
        runtime: Runtime,
        settings: LiveSettings,
        *,
        share: float = 1.0,
        notices: Notices | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """share: of the node's limits. notices: run from the first stream on; None: by others."""
        self._runtime = runtime
        self._settings = settings
        self._notices = notices
        self._clock = clock
        self._streams_max = max(1, math.ceil(settings.streams_max * share))
        self._tenant_max = max(1, math.ceil(settings.tenant_streams_max * share))
        self._followed: dict[Hashable, _Followed] = {}
        self._by_rows: dict[tuple[str, str], set[_Followed]] = {}
        self._count = 0
        self._by_tenant: dict[str, int] = {}
        self._turns = asyncio.Semaphore(settings.reads_max)
        self._tasks = SupervisedGroup("lists", tasks_max=self._streams_max + TASKS_BESIDE)
        self._started = self._stopped = False

    def __len__(self) -> int:
        """Streams that are open, or about to be."""
        return self._count

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        await self._tasks.stop()

    def stop(self) -> None:
        """Ends every stream, and lets no other begin. Idempotent."""
        self._stopped = True
        self._end_all(_STOPPING)

    def renew(self) -> None:
        """Ends every stream: who comes again shows a credential that is looked at anew."""
        self._end_all(_RENEW)

    async def listen(
        self,
        operation: Operation,
        request: Request,
        *,
        resume: str = "",
        until_unix: float = math.inf,
    ) -> Stream:
        """A list and its changes, for a client that closes it. resume: its `Last-Event-ID`.

        Raises what the plain list raises, and Unavailable (`live.full`, `live.tenant_full`).
        """
        tenant = request.actor.tenant
        self._enter(tenant)
        try:
            self._start()
            standing = await self._runtime.standing(operation, request)
            while True:
                followed = self._follow(standing)
                followed.joining += 1
                try:
                    async with followed.lock:
                        if followed.page is None:
                            await self._read(followed)
                    if not followed.ended:
                        return self._join(followed, resume, until_unix)
                finally:
                    followed.joining -= 1
                    self._forget_unused(followed)
        except BaseException:
            self._leave(tenant)
            raise

    def changed(self, schema: str, tenants: frozenset[str]) -> None:
        """Rows of these tenants have changed; none: any of the schema, or of all ("")."""
        if schema and tenants:
            for tenant in tenants:
                for followed in self._by_rows.get((schema, tenant), ()):
                    self._again(followed)
            return
        for rows, shown in self._by_rows.items():
            if schema in {"", rows[0]}:
                for followed in shown:
                    self._again(followed)

    def _start(self) -> None:
        """With the first stream: until then nobody has to listen or to look."""
        if not self._started:
            self._started = True
            self._tasks.keep("look", self._look)
            if self._notices is not None:
                self._tasks.keep("notices", self._notices.run)

    async def _look(self) -> None:
        pause = min(1.0, self._settings.look_seconds)
        while True:
            await asyncio.sleep(pause)
            due = self._clock.monotonic() - self._settings.look_seconds
            for followed in self._followed.values():
                if followed.read_at <= due:
                    self._again(followed)

    def _enter(self, tenant: str) -> None:
        """Raises Unavailable."""
        if self._stopped or self._count >= self._streams_max:
            _refused.inc(labels=("node",))
            raise Unavailable(
                "this node streams as many lists as it may",
                code="live.full",
                retry_after_seconds=FULL_SECONDS,
            )
        count = self._by_tenant.get(tenant, 0)
        if count >= self._tenant_max:
            _refused.inc(labels=("tenant",))
            raise Unavailable(
                "your tenant streams as many lists as it may",
                code="live.tenant_full",
                retry_after_seconds=FULL_SECONDS,
            )
        self._by_tenant[tenant] = count + 1
        self._count += 1
        _streams.set(self._count)

    def _leave(self, tenant: str) -> None:
        left = self._by_tenant[tenant] - 1
        if left:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
        self._count -= 1
        _streams.set(self._count)

    def _join(self, followed: _Followed, resume: str, until_unix: float) -> Stream:
        """The stream of a client, up to date. Nothing waits here: no change falls between."""

        def closed(known: Stream) -> None:
            followed.streams.discard(known)
            self._leave(followed.standing.tenant)
            self._forget_unused(followed)

        settings = self._settings
        made = Stream(
            until_unix=until_unix,
            heartbeat_seconds=settings.heartbeat_seconds,
            waiting_max=settings.waiting_events_max,
            clock=self._clock,
            closed=closed,
        )
        first = followed.begin(resume)
        made.put([b"retry: %d\n\n" % settings.retry_ms + b"".join(map(stream.event, first))])
        followed.streams.add(made)
        if self._stopped:
            made.end(_STOPPING)
        return made

    def _follow(self, standing: Standing) -> _Followed:
        known = self._followed.get(standing.name)
        if known is None:
            known = self._followed[standing.name] = _Followed(standing)
            self._by_rows.setdefault(known.rows, set()).add(known)
            _lists.set(len(self._followed))
        return known

    def _forget(self, followed: _Followed) -> None:
        """Idempotent."""
        if followed.ended:
            return
        followed.ended = True
        del self._followed[followed.standing.name]
        same = self._by_rows[followed.rows]
        same.discard(followed)
        if not same:
            del self._by_rows[followed.rows]
        _lists.set(len(self._followed))

    def _forget_unused(self, followed: _Followed) -> None:
        if not followed.streams and not followed.joining:
            self._forget(followed)

    def _again(self, followed: _Followed) -> None:
        """Has a list read again soon."""
        followed.dirty = True
        if not followed.refreshing and not self._stopped:
            followed.refreshing = True
            self._tasks.start("refresh", self._refresh(followed))

    async def _refresh(self, followed: _Followed) -> None:
        """Reads a list until nothing has changed since; ends its streams when it cannot be."""
        gather = self._settings.gather_ms / 1_000
        try:
            while followed.dirty and (followed.streams or followed.joining):
                early = followed.read_at + gather - self._clock.monotonic()
                if early > 0:
                    await asyncio.sleep(early)
                try:
                    async with followed.lock:
                        await self._read(followed)
                except Unavailable as fault:
                    _reads.inc(labels=("failed",))
                    followed.dirty = True
                    await asyncio.sleep(max(fault.retry_after_seconds, RETRY_SECONDS))
        except Rejected as why:
            self._end(followed, why)
        except BaseException:
            self._end(followed, Unavailable("this list cannot be read", code="internal"))
            raise
        finally:
            followed.refreshing = False

    async def _read(self, followed: _Followed) -> None:
        """Reads a list and tells its streams what has changed. Raises NexusError."""
        async with self._turns:
            # What changes from here on may not be in it.
            followed.dirty = False
            page = await followed.standing.read()
        followed.read_at = self._clock.monotonic()
        found = followed.take(page)
        _reads.inc(labels=("changed" if found else "same",))
        if not found:
            return
        for change in found:
            _events.inc(labels=(change.kind,))
        pieces = [stream.event(change) for change in found]
        for known in tuple(followed.streams):
            known.put(pieces)

    def _end_all(self, why: NexusError) -> None:
        for followed in tuple(self._followed.values()):
            self._end(followed, why)

    def _end(self, followed: _Followed, why: NexusError) -> None:
        """Ends its streams; who asks next begins with a reading of their own."""
        self._forget(followed)
        for known in tuple(followed.streams):
            known.end(why)


def item_key(operation: Operation) -> str:
    """The member that names an item of a list: its id, or else its first."""
    fields: tuple[str, ...] = operation.item.__struct_fields__
    return "id" if "id" in fields else fields[0]
