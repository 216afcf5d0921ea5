"""Clients that write guest lists over HTTP and never give up wrongly, whatever is killed meanwhile.

Each asks for one thing at a time, with an Idempotency-Key, and asks again with the same key when
the connection broke, when it was told 503 or that the same request still runs. Now and then one
gives up instead, as people do: then nobody knows what came of it. The ledger gets all of it.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import aiohttp
import msgspec

from services._events.event import Event
from services.entertainment.guest_list.api import (
    CapacityChanged,
    GuestAdmitted,
    GuestInvited,
    GuestListClosed,
    GuestListCreated,
    GuestRemoved,
)
from tests.fakes.guest_ledger import Asked, Ledger, Outcome

LISTS: Final = "/v1/guest-list/guest-lists"
TENANTS: Final = ("acme", "other")
LIST_GUESTS_MAX: Final = 150
"""Guests after which a tenant's writers begin another list."""
CAPACITY: Final = 90_000
TRY_SECONDS: Final = 12.0
"""Longer than the server lets any of these calls take."""
ANSWER_SECONDS: Final = 60.0
"""Until when somebody must have answered, after however many tries."""
GIVE_UP: Final = 0.05
PAUSE_SECONDS: Final = 0.05
_REFUSALS: Final = frozenset({409, 412})
_PROBLEM: Final = "application/problem+json"


@dataclass(slots=True)
class Shared:
    """The list that a tenant's writers invite to just now."""

    id: str = ""
    guests: int = 0


class Writers:
    """Some writers of each tenant, in one event loop."""

    def __init__(self, url: str, tokens: Mapping[str, str], ledger: Ledger, *, seed: int) -> None:
        """tokens: one for each of `TENANTS`."""
        self._url = url
        self._tokens = tokens
        self._ledger = ledger
        self._seed = seed
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Each settles what it has asked for, and ends."""
        self._stop.set()

    async def run(self, count: int) -> None:
        """Writes until `stop`."""
        shared = {tenant: Shared() for tenant in TENANTS}
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                tenant = TENANTS[number % len(TENANTS)]
                group.create_task(self._write(number, tenant, shared[tenant]))

    async def repeat(self, asked: Asked) -> tuple[int, bytes, bool]:
        """Asks for the same once more: status, body, whether it was answered before."""
        async with self._session(asked.tenant) as session:
            status, body, headers = await _send(session, asked)
            return status, body, headers.get("Idempotent-Replayed") == "true"

    async def _write(self, number: int, tenant: str, shared: Shared) -> None:
        chance = Random(f"{self._seed}/{number}")
        async with self._session(tenant) as session:
            writer = _Writer(session, tenant, shared, self._ledger, chance)
            while not self._stop.is_set() and not self._ledger.faults:
                await writer.step()
                await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))

    def _session(self, tenant: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self._url,
            headers={"Authorization": f"Bearer {self._tokens[tenant]}"},
            timeout=aiohttp.ClientTimeout(total=TRY_SECONDS),
        )


class _Writer:
    """One client, its guests and a list of its own."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tenant: str,
        shared: Shared,
        ledger: Ledger,
        chance: Random,
    ) -> None:
        self._session = session
        self._tenant = tenant
        self._shared = shared
        self._ledger = ledger
        self._chance = chance
        self._guests: list[tuple[str, str]] = []
        """List and id of those who are invited, and nothing else yet."""
        self._own: tuple[str, int] | None = None
        """A list that nobody else writes, and its version."""

    async def step(self) -> None:
        """One thing, by chance."""
        dice = self._chance.random()
        if not self._shared.id or self._shared.guests >= LIST_GUESTS_MAX:
            made = await self._create()
            if made is not None:
                self._shared.id, self._shared.guests = made[0], 0
        elif dice < 0.6 or (dice < 0.85 and not self._guests):
            await self._invite()
        elif dice < 0.85:
            await self._settle(admit=dice < 0.75)
        elif self._own is None:
            self._own = await self._create()
        elif self._own[1] < 4:
            await self._change(*self._own)
        else:
            (made, _), self._own = self._own, None
            await self._ask(GuestListClosed, made, "POST", f"{LISTS}/{made}:close")

    async def _create(self) -> tuple[str, int] | None:
        """Id and version of a new list; None: nobody knows."""
        name = f"list {uuid.uuid4()}"
        body = {"name": name, "capacity": CAPACITY, "ends_at": "2099-01-01T00:00:00Z"}
        made = await self._ask(GuestListCreated, name, "POST", LISTS, body)
        return None if made is None else (made["id"], made["version"])

    async def _invite(self) -> None:
        name, where = f"guest {uuid.uuid4()}", self._shared.id
        self._shared.guests += 1
        body = {
            "name": name,
            "email": f"{name.replace(' ', '.')}@example.org",
            "seats": self._chance.randint(1, 3),
        }
        made = await self._ask(GuestInvited, name, "POST", f"{LISTS}/{where}/guests", body)
        if made is not None:
            self._guests.append((where, made["id"]))

    async def _settle(self, *, admit: bool) -> None:
        """Lets a guest in, or takes one off the list."""
        where, guest = self._guests.pop(self._chance.randrange(len(self._guests)))
        path = f"{LISTS}/{where}/guests/{guest}"
        if admit:
            await self._ask(GuestAdmitted, guest, "POST", f"{path}:admit")
        else:
            await self._ask(GuestRemoved, guest, "DELETE", path)

    async def _change(self, made: str, version: int) -> None:
        capacity = CAPACITY + version
        mark, body = f"{made} {capacity}", {"capacity": capacity}
        asked = self._asked(CapacityChanged, mark, "PATCH", f"{LISTS}/{made}", body)
        asked.if_match = f'"{version}"'
        changed = await self._settled(asked)
        self._own = None if changed is None else (made, changed["version"])

    async def _ask(
        self, kind: type[Event], mark: str, method: str, path: str, body: Any = None
    ) -> Any:
        """The answer; None when it was refused, or when there is none."""
        return await self._settled(self._asked(kind, mark, method, path, body))

    def _asked(
        self, kind: type[Event], mark: str, method: str, path: str, body: Any = None
    ) -> Asked:
        key = str(uuid.uuid4())
        return Asked((kind, mark), self._tenant, key, method, path, body)

    async def _settled(self, asked: Asked) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not await self._try(asked):
                    self._ledger.cuts += 1
                    if self._chance.random() < GIVE_UP:
                        break
                    await asyncio.sleep(self._chance.uniform(0.02, 0.1))
        except TimeoutError:
            self._ledger.faults.append(f"no answer in {ANSWER_SECONDS} s: {asked}")
        if asked.outcome is Outcome.UNKNOWN:
            self._ledger.note(asked, Outcome.UNKNOWN)
        return msgspec.json.decode(asked.answer or b"{}") if asked.outcome is Outcome.YES else None

    async def _try(self, asked: Asked) -> bool:
        """Whether it is settled."""
        asked.tries += 1
        try:
            status, body, headers = await _send(self._session, asked)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        if 200 <= status < 300:
            asked.status, asked.answer = status, body
            self._ledger.note(asked, Outcome.YES)
            return True
        is_problem = headers.get("Content-Type", "").startswith(_PROBLEM)
        code = msgspec.json.decode(body).get("code") if is_problem else ""
        if (status == 503 and headers.get("Retry-After")) or code == "idempotency.running":
            return False
        asked.status, asked.answer = status, body
        self._ledger.note(asked, Outcome.NO)
        if status not in _REFUSALS:
            self._ledger.faults.append(f"{status} {dict(headers)} {body!r} to {asked}")
        return True


async def _send(
    session: aiohttp.ClientSession, asked: Asked
) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of one try."""
    headers = {"Idempotency-Key": f'"{asked.key}"'}
    if asked.if_match:
        headers["If-Match"] = asked.if_match
    async with session.request(
        asked.method, asked.path, json=asked.body, headers=headers
    ) as answer:
        return answer.status, await answer.read(), answer.headers
