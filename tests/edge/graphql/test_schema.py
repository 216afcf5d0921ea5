"""The schema made of services: whole, named so that it stays as it is, refused where it cannot be.

`schema.graphql` is the schema of the samples; `python -m tests.edge.graphql.test_schema` writes it.
"""

import enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from graphql import GraphQLSchema, lexicographic_sort_schema, print_schema, validate_schema

from edge.graphql.names import camel, enum_name, id_names, pascal
from edge.graphql.schema import make_schema
from services._kit.operation import operations
from services._kit.record import Input, Record, entity
from services._kit.service import Entity, Route, Service
from services._kit.wire import WireRequest, WireResponse
from tests.edge.graphql.sample import HOSTS, SERVICES, Guest, Host, many_guests

GOLDEN = Path(__file__).parent / "schema.graphql"


def schema_of(*services: Service) -> GraphQLSchema:
    return make_schema(services, operations(services))


def text_of(schema: GraphQLSchema) -> str:
    return print_schema(lexicographic_sort_schema(schema)) + "\n"


def service_of(*routes: Route, name: str = "other", **options: Any) -> Service:
    return Service(
        name=name, summary="Another.", package="tests.edge.graphql", routes=routes, **options
    )


def test_schema_is_as_it_was() -> None:
    schema = schema_of(*SERVICES)
    assert validate_schema(schema) == []
    assert text_of(schema) == GOLDEN.read_text()


def test_another_service_changes_nothing_that_was_there() -> None:
    before = schema_of(HOSTS)
    after = schema_of(HOSTS, *(service for service in SERVICES if service is not HOSTS))
    assert after.query_type is not None
    assert before.query_type is not None
    for name, field in before.query_type.fields.items():
        assert str(after.query_type.fields[name].type) == str(field.type)


def test_without_services_there_is_a_schema() -> None:
    schema = schema_of()
    assert validate_schema(schema) == []
    assert schema.mutation_type is None


async def foreign(store: Any, request: WireRequest) -> WireResponse:  # noqa: ARG001
    """Speak another protocol."""
    return WireResponse()


async def first(store: Any) -> Host:  # noqa: ARG001
    """The first."""
    raise AssertionError


def test_foreign_protocols_are_left_out() -> None:
    schema = schema_of(service_of(Route("POST", "/x", foreign, access="public", wire="oauth")))
    assert schema.mutation_type is None


def service_with_a_host(name: str) -> Service:
    package = f"services.platform.{name}"
    kind: Any = msgspec.defstruct("Host", [("name", str)], module=f"{package}.service")

    async def host(store: Any) -> Any:  # noqa: ARG001
        """The host."""
        raise AssertionError

    host.__annotations__["return"] = kind
    routes = (Route("GET", "/a", host, access="public"),)
    return Service(name=name, summary="Another.", package=package, routes=routes)


def test_a_type_of_two_services_is_each_ones_own() -> None:
    schema = schema_of(service_with_a_host("one"), service_with_a_host("two"))
    assert {"OneHost", "TwoHost"} <= schema.type_map.keys()


def test_a_struct_of_another_package_has_its_owners_name() -> None:
    away = Service(
        name="away",
        summary="Elsewhere.",
        package="services.platform.away",
        routes=(Route("GET", "/a", first, access="public"),),
    )
    assert "HostsHost" in schema_of(HOSTS, away).type_map
    assert "AwayHost" not in schema_of(HOSTS, away).type_map


async def close_other(store: Any) -> None:
    """Close it."""


async def others(store: Any) -> None:
    """All of them."""


def test_the_services_name_is_said_once() -> None:
    schema = schema_of(
        service_of(
            Route("POST", "/a", close_other, access="public"),
            Route("POST", "/b", others, access="public"),
        )
    )
    assert schema.mutation_type is not None
    assert set(schema.mutation_type.fields) == {"otherClose", "others"}


class Seat(enum.Enum):
    """Of nobody's package."""

    FRONT = "front"


Seat.__module__ = "ops.hall"


class Ticket(Record):
    """It mentions it."""

    seat: Seat


async def ticket(store: Any) -> Ticket:  # noqa: ARG001
    """A ticket."""
    raise AssertionError


def test_what_no_service_owns_is_called_after_its_module() -> None:
    assert "HallSeat" in schema_of(service_of(Route("GET", "/a", ticket, access="public"))).type_map


class OtherHost(Record):
    """Called as a host of the service."""

    id: str


async def second(store: Any) -> OtherHost:  # noqa: ARG001
    """The second."""
    raise AssertionError


def test_two_types_of_one_name_are_refused() -> None:
    routes = (
        Route("GET", "/a", first, access="public"),
        Route("GET", "/b", second, access="public"),
    )
    with pytest.raises(ValueError, match="two types are called OtherHost"):
        schema_of(service_of(*routes))


class Clash(Input):
    """Two names that are one in camel case."""

    a_b: int = 0
    aB: int = 0  # noqa: N815  that is what is tested


async def clash(store: Any, body: Clash) -> None:
    """Clash."""


class Limit(Input):
    """It takes the name of the page's argument."""

    limit: int = 0


async def limited(store: Any, limit: str, query: Limit) -> None:
    """Clash."""


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(Exception, match="ClashInput has two fields aB"):
        schema_of(service_of(Route("POST", "/a", clash, access="public")))
    with pytest.raises(ValueError, match="two arguments limit"):
        schema_of(service_of(Route("GET", "/a/{limit}", limited, access="public")))
    with pytest.raises(ValueError, match="two operations are called otherFirst"):
        schema_of(
            service_of(
                Route("GET", "/a", first, access="public"),
                Route("GET", "/b", first, access="public"),
            )
        )


class Idless(Record):
    """It cannot be linked to."""

    name: str


async def nobody(store: Any, ids: tuple[str, ...]) -> dict[str, Idless]:  # noqa: ARG001
    return {}


def test_entities_have_an_id_of_their_own() -> None:
    with pytest.raises(ValueError, match="Idless has no id of its own"):
        schema_of(service_of(entities=(Entity(Idless, nobody, "other.idless.read"),)))
    twice = service_of(entities=(Entity(Guest, many_guests, "other.guest.read"),))
    with pytest.raises(ValueError, match="two entities have ids gst_"):
        schema_of(*SERVICES, twice)


class Lonely(Record):
    """Its link leads nowhere that is loaded."""

    id: Annotated[str, entity("lon", of="Lonely")]
    guest: Annotated[str, entity("gst", of="Guest")]
    plain: Annotated[str, entity("pla")]


async def lonely(store: Any) -> Lonely:  # noqa: ARG001
    """Lonely."""
    raise AssertionError


def test_an_id_whose_entity_is_not_there_is_an_id() -> None:
    schema = schema_of(service_of(Route("GET", "/a", lonely, access="public")))
    made: Any = schema.type_map["OtherLonely"]
    assert {name: str(field.type) for name, field in made.fields.items()} == {
        "id": "ID!",
        "guestId": "ID!",
        "plain": "ID!",
    }


@pytest.mark.parametrize(
    ("field", "many", "names"),
    [
        ("host", False, ("hostId", "host")),
        ("host_id", False, ("hostId", "host")),
        ("old_host_id", False, ("oldHostId", "oldHost")),
        ("guests", True, ("guestIds", "guests")),
        ("guest_ids", True, ("guestIds", "guests")),
        ("crew", True, ("crewIds", "crew")),
    ],
)
def test_names_of_links(field: str, many: bool, names: tuple[str, str]) -> None:
    assert id_names(field, many=many) == names


def test_names() -> None:
    assert camel("next_cursor") == "nextCursor"
    assert camel("guest-list") == "guestList"
    assert camel("id") == "id"
    assert pascal("guest-list") == "GuestList"
    assert [enum_name(value) for value in ("checked-in", "checkedIn", "DARK_RED", 3, -3, "")] == [
        "CHECKED_IN",
        "CHECKED_IN",
        "DARK_RED",
        "_3",
        "MINUS_3",
        "EMPTY",
    ]


if __name__ == "__main__":
    GOLDEN.write_text(text_of(schema_of(*SERVICES)))
