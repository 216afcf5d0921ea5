"""What a configuration of the gateway says: the same shapes for TOML and JSON files, the database
and the workers that execute it.

A `Config` overrides and adds. Without one every operation of every service is served with the
defaults; `overrides` change how operations are treated, `routes` add paths of their own that lead
to `upstreams` (HTTP servers) or take an operation's place. Unknown members are refused, and so is
what cannot work (`logic/reading.py`). Nothing is executed here.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from ops.settings import setting
from services._events.event import Event
from services._kit.record import SPACE, Input, Record, entity, shaped

Name = Annotated[str, shaped(r"^[a-z][a-z0-9-]{0,62}$")]
"""Lower-case words joined by hyphens."""
HeaderName = Annotated[str, shaped(r"^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
"""A field's name in lower case."""
HeaderValue = Annotated[str, shaped(r"^[\t -~]*$", max_length=1_024)]
Pointer = Annotated[str, shaped(r"^(?:/(?:[^~/]|~[01])*)+$", max_length=256)]
"""A JSON pointer (RFC 6901) to something below the root."""
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
KeyKind = Literal["tenant", "user", "key", "address", "route", "all"]
"""What one bucket is for: a tenant, a user in it, a credential, a client's address, a route."""
Access = Literal["permission", "signed_in", "public"]
Milliseconds = Annotated[int, Meta(ge=1, le=600_000)]
Seconds = Annotated[int, Meta(ge=0, le=31_536_000)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Permission = Annotated[str, shaped(r"^[a-z0-9_-]+(?:\.[a-z0-9_]+){2}$")]

ITEMS_MAX = 10_000
"""Most routes, consumers and so on of one configuration, each."""
CONFIG_BYTES_MAX = 4_194_304
"""Longest configuration as text."""


class Target(Input):
    """One server of an upstream."""

    url: Annotated[str, shaped(rf"^https?://[^/?#@{SPACE}]+$", max_length=300)]
    """Scheme, host and port, without a path."""
    weight: Annotated[int, Meta(ge=1, le=1_000)] = 1


class Breaker(Input):
    """When an upstream is left alone: too many of its answers were errors, or slow."""

    requests_min: Annotated[int, Meta(ge=1, le=100_000)] = 20
    """Answers in the window before anything is judged."""
    error_percent: Percent = 50
    slow_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """From when on an answer is slow; 0: never."""
    slow_percent: Percent = 80
    window_seconds: Annotated[int, Meta(ge=1, le=600)] = 10
    open_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 5
    probes: Annotated[int, Meta(ge=1, le=100)] = 3
    """Requests let through half-open; all must succeed."""


class Outlier(Input):
    """When one server is left out for a while."""

    failures_max: Annotated[int, Meta(ge=1, le=1_000)] = 5
    """In a row."""
    eject_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 10
    """The first time; each further time in a row as long again."""
    ejected_percent_max: Annotated[int, Meta(ge=0, le=100)] = 50


class Health(Input):
    """That servers are asked how they do, by each worker, beside what requests tell of them."""

    path: Annotated[str, Meta(pattern=r"^/[!-~]*$", max_length=1_000)] = "/"
    """What is asked for, by GET."""
    seconds: Annotated[int, Meta(ge=1, le=3_600)] = 5
    """Between two checks of a server."""
    timeout_ms: Milliseconds = 1_000
    statuses: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = ()
    """With which a server does well; none given: 200 to 399."""
    failures_max: Annotated[int, Meta(ge=1, le=1_000)] = 2
    """In a row, until it is left out."""
    successes_min: Annotated[int, Meta(ge=1, le=1_000)] = 2
    """In a row, until it is asked again."""


class Retry(Input):
    """What may be sent again: idempotent or keyed requests, with a body of at most 64 KiB."""

    attempts_max: Annotated[int, Meta(ge=1, le=5)] = 2
    """The first one included."""
    budget_percent: Annotated[int, Meta(ge=0, le=100)] = 20
    """Retries and hedges for each hundred requests."""
    pause_ms: Annotated[int, Meta(ge=0, le=10_000)] = 25
    """Before the first retry; doubled for each further one; a random half of it is left off."""
    statuses: tuple[Annotated[int, Meta(ge=500, le=599)], ...] = (502, 503, 504)


class Upstream(Input):
    """HTTP servers that do the same."""

    name: Name
    targets: Annotated[tuple[Target, ...], Meta(min_length=1, max_length=1_000)]
    balance: Literal["least_loaded", "hash"] = "least_loaded"
    """`least_loaded`: the better of two drawn by chance, by requests under way and latency;
    `hash`: always the same one for one key, by rendezvous hashing."""
    hash_on: KeyKind = "tenant"
    breaker: Breaker | None = Breaker()
    outlier: Outlier | None = Outlier()
    health: Health | None = None
    retry: Retry | None = Retry()
    hedge_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """After how long a read is sent to a second server too; 0: never."""
    connect_ms: Milliseconds = 1_000
    forward_authorization: bool = False
    """Whether the client's Authorization goes on; it is ours, so it usually does not."""
    preserve_host: bool = False
    """Whether the client's Host goes on instead of the target's."""


class HeaderChange(Input):
    """Changes of header fields, in this order."""

    remove: tuple[HeaderName, ...] = ()
    rename: dict[HeaderName, HeaderName] = msgspec.field(default_factory=dict)
    set: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    add: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)


class JsonChange(Input):
    """Changes of a JSON body's members, in this order; other bodies are left alone."""

    keep: tuple[Pointer, ...] = ()
    """When given, nothing else remains."""
    remove: tuple[Pointer, ...] = ()
    rename: dict[Pointer, Pointer] = msgspec.field(default_factory=dict)
    set: dict[Pointer, Any] = msgspec.field(default_factory=dict)


class Change(Input):
    """How a request or an answer is changed on its way."""

    path: Annotated[str, shaped(rf"^(?:/[^?#{SPACE}]*)?$", max_length=1_000)] = ""
    """A request's new path; `{name}` stands for a parameter of the route's."""
    headers: HeaderChange | None = None
    json: JsonChange | None = None


class Caching(Input):
    """That answers may be kept by the shared cache (RFC 9111)."""

    seconds: Seconds = 0
    """How long an answer is fresh that does not say so itself; 0: such a one is not kept."""
    stale_seconds: Seconds = 0
    """How long after that it is still given while a new one is fetched."""
    stale_if_error_seconds: Seconds = 0
    """How long after that it is given when none can be fetched."""
    share: Literal["permission", "user"] = "permission"
    """Among whom, when it was asked for with a credential: everybody in the tenant who may ask, or
    nobody else. What an upstream answers is shared only if it says so itself."""


class Cors(Input):
    """Which other sites' pages may ask."""

    name: Name
    origins: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1_000)]
    """Origins such as https://shop.example, https://*.example, or * for all."""
    methods: tuple[Method, ...] = ("GET", "HEAD", "POST")
    headers: tuple[HeaderName, ...] = ("authorization", "content-type", "idempotency-key")
    expose: tuple[HeaderName, ...] = ("etag", "link", "location", "ratelimit", "retry-after")
    credentials: bool = False
    seconds: Annotated[int, Meta(ge=0, le=86_400)] = 600
    """How long browsers keep this."""


class Limit(Input):
    """A token bucket: `requests` in `seconds`, up to `burst` at once."""

    name: Name
    requests: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 1
    burst: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """0: as many as `requests`."""
    key: KeyKind = "user"
    shared: bool = False
    """Whether all workers of all nodes count together, by Redis; else each counts its share."""


class Plan(Input):
    """What a consumer has bought."""

    name: Name
    limits: tuple[Name, ...] = ()


class Consumer(Input):
    """Who shows an API key."""

    name: Name
    tenant: Annotated[str, shaped(r"^[A-Za-z0-9_.-]{1,64}$")]
    key_sha256: Annotated[str, shaped(r"^[0-9a-f]{64}$")]
    """Of the key, in hexadecimal: the key itself is never written down."""
    permissions: tuple[Annotated[str, shaped(r"^[a-z0-9_.*-]{1,128}$")], ...] = ()
    plan: str = ""
    disabled: bool = False


class Fallback(Input):
    """The answer in place of one that cannot be had: the breaker is open, or nobody answers."""

    status: Annotated[int, Meta(ge=200, le=599)] = 200
    content_type: str = "application/json"
    body: Annotated[str, Meta(max_length=65_536)] = "{}"


class Policy(Input):
    """How requests of a route are treated. None: as without configuration."""

    limits: tuple[Name, ...] | None = None
    """Beside those of the caller's plan."""
    cost: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Tokens that a request takes from each bucket."""
    timeout_ms: Milliseconds | None = None
    body_bytes_max: Annotated[int, Meta(ge=0, le=1_099_511_627_776)] | None = None
    cache: Caching | None = None
    cors: str | None = None
    """Name of one of `cors`."""
    compress: bool | None = None
    request: Change | None = None
    response: Change | None = None
    fallback: Fallback | None = None


class Split(Input):
    """A part of a route's requests."""

    upstream: Name
    weight: Annotated[int, Meta(ge=0, le=10_000)] = 100


class Route(Policy, kw_only=True):
    """A path of its own. Of several that match, the most specific one is taken: host before path,
    and a path's segments from the left, literal before `{name}:verb` before `{name}` before
    `{name...}`; then the one with more conditions, then the earlier one."""

    name: Name
    path: Annotated[str, Meta(min_length=1, max_length=1_000)]
    """Such as /shop/items/{id} or /files/{rest...}."""
    to: Annotated[tuple[Split, ...], Meta(min_length=1, max_length=16)]
    hosts: tuple[str, ...] = ()
    """Such as api.example.org or *.example.org; none: any."""
    methods: tuple[Method, ...] = ("GET",)
    version: Annotated[str, shaped(r"^[A-Za-z0-9._-]{0,32}$")] = ""
    """What the request's field Api-Version says; "": anything."""
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    """What further fields of the request must be."""
    access: Access = "signed_in"
    needs: Permission | None = None
    """With access = "permission"."""
    sticky: bool = False
    """Whether a user's requests all take the same part of a split."""


class Override(Policy, kw_only=True):
    """Changes how operations of services are treated; what comes later wins."""

    operations: Annotated[str, shaped(r"^(?:\*|[a-z][a-z0-9-]*\.(?:\*|[a-z0-9_]+))$")]
    """`*`, `guest-list.*` or `guest-list.invite`."""


class Config(Input):
    """A whole configuration."""

    format: Literal[1] = 1
    routes: tuple[Route, ...] = ()
    overrides: tuple[Override, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    limits: tuple[Limit, ...] = ()
    plans: tuple[Plan, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    cors: tuple[Cors, ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a configuration."""

    pointer: str
    """RFC 6901, into the configuration."""
    code: str
    message: str


CHANNEL = "nexus_gateway"
"""Where workers are told, by NOTIFY: a `Notice` as JSON."""


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What workers are told."""

    kind: Literal["config", "purge", "flush"]
    """A configuration was activated; answers leave the cache; known credentials are forgotten."""
    tenant: str = ""
    key: str = ""
    """Of a purge: the surrogate key; "": all of the tenant's."""


ConfigVersionId = Annotated[str, entity("cfg", of="ConfigVersion")]


class ConfigState(StrEnum):
    """Whether a version is executed."""

    DRAFT = "draft"
    ACTIVE = "active"
    RETIRED = "retired"


class ConfigVersion(Record, kw_only=True):
    """One version of the configuration; what it says never changes."""

    id: ConfigVersionId
    number: int
    """Counts a tenant's versions from 1."""
    state: ConfigState
    checksum: str
    """SHA-256 of what it says, the same for equal ones."""
    note: str
    created_by: str
    created_at: str
    """RFC 3339, UTC."""
    activated_at: str | None = None
    """The last time."""
    version: int
    """Of this record: its state changes."""


class ConfigDocument(ConfigVersion, kw_only=True):
    """A version and what it says."""

    config: Config


class NewConfig(Input):
    """A configuration as somebody sends it: every fault of it is told, not the first alone."""

    config: Annotated[
        dict[str, Any],
        Meta(description="routes, overrides, upstreams, limits, plans, consumers, cors"),
    ]
    note: Annotated[str, Meta(max_length=500)] = ""


class Checked(Record):
    """What is wrong with a configuration, if anything is."""

    valid: bool
    checksum: str = ""
    errors: tuple[Fault, ...] = ()


class Purge(Input):
    """Which kept answers are dropped: those with a surrogate key, of a tenant; neither: all."""

    key: Annotated[str, shaped(r"^[!-~]{0,256}$")] = ""
    tenant: Annotated[str, shaped(r"^[A-Za-z0-9_.-]{0,64}$")] = ""


class ConfigActivated(Event):
    """The gateway executes another version."""

    TYPE: ClassVar[str] = "nexus.platform.gateway_config.activated.v1"
    KEY: ClassVar[str] = "config"
    config: str
    number: int
    checksum: str


class ConfigRolledBack(Event):
    """The gateway executes again what it executed before."""

    TYPE: ClassVar[str] = "nexus.platform.gateway_config.rolled_back.v1"
    KEY: ClassVar[str] = "config"
    config: str
    number: int
    checksum: str
    instead_of: str


BREAKER_SECONDS = 30
"""How long a worker's word that a breaker is open holds, unless it says so again."""
BreakerState = Literal["open", "half_open"]


class OpenBreaker(Record):
    """An upstream that a worker leaves alone since it failed too often, or is trying again."""

    upstream: str
    worker: str
    """A process, until it ends; each learns by itself."""
    state: BreakerState
    since: str
    """RFC 3339, UTC."""


class Exceeded(msgspec.Struct, frozen=True):
    """Requests that a limit has refused."""

    limit: str
    tenant: str
    """"": nobody was signed in."""
    refused: int


class Report(msgspec.Struct, frozen=True):
    """What a worker has seen since it told the last time."""

    worker: str
    breakers: dict[str, BreakerState]
    """All that are not closed, by upstream."""
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    exceeded: tuple[Exceeded, ...] = ()


class BreakerOpened(Event):
    """A worker leaves an upstream alone for a while, since it failed too often."""

    TYPE: ClassVar[str] = "nexus.platform.gateway_breaker.opened.v1"
    KEY: ClassVar[str] = "upstream"
    upstream: str
    worker: str


class BreakerClosed(Event):
    """A worker asks an upstream again, since it does well."""

    TYPE: ClassVar[str] = "nexus.platform.gateway_breaker.closed.v1"
    KEY: ClassVar[str] = "upstream"
    upstream: str
    worker: str


class QuotaExceeded(Event):
    """A limit has refused requests; told once a minute at most, by each worker."""

    TYPE: ClassVar[str] = "nexus.platform.gateway_quota.exceeded.v1"
    KEY: ClassVar[str] = "limit"
    limit: str
    of_tenant: str
    """Whose requests; "": nobody was signed in."""
    refused: int
    worker: str


@dataclass(frozen=True, slots=True)
class BackendApiSettings:
    """Who the operator is."""

    operator_tenant: str = setting(
        "system", "Tenant whose configuration the gateway executes; no other may activate one."
    )
