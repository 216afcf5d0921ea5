"""`POST /v1/backend-api/compose`: makes the calls of a composition, each by all of our rules.

Each call is a request of whoever asked for the composition: routed, allowed, limited and answered
as if it had come alone; only who asks is found out once. A composition that is repeated with an
Idempotency-Key gives each writing call a key of its own, so that nothing is done twice.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from edge.gateway.composition import (
    Call,
    Composed,
    Composition,
    CompositionError,
    MissingError,
    Result,
    body_of,
    references,
    target_of,
    waits,
)
from edge.gateway.exchange import Answer, Inbound, Whole, problem
from edge.gateway.fields import first
from edge.gateway.gateway import Gateway
from edge.gateway.http import GatewayHttp, send
from edge.gateway.identity import Principal, check_access
from edge.gateway.plan import COMPOSE, path_of
from edge.gateway.transformation import is_json
from edge.http_head import check_target
from edge.problems import Refusal, refusal
from edge.routes import Answer as Described
from edge.routes import Route
from ops import metrics
from ops.errors import NexusError

PATH: Final = path_of(COMPOSE)
BODY_BYTES_MAX: Final = 262_144
_CARRIED: Final = ("accept-language", "api-version", "traceparent", "user-agent")
"""Fields of the composition's that each call has too."""

_calls = metrics.counter(
    "nexus_gateway_composed", "Calls that compositions were made of.", ("outcome",)
)
_calls.expect(("made",), ("undone",))
_decoder = msgspec.json.Decoder(Composition)
_encoder = msgspec.json.Encoder()


class Compose:
    """The route of compositions."""

    routes: Final = (
        Route(
            "POST",
            PATH,
            "compose",
            "Several calls in one",
            {200: Described("What became of each call.", Composed)},
            request_type="application/json",
            tag="gateway",
        ),
    )

    def __init__(self, gateway: Gateway, http: GatewayHttp) -> None:
        self._gateway = gateway
        self._http = http
        self._settings = gateway.settings

    async def compose(self, request: web.Request) -> web.StreamResponse:
        """Makes the calls; 200 whatever became of each."""
        inbound = self._http.beside(request)
        try:
            answer = await self.answer(inbound)
        except NexusError as error:
            answer = problem(refusal(error))
        return answer.sent if answer.sent is not None else await send(answer, request)

    async def answer(self, inbound: Inbound) -> Answer:
        """Raises NexusError when there is nothing to be made of it."""
        principal = self._gateway.identify(inbound)
        check_access(principal, "signed_in", "")
        sent = await self._gateway.crossed(inbound, principal)
        if sent is not None:
            return sent
        composition = _read(await inbound.body.read(BODY_BYTES_MAX), inbound.headers)
        if len(composition.calls) > self._settings.compose_calls_max:
            most = self._settings.compose_calls_max
            raise Refusal(422, f"more than {most} calls", code="compose.too_many")
        try:
            order = waits(composition)
        except CompositionError as error:
            raise Refusal(
                422, str(error), code="compose.invalid", fields={"pointer": error.pointer}
            ) from None
        run = _Run(self._gateway, inbound, principal)
        results = await run.all(composition, order)
        complete = all(200 <= result.status < 300 for result in results.values())
        body = _encoder.encode(Composed(complete=complete, results=results))
        headers = [("content-type", "application/json"), ("cache-control", "private, no-store")]
        return Answer(200, headers, body)


class _Run:
    """The calls of one composition."""

    def __init__(self, gateway: Gateway, inbound: Inbound, principal: Principal) -> None:
        self._gateway = gateway
        self._inbound = inbound
        self._principal = principal
        self._settings = gateway.settings
        self._turn = asyncio.Semaphore(self._settings.compose_concurrency_max)
        self._bytes = 0
        self._results: dict[str, Result] = {}
        self._done: dict[str, asyncio.Event] = {}

    async def all(
        self, composition: Composition, order: Mapping[str, frozenset[str]]
    ) -> dict[str, Result]:
        """What became of each call, in the order in which they were given."""
        self._done = {call.id: asyncio.Event() for call in composition.calls}
        try:
            async with (
                asyncio.timeout(self._settings.compose_seconds),
                asyncio.TaskGroup() as group,
            ):
                for call in composition.calls:
                    group.create_task(self._call(call, order[call.id]))
        except TimeoutError:
            # What is there is given; the rest was not answered in time.
            pass
        late = Result(status=504)
        return {call.id: self._results.get(call.id, late) for call in composition.calls}

    async def _call(self, call: Call, needed: frozenset[str]) -> None:
        for name in needed:
            await self._done[name].wait()
        try:
            answers = self._answers(call)
            target, body = target_of(call, answers), body_of(call, answers)
        except MissingError as error:
            _calls.inc(labels=("undone",))
            self._results[call.id] = Result(status=424, body={"detail": str(error)})
        else:
            async with self._turn:
                self._results[call.id] = await self._made(call, target, body)
            _calls.inc(labels=("made",))
        self._done[call.id].set()

    def _answers(self, call: Call) -> dict[str, Any]:
        """What the calls that it refers to answered. Raises MissingError: one has failed."""
        used = references(call)
        if any(not 200 <= self._results[name].status < 300 for name in used):
            raise MissingError("what it refers to failed")
        return {name: self._results[name].body for name in used}

    async def _made(self, call: Call, target: str, body: Any) -> Result:
        path, _, query = target.partition("?")
        try:
            check_target(target)
            if path == PATH:
                raise Refusal(422, "compositions are not nested", code="compose.nested")
            decoded = unquote(path, errors="strict") if "%" in path else path
            inbound = Inbound(
                call.method,
                path,
                decoded,
                query,
                self._headers(call, body=body is not None),
                host=self._inbound.host,
                scheme=self._inbound.scheme,
                address=self._inbound.address,
            )
            if body is not None:
                inbound.body = Whole(_encoder.encode(body))
            answer = await self._gateway.answer(inbound, self._principal)
            return await self._result(answer)
        except NexusError as error:
            return Result(status=refusal(error).status, body={"detail": error.message})
        except UnicodeDecodeError:
            return Result(status=400, body={"detail": "the path is not UTF-8"})

    async def _result(self, answer: Answer) -> Result:
        """Raises Refusal when there is no room for it."""
        data = await answer.whole(max(0, self._settings.compose_bytes_max - self._bytes))
        if data is None:
            if answer.stream is not None:
                answer.stream.close()
            raise Refusal(502, "the answers are too long", code="compose.too_long")
        self._bytes += len(data)
        value: Any = None
        kind = first(answer.headers, "content-type")
        if data:
            value = _decoded(data) if is_json(kind) else data.decode(errors="replace")
        return Result(
            status=answer.status,
            body=value,
            etag=first(answer.headers, "etag"),
            location=first(answer.headers, "location"),
        )

    def _headers(self, call: Call, *, body: bool) -> CIMultiDict[str]:
        ours, theirs = self._inbound.headers, CIMultiDict[str]()
        for name in _CARRIED:
            if value := ours.get(name, ""):
                theirs[name] = value
        if body:
            theirs["content-type"] = "application/json"
        if call.if_match:
            theirs["if-match"] = call.if_match
        key = ours.get("Idempotency-Key", "")
        if key and call.method != "GET":
            quoted = key.strip().strip('"')
            theirs["idempotency-key"] = f'"{quoted}.{call.id}"'
        return theirs


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(502, "the answer is not JSON", code="gateway.answer_malformed") from None


def _read(data: bytes, headers: Mapping[str, str]) -> Composition:
    if not is_json(headers.get("Content-Type", "")):
        raise Refusal(415, "a composition is application/json", code="request.media_type")
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Refusal(422, str(error), code="compose.invalid") from None
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(400, "the body is not JSON", code="request.malformed") from None
