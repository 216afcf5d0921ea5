"""What header fields say of keeping answers: Cache-Control, Expires, Age, Vary (RFC 9111, 5861).

Only explicit freshness counts; nothing is guessed from Last-Modified. Of a directive that is there
twice the first counts; a number that cannot be read is 0: stale, as section 4.2.1 encourages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from edge.gateway.fields import Pairs, first, joined
from services.platform.backend_api.api import Caching

SECONDS_MAX: Final = 2_147_483_648
"""As section 1.2.2 has it: more is this."""
STORABLE: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses whose answers are kept: final, whole, and understood."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """That an answer may be kept, and how long."""

    fresh_seconds: float
    stale_seconds: float
    """Given after that while a new one is fetched."""
    error_seconds: float
    """Given after that when none can be fetched."""
    must_revalidate: bool
    age_seconds: float
    """How old it was when it came."""
    vary: tuple[str, ...]
    """Names of the request's fields that it depends on, in lower case."""


@lru_cache(maxsize=1_024)
def directives(text: str) -> Mapping[str, str]:
    """The directives of a Cache-Control field by name, "" where one has no argument."""
    found: dict[str, str] = {}
    rest = text
    while rest:
        name, rest = _token(rest)
        value = ""
        if rest.startswith("="):
            value, rest = _argument(rest[1:])
        rest = rest.partition(",")[2]
        if name.strip():
            found.setdefault(name.strip().lower(), value)
    return found


def _token(text: str) -> tuple[str, str]:
    for at, character in enumerate(text):
        if character in "=,":
            return text[:at], text[at:]
    return text, ""


def _argument(text: str) -> tuple[str, str]:
    text = text.lstrip()
    if text.startswith('"'):
        end = text.find('"', 1)
        end = len(text) if end < 0 else end
        return text[1:end], text[end + 1 :]
    value, _, _ = text.partition(",")
    return value.strip(), text[len(value) :]


def seconds_of(text: str) -> float:
    """A delta-seconds."""
    if not (text.isascii() and text.isdigit()):
        return 0.0
    return float(min(int(text[:12]), SECONDS_MAX))


def keeping(
    status: int,
    headers: Pairs,
    *,
    rule: Caching,
    authorised: bool,
    trusted: bool,
    now_unix: float,
    delay_seconds: float,
) -> Keeping | None:
    """Whether and how a shared cache may keep this answer to a GET; None: it may not.

    authorised: it was asked for with a credential and would be given to others than who asked.
    trusted: who answers has declared that it may be shared so. delay_seconds: from asking until it
    came.
    """
    said = directives(joined(headers, "cache-control"))
    if status not in STORABLE or "no-store" in said or "private" in said:
        return None
    # A stream of events has no end to wait for.
    endless = first(headers, "content-type").lower().startswith("text/event-stream")
    if endless or first(headers, "set-cookie"):
        return None
    explicit = bool(said.keys() & {"public", "s-maxage", "must-revalidate"})
    if authorised and not trusted and not explicit:
        return None
    vary = tuple(
        sorted({name.strip().lower() for name in joined(headers, "vary").split(",")} - {""})
    )
    if "*" in vary:
        return None
    fresh = _fresh_seconds(said, headers, now_unix)
    if fresh is None:
        if not rule.seconds or status not in {200, 203, 204}:
            return None
        fresh = float(rule.seconds)
    strict = bool(said.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"})
    stale = seconds_of(said.get("stale-while-revalidate", str(rule.stale_seconds)))
    error = seconds_of(said.get("stale-if-error", str(rule.stale_if_error_seconds)))
    return Keeping(
        fresh_seconds=0.0 if "no-cache" in said else fresh,
        stale_seconds=0.0 if strict else stale,
        error_seconds=0.0 if strict else error,
        must_revalidate=strict,
        age_seconds=_initial_age(headers, now_unix, delay_seconds),
        vary=vary,
    )


def _fresh_seconds(said: Mapping[str, str], headers: Pairs, now_unix: float) -> float | None:
    """Section 4.2.1; None: the answer does not say."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            return seconds_of(said[name])
    expires = first(headers, "expires")
    if expires:
        until, date = unix_of(expires), unix_of(first(headers, "date"))
        return 0.0 if until is None else max(0.0, until - (now_unix if date is None else date))
    return 0.0 if "no-cache" in said else None


def _initial_age(headers: Pairs, now_unix: float, delay_seconds: float) -> float:
    """Section 4.2.3: the larger of what Age and what Date make of it."""
    said = seconds_of(first(headers, "age")) + delay_seconds
    date = unix_of(first(headers, "date"))
    return max(said, 0.0 if date is None else max(0.0, now_unix - date - 1.0))


def unix_of(text: str) -> float | None:
    """An HTTP-date in unix seconds; None: it is none."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
