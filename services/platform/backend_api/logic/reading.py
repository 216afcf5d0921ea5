"""Reads a configuration and says everything that is wrong with it, each fault with its place.

Shapes first (`api.py`), then what shapes cannot say: names that are there twice or lead nowhere,
paths that no route can have, two routes that would answer the same requests. A configuration with
one fault is refused whole.
"""

import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args, get_type_hints

import msgspec

from ops.errors import Rejected
from services.platform.backend_api import api
from services.platform.backend_api.api import Config, Fault
from services.platform.backend_api.logic.paths import PathError, names, read_host, segments

FAULTS_MAX: Final = 100
_AT: Final = re.compile(r" - at (`key` in )?`\$(.*)`$")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]+|\.\.\.)\]")
_SOME: Final = "..."
"""A step to some member of a mapping."""
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]+)`")
_OWN_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What says how a message travels, not what it is: nobody changes it."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODIES: Final = frozenset({(api.Fallback, "body"), (api.Change, "json")})
"""What is any text."""
_TAKEN_BELOW: Final = (
    "/api/",
    "/assets/",
    "/embed/",
    "/hls/",
    "/regions/v1/",
    "/watch/",
    "/whep/",
    "/whip/",
)
_TAKEN: Final = frozenset(
    {
        "/",
        "/asyncapi.json",
        "/docs",
        "/live",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/backend-api/compose",
        "/v1/backend-api/graphql",
    }
)
"""Paths that are answered before the gateway is asked."""


class ConfigError(Rejected):
    """A configuration that cannot be used; `faults` say why."""

    code = "backend_api.config_invalid"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        first = self.faults[0]
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        super().__init__(f"{first.pointer or 'the whole'}: {first.message}{more}")


def read(data: bytes, *, toml: bool = False) -> Config:
    """The configuration in a text. Raises ConfigError."""
    if len(data) > api.CONFIG_BYTES_MAX:
        message = f"longer than {api.CONFIG_BYTES_MAX} bytes"
        raise ConfigError([Fault("", "too_long", message)])
    try:
        plain = tomllib.loads(data.decode()) if toml else msgspec.json.decode(data)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([Fault("", "malformed", str(error))]) from None
    return from_plain(plain)


def from_plain(plain: Any) -> Config:
    """The configuration in decoded JSON or TOML. Raises ConfigError."""
    faults: list[Fault] = []
    if not isinstance(plain, dict):
        raise ConfigError([Fault("", "type", "a configuration is an object")])
    sections: dict[str, Any] = {}
    hints = get_type_hints(Config, include_extras=True)
    for name, value in plain.items():
        if name not in hints:
            faults.append(Fault(f"/{_escaped(name)}", "unknown", "there is no such member"))
        elif name == "format":
            if value != 1 or value is True:
                faults.append(Fault("/format", "value", "the format is 1"))
        else:
            sections[name] = _items(name, value, get_args(hints[name])[0], faults)
    if not faults:
        config = Config(**sections)
        faults.extend(_checked(config))
        if not faults:
            return config
    raise ConfigError(faults[:FAULTS_MAX])


def checksum(config: Config) -> str:
    """SHA-256 of what it says, the same for equal ones however they were written."""
    return hashlib.sha256(encoded(config)).hexdigest()


def encoded(config: Config) -> bytes:
    """As JSON, without what has its default."""
    return msgspec.json.encode(_without_defaults(config), order="deterministic")


def _without_defaults(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        kept = ((field, getattr(value, field.name)) for field in fields)
        return {
            field.encode_name: _without_defaults(item)
            for field, item in kept
            if field.required or item != _default(field)
        }
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _items(section: str, value: Any, kind: Any, faults: list[Fault]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        faults.append(Fault(f"/{section}", "type", "this is a list"))
        return ()
    if len(value) > api.ITEMS_MAX:
        faults.append(Fault(f"/{section}", "too_many", f"more than {api.ITEMS_MAX}"))
        return ()
    found = (_item(item, kind, f"/{section}/{at}", faults) for at, item in enumerate(value))
    return tuple(item for item in found if item is not None)


def _item(plain: Any, kind: Any, pointer: str, faults: list[Fault]) -> Any:
    """One item, or None and what is wrong with each of its members."""
    if not isinstance(plain, dict):
        faults.append(Fault(pointer, "type", "this is an object"))
        return None
    rest, gone = dict(plain), set[str]()
    while len(faults) < FAULTS_MAX:
        try:
            made = msgspec.convert(rest, kind)
        except msgspec.ValidationError as error:
            text = str(error)
            fault, member = _fault(text, pointer, rest, kind)
            if member not in gone or not _MISSING.search(text):
                faults.append(fault)
            if member not in rest:
                # A member is missing: put what is no value there, and look at the others.
                if not _MISSING.search(text) or member in gone:
                    return None
                gone.add(member)
                kind = _without_required(kind, member)
                continue
            del rest[member]
            gone.add(member)
            kind = _without_required(kind, member)
        else:
            return None if gone else made
    return None


def _without_required(kind: Any, member: str) -> Any:
    """The same shape, in which one member may be missing and is anything."""
    others = [
        (field.name, field.type, field.default)
        if field.default is not msgspec.NODEFAULT
        else (field.name, field.type, msgspec.field(default_factory=field.default_factory))
        if field.default_factory is not msgspec.NODEFAULT
        else (field.name, field.type)
        for field in msgspec.structs.fields(kind)
        if field.name != member
    ]
    more: list[Any] = [*others, (member, Any, None)]
    return msgspec.defstruct(kind.__name__, more, forbid_unknown_fields=True, kw_only=True)


def _named(text: str, steps: list[str], plain: Any, kind: Any) -> list[str]:
    """The steps with the name of a mapping's member, which msgspec does not say: the first that is
    refused so alone."""
    at = steps.index(_SOME)
    mapping = plain
    for step in steps[:at]:
        mapping = mapping[int(step) if isinstance(mapping, list) else step]
    for name, value in mapping.items():
        try:
            msgspec.convert(_with(plain, steps[:at], {name: value}), kind)
        except msgspec.ValidationError as error:
            if str(error) == text:
                return [*steps[:at], name, *steps[at + 1 :]]
    return steps


def _with(plain: Any, steps: list[str], value: Any) -> Any:
    """The same, with another value there."""
    if not steps:
        return value
    first, *rest = steps
    if isinstance(plain, list):
        at = int(first)
        return [*plain[:at], _with(plain[at], rest, value), *plain[at + 1 :]]
    return {**plain, first: _with(plain[first], rest, value)}


def _fault(text: str, pointer: str, plain: Any, kind: Any) -> tuple[Fault, str]:
    """The fault that msgspec tells of, and the member of the item that it is in."""
    at = _AT.search(text)
    steps = [a or b for a, b in _STEP.findall(at[2])] if at else []
    if at and at[1]:
        steps.append(_SOME)
    if _SOME in steps:
        steps = _named(text, steps, plain, kind)
    message = _AT.sub("", text)
    message = message[:1].lower() + message[1:]
    code = "value"
    for pattern, named in ((_MISSING, "missing"), (_UNKNOWN, "unknown")):
        if found := pattern.search(text):
            steps, code = [*steps, found[1]], named
    place = "".join(f"/{_escaped(step)}" for step in steps)
    return Fault(pointer + place, code, message), steps[0] if steps else ""


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _checked(config: Config) -> Iterator[Fault]:
    for section in ("routes", "upstreams", "limits", "plans", "consumers", "cors"):
        yield from _twice(section, [item.name for item in getattr(config, section)])
    yield from _consumers(config)
    yield from _references(config)
    for at, upstream in enumerate(config.upstreams):
        urls = Counter(target.url for target in upstream.targets)
        if max(urls.values()) > 1:
            yield Fault(f"/upstreams/{at}/targets", "twice", "a target stands there twice")
    for at, cors in enumerate(config.cors):
        yield from _origins(f"/cors/{at}", cors)
    for at, override in enumerate(config.overrides):
        yield from _changes(f"/overrides/{at}", override, ())
        if override.request is not None and override.request.path:
            message = "an operation's path is its own"
            yield Fault(f"/overrides/{at}/request/path", "value", message)
    yield from _routes(config)
    yield from _lines(config, "")


def _lines(value: Any, pointer: str) -> Iterator[Fault]:
    """Whatever may stand in the head of a message is one line; a pattern's `$` lets a line feed at
    the end pass."""
    if isinstance(value, str):
        if _CONTROL.search(value):
            yield Fault(pointer, "value", "this is one line, without control characters")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if (type(value), name) not in _BODIES:
                yield from _lines(getattr(value, name), f"{pointer}/{name}")
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            yield from _lines(item, f"{pointer}/{at}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _lines(name, f"{pointer}/{_escaped(name)}")
            yield from _lines(item, f"{pointer}/{_escaped(name)}")


def _twice(section: str, found: list[str]) -> Iterator[Fault]:
    seen: set[str] = set()
    for at, name in enumerate(found):
        if name in seen:
            yield Fault(f"/{section}/{at}/name", "twice", f"there are two called {name}")
        seen.add(name)


def _consumers(config: Config) -> Iterator[Fault]:
    seen: set[str] = set()
    plans = {plan.name for plan in config.plans}
    for at, consumer in enumerate(config.consumers):
        if consumer.key_sha256 in seen:
            yield Fault(f"/consumers/{at}/key_sha256", "twice", "two have the same key")
        seen.add(consumer.key_sha256)
        if consumer.plan and consumer.plan not in plans:
            yield Fault(f"/consumers/{at}/plan", "unknown", f"there is no plan {consumer.plan}")


def _references(config: Config) -> Iterator[Fault]:
    limits = {limit.name for limit in config.limits}
    cors = {item.name for item in config.cors}
    upstreams = {upstream.name for upstream in config.upstreams}
    with_limits: list[tuple[str, tuple[str, ...]]] = [
        (f"/plans/{at}", plan.limits) for at, plan in enumerate(config.plans)
    ]
    policies: list[tuple[str, api.Policy]] = [
        *((f"/routes/{at}", route) for at, route in enumerate(config.routes)),
        *((f"/overrides/{at}", item) for at, item in enumerate(config.overrides)),
    ]
    with_limits += [(pointer, policy.limits or ()) for pointer, policy in policies]
    for pointer, wanted in with_limits:
        for at, name in enumerate(wanted):
            if name not in limits:
                yield Fault(f"{pointer}/limits/{at}", "unknown", f"there is no limit {name}")
    for pointer, policy in policies:
        if policy.cors is not None and policy.cors not in cors:
            yield Fault(f"{pointer}/cors", "unknown", f"there is no cors {policy.cors}")
    for at, route in enumerate(config.routes):
        for part, split in enumerate(route.to):
            if split.upstream not in upstreams:
                place = f"/routes/{at}/to/{part}/upstream"
                yield Fault(place, "unknown", f"there is no upstream {split.upstream}")
        if not any(split.weight for split in route.to):
            yield Fault(f"/routes/{at}/to", "value", "every weight is 0")


def _origins(pointer: str, cors: api.Cors) -> Iterator[Fault]:
    for at, origin in enumerate(cors.origins):
        if origin == "*":
            if cors.credentials:
                message = "with credentials each origin is named"
                yield Fault(f"{pointer}/origins/{at}", "value", message)
        elif not re.fullmatch(r"https?://(?:\*\.)?[a-z0-9.-]+(?::[0-9]{1,5})?", origin):
            message = "an origin is https:// and a host in lower case, with a port if need be"
            yield Fault(f"{pointer}/origins/{at}", "value", message)


def _routes(config: Config) -> Iterator[Fault]:
    seen: dict[tuple[Any, ...], str] = {}
    for at, route in enumerate(config.routes):
        pointer = f"/routes/{at}"
        try:
            shape = tuple(segment.shape for segment in segments(route.path))
            parameters = names(route.path)
        except PathError as error:
            yield Fault(f"{pointer}/path", "value", str(error))
            continue
        if route.path in _TAKEN or f"{route.path}/".startswith(_TAKEN_BELOW):
            yield Fault(f"{pointer}/path", "taken", "this path has its answer already")
        yield from _changes(pointer, route, parameters)
        if (route.access == "permission") != (route.needs is not None):
            message = "a permission in `needs`, and access = permission: both or neither"
            yield Fault(f"{pointer}/needs", "value", message)
        for place, host in enumerate(route.hosts):
            try:
                read_host(host)
            except ValueError as error:
                yield Fault(f"{pointer}/hosts/{place}", "value", str(error))
        conditions = frozenset(route.headers.items())
        for host in route.hosts or ("",):
            for method in route.methods:
                key = (host.lower(), shape, method, route.version, conditions)
                if key in seen:
                    message = f"route {seen[key]} answers the same requests"
                    yield Fault(f"{pointer}/path", "conflict", message)
                seen[key] = route.name


def _changes(pointer: str, policy: api.Policy, parameters: tuple[str, ...]) -> Iterator[Fault]:
    for side in ("request", "response"):
        change: api.Change | None = getattr(policy, side)
        if change is None:
            continue
        if side == "response" and change.path:
            yield Fault(f"{pointer}/response/path", "value", "an answer has no path")
        for name in re.findall(r"\{([^}]*)\}", change.path):
            if name not in parameters and not isinstance(policy, api.Override):
                message = f"the route's path has no {{{name}}}"
                yield Fault(f"{pointer}/{side}/path", "unknown", message)
        if change.headers is not None:
            yield from _header_names(f"{pointer}/{side}/headers", change.headers)


def _header_names(pointer: str, change: api.HeaderChange) -> Iterator[Fault]:
    for place, found in (
        ("remove", change.remove),
        ("rename", (*change.rename.keys(), *change.rename.values())),
        ("set", change.set),
        ("add", change.add),
    ):
        for name in found:
            if name in _OWN_HEADERS or name.startswith("x-nexus-"):
                yield Fault(f"{pointer}/{place}", "value", f"{name} is not yours to change")
