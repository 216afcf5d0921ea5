"""Every type that services use, out and in: shown as over HTTP, decoded as over HTTP."""

import datetime as dt
import json

import msgspec
import pytest

from edge.graphql.refused import Refused, encode
from tests.edge.graphql.backend import Client, MemoryBackend
from tests.edge.graphql.sample import EVERYTHING, GOOD, Circle, Colour, Square

FIELDS = """
  text flag number long ratio moment day time length uuid amount data colour level mood maybe tags
  sizes pair matrix anything table nothing mixed unset
  shape { __typename ... on TypesSquare { side } ... on TypesCircle { radius } }
  twin { name others { name others { name } } }
"""
ECHO = "mutation ($input: TypesEverythingInput!) { typesEcho(input: $input) { body } }"


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def client(backend: MemoryBackend) -> Client:
    return Client(backend)


async def test_every_type_is_shown_as_over_http(client: Client) -> None:
    answer = await client.ask(f"{{ typesEverything {{ {FIELDS} }} }}")
    shown = json.loads(encode(answer))
    over_http = json.loads(msgspec.json.encode(EVERYTHING))
    expected = {
        **over_http,
        "colour": "DARK_RED",
        "mood": "SO_SO",
        "matrix": [["BLUE"], []],
        "shape": {"__typename": "TypesSquare", "side": 3},
        "twin": {"name": "one", "others": [{"name": "two", "others": []}]},
        "unset": None,
    }
    assert shown == {"data": {"typesEverything": expected}}


async def test_every_type_arrives_from_variables(client: Client, backend: MemoryBackend) -> None:
    await client.data(ECHO, {"input": GOOD})
    ((_, body),) = backend.store.log
    assert body.text == GOOD["text"]
    assert body.moment == dt.datetime(2026, 1, 31, 18, tzinfo=dt.UTC)
    assert body.length == dt.timedelta(seconds=90)
    assert body.data == b"\x00\xff"
    assert body.colour is Colour.DARK_RED
    assert body.colours == (Colour.BLUE,)
    assert body.shape == Square(side=3)
    assert body.twin.others[0].name == "two"
    assert body.anything == {"deep": [1, None]}
    assert (body.flag, body.mood, body.maybe, body.made) == (True, "so-so", None, [])
    assert body.unset is msgspec.UNSET


async def test_every_type_arrives_from_the_document(client: Client, backend: MemoryBackend) -> None:
    await client.data(
        """mutation { typesEcho(input: {
            text: "x", number: 7, long: 1099511627776, ratio: 0.5,
            moment: "2026-01-31T18:00:00Z", day: "2026-01-31", length: "PT90S",
            uuid: "00000000-0000-0000-0000-000000000005", amount: "10.50", data: "AP8=",
            colour: BLUE, colours: [], shape: {circle: {radius: 2}}, twin: {name: "one"},
            anything: [1, {a: true}], table: {a: 1}, flag: false, mood: GOOD, maybe: null,
            unset: "set", made: null
        }) { body } }"""
    )
    ((_, body),) = backend.store.log
    assert body.long == 2**40
    assert body.shape == Circle(radius=2)
    assert body.anything == [1, {"a": True}]
    assert (body.flag, body.mood, body.maybe, body.made) == (False, "good", None, [])
    assert body.unset == "set"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", 1),
        ("text", None),
        ("number", "7"),
        ("number", 2**31),
        ("long", 1.5),
        ("long", True),
        ("long", 2**63),
        ("ratio", "1"),
        ("moment", "yesterday"),
        ("moment", 5),
        ("day", "2026-02-30"),
        ("length", "90"),
        ("uuid", "5"),
        ("amount", "ten"),
        ("data", "*"),
        ("colour", "GREEN"),
        ("colour", "dark-red"),
        ("colours", ["BLUE", None]),
        ("shape", {}),
        ("shape", {"square": {"side": 1}, "circle": {"radius": 1}}),
        ("shape", {"square": None}),
        ("twin", {"others": []}),
        ("other", 1),
    ],
)
async def test_what_the_schema_refuses(client: Client, field: str, value: object) -> None:
    with pytest.raises(Refused) as refused:
        await client.ask(ECHO, {"input": {**GOOD, field: value}})
    assert refused.value.code == "graphql.variables"
    assert refused.value.status == 400
    assert (
        field in refused.value.errors[0]["message"]
        or "$input" in refused.value.errors[0]["message"]
    )
    assert client.backend.invoked == []


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("number", 101, "/input/number"),
        ("number", -1, "/input/number"),
        ("table", {"a": "x"}, "/input/table/..."),
        ("text", "a\0b", None),
    ],
)
async def test_what_the_service_refuses(
    client: Client, field: str, value: object, pointer: str | None
) -> None:
    answer = await client.ask(ECHO, {"input": {**GOOD, field: value}})
    assert answer["data"] == {"typesEcho": None}
    (error,) = answer["errors"]
    assert error["path"] == ["typesEcho"]
    assert error["extensions"].get("pointer") == pointer
    assert client.backend.store.log == []


@pytest.mark.parametrize(
    ("field", "value", "nulled"),
    [
        ("text", None, "typesEverything"),
        ("text", 5, "typesEverything"),
        ("number", 2**31, "typesEverything"),
        ("ratio", float("nan"), "typesEverything"),
        ("ratio", float("inf"), "typesEverything"),
        ("colour", "green", "typesEverything"),
        ("tags", "abc", "typesEverything"),
        ("tags", ("a", None), "typesEverything"),
        ("shape", 5, "typesEverything"),
        ("twin", 5, "typesEverything"),
        ("mood", "bad", "mood"),
        ("maybe", 5, "maybe"),
    ],
)
async def test_a_wrong_value_nulls_what_may_be_null(
    client: Client, field: str, value: object, nulled: str
) -> None:
    """A bug of a service: the error is told, and the nearest thing that may be null is."""
    client.backend.store.everything = msgspec.structs.replace(EVERYTHING, **{field: value})
    answer = await client.ask(f"{{ typesEverything {{ {FIELDS} }} other: __typename }}")
    shown = answer["data"]["typesEverything"]
    if nulled == "typesEverything":
        assert shown is None
    else:
        assert shown[nulled] is None
        assert shown["text"] == "ä"
    assert answer["data"]["other"] == "Query"
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "internal"
    assert error["path"][:2] == ["typesEverything", field]
    assert "where" not in error["message"]


async def test_variables_within_json(client: Client) -> None:
    query = """mutation ($one: JSON, $input: String!) { typesEcho(input: {
        text: $input, number: 7, long: 1, ratio: 0.5, moment: "2026-01-31T18:00:00Z",
        day: "2026-01-31", length: "PT90S", uuid: "00000000-0000-0000-0000-000000000005",
        amount: "1", data: "", colour: BLUE, colours: [], shape: {circle: {radius: 2}},
        twin: {name: "one"}, table: {}, anything: {deep: [$one, 2]}
    }) { body } }"""
    await client.data(query, {"one": {"a": 1}, "input": "x"})
    ((_, body),) = client.backend.store.log
    assert body.anything == {"deep": [{"a": 1}, 2]}


async def test_a_body_longer_than_its_route_takes_is_refused(client: Client) -> None:
    answer = await client.ask(ECHO, {"input": {**GOOD, "text": "x" * 70_000}})
    assert answer["errors"][0]["extensions"]["code"] == "http.body_too_long"
    assert client.backend.invoked == []
