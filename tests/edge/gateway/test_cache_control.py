"""What header fields say of keeping answers (RFC 9111, RFC 5861)."""

import pytest

from edge.gateway.cache_control import Keeping, directives, keeping
from edge.gateway.fields import Pairs
from services.platform.backend_api.api import Caching

NOW = 1_750_000_000.0
DATE = "Sun, 15 Jun 2025 15:06:40 GMT"
NONE = Caching()


def said(
    *headers: tuple[str, str],
    status: int = 200,
    rule: Caching = NONE,
    authorised: bool = False,
    trusted: bool = False,
    delay: float = 0.0,
) -> Keeping | None:
    return keeping(
        status,
        list(headers),
        rule=rule,
        authorised=authorised,
        trusted=trusted,
        now_unix=NOW,
        delay_seconds=delay,
    )


def cc(text: str) -> tuple[str, str]:
    return ("cache-control", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("max-age=5", {"max-age": "5"}),
        ("Max-Age=5, NO-STORE", {"max-age": "5", "no-store": ""}),
        ('private="a, b", max-age=1', {"private": "a, b", "max-age": "1"}),
        ('max-age="7"', {"max-age": "7"}),
        ("max-age=1, max-age=2", {"max-age": "1"}),
        (" , ,public ,", {"public": ""}),
        ('no-cache="unended', {"no-cache": "unended"}),
    ],
)
def test_directives_are_read(text: str, found: dict[str, str]) -> None:
    assert directives(text) == found


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([cc("max-age=60")], 60),
        ([cc("max-age=60, s-maxage=10")], 10),
        ([cc("max-age=60"), ("expires", DATE)], 60),
        ([("expires", "Sun, 15 Jun 2025 15:07:40 GMT"), ("date", DATE)], 60),
        ([("expires", "0"), ("date", DATE)], 0),
        ([cc("max-age=-1")], 0),
        ([cc("max-age=soon")], 0),
        ([cc("max-age=99999999999999999999")], 2_147_483_648),
        ([cc("no-cache, max-age=60")], 0),
    ],
)
def test_how_long_it_is_fresh(headers: Pairs, seconds: float) -> None:
    kept = said(*headers)
    assert kept is not None
    assert kept.fresh_seconds == seconds


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [cc("public")],
        [cc("no-store, max-age=60")],
        [cc("private, max-age=60")],
        [cc("max-age=60"), ("vary", "Accept, *")],
        [cc("max-age=60"), ("set-cookie", "a=b")],
        [("last-modified", DATE)],
    ],
)
def test_what_is_not_kept(headers: Pairs) -> None:
    assert said(*headers) is None


@pytest.mark.parametrize("status", [201, 206, 302, 304, 400, 500, 503])
def test_statuses_that_are_not_kept(status: int) -> None:
    assert said(cc("max-age=60"), status=status) is None


def test_an_answer_without_freshness_is_kept_as_configured() -> None:
    rule = Caching(seconds=30, stale_seconds=5, stale_if_error_seconds=60)
    kept = said(rule=rule)
    assert kept is not None
    assert (kept.fresh_seconds, kept.stale_seconds, kept.error_seconds) == (30, 5, 60)
    assert said(status=404, rule=rule) is None, "nobody said so"
    assert said(cc("max-age=5"), status=404, rule=rule) is not None


def test_what_was_asked_for_with_a_credential_is_shared_only_when_somebody_says_so() -> None:
    assert said(cc("max-age=60"), authorised=True) is None
    for text in ("max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"):
        assert said(cc(text), authorised=True) is not None
    assert said(cc("max-age=60"), authorised=True, trusted=True) is not None


def test_stale_times_and_who_forbids_them() -> None:
    kept = said(cc("max-age=1, stale-while-revalidate=10, stale-if-error=20"))
    assert kept is not None
    assert (kept.stale_seconds, kept.error_seconds) == (10, 20)
    for text in ("must-revalidate", "proxy-revalidate", "no-cache"):
        strict = said(cc(f"max-age=1, stale-while-revalidate=10, stale-if-error=20, {text}"))
        assert strict is not None
        assert (strict.stale_seconds, strict.error_seconds) == (0, 0)
        assert strict.must_revalidate


def test_how_old_it_was_when_it_came() -> None:
    kept = said(cc("max-age=60"), ("age", "7"), delay=2.0)
    assert kept is not None
    assert kept.age_seconds == 9
    kept = said(cc("max-age=60"), ("date", "Sun, 15 Jun 2025 15:06:00 GMT"))
    assert kept is not None
    assert kept.age_seconds == 39, "a second for the rounding of Date"


def test_the_fields_it_varies_by() -> None:
    kept = said(cc("max-age=60"), ("vary", "Accept, accept-language"), ("vary", "X-A"))
    assert kept is not None
    assert kept.vary == ("accept", "accept-language", "x-a")
