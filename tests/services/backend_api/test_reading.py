"""A configuration is read whole or not at all, and every fault is told with its place."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.platform.backend_api.api import Config
from services.platform.backend_api.logic.reading import (
    ConfigError,
    checksum,
    encoded,
    from_plain,
    read,
)

UPSTREAM = {"name": "u", "targets": [{"url": "http://127.0.0.1:9"}]}
ROUTE = {"name": "r", "path": "/shop/{id}", "to": [{"upstream": "u"}]}


def faults(plain: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        from_plain(plain)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def one_route(**members: Any) -> dict[str, Any]:
    return {"upstreams": [UPSTREAM], "routes": [{**ROUTE, **members}]}


def test_nothing_is_a_configuration() -> None:
    assert from_plain({}) == Config()
    assert read(b"{}") == read(b"", toml=True) == Config()


def test_every_fault_of_every_item_is_told() -> None:
    said = faults(
        {
            "routes": [
                {"name": "R", "path": 3, "methods": ["GET", "BREW"], "nam": 1},
                "x",
                {**ROUTE, "cache": {"seconds": -1}, "body_bytes_max": "9"},
            ],
            "limits": {},
            "more": 1,
            "format": 2,
        }
    )
    assert set(said) == {
        ("/routes/0/name", "value"),
        ("/routes/0/path", "value"),
        ("/routes/0/methods/1", "value"),
        ("/routes/0/nam", "unknown"),
        ("/routes/0/to", "missing"),
        ("/routes/1", "type"),
        ("/routes/2/cache/seconds", "value"),
        ("/routes/2/body_bytes_max", "value"),
        ("/limits", "type"),
        ("/more", "unknown"),
        ("/format", "value"),
    }


@pytest.mark.parametrize(
    ("plain", "pointer", "code"),
    [
        ({"upstreams": [UPSTREAM, UPSTREAM]}, "/upstreams/1/name", "twice"),
        (
            {"upstreams": [{"name": "u", "targets": UPSTREAM["targets"] * 2}]},
            "/upstreams/0/targets",
            "twice",
        ),
        ({"routes": [ROUTE]}, "/routes/0/to/0/upstream", "unknown"),
        (one_route(limits=["x"]), "/routes/0/limits/0", "unknown"),
        (one_route(cors="x"), "/routes/0/cors", "unknown"),
        (one_route(to=[{"upstream": "u", "weight": 0}]), "/routes/0/to", "value"),
        (one_route(path="shop"), "/routes/0/path", "value"),
        (one_route(path="/a/{x}/{x}"), "/routes/0/path", "value"),
        (one_route(path="/hls/x"), "/routes/0/path", "taken"),
        (one_route(path="/livez"), "/routes/0/path", "taken"),
        (one_route(path="/v1/backend-api/graphql"), "/routes/0/path", "taken"),
        (one_route(path="/docs"), "/routes/0/path", "taken"),
        (one_route(hosts=["a:80"]), "/routes/0/hosts/0", "value"),
        (one_route(needs="a.b.c"), "/routes/0/needs", "value"),
        (one_route(access="permission"), "/routes/0/needs", "value"),
        (one_route(request={"path": "/in/{none}"}), "/routes/0/request/path", "unknown"),
        (one_route(response={"path": "/in"}), "/routes/0/response/path", "value"),
        (
            one_route(request={"headers": {"set": {"host": "x"}}}),
            "/routes/0/request/headers/set",
            "value",
        ),
        (
            one_route(response={"headers": {"rename": {"x-a": "x-nexus-b"}}}),
            "/routes/0/response/headers/rename",
            "value",
        ),
        ({"plans": [{"name": "p", "limits": ["x"]}]}, "/plans/0/limits/0", "unknown"),
        (
            {"consumers": [{"name": "c", "tenant": "t", "key_sha256": "0" * 64, "plan": "x"}]},
            "/consumers/0/plan",
            "unknown",
        ),
        (
            {
                "consumers": [
                    {"name": name, "tenant": "t", "key_sha256": "0" * 64} for name in ("c", "d")
                ]
            },
            "/consumers/1/key_sha256",
            "twice",
        ),
        ({"cors": [{"name": "c", "origins": ["shop.test"]}]}, "/cors/0/origins/0", "value"),
        (
            {"cors": [{"name": "c", "origins": ["*"], "credentials": True}]},
            "/cors/0/origins/0",
            "value",
        ),
        (
            {"overrides": [{"operations": "x.y", "request": {"path": "/a"}}]},
            "/overrides/0/request/path",
            "value",
        ),
    ],
)
def test_what_shapes_cannot_say(plain: Any, pointer: str, code: str) -> None:
    assert faults(plain) == [(pointer, code)]


@pytest.mark.parametrize(
    ("plain", "pointer"),
    [
        (one_route(name="r\n"), "/routes/0/name"),
        (
            one_route(response={"headers": {"set": {"x-a": "b\n"}}}),
            "/routes/0/response/headers/set/x-a",
        ),
        (one_route(headers={"x-a\n": "b"}), "/routes/0/headers/x-a\n"),
        (one_route(request={"path": "/x\n"}), "/routes/0/request/path"),
        (
            one_route(fallback={"content_type": "text/plain\r\nSet-Cookie: a=b"}),
            "/routes/0/fallback/content_type",
        ),
        (
            {"upstreams": [{"name": "u", "targets": [{"url": "http://127.0.0.1:9\n"}]}]},
            "/upstreams/0/targets/0/url",
        ),
        ({"limits": [{"name": "few\n", "requests": 1}]}, "/limits/0/name"),
    ],
)
def test_what_stands_in_heads_is_one_line(plain: Any, pointer: str) -> None:
    assert (pointer, "value") in faults(plain)


def test_bodies_may_have_lines() -> None:
    body = {"set": {"/text": "a\nb"}}
    from_plain(one_route(fallback={"body": "a\n"}, response={"json": body}))


def test_routes_that_answer_the_same_requests_are_refused() -> None:
    other = {**ROUTE, "name": "s", "path": "/shop/{item}"}
    assert faults({"upstreams": [UPSTREAM], "routes": [ROUTE, other]}) == [
        ("/routes/1/path", "conflict")
    ]
    for difference in (
        {"methods": ["POST"]},
        {"version": "2"},
        {"hosts": ["a.test"]},
        {"headers": {"x-beta": "1"}},
        {"path": "/shop/{item}:buy"},
    ):
        assert from_plain({"upstreams": [UPSTREAM], "routes": [ROUTE, {**other, **difference}]})


@pytest.mark.parametrize(
    "members", [{"hosts": ["a.test", "A.test"]}, {"methods": ["GET", "POST", "GET"]}]
)
def test_a_route_that_says_the_same_twice_is_refused(members: dict[str, Any]) -> None:
    assert faults(one_route(**members)) == [("/routes/0/path", "conflict")]


def test_toml_and_json_say_the_same() -> None:
    toml = b"""
    [[upstreams]]
    name = "u"
    targets = [{ url = "http://127.0.0.1:9" }]
    [[routes]]
    name = "r"
    path = "/shop/{id}"
    to = [{ upstream = "u" }]
    """
    json = msgspec.json.encode({"upstreams": [UPSTREAM], "routes": [ROUTE]})
    assert read(toml, toml=True) == read(json)
    assert checksum(read(toml, toml=True)) == checksum(read(json))
    assert read(encoded(read(json))) == read(json)


def test_equal_configurations_have_one_checksum_and_others_another() -> None:
    written = from_plain(one_route(methods=["GET"], sticky=False))
    assert checksum(written) == checksum(from_plain(one_route()))
    assert checksum(written) != checksum(from_plain(one_route(sticky=True)))


@pytest.mark.parametrize(
    ("data", "toml"),
    [(b"{", False), (b"\xff", False), (b"= 1", True), (b"\xff", True), (b"[]", False)],
)
def test_what_cannot_be_read(data: bytes, toml: bool) -> None:
    with pytest.raises(ConfigError):
        read(data, toml=toml)


def test_the_guides_example_is_a_configuration() -> None:
    text = (Path(__file__).parents[3] / "docs/gateway.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert len(read(example.encode(), toml=True).routes) >= 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Config.__struct_fields__, "name", "path", "to", "targets", "url"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_anything_is_read_or_refused_with_pointers(plain: Any) -> None:
    try:
        from_plain(plain)
    except ConfigError as error:
        pointers = [fault.pointer for fault in error.faults]
    else:
        pointers = [""]
    assert pointers
    assert all(pointer == "" or pointer[0] == "/" for pointer in pointers)
