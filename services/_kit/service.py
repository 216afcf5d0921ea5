"""The declaration of a service: its module `service.py` holds `SERVICE = Service(…)`.

A handler is an async function whose parameters say what it needs; the kit reads its signature:

    actor: Actor                who asks
    store: Store                the service's own subclass, inside a transaction for writes
    id: GuestId                 a parameter of the path, by name
    body: NewGuest              an `Input`: the request's JSON
    query: GuestFilter          an `Input`: the query string
    page: Slice                 `limit` and `cursor` of a list, read and checked (paging.py)
    expected: int | None        the version that If-Match names; with `needs_match` never None
    request: WireRequest        the raw request, for foreign protocols alone

and what it returns is the answer: a `Record` (with a field `version`: that is its ETag), a
`Page[Record]`, None (204) or, for foreign protocols, a `WireResponse`. GET and HEAD handlers read;
all others run in one transaction with their audit row, events, jobs and stored answer.

What cannot be served by these rules is refused when the module is imported.
"""

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_type_hints

from services._events.event import Event
from services._jobs.job import Job
from services._kit.question import Question
from services._kit.store import Store

Handler = Callable[..., Coroutine[Any, Any, Any]]
Access = Literal["permission", "signed_in", "public"]

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
READS: Final = frozenset({"GET"})
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_PERMISSION: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_]+){2}")
_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_KNOWN: Final = frozenset({"actor", "store", "body", "query", "page", "expected", "request"})


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path below `/v1/<service>`: `/guests/{id}`, `/guests/{id}:admit`."""

    method: str
    path: str
    handler: Handler
    needs: str = ""
    """The permission, `service.resource.verb`; needed unless `access` says otherwise."""
    access: Access = "permission"
    wire: str = ""
    """The foreign protocol it speaks, if any: exempt from the rules for JSON."""
    status: int = 0
    """Of a success; 0: 200, 201 for a POST that answers a record with an id, 204 for None."""
    needs_match: bool = False
    """Whether If-Match must be given (428 without)."""
    needs_key: bool = False
    """Whether Idempotency-Key must be given (400 without)."""
    problems: tuple[int, ...] = ()
    """Statuses of failures beside those that every such route may end in, for its description."""
    body_bytes_max: int = 1_048_576
    seconds_max: float = 10.0
    of_tenant: bool = False
    """Whether the path's `{tenant}` says whose the call is, for who has not signed in: an actor of
    another tenant is nobody there. Such a handler sees to it that there is such a tenant."""
    cost: int = 1
    """Tokens that a call takes from the caller's limit."""
    cache_seconds: int = 0
    """How long a shared cache of the gateway may keep the answer, per tenant and permission."""

    @property
    def reads(self) -> bool:
        return self.method in READS

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def details(self) -> str:
        """What the handler's docstring says below its first line."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[2].strip()

    @property
    def operation(self) -> str:
        """The handler's name: that of the operation in OpenAPI and of the field in GraphQL."""
        return self.handler.__name__


@dataclass(frozen=True, slots=True)
class Entity:
    """Records that other records refer to by id: how to get many at once, for GraphQL's links."""

    record: type[Any]
    many: Callable[[Any, tuple[str, ...]], Coroutine[Any, Any, Mapping[str, Any]]]
    """`async def many(store, ids) -> {id: record}`; what is not there is left out."""
    needs: str


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the house knows of a service."""

    name: str
    """As in its path, `guest-list`; its folder and schema are `guest_list`."""
    summary: str
    """One sentence."""
    routes: tuple[Route, ...] = ()
    publishes: tuple[type[Event], ...] = ()
    consumes: Mapping[type[Event], Handler] = field(default_factory=dict)
    """Event to `async def react(store: Store, event: E) -> None`, run once for each event."""
    holds_keys: bool = False
    """Whether an event that failed for good holds the later ones of its key, until replayed."""
    answers: Mapping[Question[Any, Any], Handler] = field(default_factory=dict)
    """Question to `async def answer(store: Store, asked: A) -> R`, for other services."""
    jobs: tuple[Job, ...] = ()
    entities: tuple[Entity, ...] = ()
    projections: tuple[Any, ...] = ()
    """Read models of its own events (`services/_events/projection.py`)."""
    store: type[Store] = Store
    settings: type[Any] | None = None
    package: str = ""
    """Filled in: the package that declares it, `services.commerce.loyalty`."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r}: lower-case words joined by hyphens")
        if not self.package:
            frame = inspect.currentframe()
            # __init__ made by dataclass, then the declaring module.
            declaring = frame.f_back.f_back if frame is not None and frame.f_back else None
            name = declaring.f_globals.get("__name__", "") if declaring is not None else ""
            object.__setattr__(self, "package", str(name).rpartition(".")[0])
        for route in self.routes:
            check_route(self, route)

    @property
    def schema(self) -> str:
        return self.name.replace("-", "_")

    @property
    def domain(self) -> str:
        return self.package.split(".")[1] if self.package.count(".") >= 2 else ""

    @property
    def prefix(self) -> str:
        return f"/v1/{self.name}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        module = __import__("sys").modules[self.package]
        return Path(str(module.__file__)).parent

    @property
    def permissions(self) -> tuple[str, ...]:
        """Every permission that a route or an entity of it needs, sorted."""
        needs = {route.needs for route in self.routes} | {entity.needs for entity in self.entities}
        return tuple(sorted(needs - {""}))


@cache
def hints_of(handler: Handler) -> Mapping[str, Any]:
    """The types of what a handler takes, and of `return`. Reading them is slow, so it is once."""
    return MappingProxyType(get_type_hints(handler, include_extras=True))


def check_route(service: Service, route: Route) -> None:
    """Raises ValueError when a route breaks a rule; the message names it."""
    where = f"{service.name}: {route.method} {route.path}"
    if route.method not in METHODS:
        raise ValueError(f"{where}: the method is one of {', '.join(METHODS)}")
    if not route.path.startswith("/") or route.path.endswith("/"):
        raise ValueError(f"{where}: a path begins with / and does not end with it")
    if (route.access == "permission") != bool(route.needs):
        raise ValueError(f"{where}: either a permission in `needs`, or another `access`")
    if route.needs and not _PERMISSION.fullmatch(route.needs):
        raise ValueError(f"{where}: a permission is service.resource.verb")
    if route.needs and not route.needs.startswith(f"{service.name}."):
        raise ValueError(f"{where}: the permission begins with {service.name}.")
    if not route.wire and not route.summary.endswith("."):
        raise ValueError(f"{where}: the handler's docstring begins with a sentence")
    named = set(_PARAMETER.findall(route.path))
    taken = set(hints_of(route.handler)) - {"return"}
    if missing := named - taken:
        raise ValueError(f"{where}: the handler does not take {', '.join(sorted(missing))}")
    if extra := taken - named - _KNOWN:
        raise ValueError(f"{where}: nothing gives the handler {', '.join(sorted(extra))}")
    if route.reads and "body" in taken:
        raise ValueError(f"{where}: a read has no body")
    if route.of_tenant and ("tenant" not in named or route.access != "public"):
        raise ValueError(f"{where}: with of_tenant it is public, and its path has {{tenant}}")
    if route.needs_match and "expected" not in taken:
        raise ValueError(f"{where}: with needs_match the handler takes `expected`")
