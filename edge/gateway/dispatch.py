"""Asks whoever answers a route: an operation of a service, in process, or an upstream over HTTP.

What a client says of itself in fields that only we may set never arrives at either. An upstream is
told who asks (`x-nexus-tenant`, `x-nexus-subject`), where from, and how long it has.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp

from edge.gateway import live, tunnel
from edge.gateway.exchange import Answer, Inbound, Whole, check_length
from edge.gateway.fields import (
    HOP_BY_HOP,
    Pairs,
    forwarded,
    is_loop,
    is_ours_to_say,
    proxy_status,
    readable,
    to_upstream,
)
from edge.gateway.identity import Principal
from edge.gateway.limits import counted_as
from edge.gateway.plan import Treatment
from edge.gateway.proxy import Outbound, Proxy
from edge.gateway.settings import GatewaySettings
from edge.gateway.transformation import changed_headers, changed_json, changed_path, is_json
from edge.gateway.upstreams import Known, Upstreams
from edge.problems import Refusal
from services._kit.call import Reply, Request
from services._kit.operation import Operation
from services._kit.wire import WireRequest
from services.platform.backend_api.api import KeyKind

_TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_WRITTEN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What a header field carries as it is."""
_CONDITIONS: Final = frozenset({"if-none-match", "if-modified-since"})
_PREFER: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)


class Services(Protocol):
    """Runs operations: the kit's `Runtime`."""

    async def call(self, operation: Operation, request: Request) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose route and sender are known."""

    inbound: Inbound
    treatment: Treatment
    parameters: dict[str, str]
    principal: Principal


class Dispatch:
    """Asks, for one worker. Owns nothing."""

    def __init__(
        self,
        services: Services,
        *,
        proxy: Proxy,
        session: aiohttp.ClientSession,
        upstreams: Upstreams,
        settings: GatewaySettings,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._services = services
        self.lists: live.Lists | None = None
        """Who follows lists; None: they are answered once."""
        self._proxy = proxy
        self._session = session
        self._upstreams = upstreams
        self._settings = settings
        self._clock = clock
        self._chance = chance

    async def ask(self, asked: Asked, conditions: Pairs | None = None) -> Answer:
        """The answer as it comes. conditions: asked instead of the client's own, by the cache.

        Raises NexusError.
        """
        if asked.treatment.operation is not None:
            return await self._service(asked, asked.treatment.operation, conditions)
        return await self._upstream(asked, conditions)

    def streams(self, asked: Asked) -> bool:
        """Whether this is a list that the caller wants to follow."""
        operation, inbound = asked.treatment.operation, asked.inbound
        return (
            self.lists is not None
            and operation is not None
            and inbound.method == "GET"
            and live.wants_events(inbound.headers.get("Accept", ""))
            and operation.is_list
        )

    async def follow(self, asked: Asked) -> Answer:
        """The list and its changes, for whom `streams` says so. Raises NexusError."""
        treatment, headers = asked.treatment, asked.inbound.headers
        assert treatment.operation is not None
        assert self.lists is not None
        if treatment.response is not None and treatment.response.json is not None:
            raise live.not_streamed()
        return await live.follow(
            self.lists,
            treatment.operation,
            await self._request(asked, treatment.operation, None),
            resume=headers.get("Last-Event-ID", ""),
            principal=asked.principal,
        )

    async def _service(
        self, asked: Asked, operation: Operation, conditions: Pairs | None
    ) -> Answer:
        request = await self._request(asked, operation, conditions)
        reply = await self._services.call(operation, request)
        if reply.wire is not None:
            wire = reply.wire
            pairs = [(name.lower(), value) for name, value in wire.headers]
            return Answer(wire.status, pairs, wire.body)
        pairs = [(name.lower(), value) for name, value in reply.headers.items()]
        return Answer(reply.status, pairs, reply.body)

    async def _request(
        self, asked: Asked, operation: Operation, conditions: Pairs | None
    ) -> Request:
        """The request as the kit takes it, its body read."""
        inbound, treatment = asked.inbound, asked.treatment
        headers = inbound.headers
        body = b""
        if inbound.body.length != 0:
            body = await inbound.body.read(treatment.body_bytes_max)
        change = treatment.request
        if change is not None and change.json is not None and body:
            body = _changed(body, headers.get("Content-Type", ""), asked)
        if conditions is None:
            tag = headers.get("If-None-Match", "")
        else:
            tag = next((value for name, value in conditions if name == "if-none-match"), "")
        return Request(
            actor=asked.principal.actor(address=inbound.address, trace=trace_of(inbound)),
            path=asked.parameters,
            query=inbound.query,
            body=body,
            content_type=headers.get("Content-Type", "") if body else "",
            # An entity tag that we weakened when we compressed its answer is the operation's own.
            if_match=headers.get("If-Match", "").replace('W/"', '"'),
            if_none_match=tag,
            idempotency_key=headers.get("Idempotency-Key", "") if not operation.route.reads else "",
            wire=_wire(inbound, body, asked) if operation.route.wire else None,
        )

    async def _upstream(self, asked: Asked, conditions: Pairs | None) -> Answer:
        inbound, treatment = asked.inbound, asked.treatment
        upstream = self._chosen(asked)
        if is_loop(_via(inbound)):
            raise Refusal(
                502,
                "this request goes round in circles",
                code="gateway.proxy_loop_detected",
                headers={"Proxy-Status": proxy_status("proxy_loop_detected")},
            )
        check_length(inbound.body.length, treatment.body_bytes_max)
        change, body = treatment.request, inbound.body
        headers = self._headers(asked, upstream, conditions)
        path = inbound.raw_path
        if change is not None:
            if change.path:
                path = changed_path(change.path, asked.parameters)
            if change.json is not None and body.length != 0:
                kind = inbound.headers.get("Content-Type", "")
                if is_json(kind):
                    read = await body.read(
                        min(treatment.body_bytes_max, self._settings.changed_bytes_max)
                    )
                    body = Whole(_changed(read, kind, asked))
        target = f"{path}?{inbound.query}" if inbound.query else path
        outbound = Outbound(
            inbound.method,
            target,
            headers,
            body,
            treatment.body_bytes_max,
            keyed="Idempotency-Key" in inbound.headers,
            hash_key=_counted_as(upstream.rule.hash_on, asked),
            deadline=self._clock() + seconds_of(inbound, treatment),
        )
        upgrade = inbound.headers.get("Upgrade", "")
        if upgrade and tunnel.wanted(inbound.method, upgrade=upgrade) and inbound.raw is not None:
            raw, clock = inbound.raw, self._clock
            return await tunnel.pass_on(self._session, upstream, raw, outbound, clock)
        return await self._proxy.send(upstream, outbound)

    def _headers(self, asked: Asked, upstream: Known, conditions: Pairs | None) -> Pairs:
        inbound, principal, change = asked.inbound, asked.principal, asked.treatment.request
        headers = to_upstream(
            inbound.headers.items(), keep_authorization=upstream.rule.forward_authorization
        )
        if conditions is not None:
            headers = [pair for pair in headers if pair[0] not in _CONDITIONS]
            headers += conditions
        # We compress for the client ourselves, and read what we change or keep.
        headers = [pair for pair in headers if pair[0] != "accept-encoding"]
        headers.append(("accept-encoding", "identity"))
        if change is not None and change.headers is not None:
            headers = changed_headers(headers, change.headers)
        if upstream.rule.preserve_host:
            headers.append(("host", inbound.host))
        headers += forwarded(
            address=inbound.address,
            scheme=inbound.scheme,
            host=inbound.host,
            via=_via(inbound),
        )
        if principal.id:
            headers.append(("x-nexus-tenant", _ascii(principal.tenant)))
            headers.append(("x-nexus-subject", _ascii(principal.id)))
        return headers

    def _chosen(self, asked: Asked) -> Known:
        """The upstream of this request, by the weights of its route."""
        treatment = asked.treatment
        split = treatment.split
        chosen = split[-1]
        if len(split) > 1:
            point = self._chance()
            if treatment.sticky:
                who = _counted_as("user", asked)
                digest = hashlib.blake2b(f"{treatment.name}\0{who}".encode(), digest_size=8)
                point = int.from_bytes(digest.digest()) / 2**64
            point *= sum(one.weight for one in split)
            for one in split:
                point -= one.weight
                if point < 0:
                    chosen = one
                    break
        found = self._upstreams.get(chosen.upstream)
        if found is None:
            raise Refusal(
                503,
                "this route has just been changed",
                code="gateway.changed",
                headers={"Retry-After": "1"},
            )
        return found


def trace_of(inbound: Inbound) -> str:
    """The request's `traceparent` (W3C), if it is one."""
    trace = inbound.headers.get("traceparent", "")
    return trace if trace and _TRACE.fullmatch(trace) else ""


def seconds_of(inbound: Inbound, treatment: Treatment) -> float:
    """How long the answer may take: what the route allows, or less if the client says so
    (`Prefer: wait=seconds`, RFC 7240)."""
    prefer = inbound.headers.get("Prefer", "")
    wished = _PREFER.search(prefer) if prefer else None
    if wished is None:
        return treatment.timeout_seconds
    seconds = max(float(wished[1]), 0.001)
    return min(seconds, treatment.timeout_seconds) if treatment.timeout_seconds else seconds


def _via(inbound: Inbound) -> str:
    """Through whom it has come: the field may be there several times."""
    if "Via" not in inbound.headers:
        return ""
    return ", ".join(
        readable(value) for name, value in inbound.headers.items() if name.lower() == "via"
    )


def _counted_as(kind: KeyKind, asked: Asked) -> str:
    address, route = asked.inbound.address, asked.treatment.name
    return counted_as(kind, asked.principal, address=address, route=route)


def _changed(body: bytes, kind: str, asked: Asked) -> bytes:
    change = asked.treatment.request
    assert change is not None
    assert change.json is not None
    if not is_json(kind):
        return body
    try:
        return changed_json(body, change.json)
    except ValueError:
        raise Refusal(400, "the body is not JSON", code="request.malformed") from None


def _wire(inbound: Inbound, body: bytes, asked: Asked) -> WireRequest:
    headers = [
        (name, readable(value))
        for spelled, value in inbound.headers.items()
        if not is_ours_to_say(name := spelled.lower()) and name not in HOP_BY_HOP
    ]
    change = asked.treatment.request
    if change is not None and change.headers is not None:
        headers = changed_headers(headers, change.headers)
    return WireRequest(inbound.method, inbound.path, inbound.query, tuple(headers), body)


def _ascii(text: str) -> str:
    """As a header field may carry it, percent-encoded where it must be: no two become alike."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return quote(text, safe=_WRITTEN)
