"""What workers see of upstreams and limits: shown by a route, and told of by events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.gateway.limits import REFUSALS_MAX, Refusals
from edge.gateway.reports import CHANGES_MAX, EXCEEDED_SECONDS, RENEW_SECONDS, Reports, teller
from edge.gateway.upstreams import Upstreams
from ops.db_faults import DatabaseFault
from services.platform.backend_api.api import Breaker, Report, Target, Upstream
from services.platform.backend_api.service import SERVICE
from tests.edge.gateway.conftest import Made
from tests.fakes.calls import Calls, actor, served
from tests.fakes.clock import FakeClock
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.postgres import Postgres
from tests.fakes.small_gateway import SmallGateway, route, to

OPERATOR = actor("system")


@pytest.fixture
async def calls(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, SERVICE) as serving:
        yield serving


@pytest.fixture
async def watched(made: Made, calls: Calls) -> SmallGateway:
    """A gateway whose reports are written down."""
    tell = teller(calls.runtime, calls.database, tenant="system")
    small: SmallGateway = await made(tell=tell)
    return small


async def shown(calls: Calls, who: Any = OPERATOR) -> list[tuple[str, str]]:
    found = await calls.told("breakers", who)
    return [(one["upstream"], one["state"]) for one in found["data"]]


def told(postgres: Postgres) -> list[tuple[str, dict[str, Any]]]:
    """The events in the outbox, in their order."""
    text = postgres.run(
        "SELECT coalesce(json_agg(json_build_array(type, data) ORDER BY seq), '[]')::text"
        " FROM backend_api.outbox"
    )
    return [(kind.split(".", 2)[2], data) for kind, data in json.loads(text)]


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not await what():  # noqa: ASYNC110  it is anything at all
            await asyncio.sleep(0.02)


async def test_a_breaker_that_opens_and_closes_is_shown_and_told(
    watched: SmallGateway, upstream: FaultUpstream, calls: Calls, postgres: Postgres
) -> None:
    about = {
        "breaker": {"requests_min": 2, "open_seconds": 1, "probes": 1},
        "retry": None,
        "outlier": None,
    }
    watched.configure(upstreams=[to(upstream, **about)], routes=[route()])
    upstream.always = upstream.status(500)
    for _ in range(3):
        await watched.get("/shop/x")

    async def opened() -> bool:
        return await shown(calls) == [("up", "open")]

    await until(opened)
    assert await shown(calls, actor("acme")) == [], "it is the operator's"
    upstream.always = None

    async def closed() -> bool:
        await watched.get("/shop/x")
        return not await shown(calls)

    await until(closed)
    (opening, what), (closing, _) = told(postgres)
    assert (opening, closing) == ("gateway_breaker.opened.v1", "gateway_breaker.closed.v1")
    assert what["upstream"] == "up"


async def test_refusals_are_counted_and_told_together(
    watched: SmallGateway, postgres: Postgres
) -> None:
    watched.configure(
        limits=[{"name": "few", "requests": 1, "seconds": 3_600}],
        overrides=[{"operations": "*", "limits": ["few"]}],
    )
    statuses = [
        (await watched.get("/v1/stall/items/7", headers=watched.bearer())).status for _ in range(4)
    ]
    assert statuses == [200, 429, 429, 429]

    async def exceeded() -> bool:
        return bool(told(postgres))

    await until(exceeded)
    ((kind, what),) = told(postgres)
    assert kind == "gateway_quota.exceeded.v1"
    assert (what["limit"], what["of_tenant"]) == ("few", "acme")
    assert 1 <= what["refused"] <= 3
    assert what["refused"] + sum(one.refused for one in watched.gateway.refusals.taken()) == 3


def test_refusals_are_bounded() -> None:
    refusals = Refusals()
    for number in range(REFUSALS_MAX + 10):
        refusals.note("few", tenant=f"tenant{number}")
    refusals.note("few", tenant="tenant0")
    taken = refusals.taken()
    assert len(taken) == REFUSALS_MAX
    assert taken[0].refused == 2
    assert not refusals


class Book:
    """Keeps reports; may be away."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.away = False

    async def __call__(self, report: Report) -> None:
        if self.away:
            raise DatabaseFault("gone")
        self.reports.append(report)


def tripped(count: int) -> Upstreams:
    """So many upstreams whose breakers are open."""
    upstreams = Upstreams()
    targets, rule = (Target(url="http://a.test"),), Breaker(requests_min=1, open_seconds=3_600)
    upstreams.configure(
        Upstream(name=f"up{number}", targets=targets, breaker=rule) for number in range(count)
    )
    for known in upstreams.all():
        ticket = known.admit(0.0)
        assert ticket is not None
        known.settle(ticket, ok=False, seconds=0.1, now=0.0)
    return upstreams


async def test_what_is_so_is_said_again_and_what_is_not_new_is_not() -> None:
    clock, book, refusals = FakeClock(), Book(), Refusals()
    reports = Reports(tripped(1), refusals, book, clock=clock.monotonic)
    await reports.look()
    await reports.look()
    assert [one.opened for one in book.reports] == [("up0",)]
    clock.advance(RENEW_SECONDS + 1)
    await reports.look()
    assert [(one.opened, one.breakers) for one in book.reports[1:]] == [((), {"up0": "open"})]
    for _ in range(2):
        refusals.note("few", tenant="acme")
        await reports.look()
    assert [len(one.exceeded) for one in book.reports] == [0, 0, 1], "the second one waits"
    clock.advance(EXCEEDED_SECONDS + 1)
    await reports.look()
    assert [one.refused for one in book.reports[-1].exceeded] == [1]


async def test_what_could_not_be_told_is_told_later() -> None:
    clock, book = FakeClock(), Book()
    reports = Reports(tripped(1), Refusals(), book, clock=clock.monotonic)
    book.away = True
    with pytest.raises(DatabaseFault):
        await reports.look()
    book.away = False
    await reports.look()
    assert [one.opened for one in book.reports] == [("up0",)]


async def test_many_at_once_are_told_in_parts() -> None:
    clock, book = FakeClock(), Book()
    reports = Reports(tripped(CHANGES_MAX + 5), Refusals(), book, clock=clock.monotonic)
    for _ in range(3):
        await reports.look()
    assert [len(one.opened) for one in book.reports] == [CHANGES_MAX, 5]
    assert [len(one.breakers) for one in book.reports] == [CHANGES_MAX, CHANGES_MAX + 5]
