"""How one call runs, whoever carried it here.

    permission ─▶ decode (unknown fields refused) ─▶ session pinned to the tenant
      ─▶ reads: handler
         writes: one transaction: idempotency key ─▶ handler ─▶ stored answer ─▶ audit row
      ─▶ encode, ETag

`Runtime.call` takes and gives bytes, for HTTP; `Runtime.invoke` takes and gives values, for
GraphQL, jobs and other services. Both keep every rule. A write whose transaction met another one is
run again, since nothing of it has happened. What goes wrong is raised as the types of `errors.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from ops.clock import SYSTEM, Clock
from ops.db import Database, Session
from ops.db_faults import DatabaseFault
from ops.db_reader import Reader
from ops.errors import Unavailable
from ops.ids import IdMaker
from ops.placement import Homes
from ops.sealing import KeyRing
from services._kit import audit
from services._kit.actor import Actor
from services._kit.decode import convert_parameter, convert_query, decode_body
from services._kit.errors import Invalid, Malformed, NoMatch, Problem, SignedOut, UnsupportedType
from services._kit.idempotency import Once, Stored, fingerprint, parse_key
from services._kit.operation import Operation
from services._kit.paging import slice_of
from services._kit.question import A, Question, R
from services._kit.record import Page, Paging
from services._kit.service import Entity, Service
from services._kit.store import Store, Surroundings
from services._kit.versions import etag_of, expected_version, matches
from services._kit.wire import WireRequest, WireResponse, pairs_once

ATTEMPTS_MAX: Final = 3
"""How often a write is run whose transaction met another one."""
DEPTH_MAX: Final = 3
"""Services that wait for each other's answers, one behind the other."""
_JSON: Final = "application/json"
_PAGING: Final = frozenset({"limit", "cursor"})
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Request:
    """What HTTP says of one call."""

    actor: Actor
    path: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    if_match: str = ""
    if_none_match: str = ""
    idempotency_key: str = ""
    wire: WireRequest | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What HTTP answers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: WireResponse | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A list as somebody asked for it, to be read again and again."""

    operation: Operation
    tenant: str
    name: Hashable
    """Equal for those who are shown the same."""
    read: Callable[[], Coroutine[Any, Any, Page[Any]]]
    show: Callable[[Any], bytes]
    """A page or an item of it as JSON."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A decoded call."""

    operation: Operation
    actor: Actor
    arguments: dict[str, Any]
    target: str
    key: str = ""
    request_hash: bytes = b""


class Runtime:
    """Runs the operations of services in this process. Owns nothing."""

    def __init__(
        self,
        database: Database,
        services: Iterable[Service],
        *,
        region: str,
        keys: KeyRing,
        settings: Mapping[str, Any] = _NOTHING,
        homes: Homes | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """settings: by service name, for those that have any. homes: where tenants live."""
        self._database = database
        self._homes = homes
        self._clock = clock
        self._cursor_secret = keys.secret("cursor")
        self._encoder = msgspec.json.Encoder()
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
        services = tuple(services)
        ids = IdMaker(region, clock=clock)
        self._answers = {
            question: (service, handler)
            for service in services
            for question, handler in service.answers.items()
        }
        self._around = {
            service.name: Surroundings(
                service.name,
                service.schema,
                region,
                ids,
                keys,
                settings.get(service.name, service.settings() if service.settings else None),
                self.ask,
                clock,
            )
            for service in services
        }

    async def call(self, operation: Operation, request: Request) -> Reply:
        """Runs an operation as HTTP asked for it. Raises NexusError."""
        call = await self._decode(operation, request)
        wanted = _fields_wanted(request.query) if "fields=" in request.query else None
        answer = await self._run(call, encode=True)
        if isinstance(answer, Stored):
            headers = {**answer.headers, "Idempotent-Replayed": "true"}
            return Reply(answer.status, answer.body, headers)
        if isinstance(answer, WireResponse):
            return Reply(answer.status, wire=answer)
        reply = self._reply(operation, answer, wanted, query=request.query)
        tag = reply.headers.get("ETag", "")
        if operation.route.reads and tag and matches(request.if_none_match, tag=tag):
            return Reply(304, b"", reply.headers)
        return reply

    async def invoke(
        self,
        operation: Operation,
        actor: Actor,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str = "",
    ) -> Any:
        """Runs an operation with values of its types; `limit` and `cursor` for a list.

        Path parameters, `body`, `query` and `expected` are taken by name. A replayed answer is
        decoded again, so it is equal to the first. Raises NexusError.
        """
        check_access(operation, actor)
        given = dict(arguments)
        if operation.paged:
            context = _context(operation, actor, msgspec.json.encode(given.get("query")))
            given["page"] = slice_of(
                given.pop("limit", Paging().limit),
                given.pop("cursor", ""),
                context=context,
                secret=self._cursor_secret,
            )
        if operation.route.needs_match and given.get("expected") is None:
            raise NoMatch("say which version you saw")
        encoded = msgspec.json.encode({name: given[name] for name in given if name != "page"})
        call = _Call(
            operation,
            actor,
            {name: given.get(name) for name in operation.takes if name not in _OWN},
            target=str(given.get("id", "")),
            key=idempotency_key,
            request_hash=fingerprint(b"invoke", operation.name.encode(), encoded),
        )
        answer = await self._run(call, encode=bool(idempotency_key))
        if isinstance(answer, Stored):
            return msgspec.json.decode(answer.body, type=operation.result) if answer.body else None
        return answer

    async def standing(self, operation: Operation, request: Request) -> Standing:
        """A list that is going to be read often. Raises what can be refused without reading."""
        assert operation.is_list, operation.name
        actor = replace(request.actor, address="", trace="")
        call = await self._decode(operation, replace(request, actor=actor))
        wanted = _fields_wanted(request.query) if "fields=" in request.query else None

        async def read() -> Page[Any]:
            page: Page[Any] = await self._run(call, encode=False)
            return page

        def show(shown: Any) -> bytes:
            return self._encoder.encode(shown if wanted is None else _only(shown, wanted))

        # What a shared cache may keep is the same for a tenant's callers; else each has their own.
        who = None if operation.route.cache_seconds else (actor.id, actor.kind, actor.permissions)
        asked = (frozenset(request.path.items()), request.query)
        name = (operation.name, actor.tenant, who, actor.session if who else "", asked)
        return Standing(operation, actor.tenant, name, read, show)

    async def many(
        self, service: Service, entity: Entity, actor: Actor, ids: tuple[str, ...]
    ) -> Mapping[str, Any]:
        """Records by id, in one session; those that the actor may not see are left out."""
        actor.check(entity.needs)
        await self._admit(actor, writes=False)
        async with self._database.session(service.schema, tenant=actor.tenant) as session:
            found: Mapping[str, Any] = await entity.many(self.store(service, session, actor), ids)
        return found

    async def ask(self, question: Question[A, R], asked: A, actor: Actor, *, depth: int = 0) -> R:
        """What the service answers whose question it is (`question.py`). Raises NexusError.

        depth: how many connections are held by those who wait for it.
        """
        assert isinstance(asked, question.asked), question.name
        assert depth <= DEPTH_MAX, f"{question.name}: services ask each other too deep"
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._answer(question, asked, actor, depth=depth)
            except DatabaseFault as fault:
                if fault.code != "db.conflict" or attempt == ATTEMPTS_MAX:
                    raise
        raise AssertionError("unreachable")

    async def _answer(self, question: Question[A, R], asked: A, actor: Actor, *, depth: int) -> R:
        service, handler = self._answers[question]
        database = self._database
        for _ in range(depth):
            database = database.deeper
        if question.writes:
            await self._admit(actor, writes=True)
        async with database.session(service.schema, tenant=actor.tenant) as session:
            store = self.store(service, session, actor, depth=depth)
            if not question.writes:
                found: R = await handler(store, asked)
                return found
            async with session.transaction():
                await self.fence(session, actor.tenant)
                answer: R = await handler(store, asked)
                if actor.tenant:
                    await self._audit(actor, session, answer, action=question.name)
            return answer

    async def fence(self, session: Session, tenant: str) -> None:
        """Within a write's transaction: the tenant is served here to its end. Raises Moved."""
        if self._homes is not None and tenant:
            await self._homes.fence(session, tenant)

    def store(self, service: Service, session: Session, actor: Actor, *, depth: int = 0) -> Store:
        """The service's hands around a session that is pinned to the actor's tenant."""
        assert session.pin.tenant == actor.tenant, "a session of another tenant"
        return service.store(session, actor, self._around[service.name], depth=depth)

    async def _decode(self, operation: Operation, request: Request) -> _Call:
        """Everything that can be refused without the database."""
        route = operation.route
        actor = _in_tenant(request) if route.of_tenant else request.actor
        check_access(operation, actor)
        arguments: dict[str, Any] = {
            name: convert_parameter(request.path[name], kind, name)
            for name, kind in operation.parameters
        }
        if route.wire:
            arguments["request"] = request.wire
        elif request.query or operation.query is not None or operation.paged:
            self._decode_query(operation, request, arguments)
        if operation.body is not None:
            arguments["body"] = await self._decode_body(operation.body, request)
        elif request.body and not route.wire:
            raise Malformed("this takes no body")
        if "expected" in operation.takes:
            arguments["expected"] = expected_version(request.if_match)
            if route.needs_match and arguments["expected"] is None:
                raise NoMatch("If-Match is missing: say which version you saw")
        elif request.if_match and not route.reads and not route.wire:
            raise Malformed("If-Match has no meaning here")
        key = "" if route.reads else parse_key(request.idempotency_key)
        if route.needs_key and not key:
            raise Malformed("Idempotency-Key is missing")
        hashed = (
            fingerprint(
                request.query.encode(),
                request.body,
                request.if_match.encode(),
                *(value.encode() for value in request.path.values()),
            )
            if key
            else b""
        )
        target = request.path.get("id", "")
        return _Call(operation, actor, arguments, target, key, hashed)

    def _decode_query(
        self, operation: Operation, request: Request, arguments: dict[str, Any]
    ) -> None:
        values = pairs_once(request.query, what="the query")
        if operation.fields and "fields" in values:
            _check_fields(operation, values.pop("fields"))
        if operation.paged:
            paging = convert_query(
                {name: values.pop(name) for name in _PAGING & values.keys()}, Paging
            )
            context = _context(operation, request.actor, msgspec.json.encode(values))
            arguments["page"] = slice_of(
                paging.limit, paging.cursor, context=context, secret=self._cursor_secret
            )
        if operation.query is not None:
            arguments["query"] = convert_query(values, operation.query)
        elif values:
            name = next(iter(values))
            problem = Problem(parameter=name, code="unknown", message="There is no such parameter.")
            raise Invalid("a parameter is unknown", problems=(problem,))

    async def _decode_body(self, kind: type[Any], request: Request) -> Any:
        if not request.body:
            problem = Problem(pointer="", code="missing", message="There is no body.")
            raise Malformed("the body is missing", problems=(problem,))
        media_type = request.content_type.partition(";")[0].strip().lower()
        if media_type != _JSON and not media_type.endswith("+json"):
            raise UnsupportedType("the body's Content-Type is not application/json")
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind)
        if len(request.body) > _LARGE_BYTES:
            return await asyncio.to_thread(decode_body, decoder, request.body)
        return decode_body(decoder, request.body)

    async def _run(self, call: _Call, *, encode: bool) -> Any:
        """The handler's answer, or the stored one."""
        operation = call.operation
        try:
            async with asyncio.timeout(operation.route.seconds_max):
                if operation.route.reads:
                    return await self._read(call)
                for attempt in range(1, ATTEMPTS_MAX + 1):
                    try:
                        return await self._write(call, encode=encode)
                    except DatabaseFault as fault:
                        if fault.code != "db.conflict" or attempt == ATTEMPTS_MAX:
                            raise
        except TimeoutError:
            raise Unavailable("this took too long", code="timeout", retry_after_seconds=1) from None
        raise AssertionError("unreachable")

    async def _admit(self, actor: Actor, *, writes: bool) -> None:
        """Raises Misdirected, Unplaced: the tenant is not served in this region.

        Who has not signed in claims no tenant for it."""
        if self._homes is not None and actor.tenant:
            writes = writes and actor.kind != "anonymous"
            await self._homes.admit(actor.tenant, writes=writes)

    async def _read(self, call: _Call) -> Any:
        service = call.operation.service
        await self._admit(call.actor, writes=False)
        if "store" not in call.operation.takes:
            return await self._handle(call, None)
        async with Reader(self._database, service.schema, tenant=call.actor.tenant) as session:
            return await self._handle(call, session)

    async def _write(self, call: _Call, *, encode: bool) -> Any:
        operation, actor = call.operation, call.actor
        schema = operation.service.schema
        once = Once(actor, operation.name, call.key, call.request_hash) if call.key else None
        await self._admit(actor, writes=True)
        async with (
            self._database.session(schema, tenant=actor.tenant) as session,
            session.transaction(),
        ):
            await self.fence(session, actor.tenant)
            if once is not None:
                stored = await once.find(session)
                if stored is not None:
                    return stored
            answer = await self._handle(call, session)
            if once is not None:
                assert encode, "what is kept is kept as bytes"
                await once.keep(session, self._storable(operation, answer))
            if actor.tenant:
                action = operation.name
                await self._audit(actor, session, answer, action=action, target=call.target)
            return answer

    async def _handle(self, call: _Call, session: Session | None) -> Any:
        arguments = call.arguments
        takes = call.operation.takes
        if "actor" in takes:
            arguments["actor"] = call.actor
        if "store" in takes and session is not None:
            arguments["store"] = self.store(call.operation.service, session, call.actor)
        return await call.operation.route.handler(**arguments)

    async def _audit(
        self, actor: Actor, session: Session, answer: Any, *, action: str, target: str = ""
    ) -> None:
        target = target or str(getattr(answer, "id", ""))
        facts: dict[str, str | int] = {}
        if isinstance(answer, WireResponse):
            facts.update(answer.extra)
        elif answer is not None:
            facts["after"] = fingerprint(self._encoder.encode(answer)).hex()
        entry = audit.entry_of(
            actor,
            action=action,
            target=target,
            unix_ms=int(self._clock.unix() * 1_000),
            facts=facts,
        )
        await audit.append(session, entry, actor=actor, action=action, target=target)

    def _storable(self, operation: Operation, answer: Any) -> Stored:
        if isinstance(answer, WireResponse):
            return Stored(answer.status, dict(answer.headers), answer.body)
        reply = self._reply(operation, answer, None)
        return Stored(reply.status, reply.headers, reply.body)

    def _reply(
        self, operation: Operation, answer: Any, wanted: frozenset[str] | None, query: str = ""
    ) -> Reply:
        if answer is None:
            return Reply(operation.route.status or 204)
        headers = {"Content-Type": _JSON}
        status = operation.route.status or 200
        version = getattr(answer, "version", None)
        if version is not None:
            headers["ETag"] = etag_of(version)
        made = getattr(answer, "id", None)
        if operation.creates and made is not None:
            status = operation.route.status or 201
            headers["Location"] = operation.location.format(made)
        if isinstance(answer, Page) and answer.next_cursor is not None:
            # A cursor is of a list, so the rest of the query stays.
            rest = {**pairs_once(query, what="the query"), "cursor": answer.next_cursor}
            headers["Link"] = f'<?{urlencode(rest)}>; rel="next"'
        shown = answer if wanted is None else _only(answer, wanted)
        return Reply(status, self._encoder.encode(shown), headers)


_OWN: Final = frozenset({"actor", "store", "request"})
_LARGE_BYTES: Final = 65_536
"""Bodies above this are read in a thread: the event loop would stand still."""


def check_access(operation: Operation, actor: Actor) -> None:
    """Raises SignedOut, Forbidden."""
    route = operation.route
    if route.access == "public":
        return
    if actor.kind == "anonymous":
        raise SignedOut("sign in first")
    if route.needs:
        actor.check(route.needs)


def _in_tenant(request: Request) -> Actor:
    """Who asks, in the tenant that the path names."""
    tenant, actor = request.path["tenant"], request.actor
    if actor.tenant == tenant:
        return actor
    return Actor(id="", tenant=tenant, kind="anonymous", address=actor.address, trace=actor.trace)


def _context(operation: Operation, actor: Actor, query: bytes) -> bytes:
    """What a cursor of this list is bound to."""
    return b"\0".join((operation.name.encode(), actor.tenant.encode(), query))


def _fields_wanted(query: str) -> frozenset[str] | None:
    text = pairs_once(query, what="the query").get("fields")
    return None if text is None else frozenset(text.split(","))


def _check_fields(operation: Operation, wanted: str) -> None:
    """Before anything is done. Raises Invalid."""
    unknown = set(wanted.split(",")) - operation.fields
    if unknown:
        problem = Problem(
            parameter="fields", code="unknown", message=f"There is no field {min(unknown)[:64]!r}."
        )
        raise Invalid("a parameter is wrong", problems=(problem,))


def _only(answer: Any, wanted: frozenset[str]) -> Any:
    """The answer with these top-level fields of each record."""
    if isinstance(answer, Page):
        data = [_only(item, wanted) for item in answer.data]
        return {"data": data, "next_cursor": answer.next_cursor}
    values = msgspec.structs.asdict(answer)
    return {name: value for name, value in values.items() if name in wanted}
