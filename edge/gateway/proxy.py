"""Passes a request on to an upstream's servers, and their answer back as it comes.

    breaker ─▶ server (balancer) ─▶ send ─▶ head within the deadline ─▶ the body streams
                                      └─ failed: again on another server, if it may be repeated

A request body that is short is kept, so that it can be sent again; a long one streams and is sent
once. Hedging sends a read that has no answer yet to a second server as well; the first good answer
counts and the other is dropped. What could not be had is told by Proxy-Status (RFC 9209).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from edge.gateway.balancer import Server
from edge.gateway.exchange import Answer, Body
from edge.gateway.fields import PROXY_ERRORS, Pairs, proxy_status, to_client
from edge.gateway.retries import KEPT_BODY_BYTES_MAX, may_repeat, pause_seconds
from edge.gateway.upstreams import Known
from edge.problems import Refusal
from ops import metrics
from ops.errors import Unavailable
from ops.tasks import SupervisedGroup
from services.platform.backend_api.api import Retry

READS: Final = frozenset({"GET", "HEAD"})
_NO_RETRY: Final = Retry(attempts_max=1, budget_percent=0)
_SKIPPED: Final = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})

_asked = metrics.counter(
    "nexus_gateway_upstream_requests",
    "Requests to upstreams by their status, or by what went wrong.",
    ("upstream", "outcome"),
)
_repeated = metrics.counter(
    "nexus_gateway_upstream_repeats",
    "Requests sent again: retries after failures, hedges before answers.",
    ("upstream", "why"),
)
_broken_off = metrics.counter(
    "nexus_gateway_broken_off", "Answers of upstreams that broke off or stood still too long."
)
_seconds = metrics.histogram(
    "nexus_gateway_upstream_seconds",
    "From asking a server to the head of its answer.",
    ("upstream",),
)


@dataclass(slots=True)
class Outbound:
    """A request as an upstream gets it."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    headers: Pairs
    body: Body
    body_bytes_max: int
    keyed: bool = False
    """Whether it carries an Idempotency-Key."""
    hash_key: str = ""
    """For upstreams that are balanced by hash."""
    deadline: float = 0.0
    """When the head of the answer must be there, by the loop's clock."""
    kept: bytes | None = field(default=None, repr=False)
    """The body, when it is short enough to be sent again."""
    refused: Refusal | None = None
    """Why the client's body could not be passed on."""
    starved: bool = False
    """Whether the client is being waited for, with the next piece of its body."""


@dataclass(slots=True)
class _Outcome:
    """What became of one attempt."""

    server: Server | None
    response: aiohttp.ClientResponse | None = None
    error: str = ""
    refused: Refusal | None = None
    """It was not sent, or the client is at fault."""

    @property
    def good(self) -> bool:
        return self.response is not None and self.response.status < 500

    def close(self) -> None:
        if self.response is not None:
            self.response.close()


class Proxy:
    """Speaks to upstreams for one worker. Owns nothing: the session is the caller's."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tasks: SupervisedGroup,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
        idle_seconds: float,
    ) -> None:
        """clock: the event loop's. idle_seconds: between pieces of an answer."""
        self._session = session
        self._idle_seconds = idle_seconds
        self._tasks = tasks
        self._clock = clock
        self._chance = chance

    async def send(self, upstream: Known, outbound: Outbound) -> Answer:
        """The upstream's answer; its stream is the caller's to close.

        Raises Refusal (408 or 413: the client's body; 502, 503, 504).
        """
        length = outbound.body.length
        if length is not None and length <= KEPT_BODY_BYTES_MAX:
            outbound.kept = await outbound.body.read(outbound.body_bytes_max)
        upstream.budget.request()
        outcome = await self._until_good(upstream, outbound)
        upstream.report(self._clock())
        response = outcome.response
        if response is None:
            raise outcome.refused or _failed(outcome, upstream)
        return Answer(
            response.status,
            to_client(response.headers.items()),
            stream=_Stream(response),
        )

    async def _until_good(self, upstream: Known, outbound: Outbound) -> _Outcome:
        rule = upstream.rule.retry or _NO_RETRY
        repeatable = may_repeat(
            outbound.method, keyed=outbound.keyed, body_kept=outbound.kept is not None
        )
        tried: list[Server] = []
        for attempt in range(1, rule.attempts_max + 1):
            outcome = await self._attempt(upstream, outbound, tried, repeatable=repeatable)
            response = outcome.response
            bad = response is None or response.status in rule.statuses
            last = attempt == rule.attempts_max or outcome.refused is not None
            if not bad or not repeatable or last:
                return outcome
            pause = pause_seconds(rule, attempt + 1, chance=self._chance())
            if self._clock() + pause >= outbound.deadline or not upstream.budget.spend():
                return outcome
            outcome.close()
            _repeated.inc(labels=(upstream.rule.name, "retry"))
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _attempt(
        self, upstream: Known, outbound: Outbound, tried: list[Server], *, repeatable: bool
    ) -> _Outcome:
        rule = upstream.rule
        if rule.hedge_ms and repeatable and outbound.method in READS and len(rule.targets) > 1:
            return await self._hedged(upstream, outbound, tried)
        return await self._one(upstream, outbound, tried)

    async def _hedged(self, upstream: Known, outbound: Outbound, tried: list[Server]) -> _Outcome:
        """The first good answer of two servers, the second asked a little later."""
        chosen = first = self._tasks.start("first", self._one(upstream, outbound, tried))
        asked = {first}
        given: _Outcome | None = None
        try:
            await asyncio.wait(asked, timeout=upstream.rule.hedge_ms / 1_000)
            if not first.done() and upstream.budget.spend():
                # With too many tasks under way the first one has to do.
                with contextlib.suppress(Unavailable):
                    asked.add(self._tasks.start("hedge", self._one(upstream, outbound, tried)))
                    _repeated.inc(labels=(upstream.rule.name, "hedge"))
            waiting = set(asked)
            while waiting and (given is None or not given.good):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                # The better of two that came at once.
                chosen = max(done, key=lambda task: task.result().good)
                given = chosen.result()
            assert given is not None
            return given
        finally:
            for task in asked if given is None else asked - {chosen}:
                task.cancel()
                task.add_done_callback(_drop)

    async def _one(self, upstream: Known, outbound: Outbound, tried: list[Server]) -> _Outcome:
        """One server's answer. What goes wrong is in the outcome, not raised."""
        began = self._clock()
        ticket = upstream.admit(began)
        if ticket is None:
            return _Outcome(None, refused=left_alone(upstream, began))
        server = upstream.balancer.pick(began, key=outbound.hash_key, without=tried)
        tried.append(server)
        outcome = _Outcome(server)
        ok: bool | None = None
        try:
            await self._ask(upstream, outbound, server, outcome)
            ok = None if outcome.refused is not None else outcome.good
        finally:
            now = self._clock()
            upstream.balancer.settle(server, ok=ok, seconds=now - began, now=now)
            upstream.settle(ticket, ok=ok, seconds=now - began, now=now)
        said = str(outcome.response.status) if outcome.response is not None else outcome.error
        _asked.inc(labels=(upstream.rule.name, said))
        _seconds.observe(now - began, labels=(upstream.rule.name,))
        return outcome

    async def _ask(
        self, upstream: Known, outbound: Outbound, server: Server, outcome: _Outcome
    ) -> None:
        left = outbound.deadline - self._clock()
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=min(upstream.rule.connect_ms / 1_000, max(left, 0.001)),
            sock_read=self._idle_seconds,
        )
        headers = [*outbound.headers, ("x-nexus-timeout-ms", str(max(int(left * 1_000), 0)))]
        length = outbound.body.length
        if outbound.kept is None and length is not None:
            headers.append(("content-length", str(length)))
        try:
            async with asyncio.timeout(left):
                outcome.response = await self._session.request(
                    outbound.method,
                    URL(server.url + outbound.target, encoded=True),
                    headers=headers,
                    data=self._data(outbound),
                    allow_redirects=False,
                    skip_auto_headers=_SKIPPED,
                    timeout=timeout,
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            outcome.error = cause_of(error)
            outcome.refused = outbound.refused
            if outbound.starved and outbound.refused is None:
                # A client that is slow says nothing of the server.
                outcome.refused = Refusal(408, "the body took too long", code="http.body_too_slow")

    def _data(self, outbound: Outbound) -> Any:
        if outbound.kept is not None:
            return outbound.kept or None
        return _pieces(outbound)


class _Stream:
    """The body of a server's answer."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _broken_off.inc()
            raise ConnectionResetError("the upstream's answer broke off") from error

    def close(self) -> None:
        response = self._response
        # A connection whose answer was read to its end is used again.
        if response.content.at_eof():
            response.release()
        else:
            response.close()


async def _pieces(outbound: Outbound) -> AsyncIterator[bytes]:
    try:
        while True:
            outbound.starved = True
            piece = await outbound.body.piece(outbound.body_bytes_max)
            outbound.starved = False
            if not piece:
                return
            yield piece
    except Refusal as refused:
        outbound.refused = refused
        raise


def _drop(task: "asyncio.Task[_Outcome]") -> None:
    """A hedge that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def cause_of(error: BaseException) -> str:
    """The type of RFC 9209 that tells of an error."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "connection_timeout"
    if isinstance(error, TimeoutError):
        return "http_response_timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection_refused"
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return "connection_terminated"
    return "http_protocol_error"


def _failed(outcome: _Outcome, upstream: Known) -> Refusal:
    status, code = PROXY_ERRORS[outcome.error]
    message = "took too long" if status == 504 else "cannot be reached"
    return Refusal(
        status,
        f"who answers this {message}",
        code=code,
        headers={"Proxy-Status": proxy_status(outcome.error)},
        fields={"upstream": upstream.rule.name},
    )


def left_alone(upstream: Known, now: float) -> Refusal:
    """Its breaker is open."""
    assert upstream.breaker is not None
    wait = max(1, round(upstream.breaker.wait_seconds(now) + 0.5))
    details = "its breaker is open"
    return Refusal(
        503,
        "who answers this is left alone for a while, since it failed too often",
        code="gateway.breaker_open",
        headers={
            "Retry-After": str(wait),
            "Proxy-Status": proxy_status("destination_unavailable", details=details),
        },
        fields={"upstream": upstream.rule.name},
    )
