"""Which header fields cross the gateway."""

from edge.gateway.fields import (
    forwarded,
    is_loop,
    joined,
    proxy_status,
    readable,
    to_client,
    to_upstream,
)

SENT = [
    ("Host", "api.test"),
    ("Accept", "a"),
    ("Accept", "b"),
    ("Connection", "close, X-Secret-Hop"),
    ("X-Secret-Hop", "1"),
    ("Keep-Alive", "5"),
    ("TE", "trailers"),
    ("Trailer", "x"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "h2c"),
    ("Proxy-Authorization", "Basic x"),
    ("Proxy-Connection", "close"),
    ("Content-Length", "3"),
    ("Expect", "100-continue"),
    ("Authorization", "Bearer x"),
    ("X-Api-Key", "k"),
    ("X-Nexus-Tenant", "other"),
    ("x-nexus-anything", "1"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("X-Forwarded-Anything", "1"),
    ("Forwarded", "for=1.2.3.4"),
    ("X-Real-IP", "1.2.3.4"),
    ("CF-Connecting-IP", "1.2.3.4"),
    ("Content-Type", "text/plain"),
    ("Cookie", "a=b"),
]


def test_what_an_upstream_sees() -> None:
    assert to_upstream(SENT, keep_authorization=False) == [
        ("accept", "a"),
        ("accept", "b"),
        ("content-type", "text/plain"),
        ("cookie", "a=b"),
    ]
    kept = to_upstream(SENT, keep_authorization=True)
    assert ("authorization", "Bearer x") in kept


def test_what_a_client_sees() -> None:
    answered = [
        ("Content-Type", "text/plain"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Server", "inner/1.0"),
        ("X-Nexus-Trace", "1"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Proxy-Authenticate", "Basic"),
    ]
    assert to_client(answered) == [
        ("content-type", "text/plain"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]


def test_a_value_that_is_no_utf_8_is_not_lost() -> None:
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert readable(latin) == "caf\xe9"
    assert readable("caf\xe9") == "caf\xe9"
    assert to_client([("Content-Disposition", latin)]) == [("content-disposition", "caf\xe9")]
    assert to_upstream([("X-Name", latin)], keep_authorization=False) == [("x-name", "caf\xe9")]


def test_what_we_say_of_where_it_came_from() -> None:
    said = dict(forwarded(address="192.0.2.1", scheme="https", host="a.test", via="1.0 old"))
    assert said == {
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "a.test",
        "via": "1.0 old, 1.1 nexus",
    }
    assert is_loop(", ".join(["1.1 nexus"] * 4))
    assert not is_loop("1.1 nexus, 1.1 other")
    assert joined([("a", "1"), ("b", "2"), ("a", "3")], "a") == "1, 3"


def test_proxy_status_is_a_structured_field() -> None:
    assert proxy_status("connection_refused") == "nexus; error=connection_refused"
    said = proxy_status("connection_timeout", details='a "b" \\')
    assert said == "nexus; error=connection_timeout; details=\"a 'b' \""
