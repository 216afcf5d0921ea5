"""Which header fields cross the gateway, in either direction, to upstreams and to other regions.

Never crossing: what belongs to one connection (RFC 9110, section 7.6.1), and what only we may say
(`x-nexus-*`). Forwarding fields of a client are replaced by our own; they are believed only from
`edge.trusted_proxies`, whose word has become the client's address already.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from edge.http_head import FORWARDING

Pairs = list[tuple[str, str]]

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS: Final = "x-nexus-"
_REQUEST_ONLY: Final = frozenset({"host", "content-length", "expect"})
_NAME: Final = "nexus"

PROXY_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "destination_unavailable": (503, "gateway.breaker_open"),
    "connection_refused": (502, "gateway.connection_refused"),
    "connection_terminated": (502, "gateway.connection_terminated"),
    "connection_timeout": (504, "gateway.connection_timeout"),
    "http_response_timeout": (504, "gateway.http_response_timeout"),
    "http_protocol_error": (502, "gateway.http_protocol_error"),
    "proxy_loop_detected": (502, "gateway.proxy_loop_detected"),
}
"""Types of RFC 9209, section 2.3, that we tell of, and the statuses and codes that they become."""


def to_upstream(pairs: Iterable[tuple[str, str]], *, keep_authorization: bool) -> Pairs:
    """A client's fields as an upstream may see them, names in lower case."""
    return [
        (name, value)
        for name, value in _of_the_message(pairs)
        if name not in _REQUEST_ONLY
        and not is_ours_to_say(name)
        and (keep_authorization or name not in {"authorization", "x-api-key"})
    ]


def to_client(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """An upstream's fields as a client may see them, names in lower case."""
    return [
        (name, value)
        for name, value in _of_the_message(pairs)
        if not name.startswith(_OURS) and name not in {"server", "content-length"}
    ]


def forwarded(*, address: str, scheme: str, host: str, via: str = "") -> Pairs:
    """What we say of where a request came from."""
    return [
        ("x-forwarded-for", address),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-host", host),
        ("via", f"{via}, 1.1 {_NAME}" if via else f"1.1 {_NAME}"),
    ]


def is_loop(via: str) -> bool:
    """Whether a request has come through us too often (RFC 9110, section 7.6.3)."""
    return sum(1 for hop in via.split(",") if hop.strip().endswith(f" {_NAME}")) >= 4


def proxy_status(error: str, *, details: str = "") -> str:
    """The value of Proxy-Status (RFC 9209)."""
    assert error in PROXY_ERRORS, error
    quoted = details.replace("\\", "").replace('"', "'")
    return f"{_NAME}; error={error}" + (f'; details="{quoted}"' if quoted else "")


def first(pairs: Iterable[tuple[str, str]], name: str) -> str:
    """The first field of this name, "" without; names are in lower case."""
    return next((value for known, value in pairs if known == name), "")


def joined(pairs: Iterable[tuple[str, str]], name: str) -> str:
    """All fields of this name as one list (RFC 9110, section 5.3)."""
    return ", ".join(value for known, value in pairs if known == name)


def without(pairs: Iterable[tuple[str, str]], *names: str) -> Pairs:
    """All but these."""
    return [(name, value) for name, value in pairs if name not in names]


def is_ours_to_say(name: str) -> bool:
    """Whether a field, its name in lower case, says what only we may say of a request."""
    return name in FORWARDING or name.startswith((_OURS, "x-forwarded-"))


def readable(value: str) -> str:
    """A value that can be written again: bytes that were no UTF-8 as if they were Latin-1.

    aiohttp reads them as lone surrogates, and writes such a value as an empty one.
    """
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def _of_the_message(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """All but the fields of one connection; names in lower case."""
    lower = [(name.lower(), readable(value)) for name, value in pairs]
    ending = HOP_BY_HOP | _named(lower)
    return [pair for pair in lower if pair[0] not in ending]


def _named(lower: Pairs) -> frozenset[str]:
    """What the field Connection names, so that it ends here too."""
    if not any(name == "connection" for name, _ in lower):
        return frozenset()
    return frozenset(option.strip().lower() for option in joined(lower, "connection").split(","))
