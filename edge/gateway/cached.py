"""Answers from the cache, and what the cache must ask for: the driver of `answer_cache.py`.

    fresh    ─▶ given
    stale    ─▶ given, and one request in the background fetches a new one
    expired  ─▶ asked whether it still holds (304), or fetched anew
    nothing  ─▶ fetched, once for all who want it now (`flights.py`)

When nobody can be asked, an expired answer is given as long as `stale_if_error_seconds` say.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from edge.gateway.answer_cache import (
    AnswerCache,
    Kept,
    Place,
    is_unmodified,
    may_look,
    only_if_cached,
)
from edge.gateway.cache_control import keeping
from edge.gateway.dispatch import Asked
from edge.gateway.exchange import Answer
from edge.gateway.fields import Pairs, is_ours_to_say, joined, without
from edge.gateway.flights import Flights
from edge.problems import Refusal, refusal
from ops import metrics
from ops.errors import NexusError, Unavailable
from ops.tasks import SupervisedGroup
from services.platform.backend_api.api import Caching

Ask = Callable[[Asked, Pairs | None], Awaitable[Answer]]
How = Literal["hit", "stale", "revalidated", "error"]

WAITS_MAX: Final = 3
"""How often a request waits for others' fetches before it fetches for itself."""
REFRESHES_MAX: Final = 1_000
"""Most answers that are fetched in the background at once."""
_STATUS: Final = {
    "hit": "nexus; hit",
    "stale": "nexus; hit; detail=stale",
    "revalidated": "nexus; hit; fwd=stale; fwd-status=304",
    "error": "nexus; hit; detail=stale-if-error",
}
"""Cache-Status (RFC 9211)."""
_IN_PLACE: Final = frozenset({"x-nexus-tenant", "x-forwarded-host", "x-forwarded-proto"})
"""What upstreams are told that belongs to an answer's place."""
_IN_304: Final = frozenset(
    {"cache-control", "content-location", "date", "etag", "expires", "vary", "last-modified"}
)

_looked = metrics.counter(
    "nexus_gateway_cache_requests", "Requests that the cache was asked for.", ("outcome",)
)
_looked.expect(("hit",), ("stale",), ("revalidated",), ("error",), ("miss",))


@dataclass(frozen=True, slots=True)
class _Look:
    """One request as the cache sees it."""

    asked: Asked
    place: Place
    fields: dict[str, str]
    rule: Caching


class CachedAnswers:
    """The cache of one worker, and its fetches."""

    def __init__(
        self,
        cache: AnswerCache,
        ask: Ask,
        *,
        tasks: SupervisedGroup,
        clock: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:
        self.cache = cache
        self._ask = ask
        self._tasks = tasks
        self._clock = clock
        self._unix = unix
        self._flights = Flights()
        self._refreshing: set[Place] = set()

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request, kept or asked for. Raises NexusError."""
        rule = asked.treatment.caching
        method = asked.inbound.method
        if rule is None or method not in {"GET", "HEAD"}:
            answer = await self._ask(asked, None)
            if method not in {"GET", "HEAD"} and answer.status < 400:
                self._written(asked)
            return answer
        fields = asked.inbound.all()
        if not may_look(method, fields):
            return await self._ask(asked, None)
        return await self._find(_Look(asked, _place(asked, rule), fields, rule))

    async def _find(self, look: _Look) -> Answer:
        for _ in range(WAITS_MAX):
            now = self._clock()
            found = self.cache.find(look.place, look.fields, now=now)
            if found is not None and found[1] == "fresh":
                return self._from(found[0], look, "hit")
            if found is not None and found[1] == "stale":
                self._refresh(look, found[0])
                return self._from(found[0], look, "stale")
            if only_if_cached(look.fields):
                raise Refusal(504, "this is not kept", code="gateway.not_cached")
            expired = found[0] if found is not None else None
            if look.asked.inbound.method == "HEAD":
                return await self._ask(look.asked, None)
            turn = self._flights.begin(look.place, now=now)
            if not isinstance(turn, asyncio.Future):
                return await self._lead(look, expired, leads=turn is not None)
            await asyncio.shield(turn)
        return await self._lead(look, None, leads=False)

    async def _lead(self, look: _Look, expired: Kept | None, *, leads: bool) -> Answer:
        kept: bool | None = None
        try:
            answer, kept = await self._fetch(look, expired)
        except NexusError as error:
            kept = False
            failed = refusal(error).status >= 500
            if expired is not None and failed and self._good_for_error(expired):
                return self._from(expired, look, "error")
            raise
        finally:
            if leads:
                self._flights.land(look.place, kept=kept, now=self._clock())
        if answer.status >= 500 and expired is not None and self._good_for_error(expired):
            if answer.stream is not None:
                answer.stream.close()
            return self._from(expired, look, "error")
        return answer

    async def _fetch(self, look: _Look, expired: Kept | None) -> tuple[Answer, bool]:
        """The answer, and whether it is kept now."""
        began, moment = self._clock(), self.cache.moment(look.place)
        conditions = expired.validators() if expired is not None else []
        answer = await self._ask(look.asked, conditions)
        now = self._clock()
        unchanged = expired if answer.status == 304 and conditions else None
        headers = answer.headers
        if unchanged is not None:
            headers = [*without(unchanged.headers, *{n for n, _ in headers}), *headers]
        principal = look.asked.principal
        may = keeping(
            200 if unchanged is not None else answer.status,
            headers,
            rule=look.rule,
            authorised=principal.kind != "anonymous" and look.rule.share != "user",
            trusted=look.asked.treatment.operation is not None,
            now_unix=self._unix(),
            delay_seconds=now - began,
        )
        if unchanged is not None:
            if may is not None:
                self.cache.freshen(unchanged, answer.headers, may, now=now)
            return self._from(unchanged, look, "revalidated"), may is not None
        _looked.inc(labels=("miss",))
        if may is None or not _tells_apart(may.vary, look.asked):
            return self._as_asked(answer, look), False
        body = await answer.whole(self.cache.answer_bytes_max)
        if body is None:
            return answer, False
        kept = None
        if self.cache.moment(look.place) == moment:
            # Else somebody has written or purged since: it may tell of what was before.
            kept = self.cache.keep(
                look.place, look.fields, may, answer=(answer.status, answer.headers, body), now=now
            )
        if kept is None:
            return self._as_asked(answer, look), False
        if is_unmodified(kept, look.fields):
            return _not_modified(kept), True
        answer.headers = [*without(answer.headers, "age"), ("cache-status", "nexus; fwd=miss")]
        return answer, True

    def _as_asked(self, answer: Answer, look: _Look) -> Answer:
        """An answer that is not kept, to a request whose own conditions were not passed on."""
        wanted = look.fields.get("if-none-match")
        tag = joined(answer.headers, "etag")
        if wanted is None or not tag or answer.status != 200:
            return answer
        tags = {one.strip().removeprefix("W/") for one in wanted.split(",")}
        if tag.removeprefix("W/") not in tags:
            return answer
        if answer.stream is not None:
            answer.stream.close()
        return Answer(304, [pair for pair in answer.headers if pair[0] in _IN_304])

    def _from(self, kept: Kept, look: _Look, how: How) -> Answer:
        _looked.inc(labels=(how,))
        if is_unmodified(kept, look.fields):
            return _not_modified(kept)
        headers = [
            *kept.headers,
            ("age", str(int(kept.age(self._clock())))),
            ("cache-status", _STATUS[how]),
        ]
        return Answer(kept.status, headers, kept.body)

    def _good_for_error(self, kept: Kept) -> bool:
        late = kept.age(self._clock()) - kept.keeping.fresh_seconds
        return late < kept.keeping.error_seconds

    def _refresh(self, look: _Look, kept: Kept) -> None:
        """Fetches a new answer in the background, once."""
        place = look.place
        if place in self._refreshing or len(self._refreshing) >= REFRESHES_MAX:
            return
        self._refreshing.add(place)
        try:
            self._tasks.start("refresh", self._refreshed(look, kept))
        except Unavailable:
            self._refreshing.discard(place)

    async def _refreshed(self, look: _Look, kept: Kept) -> None:
        try:
            answer, _ = await self._fetch(look, kept)
            if answer.stream is not None:
                answer.stream.close()
        except NexusError:
            # It is stale still, and the next who asks tries again.
            return
        finally:
            self._refreshing.discard(look.place)

    def _written(self, asked: Asked) -> None:
        inbound = asked.inbound
        host = "" if asked.treatment.operation is not None else inbound.host
        self.cache.invalidate(tenant=asked.principal.tenant, host=host, path=inbound.raw_path)


def _place(asked: Asked, rule: Caching) -> Place:
    """Under what an answer is kept: never under one that another tenant, or who lacks the
    permission, asks with."""
    inbound, treatment, principal = asked.inbound, asked.treatment, asked.principal
    if principal.kind == "anonymous":
        scope = "anybody"
    elif rule.share == "user":
        scope = f"user {principal.id}"
    else:
        scope = f"permission {treatment.needs}"
    host = ""
    if treatment.operation is None:
        # Upstreams are told both.
        host, scope = inbound.host, f"{inbound.scheme} {scope}"
    return Place(
        principal.tenant, f"{treatment.name} {scope}", host, inbound.raw_path, inbound.query
    )


def _tells_apart(vary: tuple[str, ...], asked: Asked) -> bool:
    """Whether requests that an answer tells apart by these fields differ in them here too: not by
    those that we write for the upstream."""
    change = asked.treatment.request
    renamed: frozenset[str] = frozenset()
    if change is not None and change.headers is not None:
        renamed = frozenset(change.headers.rename.values())
    return not any(
        name in renamed or (is_ours_to_say(name) and name not in _IN_PLACE) for name in vary
    )


def _not_modified(kept: Kept) -> Answer:
    return Answer(304, [pair for pair in kept.headers if pair[0] in _IN_304])
