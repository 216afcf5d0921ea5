"""Bad input to every route: an honest status, a pointer to the field, and nothing changed.

The requests are made of the operations' types (`tests/fakes/bad_input.py`), so a new service has
them too, and go through the gateway to objects that there are.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import pytest

from services._kit.load import load_all
from services._kit.operation import Operation, operations
from services._kit.service import METHODS, Service
from tests.fakes.bad_input import Ask, bad, right
from tests.fakes.every_route import OPERATORS, EveryRoute, contents
from tests.fakes.postgres import Postgres, PostgresServer
from tests.fakes.small_gateway import Said

SERVICES = load_all()
RIGHT_STATUSES = {*range(200, 300), 404, 409, 412}
"""Of requests with nothing wrong: the object may be gone, or in another state."""


def of(service: Service) -> str:
    return service.name


class Asking:
    """Somebody who may do everything asks."""

    def __init__(self, routes: EveryRoute, http: aiohttp.ClientSession) -> None:
        self.routes = routes
        self._http = http
        self._token = routes.token("*", tenant=OPERATORS)

    async def ask(self, asked: Ask) -> Said:
        return await self.routes.ask(self._http, asked, self._token)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Postgres]:
    """One for all: each test looks at what itself has changed."""
    made = postgres_server.database()
    yield made
    postgres_server.drop(made.name)


@pytest.fixture(scope="module")
def routes(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryRoute]:
    with EveryRoute(database, tmp_path_factory.mktemp("routes")) as serving:
        yield serving


@pytest.mark.parametrize("service", SERVICES, ids=of)
async def test_it_is_refused_honestly_and_changes_nothing(
    routes: EveryRoute, database: Postgres, service: Service
) -> None:
    mine = operations([service])
    async with aiohttp.ClientSession() as http:
        asking = Asking(routes, http)
        ids = await _fill(asking, mine)
        before = contents(database, SERVICES)
        wrong = [
            fault
            for operation in mine
            if not operation.route.wire
            for asked in (*bad(operation, ids), *_bad_callers(operation, ids, routes))
            for fault in _faults(asked, await asking.ask(asked))
        ]
        for path in {operation.path for operation in mine}:
            wrong += await _bad_methods(asking, path, mine)
    assert not wrong, "\n".join(wrong)
    assert contents(database, SERVICES) == before
    assert len(before) > len(SERVICES)


async def _fill(asking: Asking, mine: list[Operation]) -> dict[str, str]:
    """Makes an object of each kind by requests with nothing wrong; their ids by prefix.

    What such requests are answered shows that it is the one fault of the others that is refused.
    """
    ids: dict[str, str] = {}
    makers = sorted((one for one in mine if one.creates), key=lambda one: len(one.parameters))
    for operation in makers:
        said = await asking.ask(right(operation, ids))
        if said.status == 201:
            made = str(said.json["id"])
            ids.setdefault(made.partition("_")[0], made)
    assert bool(ids) == bool(makers)
    for operation in mine:
        # What takes no body cannot be wrong about it, and might take the objects away.
        if operation.route.reads or operation.body is not None:
            said = await asking.ask(right(operation, ids))
            named = said.json.get("errors", []) if said.status == 422 else []
            by_rule = all(one["code"] not in {"type", "missing"} for one in named)
            assert said.status in RIGHT_STATUSES or (named and by_rule), (operation.name, said)
    return ids


def _bad_callers(operation: Operation, ids: Mapping[str, str], routes: EveryRoute) -> Iterator[Ask]:
    route, asked = operation.route, right(operation, ids)
    if route.access == "public":
        return
    if operation.parameters:
        # The objects are there; to whoever is of another tenant they are not.
        token = routes.token("*", tenant="a-stranger")
        named = {"Authorization": f"Bearer {token}"}
        yield asked.wrong("a stranger", 404, headers={**asked.headers, **named})
    forged = routes.token("*", tenant=OPERATORS) + "x"
    for what, named in (
        ("nobody", {"Authorization": ""}),
        ("a forged token", {"Authorization": f"Bearer {forged}"}),
        ("another scheme", {"Authorization": "Basic YTpi"}),
        ("an unknown key", {"Authorization": "", "X-Api-Key": "none"}),
    ):
        yield asked.wrong(what, 401, headers={**asked.headers, **named})
    if route.needs:
        token = routes.token("another.thing.read", tenant=OPERATORS)
        named = {"Authorization": f"Bearer {token}"}
        yield asked.wrong("a permission too few", 403, headers={**asked.headers, **named})


def _faults(asked: Ask, said: Said) -> Iterator[str]:
    """What is dishonest about a refusal."""
    where = f"{asked.method} {asked.path}: {asked.what}"
    if said.status != asked.status:
        yield f"{where}: {said.status}, not {asked.status}: {said.body[:200]!r}"
        return
    if said.headers["Content-Type"] != "application/problem+json":
        yield f"{where}: {said.headers['Content-Type']}"
        return
    problem: dict[str, Any] = json.loads(said.body)
    if problem["status"] != said.status or not problem["detail"] or not problem["code"]:
        yield f"{where}: {problem}"
    named = problem.get("errors", [])
    if asked.pointer is not None and [one.get("pointer") for one in named] != [asked.pointer]:
        yield f"{where}: points at {named}"
    if asked.parameter is not None and [one.get("parameter") for one in named] != [asked.parameter]:
        yield f"{where}: names {named}"
    if len(said.body) > 4_096:
        yield f"{where}: tells {len(said.body)} bytes"


async def _bad_methods(asking: Asking, path: str, mine: list[Operation]) -> list[str]:
    """Methods that a path has not. `/things/{id}:verb` may be read as a thing's id too."""
    wrong = []
    known = {one.route.method for one in mine if one.path == path}
    example = right(next(one for one in mine if one.path == path), {})
    for method in (*METHODS, "TRACE", "PURGE"):
        if method in known or any(
            one.route.method == method
            and re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", one.path), example.path)
            for one in mine
        ):
            continue
        said = await asking.ask(Ask("", method, example.path))
        allowed = set(said.headers.get("Allow", "").split(", "))
        if said.status != 405 or not known <= allowed or method in allowed:
            wrong.append(f"{method} {path}: {said}")
    return wrong
