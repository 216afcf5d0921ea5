"""HLS for every viewer of one worker: access, the shelf's answers, and who waits for more.

What is asked is answered at once from memory, or the client is put among those who wait for a
stream. When media says that the stream has grown, each distinct request is answered once and all
who asked it are released together. One wheel holds every deadline; a client that goes is forgotten.
Bytes and connections are the clients' (`edge/connection.py`, `edge/hls_twin.py`); playlists are
the shelf's.
"""

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from edge.access import Access, Caller, Pass, hls_token
from edge.admission import Admission, Taker
from edge.hls_audience import Audience
from edge.hls_reply import PREFLIGHT
from edge.hls_request import Place, Request, Wanted
from edge.http_head import Fields
from edge.problems import Refusal, refusal
from edge.timer_wheel import Timer, TimerWheel
from media.hls.shelf import Reply, Shelf, Wait
from ops.errors import NexusError
from ops.tasks import SupervisedGroup

RELEASE_BATCH: Final = 250
"""How many waiting clients are answered before the loop may do something else."""
DEMAND_SECONDS: Final = 2.0
"""How often media is told that somebody plays the AAC rendition; less than the least
`hls.aac_idle_seconds`."""
LOOK_SECONDS: Final = 1.0
"""How often streams that are waited for are looked at unasked, should a wake-up be lost."""

_PREFLIGHT: Final = Reply(204, b"", b"no-store", b"", PREFLIGHT)


class Client(Timer):
    """Who asks: one request at a time, answered by exactly one `finish` or `refuse`."""

    __slots__ = ("holder", "late", "passed", "shared", "taker", "waits_for")

    def __init__(self) -> None:
        super().__init__()
        self.waits_for: Request | None = None
        self.late: Reply | None = None
        self.passed: tuple[Fields, Place, Pass] | None = None
        """The last decision: for these fields, stream, and key or link in the path."""
        self.shared = True
        """Whether its answers may be kept for others than who asked."""
        self.taker: Taker | None = None
        """The address on whose account it asks; None: a free one."""
        self.holder: Taker | None = None
        """The key on whose account it asks, where keys have limits."""

    @abstractmethod
    def finish(self, request: Request, reply: Reply) -> None:
        """The answer."""

    @abstractmethod
    def refuse(self, request: Request, problem: Refusal) -> None:
        """The answer is a problem."""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether nobody is there any more to be answered."""

    @property
    @abstractmethod
    def remote(self) -> str:
        """The peer's address, for the hook."""


class _Group:
    """Clients that wait for the same."""

    __slots__ = ("clients", "late", "seconds")

    def __init__(self, late: Reply, seconds: float) -> None:
        self.clients: dict[Client, None] = {}
        self.late = late
        self.seconds = seconds
        """How long each of them waits before it gets `late`."""


class HlsServer:
    """The HLS side of one worker.

    Owns: the list of who waits. Its tasks (questions to the hook) belong to `tasks`.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        access: Access,
        admission: Admission,
        wheel: TimerWheel,
        tasks: SupervisedGroup,
        demand: Callable[[str], None],
        audience: Audience,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._shelf = shelf
        self._access = access
        self._admission = admission
        self._wheel = wheel
        self._tasks = tasks
        self._demand = demand
        self._loop = loop
        self._waiting: dict[str, dict[Wanted, _Group]] = {}
        self._demanded: dict[str, float] = {}
        self._stopped = False
        self.audience = audience
        self.answers = 0
        """Requests answered so far."""
        self.released = 0
        """Of these, how many had waited."""
        self.statuses: defaultdict[int, int] = defaultdict(int)
        """Answers written by connections of our own, by status."""
        self.sent_bytes = 0
        """Bytes of these answers, heads included."""

    @property
    def waiting(self) -> int:
        """Clients that wait for something to be published."""
        every = [group for groups in self._waiting.values() for group in groups.values()]
        return sum(len(group.clients) for group in every)

    def begin(self, request: Request, client: Client) -> None:
        """Answers the client now or later. One request of a client at a time."""
        if request.method == "OPTIONS":
            client.finish(request, _PREFLIGHT)
            return
        passed = client.passed
        if (
            passed is None
            or passed[0] is not request.fields
            or passed[1] != request.place
            or 0 < passed[2].until_unix <= self._access.now_unix()
        ):
            self._check(request, client)
            return
        self._answer(request, client)

    def changed(self, stream: str) -> None:
        """The stream has grown: whoever waited for that is answered."""
        self._shelf.refresh(stream)
        groups = self._waiting.pop(stream, None)
        if not groups:
            return
        now = self._loop.time()
        released: list[tuple[Client, Request, Reply]] = []
        # Media before playlists: who has the part plays on, the playlist is for the next one.
        for wanted, group in sorted(groups.items(), key=lambda item: bool(item[0].rendition)):
            answer = self._shelf.answer(stream, path=wanted.path, query=wanted.query, now=now)
            if isinstance(answer, Wait):
                self._waiting.setdefault(stream, {})[wanted] = group
            else:
                released.extend(
                    (client, client.waits_for, answer)
                    for client in group.clients
                    if client.waits_for is not None
                )
        self._release(released)

    def look(self) -> None:
        """Looks at the streams that are waited for, and forgets those that are gone. Cost: one
        small read a stream."""
        self._shelf.sweep()
        for stream in tuple(self._waiting):
            if self._shelf.refresh(stream):
                self.changed(stream)

    def forget(self, client: Client) -> None:
        """The client has gone."""
        self._wheel.forget(client)
        self._unpark(client)

    def overdue(self, client: Client) -> None:
        """The client's deadline has passed while it waited."""
        request, late = client.waits_for, client.late
        assert request is not None
        assert late is not None
        self._unpark(client)
        self.answers += 1
        client.finish(request, late)

    def stop(self) -> None:
        """Answers whoever waits with 503; from now on nobody is made to wait."""
        self._stopped = True
        waiting = [
            client
            for groups in self._waiting.values()
            for group in groups.values()
            for client in group.clients
        ]
        for client in waiting:
            request = client.waits_for
            assert request is not None
            self._unpark(client)
            client.refuse(request, _stopping())

    def _check(self, request: Request, client: Client) -> None:
        try:
            caller = Caller(
                request.fields,
                "hls",
                token="" if request.place.link else hls_token(request.fields, request.place.key),
                link=request.place.link,
                query=request.wanted.query,
                remote=client.remote,
            )
            passed = self._access.decide(caller, "read", request.place.stream)
            if passed is None:
                self._tasks.start("hls access", self._ask(request, client, caller))
                return
        except NexusError as error:
            client.passed = None
            client.refuse(request, refusal(error))
            return
        self._let_in(request, client, passed)
        self._answer(request, client)

    async def _ask(self, request: Request, client: Client, caller: Caller) -> None:
        try:
            passed = await self._access.ask(caller, "read", request.place.stream)
        except NexusError as error:
            client.passed = None
            if not client.gone:
                client.refuse(request, refusal(error))
            return
        self._let_in(request, client, passed)
        if not client.gone:
            self._answer(request, client)

    def _let_in(self, request: Request, client: Client, passed: Pass) -> None:
        client.passed = (request.fields, request.place, passed)
        client.shared = passed.shared
        client.holder = self._admission.holder(passed.grant)

    def _answer(self, request: Request, client: Client) -> None:
        if client.holder is not None:
            try:
                self._admission.request(client.holder)
            except Refusal as problem:
                client.refuse(request, problem)
                return
        now = self._loop.time()
        stream, wanted = request.place.stream, request.wanted
        groups = self._waiting.get(stream)
        group = None if groups is None else groups.get(wanted)
        answer: Reply | None = None
        if group is None:
            # Else nothing has come since the others who wait for it have asked.
            found = self._shelf.answer(stream, path=wanted.path, query=wanted.query, now=now)
            if isinstance(found, Wait):
                group = _Group(found.late, found.until - now)
            else:
                answer = found
        if wanted.rendition and (answer is None or answer.status == 200):
            self.audience.asked(stream, rendition=wanted.rendition, blocking=wanted.blocking)
            if wanted.rendition == "c":
                self._ask_for_aac(stream, now)
        if answer is not None:
            self.answers += 1
            client.finish(request, answer)
        elif self._stopped:
            client.refuse(request, _stopping())
        else:
            assert group is not None
            self._park(request, client, group, now)

    def _park(self, request: Request, client: Client, group: _Group, now: float) -> None:
        if client.taker is not None or client.holder is not None:
            problem = self._admission.block(client)
            if problem is not None:
                client.refuse(request, problem)
                return
        client.waits_for = request
        client.late = group.late
        if not group.clients:
            self._waiting.setdefault(request.place.stream, {})[request.wanted] = group
        group.clients[client] = None
        self._wheel.set(client, now + group.seconds)

    def _unpark(self, client: Client) -> None:
        request = client.waits_for
        if request is None:
            return
        client.waits_for = client.late = None
        self._admission.unblock(client)
        stream, wanted = request.place.stream, request.wanted
        groups = self._waiting.get(stream)
        if groups is not None and wanted in groups:
            group = groups[wanted]
            group.clients.pop(client, None)
            if not group.clients:
                del groups[wanted]
            if not groups:
                del self._waiting[stream]

    def _release(self, released: Sequence[tuple[Client, Request, Reply]]) -> None:
        for client, request, reply in released[:RELEASE_BATCH]:
            if client.waits_for is not request or client.gone:
                continue
            client.waits_for = client.late = None
            if client.taker is not None or client.holder is not None:
                self._admission.unblock(client)
            self.answers += 1
            self.released += 1
            client.finish(request, reply)
        if len(released) > RELEASE_BATCH:
            self._loop.call_soon(self._release, released[RELEASE_BATCH:])

    def _ask_for_aac(self, stream: str, now: float) -> None:
        if now - self._demanded.get(stream, -DEMAND_SECONDS) >= DEMAND_SECONDS:
            if len(self._demanded) >= 10_000:
                self._demanded.clear()
            self._demanded[stream] = now
            self._demand(stream)


def _stopping() -> Refusal:
    return Refusal(
        503, "the server is stopping", code="edge.stopping", headers={"Retry-After": "1"}
    )
