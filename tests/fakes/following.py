"""Follows lists of services on a real database, without HTTP: what one process does for clients."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from ops.changes import CHANNEL, Changes
from ops.clock import SYSTEM, Clock
from ops.db import DatabaseSettings
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from services._kit.actor import Actor
from services._kit.call import Request
from services._live.lists import Lists
from services._live.settings import LiveSettings
from services._live.stream import Stream
from tests.fakes.calls import Calls, actor
from tests.fakes.follower import Event, Follower

WAIT_SECONDS = 20.0
SOON = LiveSettings(gather_ms=5, heartbeat_seconds=0.5, look_seconds=3_600)
"""Nothing is found by looking: what a test sees was told."""


class Client:
    """One client, reading as far as a test wants."""

    def __init__(self, stream: Stream, follower: Follower) -> None:
        self.stream = stream
        self.follower = follower

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stream.close()

    async def next(self) -> list[Event]:
        """What comes next; none: a comment, or the end."""
        return self.follower.feed(await self.stream.read())

    async def until(self, what: str, check: Callable[[Follower], object]) -> Follower:
        """Reads on until this is so."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not check(self.follower):
                    await self.next()
        except TimeoutError:
            raise AssertionError(f"not within {WAIT_SECONDS} s: {what}: {self.follower}") from None
        return self.follower

    async def rest(self) -> Follower:
        """Reads to the end."""
        async with asyncio.timeout(WAIT_SECONDS):
            while data := await self.stream.read():
                self.follower.feed(data)
        return self.follower


class Following:
    """One process's lists. Changes made by `calls` are marked, as in a worker."""

    def __init__(self, calls: Calls, lists: Lists, changes: Changes) -> None:
        self.calls = calls
        self.lists = lists
        self.changes = changes

    async def open(
        self,
        name: str,
        who: Actor | None = None,
        *,
        known: Follower | None = None,
        until_unix: float = math.inf,
        **asked: Any,
    ) -> Client:
        """A client of a list. known: one that comes again with what it has."""
        follower = known or Follower()
        stream = await self.lists.listen(
            self.calls.operation(name),
            Request(actor=who or actor(), **asked),
            resume=follower.last_id,
            until_unix=until_unix,
        )
        return Client(stream, follower)


@asynccontextmanager
async def following(
    calls: Calls, settings: LiveSettings = SOON, *, clock: Clock = SYSTEM, url: str = ""
) -> AsyncIterator[Following]:
    """url: of the database, to hear other processes."""
    notices = Notices(url, DatabaseSettings()) if url else None
    changes = Changes(calls.database)
    if notices is not None:
        notices.subscribe(CHANNEL, changes.heard)
    async with (
        Lists(calls.runtime, settings, notices=notices, clock=clock) as lists,
        SupervisedGroup("changes") as tasks,
    ):
        changes.watch(lists.changed)
        tasks.keep("tell", changes.run)
        calls.database.committed = changes.mark
        yield Following(calls, lists, changes)
