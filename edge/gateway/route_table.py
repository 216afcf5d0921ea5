"""Finds the route of a request by host, path, method, version and further fields.

The table is compiled once from all routes: a tree of path segments for each host. Of all routes
that match a request the most specific one is taken, by this order:

    host        named, then *.longest, then any
    path        segment by segment from the left: literal, {name}:suffix (longer first), {name},
                {name...}
    conditions  version and header fields: more before fewer
    then        the one that was given first

It keeps no request and reads nothing but its arguments. Cost: a dictionary look-up a segment, and
only as many branches more as routes differ in that segment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from services.platform.backend_api.logic.paths import Segment, read_host, segments

T = TypeVar("T")

_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What a route wants of requests, and what it leads to."""

    path: str
    methods: tuple[str, ...]
    target: T
    hosts: tuple[str, ...] = ()
    """None: any."""
    version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    rank: int = 0
    """Of two that are alike the higher one counts; two of the same rank are refused."""


class Match(NamedTuple, Generic[T]):
    """A route that was found, and the values of its path's parameters."""

    target: T
    parameters: dict[str, str]


class RouteConflictError(ValueError):
    """Two routes would answer the same requests."""


class _Leaf(Generic[T]):
    """Where a path ends: its routes by method, in the order in which they are tried."""

    __slots__ = ("by_method",)

    def __init__(self) -> None:
        self.by_method: dict[str, list[_Choice[T]]] = {}


class _Choice(NamedTuple, Generic[T]):
    conditions: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    target: T
    rank: int
    order: int


class _Node(Generic[T]):
    __slots__ = ("forked", "leaf", "literals", "parameter", "suffixed", "tail")

    def __init__(self) -> None:
        self.forked = False
        """Whether a segment may lead elsewhere than to the literal that it is."""
        self.literals: dict[str, _Node[T]] = {}
        self.suffixed: list[tuple[str, _Node[T]]] = []
        """Longer suffixes first."""
        self.parameter: _Node[T] | None = None
        self.tail: _Leaf[T] | None = None
        self.leaf: _Leaf[T] | None = None


class RouteTable(Generic[T]):
    """The compiled routes. Raises RouteConflictError when two of one rank are alike."""

    def __init__(self, entries: Iterable[Entry[T]]) -> None:
        self._any: _Node[T] = _Node()
        self._hosts: dict[str, _Node[T]] = {}
        self._below: list[tuple[str, _Node[T]]] = []
        """`.example.org` for *.example.org, longest first."""
        below: dict[str, _Node[T]] = {}
        for order, entry in enumerate(entries):
            for host in entry.hosts or ("",):
                name = read_host(host) if host else ""
                if not name:
                    root = self._any
                elif name.startswith("*"):
                    root = below.setdefault(name[1:], _Node())
                else:
                    root = self._hosts.setdefault(name, _Node())
                _add(root, entry, order)
        self._below = sorted(below.items(), key=lambda item: -len(item[0]))
        self._plain = not self._hosts and not self._below

    def find(
        self,
        method: str,
        *,
        path: str,
        host: str = "",
        headers: Mapping[str, str] = _NOTHING,
        announced: frozenset[str] = frozenset(),
    ) -> "Match[T] | frozenset[str] | None":
        """The route; the methods there are when only the method does not fit; None.

        path: decoded, without query. host: lower case, without port. headers: by lower-case name;
        the version is `api-version`; announced: names of fields that will be there, whatever they
        say, as a preflight has them. HEAD finds a route of GET's where it has none of its own.
        """
        parts = path[1:].split("/")
        allowed: set[str] = set()
        roots = (self._any,) if self._plain else self._roots(host)
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            search: _Search[T] = _Search(wanted, parts, headers, allowed, announced)
            for root in roots:
                found = search.walk(root, 0)
                if found is not None:
                    values = search.values
                    if not found.names:
                        return Match(found.target, {})
                    return Match(found.target, dict(zip(found.names, values, strict=True)))
        if not allowed:
            return None
        return frozenset(allowed | ({"HEAD"} if "GET" in allowed else set()))

    def _roots(self, host: str) -> list[_Node[T]]:
        roots = [self._hosts[host]] if host in self._hosts else []
        roots += [root for suffix, root in self._below if host.endswith(suffix)]
        return [*roots, self._any]


class _Search(Generic[T]):
    """One walk down the tree, most specific branch first."""

    __slots__ = ("allowed", "announced", "headers", "method", "parts", "values")

    def __init__(
        self,
        method: str,
        parts: list[str],
        headers: Mapping[str, str],
        allowed: set[str],
        announced: frozenset[str],
    ) -> None:
        self.announced = announced
        self.method = method
        self.parts = parts
        self.headers = headers
        self.allowed = allowed
        self.values: list[str] = []

    def walk(self, node: _Node[T], depth: int) -> _Choice[T] | None:
        """The first route below that fits; its parameters are then in `values`."""
        parts = self.parts
        end = len(parts)
        # Where there is only one way on, there is nothing to come back to.
        while depth < end and not node.forked:
            following = node.literals.get(parts[depth])
            if following is None:
                return None
            node = following
            depth += 1
        if depth == end:
            return self._choose(node.leaf) if node.leaf is not None else None
        part = parts[depth]
        literal = node.literals.get(part)
        found = self.walk(literal, depth + 1) if literal is not None else None
        if found is None and node.suffixed:
            found = self._suffixed(node, part, depth)
        if found is None and node.parameter is not None and part:
            found = self._with(part, node.parameter, depth + 1)
        if found is None and node.tail is not None:
            found = self._tail(node.tail, depth)
        return found

    def _suffixed(self, node: _Node[T], part: str, depth: int) -> _Choice[T] | None:
        for suffix, child in node.suffixed:
            if part.endswith(suffix) and len(part) > len(suffix):
                found = self._with(part[: -len(suffix)], child, depth + 1)
                if found is not None:
                    return found
        return None

    def _tail(self, leaf: _Leaf[T], depth: int) -> _Choice[T] | None:
        self.values.append("/".join(self.parts[depth:]))
        found = self._choose(leaf)
        if found is None:
            self.values.pop()
        return found

    def _with(self, value: str, node: _Node[T], depth: int) -> _Choice[T] | None:
        self.values.append(value)
        found = self.walk(node, depth)
        if found is None:
            self.values.pop()
        return found

    def _choose(self, leaf: _Leaf[T]) -> _Choice[T] | None:
        choices = leaf.by_method.get(self.method)
        if choices is not None:
            for choice in choices:
                if not choice.conditions or self._holds(choice.conditions):
                    return choice
        for method, others in leaf.by_method.items():
            if method not in self.allowed and any(self._holds(one.conditions) for one in others):
                self.allowed.add(method)
        return None

    def _holds(self, conditions: tuple[tuple[str, str], ...]) -> bool:
        return all(
            self.headers.get(name) == value or name in self.announced for name, value in conditions
        )


def _add(root: _Node[T], entry: Entry[T], order: int) -> None:
    read = segments(entry.path)
    leaf = _leaf_of(root, read)
    names = tuple(segment.name for segment in read if segment.name)
    conditions = sorted(entry.headers.items())
    if entry.version:
        conditions = [("api-version", entry.version), *conditions]
    choice = _Choice(tuple(conditions), names, entry.target, entry.rank, order)
    for method in entry.methods:
        choices = leaf.by_method.setdefault(method, [])
        same = [other for other in choices if other.conditions == choice.conditions]
        if any(other.rank == choice.rank for other in same):
            raise RouteConflictError(f"two routes answer {method} {entry.path}")
        if any(other.rank > choice.rank for other in same):
            continue
        choices[:] = [other for other in choices if other not in same]
        choices.append(choice)
        choices.sort(key=lambda one: (-len(one.conditions), one.order))


def _leaf_of(node: _Node[T], read: tuple[Segment, ...]) -> _Leaf[T]:
    for segment in read:
        if segment.kind == "tail":
            node.forked = True
            if node.tail is None:
                node.tail = _Leaf()
            return node.tail
        node = _child(node, segment)
    if node.leaf is None:
        node.leaf = _Leaf()
    return node.leaf


def _child(node: _Node[T], segment: Segment) -> _Node[T]:
    if segment.kind == "literal":
        return node.literals.setdefault(segment.text, _Node())
    node.forked = True
    if segment.kind == "parameter":
        if node.parameter is None:
            node.parameter = _Node()
        return node.parameter
    for suffix, child in node.suffixed:
        if suffix == segment.text:
            return child
    child = _Node()
    node.suffixed.append((segment.text, child))
    node.suffixed.sort(key=lambda item: -len(item[0]))
    return child
