"""The cache of answers: what is found, how good it is, and what leaves it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.gateway.answer_cache import AnswerCache, Kept, Place, is_unmodified, may_look
from edge.gateway.cache_control import Keeping
from edge.gateway.fields import Pairs

KEEPING = Keeping(60.0, 10.0, 100.0, False, 0.0, ())  # noqa: FBT003


def place(path: str = "/a", *, tenant: str = "acme", scope: str = "s", query: str = "") -> Place:
    return Place(tenant, scope, "api.test", path, query)


def cache(bytes_max: int = 1_000_000) -> AnswerCache:
    return AnswerCache(bytes_max=bytes_max, answer_bytes_max=10_000)


def keep(
    into: AnswerCache,
    at: Place,
    *,
    body: bytes = b"one",
    headers: Pairs | None = None,
    keeping: Keeping = KEEPING,
    request: dict[str, str] | None = None,
    now: float = 0.0,
) -> Kept | None:
    return into.keep(at, request or {}, keeping, answer=(200, headers or [], body), now=now)


def state(of: AnswerCache, now: float, request: dict[str, str] | None = None) -> str | None:
    found = of.find(place(), request or {}, now=now)
    return found[1] if found is not None else None


def test_fresh_then_stale_then_expired() -> None:
    kept = cache()
    assert state(kept, 0) is None
    keep(kept, place())
    assert [state(kept, now) for now in (0, 59.9, 60, 69.9, 70)] == [
        "fresh",
        "fresh",
        "stale",
        "stale",
        "expired",
    ]


@pytest.mark.parametrize(
    ("directive", "now", "good"),
    [
        ("no-cache", 0, "expired"),
        ("max-age=5", 4, "fresh"),
        ("max-age=5", 6, "expired"),
        ("min-fresh=30", 20, "fresh"),
        ("min-fresh=30", 40, "expired"),
        ("max-stale", 1_000, "fresh"),
        ("max-stale=20", 75, "fresh"),
        ("max-stale=20", 90, "expired"),
    ],
)
def test_what_the_request_asks_for(directive: str, now: float, good: str) -> None:
    kept = cache()
    keep(kept, place())
    assert state(kept, now, {"cache-control": directive}) == good


def test_pragma_counts_where_nothing_else_is_said() -> None:
    kept = cache()
    keep(kept, place())
    assert state(kept, 0, {"pragma": "no-cache"}) == "expired"
    assert state(kept, 0, {"pragma": "no-cache", "cache-control": "max-age=9"}) == "fresh"


def test_must_revalidate_is_never_given_stale() -> None:
    kept = cache()
    keep(kept, place(), keeping=Keeping(60.0, 0.0, 0.0, True, 0.0, ()))  # noqa: FBT003
    assert state(kept, 61, {"cache-control": "max-stale"}) == "expired"


def test_its_age_counts_from_where_it_was_made() -> None:
    kept = cache()
    keep(kept, place(), keeping=Keeping(60.0, 0.0, 0.0, False, 50.0, ()))  # noqa: FBT003
    assert [state(kept, now) for now in (9, 11)] == ["fresh", "expired"]


def test_variants_by_the_fields_that_vary() -> None:
    kept, vary = cache(), Keeping(60.0, 0.0, 0.0, False, 0.0, ("accept",))  # noqa: FBT003
    for accept in ("a", "b"):
        keep(kept, place(), body=accept.encode(), keeping=vary, request={"accept": accept})
    for accept, body in (("a", b"a"), ("b", b"b")):
        found = kept.find(place(), {"accept": accept}, now=0)
        assert found is not None
        assert found[0].body == body
    assert kept.find(place(), {}, now=0) is None
    assert kept.find(place(), {"accept": "a , b"}, now=0) is None
    for number in range(100):
        keep(kept, place(), keeping=vary, request={"accept": str(number)})
    assert len(kept) == 20


def test_nobody_finds_what_is_anothers() -> None:
    kept = cache()
    keep(kept, place())
    for other in (
        place(tenant="other"),
        place(scope="t"),
        place(query="q"),
        place("/b"),
        place()._replace(host="x"),
    ):
        assert kept.find(other, {}, now=0) is None


def test_a_new_answer_takes_the_old_ones_place() -> None:
    kept = cache()
    keep(kept, place(), body=b"old")
    size = kept.bytes
    keep(kept, place(), body=b"new", now=5)
    found = kept.find(place(), {}, now=5)
    assert found is not None
    assert found[0].body == b"new"
    assert (len(kept), kept.bytes) == (1, size)


def test_a_304_renews_it() -> None:
    kept = cache()
    one = keep(kept, place(), headers=[("etag", '"1"'), ("x-a", "1"), ("x-b", "1")])
    assert one is not None
    assert one.validators() == [("if-none-match", '"1"')]
    kept.freshen(one, [("x-a", "2"), ("content-length", "0")], KEEPING, now=100)
    assert one.headers == [("etag", '"1"'), ("x-b", "1"), ("x-a", "2")]
    assert state(kept, 150) == "fresh"
    assert kept.bytes == one.size_bytes


def test_a_write_drops_what_is_kept_of_its_path() -> None:
    kept = cache()
    for at in (
        place(),
        place(query="x"),
        place(scope="u"),
        place(tenant=""),
        place(tenant="other"),
        place("/b"),
    ):
        keep(kept, at)
    kept.invalidate(tenant="acme", host="api.test", path="/a")
    assert kept.find(place(tenant="other"), {}, now=0) is not None
    assert kept.find(place("/b"), {}, now=0) is not None
    assert len(kept) == 2


def test_surrogate_keys_purge() -> None:
    kept = cache()
    keep(kept, place("/1"), headers=[("surrogate-key", "list item-1")])
    keep(kept, place("/2"), headers=[("surrogate-key", "list item-2")])
    keep(kept, place("/3", tenant="other"), headers=[("surrogate-key", "list")])
    found = kept.find(place("/1"), {}, now=0)
    assert found is not None
    assert found[0].headers == []
    assert kept.purge(key="item-1") == 1
    assert kept.purge(tenant="acme", key="list") == 1
    assert kept.purge() == 1
    assert (len(kept), kept.bytes, kept._at, kept._places) == (0, 0, {}, {})


def test_it_never_holds_more_than_it_may() -> None:
    kept = cache(bytes_max=20_000)
    assert keep(kept, place("/long"), body=bytes(10_001)) is None
    for number in range(100):
        keep(kept, place(f"/{number}"), body=bytes(1_000))
        assert kept.find(place("/0"), {}, now=0) is not None, "it is used all the time"
        assert kept.bytes <= 20_000
    assert kept.find(place("/1"), {}, now=0) is None


@given(seed=st.integers(0, 10_000))
def test_its_books_balance_whatever_happens(seed: int) -> None:
    chance, kept = random.Random(seed), cache(bytes_max=8_000)
    for step in range(150):
        at = place(f"/{chance.randrange(6)}", tenant=chance.choice(["", "acme", "other"]))
        vary = Keeping(60.0, 0.0, 0.0, False, 0.0, chance.choice([(), ("a",)]))  # noqa: FBT003
        match chance.randrange(6):
            case 0:
                kept.invalidate(tenant="acme", host="api.test", path=at.path)
            case 1:
                kept.purge(key=chance.choice(["k1", "k2"]))
            case 2:
                found = kept.find(at, {"a": "1"}, now=step)
                if found is not None:
                    kept.freshen(found[0], [("x", "y" * chance.randrange(50))], vary, now=step)
            case _:
                headers = [("surrogate-key", chance.choice(["k1", "k2"]))]
                body = bytes(chance.randrange(2_000))
                keep(kept, at, body=body, headers=headers, keeping=vary, request={"a": "1"})
        every = [one for variants in kept._at.values() for one in variants]
        assert sorted(map(id, every)) == sorted(kept._all)
        assert kept.bytes == sum(one.size_bytes for one in every) <= 8_000
        assert {one for places in kept._places.values() for one in places} == set(kept._at)


def test_conditional_requests() -> None:
    date = "Sun, 15 Jun 2025 15:06:40 GMT"
    one = keep(cache(), place(), headers=[("etag", 'W/"1"'), ("last-modified", date)])
    assert one is not None
    assert is_unmodified(one, {"if-none-match": '"0", "1"'})
    assert is_unmodified(one, {"if-none-match": "*"})
    assert not is_unmodified(one, {"if-none-match": '"2"', "if-modified-since": date})
    assert is_unmodified(one, {"if-modified-since": date})
    assert not is_unmodified(one, {"if-modified-since": "Sun, 15 Jun 2025 15:06:39 GMT"})
    assert not is_unmodified(one, {"if-modified-since": "yesterday"})


def test_which_requests_look_at_all() -> None:
    assert may_look("GET", {})
    assert may_look("HEAD", {"cache-control": "no-cache"})
    assert not may_look("POST", {})
    assert not may_look("GET", {"range": "bytes=0-1"})
    assert not may_look("GET", {"cache-control": "no-store"})
