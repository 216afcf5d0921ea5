"""Which route a request finds: by examples, and against a matcher that tries every route."""

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.gateway.route_table import Entry, Match, RouteConflictError, RouteTable
from services.platform.backend_api.logic.paths import PathError, Segment, read_host, segments

WORDS = ("a", "b", "ab", "x:go")
PARTS = (*WORDS, "", "{p}", "{p}:go", "{p}:o", "{p...}")
METHODS = ("GET", "POST", "HEAD")
HOSTS = ("", "one.test", "*.test", "*.two.test")


def table(*paths: str, method: str = "GET") -> RouteTable[str]:
    return RouteTable(Entry(path, (method,), path) for path in paths)


def found(routes: RouteTable[str], path: str, method: str = "GET", **more: Any) -> Any:
    match = routes.find(method, path=path, **more)
    return (match.target, match.parameters) if isinstance(match, Match) else match


def test_parameters_are_read_and_literals_come_first() -> None:
    routes = table("/guests/{id}", "/guests/all", "/guests/{id}:admit", "/files/{rest...}")
    assert found(routes, "/guests/7") == ("/guests/{id}", {"id": "7"})
    assert found(routes, "/guests/all") == ("/guests/all", {})
    assert found(routes, "/guests/7:admit") == ("/guests/{id}:admit", {"id": "7"})
    assert found(routes, "/guests/:admit") == ("/guests/{id}", {"id": ":admit"})
    assert found(routes, "/files/a/b/") == ("/files/{rest...}", {"rest": "a/b/"})
    assert found(routes, "/files/") == ("/files/{rest...}", {"rest": ""})
    for path in ("/files", "/guests/", "/guests/7/x", "/", ""):
        assert found(routes, path) is None, path


def test_a_branch_that_leads_nowhere_is_left_again() -> None:
    routes = table("/a/b/c", "/a/{x}/d", "/{y}/b/e")
    assert found(routes, "/a/b/d") == ("/a/{x}/d", {"x": "b"})
    assert found(routes, "/a/b/e") == ("/{y}/b/e", {"y": "a"})


def test_the_methods_there_are_are_told() -> None:
    routes = RouteTable([Entry("/a", ("GET",), 1), Entry("/{x}", ("PUT", "DELETE"), 2)])
    assert routes.find("POST", path="/a") == {"GET", "HEAD", "PUT", "DELETE"}
    assert routes.find("PUT", path="/a") == Match(2, {"x": "a"})
    assert routes.find("HEAD", path="/a") == Match(1, {})
    assert routes.find("GET", path="/b") == {"PUT", "DELETE"}


def test_version_and_fields_choose_among_routes_of_one_path() -> None:
    routes = RouteTable(
        [
            Entry("/a", ("GET",), "any"),
            Entry("/a", ("GET",), "two", version="2"),
            Entry("/a", ("GET",), "beta", version="2", headers={"x-beta": "1"}),
        ]
    )
    assert found(routes, "/a") == ("any", {})
    assert found(routes, "/a", headers={"api-version": "2"}) == ("two", {})
    assert found(routes, "/a", headers={"api-version": "2", "x-beta": "1"}) == ("beta", {})
    assert found(routes, "/a", headers={"api-version": "3", "x-beta": "1"}) == ("any", {})


def test_a_preflight_announces_fields_whose_values_it_does_not_have() -> None:
    two = Entry("/x", ("GET",), "two", version="2")
    routes = RouteTable([Entry("/x", ("GET",), "any"), two])
    assert routes.find("GET", path="/x") == ("any", {})
    asked = routes.find("GET", path="/x", announced=frozenset({"api-version"}))
    assert asked == ("two", {})
    other = routes.find("GET", path="/x", announced=frozenset({"authorization"}))
    assert other == ("any", {})


def test_the_nearest_host_comes_first() -> None:
    routes = RouteTable(
        Entry("/a", ("GET",), host, hosts=(host,) if host else ()) for host in HOSTS
    )
    assert found(routes, "/a", host="one.test") == ("one.test", {})
    assert found(routes, "/a", host="x.two.test") == ("*.two.test", {})
    assert found(routes, "/a", host="y.test") == ("*.test", {})
    assert found(routes, "/a", host="elsewhere.example") == ("", {})
    assert found(routes, "/a", host="test") == ("", {})


def test_what_would_answer_the_same_requests_is_refused() -> None:
    with pytest.raises(RouteConflictError):
        table("/a/{x}", "/a/{y}")
    with pytest.raises(RouteConflictError):
        RouteTable([Entry("/a", ("GET", "PUT"), 1), Entry("/a", ("PUT",), 2)])
    RouteTable([Entry("/a/{x}", ("GET",), 1), Entry("/a/{x}", ("POST",), 2)])


@pytest.mark.parametrize("ranks", [(0, 1), (1, 0)])
def test_of_two_ranks_the_higher_one_counts(ranks: tuple[int, int]) -> None:
    routes = RouteTable(Entry("/a/{x}", ("GET",), rank, rank=rank) for rank in ranks)
    assert routes.find("GET", path="/a/1") == Match(1, {"x": "1"})


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "",
        "/a/{x}/{x}",
        "/{rest...}/a",
        "/a/..",
        "/./a",
        "/a b",
        "/a%20b",
        "/{X}",
        "/{x}y",
        "/a//b?",
    ],
)
def test_paths_that_no_route_can_have(path: str) -> None:
    with pytest.raises(PathError):
        segments(path)


# What follows tries every route on every request, and takes the most specific one.

Given = tuple[int, Entry[int]]


def key_of(segment: Segment) -> tuple[int, int]:
    rank = {"tail": 0, "parameter": 1, "suffixed": 2, "literal": 3}[segment.kind]
    return (rank, len(segment.text) if segment.kind == "suffixed" else 0)


def values_of(entry: Entry[int], path: str) -> dict[str, str] | None:
    pattern = ""
    for segment in segments(entry.path):
        inside = {
            "literal": re.escape(segment.text),
            "parameter": "([^/]+)",
            "suffixed": "([^/]+)" + re.escape(segment.text),
            "tail": "(.*)",
        }[segment.kind]
        pattern += "/" + inside
    match = re.fullmatch(pattern, path, re.DOTALL)
    names = [segment.name for segment in segments(entry.path) if segment.name]
    return None if match is None else dict(zip(names, match.groups(), strict=True))


def host_rank(entry: Entry[int], host: str) -> int | None:
    ranks = [0] if not entry.hosts else []
    for wanted in map(read_host, entry.hosts):
        if wanted == host:
            ranks.append(1_000)
        elif wanted.startswith("*") and host.endswith(wanted[1:]):
            ranks.append(len(wanted))
    return max(ranks, default=None)


def naive(
    entries: list[Entry[int]], method: str, path: str, host: str, headers: Mapping[str, str]
) -> Any:
    """The best of all that match, the methods of those that nearly do, or None."""
    wanted = (method, "GET") if method == "HEAD" else (method,)
    for one in wanted:
        best: tuple[Any, Any] | None = None
        for order, entry in enumerate(entries):
            rank, values = host_rank(entry, host), values_of(entry, path)
            if one not in entry.methods or rank is None or values is None:
                continue
            conditions = dict(entry.headers)
            if entry.version:
                conditions["api-version"] = entry.version
            if any(headers.get(name) != value for name, value in conditions.items()):
                continue
            shape = tuple(key_of(segment) for segment in segments(entry.path))
            key = (rank, shape, len(conditions), -order)
            if best is None or key > best[0]:
                best = (key, Match(entry.target, values))
        if best is not None:
            return best[1]
    return None


def build(given: list[Entry[int]]) -> tuple[list[Entry[int]], RouteTable[int]]:
    kept: list[Entry[int]] = []
    for entry in given:
        try:
            RouteTable([*kept, entry])
        except RouteConflictError:
            continue
        kept.append(entry)
    return kept, RouteTable(kept)


paths = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(
    lambda parts: (
        "/"
        + "/".join(
            part.replace("p", f"p{at}", 1) if "{" in part else part for at, part in enumerate(parts)
        )
    )
)


def is_path(path: str) -> bool:
    try:
        segments(path)
    except PathError:
        return False
    return True


entries = st.lists(
    st.builds(
        Entry,
        path=paths.filter(is_path),
        methods=st.sampled_from([("GET",), ("POST",), ("GET", "POST"), ("HEAD",)]),
        target=st.integers(0, 1_000_000),
        hosts=st.sampled_from([(), ("one.test",), ("*.test",), ("*.two.test", "one.test")]),
        version=st.sampled_from(["", "1", "2"]),
        headers=st.sampled_from([{}, {"x-a": "1"}, {"x-a": "1", "x-b": "2"}]),
    ),
    max_size=12,
)
requests = st.lists(
    st.sampled_from([*WORDS, "", "c", "go", ":go", "c:go", "c:o"]), min_size=1, max_size=4
).map(lambda parts: "/" + "/".join(parts))


@settings(max_examples=400)
@given(given_entries=entries, path=requests, data=st.data())
def test_the_table_agrees_with_trying_them_all(
    given_entries: list[Entry[int]], path: str, data: Any
) -> None:
    kept, routes = build(given_entries)
    headers = data.draw(
        st.dictionaries(st.sampled_from(["api-version", "x-a", "x-b"]), st.sampled_from(["1", "2"]))
    )
    for method, host in product(METHODS, ("one.test", "x.two.test", "z.test", "none.example")):
        said = routes.find(method, path=path, host=host, headers=headers)
        wanted = naive(kept, method, path, host, headers)
        if isinstance(said, Match) or wanted is not None:
            assert said == wanted, (method, path, host, headers)
