"""The gateway of one worker: the order in which a request is treated.

    route ─▶ who asks ─▶ may they ─▶ how often ─▶ kept already? ─▶ service or upstream
                                                                        │
         sent ◀─ compressed ◀─ CORS, RateLimit ◀─ members changed ◀─────┘

A refusal at any step is an answer as well, with the same fields. A configuration takes effect
between two requests: those under way end as they began.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from edge.admission import Admission
from edge.gateway import compression
from edge.gateway.answer_cache import AnswerCache
from edge.gateway.cached import CachedAnswers
from edge.gateway.dispatch import Asked, Dispatch, Services, seconds_of
from edge.gateway.exchange import Answer, Inbound, Stream, problem
from edge.gateway.fields import Pairs, first, without
from edge.gateway.identity import NOBODY, Identities, Principal, check_access
from edge.gateway.limits import Buckets, Refusals, Rule, Verdict, bucket_name, limit_field
from edge.gateway.live import Lists
from edge.gateway.plan import GRAPHQL, Compiled, Treatment, compiled, path_of
from edge.gateway.proxy import Proxy
from edge.gateway.route_table import Match
from edge.gateway.settings import GatewaySettings
from edge.gateway.shared_limits import SharedLimits
from edge.gateway.transformation import changed_headers, changed_json, is_json
from edge.gateway.upstreams import Upstreams
from edge.problems import Refusal, refusal
from ops import metrics
from ops.errors import NexusError, Rejected
from ops.tasks import SupervisedGroup
from services._kit.operation import Operation
from services.platform.backend_api.api import Config, JsonChange
from services.platform.backend_api.logic.reading import checksum

_UNROUTED: Final = "none"
_GRAPHQL_PATH: Final = path_of(GRAPHQL)
_PRIVATE: Final = ("cache-control", "private, no-cache")

_requests = metrics.counter(
    "nexus_gateway_requests", "Requests answered, by route and status.", ("route", "status")
)
_limited = metrics.counter(
    "nexus_gateway_limited", "Requests refused because of a limit.", ("limit",)
)
_configured = metrics.counter(
    "nexus_gateway_configured", "Configurations that took effect in a worker."
)


class Elsewhere(Protocol):
    """Where a tenant lives: `edge/regions/crossing.py`."""

    async def __call__(self, request: web.Request, *, tenant: str) -> web.StreamResponse | None:
        """The answer of the tenant's home, already sent; None: it is here. Raises NexusError."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Times and chance."""

    monotonic: Callable[[], float]
    unix: Callable[[], float]
    chance: Callable[[], float] = random.random


class Gateway:
    """Answers business requests. Owns nothing that must be closed: the session is the caller's."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        services: Services,
        operations: Iterable[Operation],
        identities: Identities,
        session: aiohttp.ClientSession,
        tasks: SupervisedGroup,
        clocks: Clocks,
        admission: Admission | None = None,
        shared: SharedLimits | None = None,
        workers: int = 1,
    ) -> None:
        self.settings = settings
        self.operations = tuple(operations)
        self.identities = identities
        self.upstreams = Upstreams()
        self.refusals = Refusals()
        self._clocks = clocks
        self._admission = admission
        self._shared = shared
        self.elsewhere: Elsewhere | None = None
        """Who passes requests of other regions' tenants on; None: nobody."""
        # As in edge/admission.py: the kernel spreads connections by chance.
        self._share = min(1.0, 2.0 / max(workers, 1))
        self._buckets = Buckets(buckets_max=settings.buckets_max)
        clock = clocks.monotonic
        self._dispatch = Dispatch(
            services,
            proxy=Proxy(
                session,
                tasks=tasks,
                clock=clock,
                chance=clocks.chance,
                idle_seconds=settings.stream_idle_seconds,
            ),
            session=session,
            upstreams=self.upstreams,
            settings=settings,
            clock=clock,
            chance=clocks.chance,
        )
        self._answers = CachedAnswers(
            AnswerCache(
                bytes_max=settings.cache_bytes_max,
                answer_bytes_max=settings.cached_answer_bytes_max,
            ),
            self._dispatch.ask,
            tasks=tasks,
            clock=clock,
            unix=clocks.unix,
        )
        self.checksum = ""
        self._compiled: Compiled
        self.configure(Config())

    def configure(self, config: Config) -> None:
        """This configuration holds from the next request on. Raises RouteConflictError, before
        anything has changed."""
        made = compiled(config, self.operations, self.settings)
        self.upstreams.configure(config.upstreams)
        self.identities.configure(config.consumers)
        before, self._compiled = getattr(self, "_compiled", None), made
        self.checksum = checksum(config)
        if before is not None:
            self._answers.cache.purge()
            if before.config.consumers != config.consumers:
                self._renew()
            _configured.inc()

    def stream(self, lists: Lists | None) -> None:
        """By whom lists are followed from now on; None: they are answered once."""
        self._dispatch.lists = lists

    @property
    def config(self) -> Config:
        """What holds now."""
        return self._compiled.config

    def purge(self, *, tenant: str = "", key: str = "") -> int:
        """Drops kept answers of a tenant ("": of all) with a surrogate key ("": all)."""
        return self._answers.cache.purge(tenant=tenant, key=key)

    def flush(self) -> None:
        """Has each credential looked at anew, those of streams under way too."""
        self.identities.flush()
        self._renew()

    async def answer(self, inbound: Inbound, principal: Principal | None = None) -> Answer:
        """The answer to a request; whoever sends it closes its stream. principal: who asks, if
        that is known already.
        """
        now_compiled = self._compiled
        found = now_compiled.table.find(
            inbound.method, path=inbound.path, host=_name(inbound.host), headers=inbound.headers
        )
        if not isinstance(found, Match):
            answer = self._unrouted(inbound, found)
            _requests.inc(labels=(_UNROUTED, str(answer.status)))
            return answer
        treatment, parameters = found
        said: Pairs = []
        try:
            who = self.identify(inbound) if principal is None else principal
            check_access(who, treatment.access, treatment.needs)
            rules, policy = now_compiled.rules(treatment, who.plan)
            if rules:
                verdicts = await self._limit(rules, treatment, who, inbound.address)
                said = [("ratelimit-policy", policy), ("ratelimit", limit_field(rules, verdicts))]
            # Behind the limits: one tenant cannot take all that may be passed on.
            sent = await self.crossed(inbound, who)
            if sent is not None:
                return sent
            answer = await self._in_time(Asked(inbound, treatment, parameters, who))
            if treatment.response is not None:
                answer = await self._changed(answer, treatment)
        except NexusError as error:
            answer = _refused(treatment, error)
        answer = await self._finished(answer, inbound, treatment, said)
        _requests.inc(labels=(treatment.name, str(answer.status)))
        return answer

    def identify(self, inbound: Inbound) -> Principal:
        """Who asks. Raises Rejected (`auth.…`), Refusal (429): too many unknown ones were shown."""
        authorization = inbound.headers.get("Authorization", "")
        api_key = inbound.headers.get("X-Api-Key", "")
        if not authorization and not api_key:
            return NOBODY
        known = self.identities.known(authorization=authorization, api_key=api_key)
        if known is not None:
            return known
        admission = self._admission
        if admission is None:
            return self.identities.find(authorization=authorization, api_key=api_key)
        taker, shown = admission.find(inbound.address), authorization or api_key
        admission.check_guess(taker, shown)
        try:
            principal = self.identities.find(authorization=authorization, api_key=api_key)
        except Rejected as error:
            if error.code == "auth.invalid":
                admission.failed(taker)
            raise
        admission.succeeded(taker, shown)
        return principal

    async def crossed(self, inbound: Inbound, who: Principal) -> Answer | None:
        """The answer of the region that is home to the tenant; None: it is here, or nobody's.

        Raises NexusError.
        """
        if self.elsewhere is None or inbound.raw is None or not who.tenant:
            return None
        sent = await self.elsewhere(inbound.raw, tenant=who.tenant)
        return None if sent is None else Answer(sent.status, sent=sent)

    async def charge(self, who: Principal, address: str, tokens: int, *, before: int = 0) -> Pairs:
        """Takes what a GraphQL operation costs from its caller's limits; what the answer says of
        them. before: how much of it has been taken already. Raises Refusal (429).
        """
        treatment = self._compiled.beside[_GRAPHQL_PATH]
        rules, policy = self._compiled.rules(treatment, who.plan)
        if not rules:
            return []
        verdicts = await self._limit(rules, treatment, who, address, times=tokens, before=before)
        return [("ratelimit-policy", policy), ("ratelimit", limit_field(rules, verdicts))]

    def cross_origin(self, inbound: Inbound) -> Pairs:
        """CORS fields of the answer to a request that is answered beside the gateway."""
        treatment = self._compiled.beside.get(inbound.path)
        return [] if treatment is None else _cross_origin(treatment, inbound)

    def _renew(self) -> None:
        if self._dispatch.lists is not None:
            self._dispatch.lists.renew()

    async def _in_time(self, asked: Asked) -> Answer:
        treatment = asked.treatment
        if self._dispatch.streams(asked):
            # Its head comes as soon as the plain list would; the rest has no deadline.
            return await self._dispatch.follow(asked)
        seconds = seconds_of(asked.inbound, treatment)
        if not seconds or treatment.operation is None:
            if treatment.caching is None and asked.inbound.method == "GET":
                # The usual case, without a layer that would do nothing.
                return await self._dispatch.ask(asked)
            return await self._answers.answer(asked)
        try:
            async with asyncio.timeout(seconds):
                return await self._answers.answer(asked)
        except TimeoutError:
            raise Refusal(504, "this took too long", code="timeout") from None

    async def _limit(
        self,
        rules: tuple[Rule, ...],
        treatment: Treatment,
        who: Principal,
        address: str,
        *,
        times: int = 1,
        before: int = 0,
    ) -> list[Verdict]:
        """Takes tokens from every bucket, or from none. Raises Refusal (429)."""
        now, shared = self._clocks.monotonic(), self._shared
        verdicts: list[Verdict] = []
        taken: list[tuple[str, float]] = []
        for rule in rules:
            name = bucket_name(rule, who, address=address, route=treatment.name)
            cost = min(float(treatment.cost * times), rule.burst)
            cost -= min(float(treatment.cost * before), rule.burst)
            if rule.shared and shared is not None:
                verdict = await shared.take(name, rule, cost)
            else:
                share = self._share
                verdict = self._buckets.take(name, rule, cost=cost, now=now, share=share)
            verdicts.append(verdict)
            if not verdict.allowed:
                self._give_back(rules, taken)
                _limited.inc(labels=(rule.name,))
                self.refusals.note(rule.name, tenant=who.tenant)
                raise _over(rules, rule, verdicts)
            taken.append((name, cost))
        return verdicts

    def _give_back(self, rules: tuple[Rule, ...], taken: list[tuple[str, float]]) -> None:
        for rule, (name, cost) in zip(rules, taken, strict=False):
            if rule.shared and self._shared is not None:
                self._shared.give_back(name, cost)
            else:
                self._buckets.give_back(name, cost)

    def _unrouted(self, inbound: Inbound, found: frozenset[str] | None) -> Answer:
        if inbound.method == "OPTIONS":
            preflight = self._preflight(inbound)
            if preflight is not None:
                return preflight
        if found is None:
            refused = Refusal(404, "there is nothing here", code="http.not_found")
            return problem(refused)
        allow = ", ".join(sorted(found | {"OPTIONS"}))
        if inbound.method == "OPTIONS":
            return Answer(204, [("allow", allow)])
        return problem(
            Refusal(
                405,
                f"this takes {allow}",
                code="http.method_not_allowed",
                headers={"Allow": allow},
            )
        )

    def _preflight(self, inbound: Inbound) -> Answer | None:
        """The answer to a page of another site that asks whether it may ask."""
        origin = inbound.headers.get("Origin", "")
        method = inbound.headers.get("Access-Control-Request-Method", "")
        if not origin or not method:
            return None
        wanted = inbound.headers.get("Access-Control-Request-Headers", "")
        treatment = self._compiled.beside.get(inbound.path)
        if treatment is None:
            found = self._compiled.table.find(
                method,
                path=inbound.path,
                host=_name(inbound.host),
                headers=inbound.headers,
                announced=frozenset(name.strip().lower() for name in wanted.split(",")),
            )
            treatment = found.target if isinstance(found, Match) else None
        if treatment is None or treatment.cors is None:
            return None
        return Answer(204, treatment.cors.preflight(origin, method=method, headers=wanted))

    async def _changed(self, answer: Answer, treatment: Treatment) -> Answer:
        change = treatment.response
        assert change is not None
        if change.json is not None and is_json(first(answer.headers, "content-type")):
            answer.body = await self._changed_body(answer, change.json)
            answer.headers = without(answer.headers, "content-length", "etag")
        if change.headers is not None:
            answer.headers = changed_headers(answer.headers, change.headers)
        return answer

    async def _changed_body(self, answer: Answer, change: JsonChange) -> bytes:
        """Raises Refusal (502): what was to be taken out must not pass because it is too long."""
        body = await answer.whole(self.settings.changed_bytes_max)
        if body is None:
            assert answer.stream is not None
            answer.stream.close()
            raise Refusal(502, "the answer is too long", code="gateway.answer_too_long")
        if not body:
            return body
        try:
            return changed_json(body, change)
        except ValueError:
            raise Refusal(502, "the answer is not JSON", code="gateway.answer_malformed") from None

    async def _finished(
        self, answer: Answer, inbound: Inbound, treatment: Treatment, said: Pairs
    ) -> Answer:
        """With the fields that all answers of a route have, compressed if the client likes."""
        headers = answer.headers
        if treatment.caching is not None or treatment.operation is None:
            headers = without(headers, "surrogate-key")
        if treatment.operation is not None and not first(headers, "cache-control"):
            headers.append(_PRIVATE)
        headers += said
        if treatment.cors is not None:
            # Ours alone: two words about one origin are none to a browser.
            headers = [pair for pair in headers if not pair[0].startswith("access-control-")]
            headers += _cross_origin(treatment, inbound)
        answer.headers = headers
        long = answer.stream is not None or len(answer.body) >= compression.BYTES_MIN
        if long and treatment.compress:
            await self._compressed(answer, inbound)
        return answer

    async def _compressed(self, answer: Answer, inbound: Inbound) -> None:
        if not compression.may_compress(answer.status, answer.headers):
            return
        coding = compression.choose(inbound.headers.get("Accept-Encoding", ""))
        answer.headers = compression.described(answer.headers, coding)
        if coding == "identity" or inbound.method == "HEAD":
            return
        if answer.stream is not None:
            answer.stream = _Compressing(answer.stream, compression.encoder_of(coding))
        elif len(answer.body) > compression.INLINE_BYTES_MAX:
            answer.body = await asyncio.to_thread(compression.compress, answer.body, coding)
        else:
            answer.body = compression.compress(answer.body, coding)


class _Compressing:
    """A stream that is compressed as it comes."""

    def __init__(self, stream: Stream, encoder: compression.Encoder) -> None:
        self._stream = stream
        self._encoder = encoder
        self._ended = False

    async def read(self) -> bytes:
        while not self._ended:
            piece = await self._stream.read()
            self._ended = not piece
            made = self._encoder.piece(piece) if piece else self._encoder.end()
            if made:
                return made
        return b""

    def close(self) -> None:
        self._stream.close()


def _cross_origin(treatment: Treatment, inbound: Inbound) -> Pairs:
    """What tells a browser whether a page of its request's origin may read the answer."""
    if treatment.cors is None:
        return []
    origin = inbound.headers.get("Origin", "")
    return treatment.cors.fields(origin) if origin else [("vary", "Origin")]


def _refused(treatment: Treatment, error: NexusError) -> Answer:
    """The answer to a failure: the route's fallback if nobody could be asked, else a problem."""
    refused = refusal(error)
    fallback = treatment.fallback
    if fallback is not None and refused.status in {502, 503, 504}:
        headers = [("content-type", fallback.content_type), ("cache-control", "no-store")]
        status = refused.headers.get("Proxy-Status", "")
        headers += [("proxy-status", status)] if status else []
        return Answer(fallback.status, headers, fallback.body.encode())
    return problem(refused)


def _over(rules: tuple[Rule, ...], rule: Rule, verdicts: list[Verdict]) -> Refusal:
    after = max(1, math.ceil(verdicts[-1].wait_seconds))
    return Refusal(
        429,
        f"these are more requests than the limit {rule.name} allows: try again in {after} s",
        code="gateway.limited",
        headers={
            "Retry-After": str(after),
            "RateLimit-Policy": ", ".join(one.policy for one in rules),
            "RateLimit": limit_field(rules, verdicts),
        },
        fields={"limit": rule.name, "retry_after_seconds": after},
    )


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
