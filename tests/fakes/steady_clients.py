"""Clients that use guest lists at a steady pace while something below them fails.

Each reads one list, reads a page of its guests and invites another guest, in turn, with a pause
after each; a guest whose invitation failed is invited again with the same key. Every answer is
kept, so that a test can say which of them nobody should have got.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

LISTS: Final = "/v1/guest-list/guest-lists"
CLIENTS: Final = 20
PAUSE_SECONDS: Final = 0.15
GIVE_UP_SECONDS: Final = 30.0
"""Beyond every deadline of the server's: an answer that takes so long hangs."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one request; status 0: no answer."""

    kind: str
    began: float
    """Monotonic seconds."""
    ended: float
    status: int
    code: str
    headers: dict[str, str]

    @property
    def good(self) -> bool:
        return self.status in {200, 201}

    @property
    def excused(self) -> bool:
        """A problem that says when to come again."""
        kind = self.headers.get("content-type", "")
        return (
            self.status == 503
            and kind.startswith("application/problem+json")
            and int(self.headers.get("retry-after", "0")) > 0
        )


@dataclass(slots=True)
class Load:
    """The clients of one test, on one list. `run` them in a task, and `stop` them."""

    url: str
    token: str
    list_id: str
    answers: list[Answered] = field(default_factory=list)
    invited: set[str] = field(default_factory=set)
    """Names of those whose invitation was acknowledged."""
    asked: set[str] = field(default_factory=set)
    """Names of all for whom one was asked."""
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True

    async def run(self) -> None:
        """All clients, until `stop`."""
        async with (
            aiohttp.ClientSession(
                self.url,
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=aiohttp.ClientTimeout(total=GIVE_UP_SECONDS),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(CLIENTS):
                group.create_task(self._use(session, number))

    def since(self, moment: float) -> list[Answered]:
        """Those that were asked for after that moment."""
        return [one for one in self.answers if one.began >= moment]

    def told(self, which: Callable[[Answered], bool]) -> Counter[tuple[str, int, str]]:
        """How many of which kind, status and code."""
        return Counter((one.kind, one.status, one.code) for one in self.answers if which(one))

    async def _use(self, session: aiohttp.ClientSession, number: int) -> None:
        where = f"{LISTS}/{self.list_id}"
        await asyncio.sleep(PAUSE_SECONDS * number / CLIENTS)
        while not self.stopped:
            await self._ask(session, "read", "GET", where)
            await self._ask(session, "page", "GET", f"{where}/guests?limit=5")
            await self._invite(session, f"{where}/guests")

    async def _invite(self, session: aiohttp.ClientSession, path: str) -> None:
        name = f"guest {uuid.uuid4()}"
        body = {"name": name, "email": f"{name.replace(' ', '.')}@example.org"}
        self.asked.add(name)
        key = {"Idempotency-Key": f'"{name}"'}
        while not self.stopped:
            if await self._ask(session, "write", "POST", path, json=body, headers=key):
                self.invited.add(name)
                return

    async def _ask(
        self, session: aiohttp.ClientSession, kind: str, method: str, path: str, **how: Any
    ) -> bool:
        began = time.monotonic()
        status, code, headers = 0, "", {}
        try:
            async with session.request(method, path, **how) as answer:
                body, status = await answer.read(), answer.status
                headers = {name.lower(): value for name, value in answer.headers.items()}
            if status >= 400 and body.startswith(b"{"):
                code = str(msgspec.json.decode(body).get("code"))
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            code = type(fault).__name__
        found = Answered(kind, began, time.monotonic(), status, code, headers)
        self.answers.append(found)
        await asyncio.sleep(PAUSE_SECONDS)
        return found.good
