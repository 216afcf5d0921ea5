"""Requests and responses of foreign protocols: forms, redirects, cookies, headers.

A route with `wire="oauth"` takes a `WireRequest` and gives a `WireResponse`; nothing of either is
interpreted here, but for what HTTP itself says. Routes of our own never see these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl

from services._kit.errors import Malformed, Problem

PAIRS_MAX: Final = 1_000
"""Most members of a query or a form."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A whole request. Header names are in lower case; what was given twice is there twice."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        """The field's value, several joined by a comma (RFC 9110, section 5.2); "" without."""
        return ", ".join(value for known, value in self.headers if known == name)

    def parameters(self) -> dict[str, str]:
        """The query's members. Raises Malformed when one is given twice."""
        return pairs_once(self.query, what="the query")

    def form(self) -> dict[str, str]:
        """The body as application/x-www-form-urlencoded. Raises Malformed."""
        kind = self.header("content-type").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Malformed("the body is not application/x-www-form-urlencoded")
        try:
            text = self.body.decode("ascii")
        except UnicodeDecodeError:
            raise Malformed("the form is not ASCII") from None
        return pairs_once(text, what="the form")

    def cookies(self) -> dict[str, str]:
        """The request's cookies (RFC 6265); one that cannot be read is left out."""
        jar: SimpleCookie = SimpleCookie()
        for known, value in self.headers:
            if known == "cookie":
                try:
                    jar.load(value)
                except CookieError:
                    continue
        return {name: morsel.value for name, morsel in jar.items()}


@dataclass(frozen=True, slots=True)
class WireResponse:
    """A whole response."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Facts for the audit row, never sent."""


def pairs_once(text: str, *, what: str) -> dict[str, str]:
    """The members of a query string or form. Raises Malformed: too many, twice, not UTF-8."""
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=PAIRS_MAX,
        )
    except (ValueError, UnicodeDecodeError):
        raise Malformed(f"{what} cannot be read") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise _malformed(name, "twice", f"{what} has {name[:64]!r} twice")
        if "\x00" in value or "\x00" in name:
            raise _malformed(name, "value", f"{what} has a NUL character")
        found[name] = value
    return found


def _malformed(name: str, code: str, message: str) -> Malformed:
    problem = Problem(parameter=name[:64], code=code, message=f"{message[0].upper()}{message[1:]}.")
    return Malformed(message, problems=(problem,))
