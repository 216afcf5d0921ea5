"""A configuration made ready to be executed: the route table, and for each route all that is to be
done with its requests, looked up by name once instead of at every request.

Every operation of every service is a route of its own, treated as the kit's declaration says;
overrides change that in their order, and a configured route of the same shape takes its place. A
`Compiled` never changes: a new configuration is a new one, and requests under way keep theirs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from edge.gateway.cross_origin import CrossOrigin
from edge.gateway.limits import Rule, policy_field
from edge.gateway.route_table import Entry, RouteTable
from edge.gateway.settings import GatewaySettings
from services._kit.operation import Operation
from services.platform.backend_api.api import (
    Access,
    Caching,
    Change,
    Config,
    Fallback,
    Limit,
    Override,
    Policy,
    Route,
    Split,
)

T = TypeVar("T")

BURST_SECONDS: Final = 2
"""Of the limit that holds without any configuration."""
GRAPHQL: Final = "backend-api.graphql"
COMPOSE: Final = "backend-api.compose"
"""By which names overrides know what answers beside the gateway."""
_CONFIGURED, _DECLARED = 1, 0


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """What is done with the requests of one route."""

    name: str
    access: Access
    needs: str
    cost: int
    body_bytes_max: int
    timeout_seconds: float
    """0: as long as the operation itself allows."""
    rules: tuple[Rule, ...]
    operation: Operation | None = None
    split: tuple[Split, ...] = ()
    sticky: bool = False
    caching: Caching | None = None
    cors: CrossOrigin | None = None
    compress: bool = True
    request: Change | None = None
    response: Change | None = None
    fallback: Fallback | None = None


@dataclass(slots=True)
class Compiled:
    """A configuration that is executed."""

    config: Config
    table: RouteTable[Treatment]
    plans: dict[str, tuple[Rule, ...]]
    beside: dict[str, Treatment]
    """Of what has a route of its own, by its path: limits and CORS are those of an operation."""
    combined: dict[tuple[Treatment, str], tuple[tuple[Rule, ...], str]] = field(
        default_factory=dict
    )
    """Bounded: routes times plans."""

    def rules(self, treatment: Treatment, plan: str) -> tuple[tuple[Rule, ...], str]:
        """The limits of a route for a caller on a plan, and the value of RateLimit-Policy."""
        if plan not in self.plans:
            plan = ""
        found = self.combined.get((treatment, plan))
        if found is None:
            rules = tuple(dict.fromkeys((*treatment.rules, *self.plans.get(plan, ()))))
            found = self.combined[treatment, plan] = (rules, policy_field(rules))
        return found


def compiled(
    config: Config, operations: Iterable[Operation], settings: GatewaySettings
) -> Compiled:
    """Makes a configuration that was read without faults ready."""
    rules = {limit.name: Rule.of(limit) for limit in config.limits}
    cors = {rule.name: CrossOrigin.of(rule) for rule in config.cors}
    making = _Making(settings, rules, cors, _standard(settings))
    entries = [making.operation(one, config.overrides) for one in operations]
    entries += [making.route(one) for one in config.routes]
    plans = {plan.name: tuple(rules[name] for name in plan.limits) for plan in config.plans}
    beside = {path_of(name): making.bare(name, config.overrides) for name in (GRAPHQL, COMPOSE)}
    return Compiled(config, RouteTable(entries), plans, beside)


def path_of(name: str) -> str:
    """Where what answers beside the gateway is asked."""
    return f"/v1/{name.replace('.', '/')}"


@dataclass(frozen=True, slots=True)
class _Making:
    settings: GatewaySettings
    rules: dict[str, Rule]
    cors: dict[str, CrossOrigin]
    standard: tuple[Rule, ...]

    def bare(self, name: str, overrides: Sequence[Override]) -> Treatment:
        """Of what is routed elsewhere, and has our limits and CORS alone."""
        policy = _policy(name, overrides)
        return Treatment(
            name=name,
            access="public",
            needs="",
            cost=policy.cost or 1,
            body_bytes_max=0,
            timeout_seconds=0.0,
            rules=self._rules(policy),
            cors=self.cors[policy.cors] if policy.cors else None,
        )

    def operation(self, operation: Operation, overrides: Sequence[Override]) -> Entry[Treatment]:
        route = operation.route
        policy = _policy(operation.name, overrides)
        caching = policy.cache
        if caching is None and route.cache_seconds:
            caching = Caching(seconds=route.cache_seconds)
        treatment = Treatment(
            name=operation.name,
            access=route.access,
            needs=route.needs,
            cost=policy.cost or route.cost,
            body_bytes_max=_given(policy.body_bytes_max, route.body_bytes_max),
            timeout_seconds=(policy.timeout_ms or 0) / 1_000,
            rules=self._rules(policy),
            operation=operation,
            caching=caching if route.reads else None,
            cors=self.cors[policy.cors] if policy.cors else None,
            compress=_given(policy.compress, True),  # noqa: FBT003
            request=policy.request,
            response=policy.response,
            fallback=policy.fallback,
        )
        return Entry(operation.path, (route.method,), treatment, rank=_DECLARED)

    def route(self, route: Route) -> Entry[Treatment]:
        settings = self.settings
        milliseconds = route.timeout_ms
        treatment = Treatment(
            name=route.name,
            access=route.access,
            needs=route.needs or "",
            cost=route.cost or 1,
            body_bytes_max=_given(route.body_bytes_max, settings.body_bytes_max),
            timeout_seconds=milliseconds / 1_000 if milliseconds else settings.timeout_seconds,
            rules=self._rules(route),
            split=tuple(one for one in route.to if one.weight),
            sticky=route.sticky,
            caching=route.cache,
            cors=self.cors[route.cors] if route.cors else None,
            compress=_given(route.compress, True),  # noqa: FBT003
            request=route.request,
            response=route.response,
            fallback=route.fallback,
        )
        return Entry(
            route.path,
            route.methods,
            treatment,
            hosts=route.hosts,
            version=route.version,
            headers=route.headers,
            rank=_CONFIGURED,
        )

    def _rules(self, policy: Policy) -> tuple[Rule, ...]:
        if policy.limits is None:
            return self.standard
        return tuple(self.rules[name] for name in policy.limits)


def _standard(settings: GatewaySettings) -> tuple[Rule, ...]:
    """The limit that holds where none is configured."""
    rate = settings.user_requests_per_second_max
    if not rate:
        return ()
    return (Rule.of(Limit(name="default", requests=rate, burst=rate * BURST_SECONDS)),)


def _policy(operation: str, overrides: Sequence[Override]) -> Policy:
    """What overrides say of an operation: later ones count, member by member."""
    names = {"*", f"{operation.partition('.')[0]}.*", operation}
    said = {
        name: value
        for policy in overrides
        if policy.operations in names
        for name in Policy.__struct_fields__
        if (value := getattr(policy, name)) is not None
    }
    return Policy(**said)


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
