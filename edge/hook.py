"""Asks an outside service whether to allow something: `auth.hook_url`.

It is sent `POST` with JSON {action, stream, protocol, token, query, remote} and answers 2xx for
yes, 401 or 403 for no; anything else, or nothing in time, is no with 503. A yes may carry JSON
{subject, expires_unix}. Equal questions that are asked at once are asked once; HLS, which asks at
every part, is given a remembered yes or no for a few seconds. It follows no redirects and knows no
keys of ours.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

import aiohttp
import msgspec

from ops import metrics
from ops.errors import Unavailable
from ops.log import get_logger
from ops.tasks import SupervisedGroup

REMEMBERED_MAX: Final = 20_000
"""Most answers that are remembered."""
WAITING_MAX: Final = 2_000
"""Most different questions under way or waiting for their turn."""
_ANSWER_BYTES_MAX: Final = 16_384

_log = get_logger("edge.hook")
_asked = metrics.counter(
    "nexus_hook_questions",
    "Questions to the authorisation hook: answered, unanswered in time, or neither yes nor no.",
    ("outcome",),
)
_asked.expect(("answered",), ("unanswered",), ("unclear",))
_waiting = metrics.gauge("nexus_hook_waiting", "Questions to the hook without an answer yet.")


class Question(msgspec.Struct, frozen=True):
    """What the hook is asked; also the name under which its answer is remembered."""

    action: str
    stream: str
    protocol: str
    token: str
    query: str
    remote: str


class _Body(msgspec.Struct):
    subject: str = ""
    expires_unix: float = 0.0


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What the hook said, and until when (unix seconds) it may be remembered."""

    verdict: Literal["allow", "unknown", "forbidden"]
    subject: str
    expires_unix: float
    until_unix: float


class Hook:
    """The client of one hook. `async with` it.

    Owns: an HTTP client session and the questions under way.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        cache_seconds: float,
        concurrency_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._concurrency_max = concurrency_max
        self._turn = asyncio.Semaphore(concurrency_max)
        self._tasks = SupervisedGroup("hook", tasks_max=WAITING_MAX)
        self._session: aiohttp.ClientSession | None = None
        self._remembered: dict[Question, HookAnswer] = {}
        self._under_way: dict[Question, asyncio.Task[HookAnswer | None]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
            connector=aiohttp.TCPConnector(limit=self._concurrency_max),
        )
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)
        if self._session is not None:
            await self._session.close()

    def remembered(self, question: Question) -> HookAnswer | None:
        """The answer to the same question, while it holds."""
        answer = self._remembered.get(question)
        if answer is None:
            return None
        if answer.until_unix <= self._clock():
            del self._remembered[question]
            return None
        return answer

    async def ask(self, question: Question) -> HookAnswer:
        """The hook's answer. Raises: Unavailable (`auth.unavailable`).

        Cost: waits for the hook, at most its timeout; equal questions share one request.
        """
        task = self._under_way.get(question)
        if task is None:
            task = self._tasks.start("ask", self._ask(question))
            self._under_way[question] = task
            _waiting.inc()
            task.add_done_callback(lambda _task: self._done(question))
        # Whoever gives up waiting does not take the answer from the others.
        answer = await asyncio.shield(task)
        if answer is None:
            raise Unavailable(
                "the authorisation hook does not answer",
                code="auth.unavailable",
                retry_after_seconds=1,
            )
        return answer

    def _done(self, question: Question) -> None:
        _waiting.dec()
        self._under_way.pop(question, None)

    async def _ask(self, question: Question) -> HookAnswer | None:
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._turn,
                self._session.post(
                    self._url,
                    data=msgspec.json.encode(question),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as reply,
            ):
                body = await reply.content.read(_ANSWER_BYTES_MAX)
                answer = self._answer(reply.status, body)
        except (TimeoutError, aiohttp.ClientError) as error:
            _asked.inc(labels=("unanswered",))
            _log.warning("the hook does not answer", reason=type(error).__name__)
            return None
        _asked.inc(labels=("answered" if answer else "unclear",))
        if answer is None:
            _log.warning("the hook answers neither yes nor no", status=reply.status)
        elif self._cache_seconds > 0:
            self._remember(question, answer)
        return answer

    def _answer(self, status: int, body: bytes) -> HookAnswer | None:
        until_unix = self._clock() + self._cache_seconds
        if status == 401:
            return HookAnswer("unknown", "", 0.0, until_unix)
        if status == 403:
            return HookAnswer("forbidden", "", 0.0, until_unix)
        if not 200 <= status <= 299:
            return None
        try:
            said = msgspec.json.decode(body, type=_Body) if body.strip() else _Body()
        except (msgspec.ValidationError, msgspec.DecodeError):
            said = _Body()
        if said.expires_unix > 0:
            until_unix = min(until_unix, said.expires_unix)
        return HookAnswer("allow", said.subject[:128], said.expires_unix, until_unix)

    def _remember(self, question: Question, answer: HookAnswer) -> None:
        if len(self._remembered) >= REMEMBERED_MAX:
            now = self._clock()
            for old in [item for item, had in self._remembered.items() if had.until_unix <= now]:
                del self._remembered[old]
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
        self._remembered[question] = answer
