"""The rules that hold for every service, without a line of the service's own.

A service's folder, declaration, interface, routes, events, jobs and migrations are checked against
the house's rules, and each route is called as nobody, as a stranger and with what it does not take.
"""

import ast
import dataclasses
import enum
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pglast
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from edge.service_openapi import openapi
from ops.errors import Rejected
from services._kit.actor import ANONYMOUS
from services._kit.call import Request
from services._kit.errors import Invalid, NotFound, SignedOut
from services._kit.load import load_all, schemas
from services._kit.operation import Operation, operations
from services._kit.record import LIMIT_MAX, WHOLE
from services._kit.service import METHODS, Service
from services._live.lists import item_key
from tests.fakes.calls import Calls, actor, served
from tests.fakes.every_route import OPERATORS, EveryRoute
from tests.fakes.examples import example, example_value, leaves
from tests.fakes.follower import Follower
from tests.fakes.following import following
from tests.fakes.postgres import Postgres, PostgresServer
from tests.fakes.schemathesis_run import schemathesis
from tests.tidy.tree import ROOT

SERVICES = load_all()
OPERATIONS = operations(SERVICES)
FILES = {"__init__.py", "service.py", "api.py"}
PACKAGES = {"store", "routes", "logic", "jobs"}
"""One file each, or a package of that name once it has outgrown it; every service has the first
two."""
FILES_OPTIONAL = {"migrations", "__pycache__"}
STRANGER = actor("a-stranger")
START_SECONDS = 30.0
SECONDS_A_SERVICE = 4.0


def of(service: Service) -> str:
    return service.name


def named(operation: Operation) -> str:
    return operation.name


each_service = pytest.mark.parametrize("service", SERVICES, ids=of)
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=named)


@pytest.fixture(scope="module")
def everything(postgres_server: PostgresServer) -> Iterator[Postgres]:
    """One database for all checks here; no check relies on what another left."""
    database = postgres_server.database()
    yield database
    postgres_server.drop(database.name)


@pytest.fixture(scope="module")
def routes(everything: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryRoute]:
    """All of them behind HTTP."""
    with EveryRoute(everything, tmp_path_factory.mktemp("routes")) as serving:
        yield serving


@pytest.fixture
async def calls(everything: Postgres) -> Any:
    async with served(everything, *SERVICES) as serving:
        yield serving


def test_there_are_services() -> None:
    assert SERVICES


@each_service
def test_the_folder_has_the_usual_files(service: Service) -> None:
    found = {path.name for path in service.folder.iterdir()}
    assert found >= FILES
    parts = {name.removesuffix(".py") for name in found - FILES - FILES_OPTIONAL}
    assert {"store", "routes"} <= parts <= PACKAGES
    assert len(parts) == len(found - FILES - FILES_OPTIONAL), "a file or a package, not both"
    assert service.folder.name == service.schema


@each_service
def test_the_declaration_says_what_it_is(service: Service) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.", service.summary), "one sentence"
    opening = inspect.getdoc(importlib.import_module(service.package)) or ""
    assert 2 <= len(opening.splitlines()) <= 12, "what, for whom, owns, publishes, consumes"


@each_service
def test_it_has_a_page(service: Service) -> None:
    page = (ROOT / f"docs/services/{service.name}.md").read_text()
    missing = [
        route.path for route in service.routes if f"`{service.prefix}{route.path}`" not in page
    ]
    assert not missing, "routes that the page does not tell of"
    assert not [event.TYPE for event in service.publishes if f"`{event.TYPE}`" not in page]
    assert not [name for name in service.permissions if f"`{name}`" not in page]


@each_service
def test_it_has_tests(service: Service) -> None:
    assert list((ROOT / f"tests/services/{service.schema}").glob("test_*.py"))


@each_service
def test_api_exposes_data_and_functions_alone(service: Service) -> None:
    module = importlib.import_module(f"{service.package}.api")
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", module.__name__) != module.__name__:
            continue
        if inspect.isclass(value):
            kinds = dataclasses.is_dataclass(value) or issubclass(value, msgspec.Struct | enum.Enum)
            assert kinds, f"{name} is neither data nor an enumeration"
        elif inspect.isfunction(value):
            assert "return" in inspect.get_annotations(value), f"{name} is not annotated"


@each_service
def test_events_are_named_for_the_service_and_known(service: Service) -> None:
    published = {event.TYPE for known in SERVICES for event in known.publishes}
    for event in service.publishes:
        assert re.fullmatch(r"nexus\.[a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9_]+\.v[1-9][0-9]*", event.TYPE)
        assert event.TYPE.split(".")[1] == service.domain
        assert event.KEY in event.__struct_fields__
        assert event.__doc__
    unknown = {event.TYPE for event in service.consumes} - published
    assert not unknown, "events that nobody publishes"


@each_service
def test_jobs_have_a_time_limit(service: Service) -> None:
    for job in service.jobs:
        assert 0 < job.timeout_seconds <= 3_600
    assert len({job.name for job in service.jobs}) == len(service.jobs)


def test_services_do_not_call_each_other_in_circles() -> None:
    calls = {service.schema: set[str]() for service in SERVICES}
    for service in SERVICES:
        for path in service.folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(".api"):
                    other = str(node.module).split(".")[-2]
                    if other != service.schema and other in calls:
                        calls[service.schema].add(other)
    done: set[str] = set()
    while len(done) < len(calls):
        free = {name for name in calls.keys() - done if calls[name] <= done}
        assert free, f"a circle among {sorted(calls.keys() - done)}"
        done |= free


@each_service
def test_sql_stays_in_its_schema(service: Service) -> None:
    for path in sorted((service.folder / "migrations").glob("*.sql")):
        for statement in pglast.parse_sql(path.read_text()):
            for name in _schemas_named(statement):
                assert name in {"pg_catalog", service.schema}, f"{path.name} names {name}"
    for path in service.folder.rglob("*.py"):
        if "store" not in path.relative_to(service.folder).with_suffix("").parts:
            strings = [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            sql = [
                text
                for text in strings
                if re.match(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s", text)
            ]
            assert not sql, f"{path.name} has SQL"


def _schemas_named(statement: Any) -> Iterator[str]:
    for found in re.finditer(r'"schemaname": "([^"]+)"', json.dumps(statement(), default=str)):
        yield found[1]


@each_operation
def test_a_route_says_what_it_needs(operation: Operation) -> None:
    route = operation.route
    assert route.method in METHODS
    assert operation.path.startswith(f"/v1/{operation.service.name}/")
    if not route.wire:
        assert route.access == "public" or route.needs or route.access == "signed_in"
        assert operation.is_list <= operation.paged, "a list is paged"


def test_every_operation_has_its_own_place() -> None:
    places = [(item.route.method, re.sub(r"\{[^}]*\}", "{}", item.path)) for item in OPERATIONS]
    assert len(set(places)) == len(places)
    assert len({item.name for item in OPERATIONS}) == len(OPERATIONS)


def test_openapi_is_valid() -> None:
    document = json.loads(msgspec.json.encode(openapi(OPERATIONS, version="0")))
    OpenAPIV31SpecValidator(document).validate()
    assert len([1 for path in document["paths"].values() for _ in path]) == len(OPERATIONS)


@each_operation
async def test_without_login_it_is_401(calls: Calls, operation: Operation) -> None:
    if operation.route.access == "public":
        return
    with pytest.raises(SignedOut):
        await calls.runtime.call(operation, _request(operation, ANONYMOUS))


@each_operation
async def test_a_strangers_tenant_gets_404(calls: Calls, operation: Operation) -> None:
    if not operation.parameters or operation.route.wire:
        return
    with pytest.raises(NotFound):
        await calls.runtime.call(operation, _request(operation, STRANGER))


@each_operation
async def test_an_unknown_field_is_refused(calls: Calls, operation: Operation) -> None:
    if operation.body is None or operation.route.wire:
        return
    body = {**example(operation.body), "no_such_field": 1}
    request = _request(operation, STRANGER, body=json.dumps(body).encode())
    with pytest.raises(Invalid) as caught:
        await calls.runtime.call(operation, request)
    assert caught.value.problems[0].pointer == "/no_such_field"


@each_operation
async def test_an_unknown_parameter_is_refused(calls: Calls, operation: Operation) -> None:
    if operation.route.wire:
        return
    request = _request(operation, STRANGER, query="no_such=1")
    with pytest.raises(Invalid) as caught:
        await calls.runtime.call(operation, request)
    assert caught.value.problems[0].parameter == "no_such"


@each_operation
async def test_a_list_obeys_its_limit(calls: Calls, operation: Operation) -> None:
    if not operation.is_list or operation.parameters:
        return
    request = _request(operation, STRANGER, query="limit=1")
    reply = await calls.runtime.call(operation, request)
    assert len(json.loads(reply.body)["data"]) <= 1
    request = _request(operation, STRANGER, query=f"limit={LIMIT_MAX + 1}")
    with pytest.raises(Rejected):
        await calls.runtime.call(operation, request)


@each_operation
async def test_a_list_can_be_followed(calls: Calls, operation: Operation) -> None:
    """By whoever may read it; of a stranger's tenant there is nothing to follow."""
    if not operation.is_list:
        return
    async with following(calls) as live:
        with pytest.raises(SignedOut):
            await live.lists.listen(operation, _request(operation, ANONYMOUS))
        request = _request(operation, STRANGER)
        if operation.parameters:
            with pytest.raises(NotFound):
                await live.lists.listen(operation, request)
            return
        stream = await live.lists.listen(operation, request)
        seen = Follower(key=item_key(operation))
        (page,) = seen.feed(await stream.read())
        stream.close()
        plain = await calls.runtime.call(operation, request)
        assert (page.kind, page.data) == ("page", json.loads(plain.body))


def test_schemathesis_finds_nothing(routes: EveryRoute) -> None:
    """In one go: half of what one service takes is the start."""
    found = schemathesis(
        routes.url,
        *("--phases=coverage,fuzzing", "--max-examples=5", "--seed=1"),
        token=routes.token("*", tenant=OPERATORS),
        paths="^/v1/",
        seconds_max=START_SECONDS + SECONDS_A_SERVICE * len(SERVICES),
    )
    assert found.code == 0, found.text


@pytest.mark.prove
@pytest.mark.parametrize("tenant", [OPERATORS, "acme"])
def test_schemathesis_finds_nothing_at_length(routes: EveryRoute, tenant: str) -> None:
    found = schemathesis(
        routes.url,
        "--max-examples=200",
        token=routes.token("*", tenant=tenant),
        paths="^/v1/",
        seconds_max=800,
    )
    assert found.code == 0, found.text


@each_operation
def test_inputs_are_bounded(operation: Operation) -> None:
    """A number without bounds would be too large for the database, a pattern that is not made by
    `shaped` would let a line feed pass."""
    given = (operation.body, operation.query, *(kind for _, kind in operation.parameters))
    for where, part in (found for kind in given if kind is not None for found in leaves(kind)):
        match part:
            case msgspec.inspect.IntType():
                assert part.ge is not None, where
                assert part.le is not None, where
            case msgspec.inspect.StrType():
                assert part.pattern is None or part.pattern.endswith(WHOLE), where


@each_service
async def test_tables_are_closed_by_tenant(everything: Postgres, service: Service) -> None:
    async with served(everything, service):
        open_tables = everything.run(
            "SELECT array_agg(c.relname) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')"
            " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
            " AND coalesce(obj_description(c.oid, 'pg_class'), '') NOT LIKE 'shared: %'",
            service.schema,
        )
        assert not open_tables


def test_migrations_are_numbered_for_every_service() -> None:
    names = [schema.name for schema in schemas(SERVICES)]
    assert names == ["bus", *(item.schema for item in SERVICES)]


def _request(
    operation: Operation, who: Any, *, query: str = "", body: bytes | None = None
) -> Request:
    """A request that is right in every way but for who asks, and objects that do not exist."""
    if body is None and operation.body is not None:
        body = json.dumps(example(operation.body)).encode()
    required = example(operation.query) if operation.query is not None else {}
    pairs = "&".join((*(f"{name}={value}" for name, value in required.items()), query)).strip("&")
    return Request(
        actor=who,
        path={name: example_value(kind) for name, kind in operation.parameters},
        query=pairs,
        body=body or b"",
        content_type="application/json" if body else "",
        if_match='"1"' if "expected" in operation.takes else "",
        idempotency_key="example" if operation.route.needs_key else "",
    )
