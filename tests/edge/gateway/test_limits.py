"""Token buckets: against a model that counts exactly, and what their header fields say."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.gateway.identity import NOBODY, Principal
from edge.gateway.limits import Buckets, Rule, Verdict, bucket_name, limit_field, policy_field
from services.platform.backend_api.api import KeyKind, Limit

ADA = Principal("ada", "acme", credential="key:till")


def rule(requests: int = 10, seconds: int = 1, burst: int = 0, key: KeyKind = "user") -> Rule:
    return Rule.of(Limit(name="many", requests=requests, seconds=seconds, burst=burst, key=key))


@settings(max_examples=300)
@given(
    requests=st.integers(1, 50),
    seconds=st.sampled_from([1, 2, 8]),
    burst=st.integers(0, 60),
    steps=st.lists(st.tuples(st.integers(0, 64), st.integers(1, 20)), max_size=40),
)
def test_a_bucket_is_what_a_ledger_of_exact_numbers_says(
    requests: int, seconds: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    limit = rule(requests, seconds, burst)
    buckets = Buckets(buckets_max=16)
    size, rate = Fraction(burst or requests), Fraction(requests, seconds)
    level, now = size, Fraction(0)
    for wait, cost in steps:
        now += Fraction(wait, 64)
        level = min(size, level + Fraction(wait, 64) * rate)
        wanted = Fraction(min(cost, burst or requests))
        said = buckets.take("one", limit, cost=float(wanted), now=float(now))
        assert said.allowed == (level >= wanted)
        if level >= wanted:
            level -= wanted
            assert said.left == pytest.approx(float(level), abs=1e-6)
        else:
            assert said.wait_seconds == pytest.approx(float((wanted - level) / rate), abs=1e-6)


def test_after_the_wait_that_was_told_it_is_allowed() -> None:
    buckets, limit = Buckets(buckets_max=16), rule(3, 10)
    for _ in range(3):
        assert buckets.take("one", limit, cost=1, now=0.0).allowed
    said = buckets.take("one", limit, cost=1, now=1.0)
    assert not said.allowed
    assert not buckets.take("one", limit, cost=1, now=1.0 + said.wait_seconds * 0.99).allowed
    assert buckets.take("one", limit, cost=1, now=1.0 + said.wait_seconds).allowed


def test_a_share_has_its_part_of_rate_and_burst() -> None:
    buckets, limit = Buckets(buckets_max=16), rule(100, 1)
    took = sum(buckets.take("one", limit, cost=1, now=0.0, share=0.25).allowed for _ in range(100))
    assert took == 25
    took = sum(buckets.take("one", limit, cost=1, now=0.4, share=0.25).allowed for _ in range(100))
    assert took == 10


def test_what_another_limit_refused_is_given_back() -> None:
    buckets, limit = Buckets(buckets_max=16), rule(2, 1)
    assert buckets.take("one", limit, cost=2, now=0.0).allowed
    buckets.give_back("one", 2)
    assert buckets.take("one", limit, cost=2, now=0.0).allowed


def test_the_least_recently_used_bucket_is_forgotten_first() -> None:
    buckets, limit = Buckets(buckets_max=3), rule(1, 60)
    for name in "abc":
        assert buckets.take(name, limit, cost=1, now=0.0).allowed
    assert not buckets.take("a", limit, cost=1, now=0.0).allowed
    buckets.take("d", limit, cost=1, now=0.0)
    assert len(buckets) == 3
    assert not buckets.take("a", limit, cost=1, now=0.0).allowed, "it was used since"
    assert buckets.take("b", limit, cost=1, now=0.0).allowed, "it was forgotten"


def test_the_clock_may_stand_still_or_step_back() -> None:
    buckets, limit = Buckets(buckets_max=3), rule(1, 10)
    assert buckets.take("a", limit, cost=1, now=5.0).allowed
    assert not buckets.take("a", limit, cost=1, now=1.0).allowed


@pytest.mark.parametrize(
    ("key", "ada", "nobody"),
    [
        ("user", "many|acme/ada", "many|@192.0.2.1"),
        ("tenant", "many|acme", "many|@192.0.2.1"),
        ("key", "many|acme/key:till", "many|@192.0.2.1"),
        ("address", "many|@192.0.2.1", "many|@192.0.2.1"),
        ("route", "many|shop", "many|shop"),
        ("all", "many|", "many|"),
    ],
)
def test_whose_bucket_it_is(key: KeyKind, ada: str, nobody: str) -> None:
    limit = rule(key=key)
    assert bucket_name(limit, ADA, address="192.0.2.1", route="shop") == ada
    assert bucket_name(limit, NOBODY, address="192.0.2.1", route="shop") == nobody


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_who_has_an_ipv6_address_has_its_whole_network(address: str, network: str) -> None:
    assert bucket_name(rule(), NOBODY, address=address, route="shop") == f"many|@{network}"


def test_no_name_looks_like_anothers() -> None:
    alike = [
        Principal("b/c", "a"),
        Principal("c", "a/b"),
        Principal("c", "a%2Fb"),
        Principal("c", "@192.0.2.1"),
        NOBODY,
    ]
    keys: tuple[KeyKind, ...] = ("user", "tenant")
    for key in keys:
        limit = rule(key=key)
        names = [bucket_name(limit, who, address="192.0.2.1", route="shop") for who in alike]
        assert len(set(names)) == len(alike), names


def test_the_fields_are_those_of_the_draft() -> None:
    rules = (rule(100, 60), Rule.of(Limit(name="day", requests=5_000, seconds=86_400, burst=50)))
    assert policy_field(rules) == '"many";q=100;w=60, "day";q=50;w=864'
    said = [Verdict(allowed=True, left=99.6, wait_seconds=0.0)]
    said.append(Verdict(allowed=False, left=0.2, wait_seconds=13.9))
    assert limit_field(rules, said) == '"many";r=99;t=1, "day";r=0;t=14'
